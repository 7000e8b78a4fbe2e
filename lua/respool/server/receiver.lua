-- SPDX-License-Identifier: MIT
--
-- The answers of `respool receive`: a POST to any path is pushed, and answered
-- 202 with the item's id after the commit. Requests that came together are
-- committed together.
--
-- Ensures:
-- 1. A 202 is sent only when the item is on disk.
-- 2. A request with an Idempotency-Key that is known is answered with the id
--    of its item, and nothing is pushed; with 422 if that item is still there
--    and has another body.
-- 3. The key of a signed request is its signed id, so that a request that is
--    recorded and sent again is not pushed again.
-- 4. Where a sender signs headers, as respool does, those that are not signed
--    are not kept, but for the trace context, which proxies change.

local compat = require "respool.support.compat"
local core = require "respool.core"
local json = require "respool.support.json"
local server = require "respool.server.server"
local sign = require "respool.http.sign"

local M = {}

---@class respool.server.receiver_options
---@field queue respool.queue
---@field json boolean bodies are decoded; else kept as they are
---@field keep string[] names of headers to be kept with the item
---@field dedup number seconds that an Idempotency-Key is known at least
---@field secret string[]? requests must be signed with one of these
---@field signature "standard"|"respool"
---@field signed_headers boolean no others are kept, whoever the sender is
---@field token string? the bearer token for /health and /metrics

---@class respool.server.receiver
---@field o respool.server.receiver_options
---@field loop respool.loop set when there is one
---@field pending table[] requests whose commit is to come
---@field accepted integer
local Receiver = {}
Receiver.__index = Receiver

local KEPT = { "traceparent", "tracestate", "idempotency-key" }
local TRACE = { traceparent = true, tracestate = true }
local KEPT_OF_BYTES = { "content-type", "content-encoding" }
local OCTETS = "application/octet-stream"
local KEY_MOST = 255       -- bytes
local RETRY_AFTER = 5      -- seconds


-- Before the body is read.

local function is_look(request)
  return (request.method == "GET" or request.method == "HEAD")
    and (request.path == "/health" or request.path == "/metrics")
end

local function refuse_look(token, request)
  local given = (request.headers.authorization or ""):match "^Bearer (.+)$"
  if not token or given and sign.equal(given, token) then return nil end
  return server.error(401, "a bearer token is needed", {
    ["WWW-Authenticate"] = "Bearer",
  })
end

-- JSON can be decoded as it is only.
local function is_encoded(request)
  local encoding = request.headers["content-encoding"]
  return encoding ~= nil and encoding:lower() ~= "identity"
end

-- Refuses requests that nothing here answers.
---@param request respool.server.request
---@return respool.server.reply?
function Receiver:admit(request)
  if is_look(request) then return refuse_look(self.o.token, request) end
  if request.method ~= "POST" then
    local looks = request.path == "/health" or request.path == "/metrics"
    return server.error(405, "only POST is taken in", {
      Allow = looks and "GET, HEAD, POST" or "POST",
    })
  end
  for _, name in ipairs { "idempotency-key", "webhook-id" } do
    if #(request.headers[name] or "") > KEY_MOST then
      return server.error(400, "an Idempotency-Key may have 255 bytes")
    end
  end
  if self.o.json and is_encoded(request) then
    return server.error(415, "a body of JSON must not be encoded", {
      ["Accept-Encoding"] = "identity",
    })
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
  if not text then return server.error(500, message) end
  return { status = 200, text = text, type = "text/plain; version=0.0.4" }
end


-- Taking in.

-- Type and encoding belong to bytes, which `deliver` sends as they came. A
-- decoded value has neither. `covered` is the set of signed headers, nil where
-- any may be kept.
local function kept_headers(receiver, request, key, covered)
  local headers = {}
  local function keep(names)
    for _, name in ipairs(names) do
      if not covered or covered[name] or TRACE[name] then
        headers[name] = request.headers[name]
      end
    end
  end
  keep(receiver.keep)
  headers["idempotency-key"] = key
  if not receiver.o.json then
    keep(KEPT_OF_BYTES)
    headers["content-type"] = headers["content-type"] or OCTETS
  end
  return next(headers) and headers or nil
end

