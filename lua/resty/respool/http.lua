-- SPDX-License-Identifier: MIT
--
-- respool over HTTP: functions for content_by_lua, each of which answers one
-- request. Nothing is reachable that no location calls; who may reach it is
-- for nginx to say (allow, auth_basic, auth_request ...).
--
--   location = /orders  { content_by_lua_block {
--     require("resty.respool.http").receive { store = "…", queue = "orders" } }
--     }
--   location = /metrics { content_by_lua_block {
--     require("resty.respool.http").metrics { store = "…" } } }
--
-- A store is a path, opened as respool.shared does, or one that is open.
-- Errors are answered with { "error": CODE, "message": … }.

local core = require "respool.core"
local admin = require "resty.respool.admin"
local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local json = require "resty.respool.json"
local values = require "resty.respool.values"
local metrics = require "respool.observe.metrics"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local policy = require "respool.policy"
local pushes = require "respool.produce.push"
local reply = require "resty.respool.reply"
local resty = require "resty.respool"
local visible = require "respool.support.visible"

core.home(debug.getinfo(1, "S").source)

local M = {}


-- Receive.

---@class respool.receiver_options : respool.store_of
---@field queue string its name
---@field options respool.queue_options? of the queue, stored by the first
--- request in each worker; not `buffer`: a 202 means it is on disk
---@field max_body integer|string? 1 MiB; nginx's client_max_body_size comes
--- first
---@field json boolean? the payload is the value that the body encodes, as
--- `respool push` reads it; else it is the body's bytes
---@field push respool.push_options|fun(payload: any): respool.push_options|nil
--- options of the push, or a function that returns them

local function push_kind(value)
  if type(value) == "function" then return value end
  if type(value) ~= "table" then
    return nil, "a table of options or a function"
  end
  pushes.read(value, 2)
  return value
end

local RECEIVER = {
  of = "http.receive",
  store = resty.store_kind, open = options.table, queue = options.name,
  options = options.table, max_body = options.size, json = options.boolean,
  push = push_kind,
}

local MAX_BODY = 2^20

local function too_large(max)
  reply.refuse(413, "TOO_LARGE", ("the body is over %d bytes"):format(max))
end

local function read_file(path, max)
  local file, message = io.open(path, "rb")
  if not file then
    reply.refuse(503, "IO", message)
    return nil
  end
  local body = file:read(max + 1)
  file:close()
  return body or ""
end

-- The body; nil when the request has been refused.
local function read_body(max)
  local length = tonumber(ngx.var.content_length)
  if length and length > max then return too_large(max) end
  ngx.req.read_body()
  local body, path = ngx.req.get_body_data(), ngx.req.get_body_file()
  if not body and path then body = read_file(path, max) end
  if not body and path then return nil end
  if not body or body == "" then
    return reply.refuse(400, "EMPTY", "there is no body")
  elseif #body > max then
    return too_large(max)
  end
  return body
end

-- Whether a function of the user's is to see the value of a JSON body.
local function wants_value(o)
  return o.validate or type(o.push) == "function" or not o.codec.native
end

-- The payload; of JSON its value, if anybody wants that, and its CBOR, which is
-- what is pushed.
local function payload_of(o, body)
  if not o.json then return body end
  local bytes, why = json.to_cbor(body)
  if bytes and not wants_value(o) then return bytes, bytes end
  if bytes then return values.decode(bytes), bytes end
  reply.refuse(400, "JSON", "the body cannot be read as JSON: " .. why)
end

-- The options, of which the queue's are checked, whoever has opened it. Its
-- handle is shared by requests: what these bring of functions is their own.
local function read_options(given)
  local o = options.read(RECEIVER, given, 1)
  reply.need(RECEIVER, o, "store", "queue")
  local kept, shared = options.read(policy.form, o.options, 1), {}
  if kept.buffer then
    compat.misuse "http.receive: a buffered push is not on disk with its 202"
  end
  for name, value in pairs(o.options or {}) do shared[name] = value end
  o.validate, o.options = kept.validate, shared
  o.codec = kept.codec or codec.default
  shared.validate = nil
  local encoded = not o.codec.native or o.json
  shared.codec = encoded and codec.encoded_as(o.codec.name) or nil
  return o
