-- SPDX-License-Identifier: MIT
--
-- respool.http: a handler that delivers items by HTTP. Each is a POST to one
-- URL or several:
--
--   mode "all"    to every URL; one that accepted an item is not called for it
--                 again, as with respool.fan_out
--   mode "any"    until one accepts; each item begins with another URL
--   mode "first"  until one accepts, in the order given
--
-- An answer of 2xx accepts. 408, 425, 429, 5xx and requests that get no answer
-- are tried again as the queue's policy says, or after the Retry-After of the
-- answer. Any other answer will not change: the item dies, its group the
-- status. So it does with 3xx, as a redirect of a POST is not followed. In
-- modes any and first an item dies only when every URL says so.
--
-- Delivery is at least once: a receiver knows an item again by its
-- Idempotency-Key. In a task of a loop (respool/http/loop.lua) and within
-- nginx a request lets others run, elsewhere it blocks.

local body_of = require "respool.http.body"
local client_of = require "respool.http.client"
local compat = require "respool.support.compat"
local form = require "respool.http.options"
local gate_of = require "respool.http.limit"
local handlers = require "respool.consume.handlers"
local loop_of = require "respool.http.loop"
local message = require "respool.http.message"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local retry_after = require "respool.http.retry_after"
local sign = require "respool.http.sign"

local M = {}


---@class respool.http_options
---@field url string|string[]|fun(payload: any, item: respool.item): any where
--- to; a function returns one URL or a list
---@field mode "all"|"any"|"first"? "all"
---@field body "auto"|"json"|"raw"|"cbor"|function? "auto": a string that came
--- with a header content-type as it is, anything else as JSON; a function of
--- payload and item returns the bytes and their type
---@field content_type string? instead of what `body` says
---@field headers table<string, string>|function? to be sent besides; a function
--- of payload and item returns such a table
---@field pass string[]? names of item headers to be sent, besides traceparent,
--- tracestate and idempotency-key
---@field secret string? of the signature in Respool-Signature: "v1=" and the
--- HMAC-SHA256, in hex, of Respool-Timestamp, a full stop and the body
---@field connect_timeout number? seconds; 5
---@field timeout number? seconds from the request to the end of the answer; 30
---@field max_retry_after number? seconds that Retry-After is believed; 3600
---@field per_url integer? requests at a time to one URL of several in mode all,
--- where items are handled concurrently: an item for which there is no room
--- with one that is slow comes back to it later; no limit
---@field ca_file string? certificates to trust, in place of the system's
---@field on_request fun(request: respool.http_request)? told of each

---@class respool.http_request
---@field url string without what may be secret
---@field status integer? of the answer
---@field error string? why there is none
---@field seconds number

local PASSED = { "traceparent", "tracestate", "idempotency-key" }

-- What sends: the options, a client, and where mode "any" begins next.
---@class respool.http.sender
---@field o table
---@field client respool.http.client
---@field pass string[]
---@field turn integer
---@field gates table<string, respool.http.gate> by URL, in mode all


-- Requests.

-- The headers that the user wants besides; raises when they are none.
local function own_headers(o, payload, item)
  if type(o.headers) ~= "function" then return o.headers end
  local given = o.headers(payload, item)
  local checked = type(given) == "table" and form.headers(given)
  if given ~= nil and not checked then
    compat.misuse("respool.http: 'headers' returned what cannot be sent")
  end
  return checked or {}
end

local function add_signature(headers, secret, bytes)
  local timestamp = ("%d"):format(os.time())
  headers["respool-timestamp"] = timestamp
  headers["respool-signature"] =
    "v1=" .. sign.hmac(secret, timestamp, bytes)
end

-- Names of headers as people write them.
local function titled(name)
  return (name:gsub("%f[%a]%a", string.upper))
end

