-- SPDX-License-Identifier: MIT
--
-- respool.http: a handler that delivers items by HTTP. Each goes to one URL or
-- several:
--
--   mode "all"    to every URL, at the same time; one that accepted an item or
--                 refused it for good is not called for it again, as with
--                 respool.fan_out
--   mode "any"    until one accepts; each item begins with another URL
--   mode "first"  until one accepts, in the order given
--
-- An answer of 2xx accepts. 408, 425, 429, 5xx and requests that get no answer
-- are tried again as the queue's policy says. 429 and 503 with Retry-After
-- spend no attempt: with one URL the queue is held so long, for all processes;
-- with several, nothing is sent to that host by this handler until then.
-- Any other answer will not change: that URL refuses for good, with the status
-- as the group, and so does 3xx, as no redirect is followed unless `redirects`
-- says so. An item dies when every URL has accepted or refused it; in modes any
-- and first when every URL has refused it.
--
-- Delivery is at least once: a receiver knows an item again by its
-- Idempotency-Key.

local answer_of = require "respool.http.answer"
local client_of = require "respool.http.client"
local compat = require "respool.support.compat"
local form = require "respool.http.options"
local gate_of = require "respool.consume.gate"
local handlers = require "respool.consume.handlers"
local loop_of = require "respool.support.loop"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local request_of = require "respool.http.request".new

local now = loop_of.now

local M = {}


---@class respool.http_options
---@field url string|string[]|fun(payload: any, item: respool.item): any where
--- to; a function returns one URL or a list
---@field mode "all"|"any"|"first"? "all"
---@field body "auto"|"json"|"raw"|"cbor"|function? "auto": a string that came
--- with a header content-type as it is, anything else as JSON; a function of
--- payload and item returns the bytes and their type
---@field content_type string? instead of what `body` says
---@field headers table<string, string>|function? further headers; a function
--- of payload and item returns such a table
---@field pass string[]? names of item headers to be sent, in addition to
--- traceparent, tracestate and idempotency-key
---@field method "POST"|"PUT"|"PATCH"? "POST"
---@field success string? statuses that accept: "200-299,409"; "200-299"
---@field secret string|string[]? of the signature; several while one follows
--- another
---@field signature "standard"|"respool"? the scheme; "standard"
---@field connect_timeout number? seconds; 5
---@field timeout number? seconds for the whole request; 30
---@field max_retry_after number? seconds that Retry-After is believed; 3600
---@field per_url integer? requests at a time to one URL of several in mode all,
--- where items are handled concurrently: an item for which there is no room
--- with one that is slow comes back to it later; no limit
---@field redirects integer? how many are followed, each by the same request,
--- without `headers` and `pass` where it leads to another host; 0
---@field ca_file string? certificates to trust, in place of the system's
---@field cert_file string? a certificate to show, with its key unless
--- `key_file` has that
---@field key_file string? the key of `cert_file`
---@field min_tls "1.2"|"1.3"? "1.2"
---@field proxy string? a URL, or "" for none; else what the environment says
---@field allow string|string[]|nil networks that may be connected to, also
--- where `deny` covers them; alone: no others
---@field deny string|string[]|nil networks that are not connected to, such as
--- "10.0.0.0/8"; "private" are all that are private, loopback or link-local;
--- there is no proxy then
---@field on_request fun(request: respool.http_request)? called for each

---@class respool.http_request
---@field url string without user, query and fragment, which may be secret
---@field status integer? of the answer
---@field accepted boolean
---@field error string? why there is no answer
---@field seconds number

-- A sender: the options, a client, and where mode "any" begins next.
---@class respool.http.sender
---@field o table
---@field client respool.http.client
---@field turn integer
---@field gates table<string, respool.gate> by URL, in mode all
---@field single boolean all go to one URL, so that the queue can be held
---@field held table<string, number> until when nothing is sent to a host, of
--- several


-- One URL.

-- An item on its way to a URL.
---@class respool.http.attempt
---@field url respool.http.url
---@field message respool.http.message
---@field pending table? of the client
---@field began number
---@field over boolean there is a result:
---@field answer respool.http.answer?
---@field problem table? an error as a handler returns it; its `hold` says that
--- nothing failed, but the item waits so long; 0: the work is to stop

local function tell(sender, attempt)
  if not sender.o.on_request then return end
  local answer, problem = attempt.answer, attempt.problem
  sender.o.on_request {
    url = attempt.url.label, status = answer and answer.status,
    accepted = answer ~= nil and sender.o.success(answer.status),
    error = problem and problem.message, seconds = now() - attempt.began,
  }
end

local function send(sender, attempt)
  attempt.began = now()
  attempt.pending = sender.client:begin(attempt.url, attempt.message)
end

local function receive(sender, attempt)
  local answer, problem = sender.client:wait(attempt.pending)
  if problem then problem.retryable = problem.group ~= "denied" end
  attempt.answer, attempt.problem, attempt.over = answer, problem, true
  tell(sender, attempt)
end

-- In a task of its own: the request, once the gate lets it in.
local function run(sender, attempt, gate)
  local token, wait
  if gate then token, wait = gate:enter() end
  if wait then
    attempt.problem, attempt.over = { hold = wait }, true
  else
    send(sender, attempt)
    receive(sender, attempt)
    if gate then gate:leave(token) end
  end
  loop_of.current():happen(attempt)
end

