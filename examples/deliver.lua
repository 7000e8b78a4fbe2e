-- SPDX-License-Identifier: MIT
-- A job script: delivers webhook events by HTTP. An item's payload is an event
-- { id, event, body }, its headers say where to: { url }. The body is kept as
-- the text it was, since a receiver may check a signature over it.
--
-- Delivery is at least once: when an answer is lost, the event goes out once
-- more. It therefore bears an Idempotency-Key by which a receiver knows it.

local http = require "socket.http"
local ltn12 = require "ltn12"
local respool = require "respool"

http.TIMEOUT = 0.25 -- seconds, on loopback; 10 suits the Internet

-- Status, headers and text of the answer, or nil and what went wrong.
local function post(url, headers, body)
  local text = {}
  local ok, status, answer = http.request {
    method = "POST", url = url, headers = headers, redirect = false,
    source = ltn12.source.string(body), sink = ltn12.sink.table(text),
  }
  if not ok then return nil, status end
  return status, answer or {}, table.concat(text)
end

-- Worth another try: the receiver is busy, or broken, but not unwilling.
local function is_passing(status)
  return status == 408 or status == 425 or status == 429 or status >= 500
end

-- The error of a refused delivery. Letters are counted by `group`;
-- `retryable` and `retry_after` go before the queue's own policy.
local function refusal(status, headers, text)
  return {
    message = ("HTTP %d: %s"):format(status, text),
    group = "HTTP " .. status,
    retryable = is_passing(status),
    retry_after = tonumber(headers["retry-after"]),
  }
end

local function deliver(event, item)
  local status, headers, text = post(item.headers.url, {
    ["Content-Type"] = "application/json",
    ["Content-Length"] = #event.body,
    ["Idempotency-Key"] = event.id,
    ["X-GitHub-Event"] = event.event,
  }, event.body)
  if not status then
    return nil, { message = headers, group = headers } -- such as "timeout"
  end
  if status >= 200 and status <= 299 then return true end
  return nil, refusal(status, headers, text)
end


-- ---- mending, for a replay -------------------------------------------------

-- Puts a field in front of the others, in the text: decoding and encoding
-- again would not give the same bytes (cjson turns [] into {}).
local function with_field(body, json)
  local rest = body:match "^%s*{%s*(.*)$"
  return "{" .. json .. (rest == "}" and "" or ",") .. rest
end

local function mend(event, letter)
  local why = letter.error or ""
  if letter.group == "HTTP 410" then
    event.event = "dependabot_alert"
  elseif why:find('"action"', 1, true) then
    event.body = with_field(event.body, '"action":"' .. event.event .. '"')
  elseif why:find('"sender"', 1, true) then
    event.body = with_field(event.body, '"sender":{"login":"ghost"}')
  end
  return event
end

return {
  queue = "webhooks",
  options = {
    lease = 30,
    max_attempts = 4,
    -- For a demo. In earnest: { initial = 1, max = 3600, jitter = "full" }.
    retry = respool.backoff.exponential {
      initial = 0.1, max = 1, jitter = "equal",
    },
  },
  handle = deliver,
  replay = { job = "mend", transform = mend },
}