local function lines_of(headers)
  local lines = {}
  for name, value in pairs(headers) do
    lines[#lines + 1] = ("%s: %s"):format(titled(name), value)
  end
  table.sort(lines)
  return lines
end

-- The body of an item's request and the lines of its header. When the payload
-- has none, nil and why.
---@param sender respool.http.sender
---@return string?, string[]|string
local function request_of(sender, payload, item)
  local o = sender.o
  local bytes, kind = o.body(payload, item)
  if type(bytes) ~= "string" then
    return nil, tostring(kind or "'body' returned no string")
  elseif kind ~= nil and not message.is_value(kind) then
    return nil, "'body' returned no type that can be sent"
  end
  local headers = body_of.headers(item, sender.pass)
  headers["content-type"] = o.content_type or kind
  for name, value in pairs(own_headers(o, payload, item)) do
    headers[name] = value
  end
  if o.secret then add_signature(headers, o.secret, bytes) end
  return bytes, lines_of(headers)
end


-- Answers.

local SHOWN = 200 -- bytes of an answer's text in an error

local function one_line(text)
  return (text:sub(1, SHOWN):gsub("[%c%s]+", " "):gsub("^ ", "")
    :gsub(" $", ""))
end

-- Whether an answer like this may be another one next time.
local function is_passing(status)
  return status == 408 or status == 425 or status == 429 or status >= 500
end

local function said(answer)
  local location = answer.headers.location
  if answer.status < 400 and location then
    return "redirects to " .. one_line(location:gsub("[?#].*", ""))
      .. ", which is not followed"
  end
  return one_line(answer.text)
end

-- The error of an answer that does not accept.
---@return table
local function refusal(sender, answer)
  local status, text = answer.status, said(answer)
  local passing = is_passing(status)
  return {
    message = ("HTTP %d%s"):format(status, text ~= "" and ": " .. text or ""),
    group = ("%d"):format(status), retryable = passing,
    retry_after = passing and retry_after.seconds(
      answer.headers["retry-after"], os.time(), sender.o.max_retry_after)
      or nil,
  }
end

local function tell(sender, url, began, answer, problem)
  if not sender.o.on_request then return end
  sender.o.on_request {
    url = url.label, status = answer and answer.status,
    error = problem and problem.message, seconds = loop_of.now() - began,
  }
end

-- Posts a body, tells of it and leaves the URL's gate.
---@return respool.http.answer?, respool.http.trouble?
local function post(sender, url, lines, bytes, token)
  local began = loop_of.now()
  local answer, problem = sender.client:post(url, lines, bytes)
  if token then sender.gates[url.text]:leave(token) end
  tell(sender, url, began, answer, problem)
  return answer, problem
end

-- Delivers an item to one URL, as a handler does.
---@return true|respool.outcome|nil, any
local function deliver(sender, url, payload, item)
  if item:stopping() then return outcome.release() end
  local bytes, lines = request_of(sender, payload, item)
  if not bytes then
    return nil, { message = lines, group = "body", retryable = false }
  end
  local gate, token, wait = sender.gates[url.text], nil, nil
  if gate then token, wait = gate:enter() end
  if wait then return outcome.snooze(wait) end
  local answer, problem = post(sender, url, lines, bytes, token)
  if problem then return nil, problem end
  if answer.status <= 299 then return true end
  return nil, refusal(sender, answer)
end


-- Modes.

-- A short mark of a URL whose label it shares with another.
local function mark_of(text)
  local sum = 0
  for i = 1, #text do sum = (sum * 31 + text:byte(i)) % 2147483647 end
  return ("#%08x"):format(sum)
end

-- A name for each URL, the same whatever others there are in front of it.
local function names_of(urls)
  local count, names = {}, {}
  for _, url in ipairs(urls) do
    count[url.label] = (count[url.label] or 0) + 1
  end
  for i, url in ipairs(urls) do
    names[i] = count[url.label] == 1 and url.label
      or url.label .. mark_of(url.text)
  end
  return names
end

local modes = {}

-- Says in the error which URL it is of; a fan-out does that by itself.
local function labelled(url, ok, err)
  if err then err.message = ("%s: %s"):format(url.label, err.message) end
  return ok, err
end

local function open_gate(sender, url)
  local most = sender.o.per_url
  sender.gates[url.text] = sender.gates[url.text] or most and gate_of.new(most)
end

function modes.all(sender, urls)
  if #urls == 1 then
    return function(payload, item)
      return labelled(urls[1], deliver(sender, urls[1], payload, item))
    end
  end
  local parts, names = {}, names_of(urls)
  for i, url in ipairs(urls) do
    open_gate(sender, url)
    parts[names[i]] = function(payload, item)
      return deliver(sender, url, payload, item)
    end
  end
  return handlers.fan_out(parts)
end

-- The errors of all URLs as one, which dies only if each of them does.
local function merge(errors)
  local all, messages = { retryable = false }, {}
  for i, err in ipairs(errors) do
    messages[i] = err.message
    if err.retryable ~= false and not all.retryable then
      all.retryable, all.group = true, err.group
    end
    all.group = all.group or err.group
    if err.retry_after then
      all.retry_after = math.max(all.retry_after or 0, err.retry_after)
    end
  end
  all.message = table.concat(messages, "; ")
  return all
end

-- Tries the URLs one after the other, beginning with number `from`.
local function until_accepted(sender, urls, from, payload, item)
  local errors = {}
  for i = 0, #urls - 1 do
    local url = urls[(from - 1 + i) % #urls + 1]
    local ok, err = labelled(url, deliver(sender, url, payload, item))
    if ok ~= nil then return ok end
    errors[#errors + 1] = err
  end
  return nil, merge(errors)
end

function modes.first(sender, urls)
  return function(payload, item)
    return until_accepted(sender, urls, 1, payload, item)
  end
end

function modes.any(sender, urls)
  return function(payload, item)
    sender.turn = sender.turn + 1
    return until_accepted(sender, urls, sender.turn, payload, item)
  end
end

-- A handler for URLs that are known only when the item is.
local function by_item(sender, mode)
  return function(payload, item)
    local found = sender.o.url(payload, item)
    if type(found) ~= "table" then found = { found } end
    local urls, expected = form.urls(found)
    if not urls then
      return nil, { message = ("'url' returned no URL: %s expected"):format(
        expected), group = "url", retryable = false }
    end
    for _, url in ipairs(urls) do sender.client:check(url) end
    return mode(sender, urls)(payload, item)
  end
end


-- The handler.

local function new_sender(o)
  local pass = {}
  for i, name in ipairs(PASSED) do pass[i] = name end
  for _, name in ipairs(o.pass) do pass[#pass + 1] = name end
  return { o = o, client = client_of.new(o), pass = pass, turn = 0,
           gates = {} }
end

local function with_defaults(o)
  for name, value in pairs(form.defaults) do
    if o[name] == nil then o[name] = value end
  end
  return o
end

-- A handler that delivers items by HTTP. Its connections are used again; they
-- are the handler's own, and at most 64 of them are kept idle, whatever hosts
-- they go to.
---@param given respool.http_options
---@return respool.handler
function M.handler(given)
  local o = with_defaults(options.read(form.form, given, 1))
  if not o.url then
    compat.misuse("respool.http: option 'url' is missing")
  end
  if o.secret then sign.check() end
  local sender, mode = new_sender(o), modes[o.mode]
  if type(o.url) == "function" then return by_item(sender, mode) end
  for _, url in ipairs(o.url) do sender.client:check(url) end
  return mode(sender, o.url)
end

return M