-- Seconds that a host is still held.
local function held(sender, url)
  local till = sender.held[url.authority]
  if till and till > now() then return till - now() end
  sender.held[url.authority] = nil
end

-- Why an item is not sent to a URL now; nil when it is.
local function obstacle(sender, url, item)
  if item:stopping() then return { hold = 0 } end
  local wait = held(sender, url)
  return wait and { hold = answer_of.spread(wait, item) } or nil
end

-- Begins the delivery of an item to a URL.
---@return respool.http.attempt
local function begin(sender, url, payload, item)
  local attempt = { url = url, problem = obstacle(sender, url, item) }
  if not attempt.problem then
    local request, why = request_of(sender.o, payload, item)
    attempt.message = request
    attempt.problem = not request
      and { message = why, group = "body", retryable = false } or nil
  end
  attempt.over = attempt.problem ~= nil
  local loop = loop_of.current()
  if not attempt.over and loop then
    loop:spawn(run, sender, attempt, sender.gates[url.text])
  elseif not attempt.over then
    send(sender, attempt)
  end
  return attempt
end

-- The error of an answer that does not accept; holds the host if it says so.
local function refused(sender, attempt, answer, item)
  local wait = answer_of.retry_after(answer.retry_after, function(text)
    return sender.client:date(text)
  end, os.time(), sender.o.max_retry_after)
  local problem = answer_of.refusal(answer,
                                    wait and answer_of.spread(wait, item))
  if problem.hold and sender.single then
    problem.hold = wait
  elseif problem.hold then
    sender.held[attempt.url.authority] = now() + wait
  end
  return problem
end

local KEPT = 1024 -- bytes of an answer's text in the result

-- The result of a delivery, kept with the item where its queue keeps results.
---@class respool.http.result
---@field url string without what is secret in it
---@field status integer
---@field body string its first 1024 bytes
---@field content_type string?

local function result_of(attempt)
  local answer = attempt.answer
  return {
    url = attempt.url.label, status = answer.status,
    body = answer.text:sub(1, KEPT), content_type = answer.content_type,
  }
end

-- Waits for the end of an attempt: its result, or nil and an error as a handler
-- returns it.
---@param attempt respool.http.attempt
---@return respool.http.result?, table?
local function finish(sender, attempt, item)
  local loop = loop_of.current()
  while loop and not attempt.over do loop:await(attempt) end
  if not attempt.over then receive(sender, attempt) end
  if attempt.problem then return nil, attempt.problem end
  if sender.o.success(attempt.answer.status) then return result_of(attempt) end
  return nil, refused(sender, attempt, attempt.answer, item)
end

-- The result of finish() as a handler returns it.
local function settled(sender, result, problem)
  if result then return result end
  if problem.hold == 0 then return outcome.release() end
  if problem.hold and sender.single then
    return outcome.hold(problem.hold, problem.message)
  end
  if problem.hold then return outcome.hold_item(problem.hold) end
  return nil, problem
end

-- Names the URL in the error; a fan-out does that by itself.
local function label(url, problem)
  if problem and problem.message then
    problem.message = ("%s: %s"):format(url.label, problem.message)
  end
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

-- Tries the URLs one after the other, beginning with number `from`.
local function until_accepted(sender, urls, from, payload, item)
  local problems = {}
  for i = 0, #urls - 1 do
    local url = urls[(from - 1 + i) % #urls + 1]
    local attempt = begin(sender, url, payload, item)
    local result, problem = finish(sender, attempt, item)
    if result or problem.hold == 0 then
      return settled(sender, result, problem)
    end
    label(url, problem)
    problems[#problems + 1] = problem
  end
  return settled(sender, nil, answer_of.merge(problems))
end

local modes = {}

local function open_gate(sender, url)
  local most = sender.o.per_url
  sender.gates[url.text] = sender.gates[url.text] or most and gate_of.new(most)
end

local function entry_of(sender, url, name)
  open_gate(sender, url)
  return {
    name = name,
    begin = function(payload, item)
      return begin(sender, url, payload, item)
    end,
    handler = function(_, item, attempt)
      return settled(sender, finish(sender, attempt, item))
    end,
  }
end

function modes.all(sender, urls)
  if #urls == 1 then return modes.first(sender, urls) end
  local entries, names = {}, names_of(urls)
  for i, url in ipairs(urls) do
    entries[i] = entry_of(sender, url, names[i])
  end
  return handlers.of_entries(entries)
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

-- A handler whose URLs depend on the item.
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
  return {
    o = o, client = client_of.new(o), turn = 0, gates = {}, held = {},
    single = type(o.url) == "table" and #o.url == 1,
  }
end

local function with_defaults(o)
  for name, value in pairs(form.defaults) do
    if o[name] == nil then o[name] = value end
  end
  return o
end

-- A handler that delivers items by HTTP. Connections are used again; at most
-- 64 of them are kept idle, whatever hosts they go to.
---@param given respool.http_options
---@return respool.handler
function M.handler(given)
  local o = with_defaults(options.read(form.form, given, 1))
  if not o.url then
    compat.misuse("respool.http: option 'url' is missing")
  end
  if o.proxy and (o.allow or o.deny) then
    compat.misuse("respool.http: a proxy would connect to addresses that "
      .. "'allow' and 'deny' do not see")
  end
  local sender, mode = new_sender(o), modes[o.mode]
  if type(o.url) == "function" then return by_item(sender, mode) end
  for _, url in ipairs(o.url) do sender.client:check(url) end
  return mode(sender, o.url)
end

return M
