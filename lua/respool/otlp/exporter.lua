-- SPDX-License-Identifier: MIT
--
-- Sends what a process has observed to a collector, by OTLP over HTTP as JSON
-- (opentelemetry.io/docs/specs/otlp), and keeps nobody waiting: records lie in
-- a bounded buffer, one request at a time takes a batch of them along, and
-- tick() goes on with it without waiting. What finds the buffer full, is
-- refused, or cannot be sent in TRIES is dropped, counted, and said in the log.

local client_of = require "respool.http.client"
local core = require "respool.core"
local json = require "respool.support.json"
local url_of = require "respool.http.url"

local M = {}

local TRIES = 5
local FIRST, LONGEST = 1, 30 -- seconds before a batch is tried again
local TELL = 10              -- seconds between two lines of the log
local SLICE = 0.05           -- of the wait in close()

-- What is sent to one path of the collector.
---@class respool.otlp.exporter
---@field o respool.otlp.settings
---@field url respool.http.url
---@field noun string such as "spans"
---@field wrap fun(records: table[]): table the body of a request
---@field client respool.http.client
---@field buffer table<integer, table> records by number, `first` to `last`
---@field first integer
---@field last integer
---@field sending table? the batch that is under way: body, n, tries, pending
--- (its request), again_at
---@field sent_at number when a batch was sent last
---@field sent integer records the collector has taken
---@field dropped integer
---@field told integer of these when the log was told last
---@field told_at number
---@field reason string? why the last ones were dropped
---@field trouble string? why the last request failed
---@field failed boolean? whether the last batch was given up
---@field closing boolean? whether nothing is tried again
local Exporter = {}
Exporter.__index = Exporter

local function seconds()
  return core.mono() / 1e6
end

---@param o respool.otlp.settings
---@param url string
---@param noun string
---@param wrap fun(records: table[]): table
---@return respool.otlp.exporter
function M.new(o, url, noun, wrap)
  return setmetatable({
    o = o, url = assert(url_of.parse(url)), noun = noun, wrap = wrap,
    client = client_of.new {
      connect_timeout = o.timeout, timeout = o.timeout, ca_file = o.ca_file,
      redirects = 0,
    },
    buffer = {}, first = 1, last = 0, sent_at = seconds(), sent = 0,
    dropped = 0, told = 0, told_at = 0,
  }, Exporter)
end

local function waiting(e)
  return e.last - e.first + 1
end

local function drop(e, n, why)
  if n > 0 then e.dropped, e.reason = e.dropped + n, why end
end

-- Adds a record, unless the buffer is full.
---@param record table
function Exporter:add(record)
  if waiting(self) >= self.o.buffer then
    return drop(self, 1, self.trouble or "the buffer is full")
  end
  self.last = self.last + 1
  self.buffer[self.last] = record
end

-- Puts a record in the place of those that wait.
---@param record table
function Exporter:replace(record)
  self.buffer, self.first, self.last = { record }, 1, 1
end

-- Tells the log of records that were dropped since it was told last.
local function tell(e, now)
  if e.dropped == e.told or now < e.told_at + TELL and not e.closing then
    return
  end
  e.o.log("warn", e.noun .. " were dropped", {
    [e.noun] = e.dropped - e.told, reason = e.reason, url = e.url.label,
  })
  e.told, e.told_at = e.dropped, now
end


-- One batch.

local function begin(e, sending)
  sending.pending = e.client:begin_apart(e.url, {
    method = "POST", lines = { "Content-Type: application/json" },
    own = e.o.lines, body = sending.body,
  })
  sending.tries, e.sent_at = sending.tries + 1, seconds()
end

local function send_next(e)
  local records, from = {}, e.first
  for i = from, math.min(e.last, from + e.o.batch - 1) do
    records[#records + 1], e.buffer[i] = e.buffer[i], nil
  end
  e.first = from + #records
  e.sending = { body = json.encode(e.wrap(records)), n = #records, tries = 0 }
  begin(e, e.sending)
end

-- Of a batch that was taken, how many records the collector has refused.
local function refused(answer)
  local said = json.decode(answer.text)
  local part = type(said) == "table" and said.partialSuccess
  if type(part) ~= "table" then return 0 end
  local n = tonumber(part.rejectedSpans or part.rejectedDataPoints or 0)
  return n and n > 0 and math.floor(n) or 0
end

local AGAIN = { [429] = true, [502] = true, [503] = true, [504] = true }

local function is_transient(answer)
  return not answer or AGAIN[answer.status] ~= nil
end

-- Seconds until the next try.
local function pause(answer, tries)
  local asked = answer and answer.retry_after
    and tonumber(answer.retry_after:match "^%d+$")
  return math.min(asked or FIRST * 2 ^ (tries - 1), LONGEST)
end

local function give_up(e, sending, why)
  drop(e, sending.n, why)
  e.sending, e.failed = nil, true
end

-- A request is over.
local function judge(e, sending, answer, trouble)
  sending.pending = nil
  if answer and answer.status >= 200 and answer.status < 300 then
    local n = math.min(refused(answer), sending.n)
    e.sent, e.sending = e.sent + sending.n - n, nil
    e.failed, e.trouble = nil, nil
    return drop(e, n, "the collector has refused them")
  end
  local why = answer and ("status %d"):format(answer.status) or trouble.message
  if not is_transient(answer) or sending.tries >= TRIES or e.closing then
    return give_up(e, sending, why)
  end
  e.trouble = why
  sending.again_at = seconds() + pause(answer, sending.tries)
end

-- Goes on with the batch that is under way; waits for up to `wait` for its
-- answer, nil: others poll.
local function go_on(e, sending, wait, now)
  if sending.pending then
    local answer, trouble = e.client:look(sending.pending, wait)
    if answer ~= nil then judge(e, sending, answer, trouble) end
  elseif now >= sending.again_at or e.closing then
    begin(e, sending)
  end
end

local function is_due(e, now)
  local n = waiting(e)
  return n >= math.min(e.o.batch, e.o.buffer)
    or n > 0 and now - e.sent_at >= e.o.interval
end

-- Does what there is to do, and waits for nothing.
---@param polled boolean whether others poll the requests
function Exporter:tick(polled)
  local now = seconds()
  local wait = not polled and 0 or nil
  if self.sending then go_on(self, self.sending, wait, now) end
  if not self.sending and is_due(self, now) then send_next(self) end
  tell(self, now)
end

---@return respool.otlp_stats
function Exporter:stats()
  local under_way = self.sending and self.sending.n or 0
  return { sent = self.sent, dropped = self.dropped, error = self.reason,
           waiting = waiting(self) + under_way }
end


-- Sends all there is, for up to `wait`; what cannot be sent is dropped.
---@param wait number seconds
---@return boolean ok whether nothing was ever dropped
function Exporter:close(wait)
  local ends = seconds() + wait
  self.closing, self.failed = true, nil
  while (self.sending or waiting(self) > 0) and not self.failed
        and seconds() < ends do
    if not self.sending then send_next(self) end
    go_on(self, self.sending, SLICE, seconds())
  end
  local why = self.trouble or "no answer in time"
  if self.sending then
    if self.sending.pending then self.client:give_up(self.sending.pending) end
    give_up(self, self.sending, why)
  end
  drop(self, waiting(self), why)
  tell(self, seconds())
  self.buffer, self.first, self.last, self.closing = {}, 1, 0, nil
  return self.dropped == 0
end

return M