end

-- The payload to push and its options. An error here refuses it.
local function entry_of(o, payload, bytes)
  if o.validate then pushes.validate(o.validate, payload) end
  local how = o.push
  if type(how) == "function" then how = how(payload) end
  pushes.read(how, 2)
  if not o.codec.native then return codec.encode(o.codec, payload), how end
  return bytes or payload, how
end

local POSITIONS = {
  "^[^\n]-%.lua:%d+: ", "^[%w_]+%([^)\n]*%):%d+: ", "^%[string [^\n]-%]:%d+: ",
}

-- Why a payload is refused, for the client: the first line of what was raised,
-- without the position.
local function reason(err)
  local text = err ~= nil and outcome.describe(err).text or ""
  for _, pattern in ipairs(POSITIONS) do text = text:gsub(pattern, "", 1) end
  text = text:match "^[^\n]*"
  if text == "" or text:find("^" .. outcome.NO_TEXT) then
    return "the payload is refused"
  end
  return text
end

-- A queue that was dropped meanwhile is made anew.
local function push(o, payload, how)
  local id, message, code
  for _ = 1, 2 do
    local queue
    queue, message, code = reply.open_queue(o)
    if not queue then return reply.unavailable(message, code) end
    id, message, code = queue:push(payload, how)
    if code ~= "NOT_FOUND" then break end
    reply.forget(queue)
  end
  if not id then return reply.fail(message, code) end
  reply.answer(202, { id = id, exists = message == "exists" or nil })
end

-- Pushes the body of a POST as an item, and answers 202 and its id once it is
-- on disk. 400: there is no body, or it is not JSON; 405: not a POST; 409: the
-- key is held; 413: too large; 422: `validate`, `push` or the codec raised, or
-- `push` returned wrong options; 429: the queue is full, come back; 503: the
-- store cannot be written.
---@param given respool.receiver_options
function M.receive(given)
  local o = read_options(given)
  if not reply.allows "POST" then return end
  local body = read_body(o.max_body or MAX_BODY)
  if not body then return end
  local payload, bytes = payload_of(o, body)
  if payload == nil then return end
  local ok, value, how = pcall(entry_of, o, payload, bytes)
  if ok then return push(o, value, how) end
  ngx.log(ngx.INFO, "respool: http.receive refused a payload: ",
          visible.clean(outcome.describe(value).text))
  reply.refuse(422, "CHECK", reason(value))
end


-- Metrics and health.

-- Everything counted, for a Prometheus scraper.
---@param given respool.store_of
function M.metrics(given)
  if not reply.allows "GET" then return end
  local store = reply.begin(reply.of_store, given)
  if not store then return end
  local pieces, message, code = metrics.pieces(store, "prometheus")
  if not pieces then return reply.fail(message, code) end
  reply.send_pieces(200, "text/plain; version=0.0.4", pieces)
end

local HEALTH = setmetatable({ of = "http.health", bounds = options.table },
                            { __index = reply.of_store })

---@class respool.health_page : respool.store_of
---@field bounds respool.health_options? as of store:health()

-- The store's health: 200, or 503 when it is unhealthy.
---@param given respool.health_page
function M.health(given)
  if not reply.allows "GET" then return end
  local store, o = reply.begin(HEALTH, given)
  if not store then return end
  local health = store:health(o.bounds)
  reply.answer(health.status == "unhealthy" and 503 or 200, health)
end

-- Queues and dead letters as JSON, for programs; and a page for people: see
-- resty/respool/admin.lua.
M.admin, M.console = admin.serve, admin.console

return M