-- The key of a request, or nil, and its signed headers where no others are
-- kept; false when it must be signed and is not.
local function key_of(o, request)
  if o.secret then
    local headers = request.headers
    local key, covered =
      sign.verify(o.signature, o.secret, headers, request.body)
    local is_strict = o.signed_headers or headers["respool-headers"]
    return key or false, covered or is_strict and {} or nil
  end
  local key = request.headers["idempotency-key"]
  return key ~= "" and key or nil
end

-- The push of a request; nil and the reply when it is refused.
local function entry_of(receiver, request)
  local o, payload = receiver.o, request.body
  local key, covered = key_of(o, request)
  if key == false then
    return nil, server.error(401, "the signature is missing or wrong")
  end
  if o.json then
    local value, why = json.decode(payload)
    if value == nil then return nil, server.error(400, "not JSON: " .. why) end
    payload = value
  end
  return { payload = payload, options = {
    headers = kept_headers(receiver, request, key, covered), key = key,
    on_conflict = key and "ignore", dedup = key and o.dedup,
  } }
end

local BUSY = { ["Retry-After"] = RETRY_AFTER }

-- The answer to the push that failed last. Consumers empty a full queue, so the
-- client is to slow down; a full store is not the client's affair.
local function refusal(code)
  if code == "TOO_LARGE" then
    return server.error(413, "the item is too large")
  elseif code == "FULL" and not core.error_of_store() then
    return server.error(429, "the queue is full", BUSY)
  elseif code == "FULL" or code == "NOSPACE" then
    return server.error(503, "the store is full", BUSY)
  end
  return server.error(503, "the store does not take it: " .. tostring(code),
                      BUSY)
end

---@param request respool.server.request
---@return respool.server.reply
function Receiver:answer(request)
  if is_look(request) then return look(self, request.path) end
  local entry, reply = entry_of(self, request)
  if entry then
    entry.task = compat.task()
    table.insert(self.pending, entry)
    reply = self.loop:sleep()
  end
  if reply.status == 202 then self.accepted = self.accepted + 1 end
  return reply
end


-- Committing.

-- Whether the item that has the key still exists and has another payload.
local function is_another(o, id, payload)
  local item = o.queue:get(id)
  if not item then return false end
  if not o.json then return item.payload ~= payload end
  return json.encode(item.payload) ~= json.encode(payload)
end

local function accepted(o, entry, id, held)
  if held and is_another(o, id, entry.payload) then
    return server.error(422, "the Idempotency-Key is that of another body")
  end
  return { status = 202, text = ('{"id":%d}\n'):format(id) }
end

-- Pushes all of them in one commit. Nil when they cannot be, all of them.
local function push_together(o, entries)
  local tx = o.queue.store:begin()
  if not tx then return nil end
  for _, entry in ipairs(entries) do
    entry.pushed = tx:push(o.queue, entry.payload, entry.options)
  end
  if not tx:commit() then
    tx:rollback()
    return nil
  end
  for _, entry in ipairs(entries) do
    entry.reply = accepted(o, entry, entry.pushed.id, entry.pushed.held)
  end
  return true
end

-- Each for itself, so that one that cannot be pushed harms no other.
local function push_alone(o, entry)
  entry.options.timeout = 0
  local ok, id, held, code = pcall(o.queue.push, o.queue, entry.payload,
                                   entry.options)
  if not ok then
    entry.reply = server.error(400, "it cannot be stored")
  elseif not id then
    entry.reply = refusal(code)
  else
    entry.reply = accepted(o, entry, id, held)
  end
end

-- Commits the pending requests, and lets them be answered. True when more came
-- by that.
---@return boolean
function Receiver:commit()
  local entries = self.pending
  if #entries == 0 then return false end
  self.pending = {}
  local ok, together = pcall(push_together, self.o, entries)
  if not ok or not together then
    for _, entry in ipairs(entries) do push_alone(self.o, entry) end
  end
  for _, entry in ipairs(entries) do
    self.loop:wake(entry.task, entry.reply)
  end
  return #self.pending > 0
end

---@param o respool.server.receiver_options
---@return respool.server.receiver
function M.new(o)
  local keep = {}
  if o.secret then
    o.secret = sign.keys(o.secret)
    o.dedup = math.max(o.dedup, 2 * sign.SKEW)
  end
  for i, name in ipairs(KEPT) do keep[i] = name end
  for _, name in ipairs(o.keep) do keep[#keep + 1] = name:lower() end
  return setmetatable({
    o = o, keep = keep, pending = {}, accepted = 0,
  }, Receiver)
end

return M
