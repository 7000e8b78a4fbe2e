-- SPDX-License-Identifier: MIT
--
-- What the receive answers: a POST, whatever its path, is pushed, and answered
-- 202 with the item's id after the commit. Requests that came together are
-- committed together.
--
-- Ensures:
-- 1. A 202 is sent only when the item is on disk.
-- 2. A request with an Idempotency-Key that is known is answered with the id
--    of its item, and nothing is pushed.

local core = require "respool.core"
local http = require "respool.http.server"
local json = require "respool.support.json"
local sign = require "respool.http.sign"

local M = {}

---@class respool.http.receiver_options
---@field queue respool.queue
---@field json boolean bodies are decoded; else kept as they are
---@field keep string[] names of headers to be kept with the item
---@field dedup number seconds that an Idempotency-Key is known at least
---@field secret string? requests must be signed with

---@class respool.http.receiver
---@field o respool.http.receiver_options
---@field loop respool.http.loop set when there is one
---@field pending table[] requests whose commit is to come
---@field accepted integer
local Intake = {}
Intake.__index = Intake

local KEPT = { "traceparent", "tracestate", "idempotency-key" }
local OCTETS = "application/octet-stream"
local KEY_MOST = 255       -- bytes
local RETRY_AFTER = 5      -- seconds
local SKEW = 300           -- seconds that a signature may be old, or ahead


-- Before the body is read.

local function is_look(request)
  return (request.method == "GET" or request.method == "HEAD")
    and (request.path == "/health" or request.path == "/metrics")
end

-- Refuses what is not for us.
---@param request respool.http.request
---@return respool.http.reply?
function Intake.admit(_, request)
  if is_look(request) then return nil end
  if request.method ~= "POST" then
    local looks = request.path == "/health" or request.path == "/metrics"
    return http.error(405, "only POST is taken in", {
      Allow = looks and "GET, HEAD, POST" or "POST",
    })
  end
  if #(request.headers["idempotency-key"] or "") > KEY_MOST then
    return http.error(400, "an Idempotency-Key may have 255 bytes")
  end
end


-- Looking.

local function look(receiver, path)
  local store = receiver.o.queue.store
  if path == "/health" then
    local health = store:health()
    return { status = health.status == "unhealthy" and 503 or 200,
             text = json.encode(health) .. "\n" }
  end
  local text, message = store:metrics()
  if not text then return http.error(500, message) end
  return { status = 200, text = text, type = "text/plain; version=0.0.4" }
end


-- Taking in.

local function is_signed(request, secret)
  local timestamp = request.headers["respool-timestamp"] or ""
  local given = (request.headers["respool-signature"] or ""):match "^v1=(%x+)$"
  local seconds = tonumber(timestamp:match "^%d+$")
  if not given or not seconds or math.abs(os.time() - seconds) > SKEW then
    return false
  end
  return sign.equal(given:lower(), sign.hmac(secret, timestamp, request.body))
end

-- The type belongs to bytes: by it they are known as what is to be sent on
-- as it is. A value that was decoded has none.
local function kept_headers(receiver, request)
  local headers = {}
  for _, name in ipairs(receiver.keep) do
    headers[name] = request.headers[name]
  end
  headers["content-type"] = not receiver.o.json
    and (request.headers["content-type"] or OCTETS) or nil
  return next(headers) and headers or nil
end

-- What is pushed for a request; nil and the reply when nothing can be.
local function entry_of(receiver, request)
  local o, payload = receiver.o, request.body
  if o.secret and not is_signed(request, o.secret) then
    return nil, http.error(401, "the signature is missing or wrong")
  end
  if o.json then
    local value, why = json.decode(payload)
    if value == nil then return nil, http.error(400, "not JSON: " .. why) end
    payload = value
  end
  local key = request.headers["idempotency-key"]
  if key == "" then key = nil end
  return { payload = payload, options = {
    headers = kept_headers(receiver, request), key = key,
    on_conflict = key and "ignore", dedup = key and o.dedup,
  } }
end

local BUSY = { ["Retry-After"] = RETRY_AFTER }

-- The answer to the push that failed last. Consumers empty a full queue, so the
-- client is to slow down; a full store is not the client's affair.
local function refusal(code)
  if code == "TOO_LARGE" then
    return http.error(413, "the item is too large")
  elseif code == "FULL" and not core.error_of_store() then
    return http.error(429, "the queue is full", BUSY)
  elseif code == "FULL" or code == "NOSPACE" then
    return http.error(503, "the store is full", BUSY)
  end
  return http.error(503, "the store does not take it: " .. tostring(code), BUSY)
end

---@param request respool.http.request
---@return respool.http.reply
function Intake:answer(request)
  if is_look(request) then return look(self, request.path) end
  local entry, reply = entry_of(self, request)
  if entry then
    entry.task = coroutine.running()
    table.insert(self.pending, entry)
    reply = self.loop:park()
  end
  if reply.status == 202 then self.accepted = self.accepted + 1 end
  return reply
end


-- Committing.

local function accepted(id)
  return { status = 202, text = ('{"id":%d}\n'):format(id) }
end

-- Pushes all of them in one commit. Nil when they cannot be, all of them.
local function push_together(queue, entries)
  local tx = queue.store:begin()
  if not tx then return nil end
  for i, entry in ipairs(entries) do
    entry.pushed = tx:push(queue, entry.payload, entry.options)
    entry.number = i
  end
  if not tx:commit() then
    tx:rollback()
    return nil
  end
  for _, entry in ipairs(entries) do
    entry.reply = accepted(entry.pushed.id)
  end
  return true
end

-- Each for itself, so that one that cannot be pushed harms no other.
local function push_alone(queue, entry)
  entry.options.timeout = 0
  local ok, id, _, code = pcall(queue.push, queue, entry.payload,
                                      entry.options)
  if not ok then
    entry.reply = http.error(400, "it cannot be stored")
  elseif not id then
    entry.reply = refusal(code)
  else
    entry.reply = accepted(id)
  end
end

-- Commits what has come, and lets it be answered. True when more came by
-- that.
---@return boolean
function Intake:commit()
  local entries = self.pending
  if #entries == 0 then return false end
  self.pending = {}
  local ok, together = pcall(push_together, self.o.queue, entries)
  if not ok or not together then
    for _, entry in ipairs(entries) do push_alone(self.o.queue, entry) end
  end
  for _, entry in ipairs(entries) do
    self.loop:wake(entry.task, entry.reply)
  end
  return #self.pending > 0
end

---@param o respool.http.receiver_options
---@return respool.http.receiver
function M.new(o)
  if o.secret then sign.check() end
  local keep = {}
  for i, name in ipairs(KEPT) do keep[i] = name end
  for _, name in ipairs(o.keep) do keep[#keep + 1] = name:lower() end
  return setmetatable({
    o = o, keep = keep, pending = {}, accepted = 0,
  }, Intake)
end

return M
