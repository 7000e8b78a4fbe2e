-- SPDX-License-Identifier: MIT
--
-- respool over HTTP: functions for content_by_lua, each of which answers one
-- request. Nothing is reachable that no location calls; who may reach it is
-- for nginx to say (allow, auth_basic, auth_request ...).
--
--   location = /orders  { content_by_lua_block {
--     require("resty.respool.http").intake { store = "…", queue = "orders" } } }
--   location = /metrics { content_by_lua_block {
--     require("resty.respool.http").metrics { store = "…" } } }
--
-- A store is a path, opened as respool.shared does, or one that is open.
-- Whatever goes wrong is told as { "error": CODE, "message": … }.

local cjson = require "cjson"
local core = require "respool.core"
local admin = require "resty.respool.admin"
local compat = require "respool.compat"
local options = require "respool.options"
local reply = require "resty.respool.reply"
local resty = require "resty.respool"

core.home(debug.getinfo(1, "S").source)

local M = {}


-- Intake.

---@class respool.intake_options
---@field store string|respool.store
---@field open respool.open_options? of a path
---@field queue string
---@field options table? of the queue; not `buffer`: a 202 means it is on disk
---@field max_body integer|string? 1 MiB; nginx's client_max_body_size comes
--- first
---@field json boolean? the payload is the value that the body encodes; else
--- it is the body's bytes
---@field push respool.push_options|fun(payload: any): respool.push_options|nil

local function push_kind(value)
  if type(value) == "table" or type(value) == "function" then return value end
  return nil, "a table of options or a function"
end

local INTAKE = {
  of = "http.intake",
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

local function payload_of(o, body)
  if not o.json then return body end
  local ok, value = pcall(cjson.decode, body)
  if ok then return value end
  reply.refuse(400, "JSON", "the body is not JSON")
end

-- The queue's handle is shared by locations; what they check is their own.
local function take_check(o)
  local rest = {}
  for name, value in pairs(o.options or {}) do rest[name] = value end
  if rest.buffer then
    compat.misuse "http.intake: a buffered push is not on disk with its 202"
  end
  local check = rest.check
  rest.check, o.options = nil, rest
  return check
end

local function push(queue, o, payload)
  local given = o.push
  if type(given) == "function" then given = given(payload) end
  local id, message, code = queue:push(payload, given)
  if not id then return reply.fail(message, code) end
  reply.answer(202, { id = id, exists = message == "exists" or nil })
end

-- Takes a POST whose body becomes an item: 202 and its id, once it is on disk.
-- 400 no body, or no JSON; 405 no POST; 409 the key is held; 413 too large; 429
-- the queue is full: come back; 503 the store cannot store. What the queue's
-- `check` raises refuses with 422.
---@param given respool.intake_options
function M.intake(given)
  local o = options.read(INTAKE, given, 1)
  reply.need(INTAKE, o, "store", "queue")
  local check = take_check(o)
  if not reply.allows "POST" then return end
  local body = read_body(o.max_body or MAX_BODY)
  local payload = body and payload_of(o, body)
  if payload == nil then return end
  local queue, message, code = reply.open_queue(o)
  if not queue then return reply.fail(message, code) end
  local ok, problem = true, nil
  if check then ok, problem = pcall(check, payload) end
  if not ok then return reply.refuse(422, "CHECK", tostring(problem)) end
  push(queue, o, payload)
end


-- Metrics and health.

-- Everything counted, for a Prometheus scraper.
---@param given { store: string|respool.store, open: table? }
function M.metrics(given)
  if not reply.allows "GET" then return end
  local store = reply.begin(reply.of_store, given)
  if not store then return end
  local text, message, code = store:metrics()
  if not text then return reply.fail(message, code) end
  ngx.header.content_type = "text/plain; version=0.0.4"
  ngx.print(text)
end

local HEALTH = setmetatable({ of = "http.health", bounds = options.table },
                            { __index = reply.of_store })

-- How the store is: 200, or 503 when it is unhealthy. `bounds` are the options
-- of store:health().
---@param given { store: string|respool.store, open: table?, bounds: table? }
function M.health(given)
  if not reply.allows "GET" then return end
  local store, o = reply.begin(HEALTH, given)
  if not store then return end
  local health = store:health(o.bounds)
  reply.answer(health.status == "unhealthy" and 503 or 200, health)
end

-- Queues and letters as JSON: see resty/respool/admin.lua.
M.admin = admin.serve

return M
