-- SPDX-License-Identifier: MIT
-- A worker script: delivers webhook events by HTTP. An item's payload is an
-- event { id, event, body }, its headers say where to: { url }. The body is
-- kept as the text it was, since a receiver may check a signature over it.
--
-- Delivery is at least once: when an answer is lost, the event goes out once
-- more. It therefore bears an Idempotency-Key by which a receiver knows it.

local respool = require "respool"

-- What is worth another try, how long it waits, what dies and why: that is
-- respool.http's to know.
local deliver = respool.http {
  url = function(_, item) return item.headers.url end,
  body = function(event) return event.body, "application/json" end,
  headers = function(event)
    return { ["Idempotency-Key"] = event.id, ["X-GitHub-Event"] = event.event }
  end,
  timeout = 0.25, -- seconds, on loopback; the 30 of the default suit the rest
}


-- ---- mending, for a replay -------------------------------------------------

-- Puts a field in front of the others, in the text: decoding and encoding
-- again would not give the same bytes (some turn [] into {}).
local function with_field(body, json)
  local rest = body:match "^%s*{%s*(.*)$"
  return "{" .. json .. (rest == "}" and "" or ",") .. rest
end

local function mend(event, dead_letter)
  local why = dead_letter.error or ""
  if dead_letter.group == "410" then
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
  replay = { name = "mend", transform = mend },
}
