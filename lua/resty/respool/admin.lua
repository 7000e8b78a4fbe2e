-- SPDX-License-Identifier: MIT
--
-- http.admin and http.console: what respool/console/routes.lua answers, below
-- the path `prefix` of nginx. Of http.admin, which programs ask, anybody who
-- reaches the location may do all of it; http.console looks unless it is
-- `writable`, which needs a `token`.

local compat = require "respool.support.compat"
local core = require "respool.core"
local json = require "resty.respool.json"
local options = require "respool.support.options"
local parameters = require "respool.console.parameters"
local reply = require "resty.respool.reply"
local answer = require "respool.console.answer"
local routes = require "respool.console.routes"

core.home(debug.getinfo(1, "S").source)

local M = {}


-- Paths.

local function as_it_is(segment)
  return segment
end

-- The segments of a path, with dots resolved.
local function segments_of(path, read)
  local list = {}
  for segment in path:gmatch "[^/]+" do
    segment = read(segment)
    if segment == ".." then
      list[#list] = nil
    elseif segment ~= "." then
      list[#list + 1] = segment
    end
  end
  return list
end

local function joined(segments)
  return ("/" .. table.concat(segments, "/") .. "/"):gsub("/+", "/")
end

-- The segments behind those of the prefix; nil when they are others.
local function behind(prefix, segments)
  local rest = {}
  for i = 1, math.max(#prefix, #segments) do
    if i > #prefix then
      rest[#rest + 1] = segments[i]
    elseif segments[i] ~= prefix[i] then
      return nil
    end
  end
  return rest
end

-- The path asked for, as nginx understood it when it let the request in. Only
-- where the path as it was written means the same are names read from that,
-- as they may hold a slash.
local function path_behind(prefix)
  prefix = segments_of(prefix, as_it_is)
  local understood = segments_of(ngx.var.uri, as_it_is)
  local written = segments_of(ngx.var.request_uri:match "^[^?#]*",
                              parameters.unescape)
  return joined(written) == joined(understood) and behind(prefix, written)
    or behind(prefix, understood)
end


-- Requests.

local MAX_BODY = 2^20

local function body_too_large()
  return nil, answer.refuse(413, "TOO_LARGE", ("the body is over %d bytes")
    :format(MAX_BODY))
end

local function read_body()
  local length = tonumber(ngx.var.content_length)
  if length and length > MAX_BODY then return body_too_large() end
  ngx.req.read_body()
  local body, path = ngx.req.get_body_data(), ngx.req.get_body_file()
  if not path then return body or "" end
  local file = io.open(path, "rb")
  body = file and file:read(MAX_BODY + 1) or ""
  if file then file:close() end
  if #body > MAX_BODY then return body_too_large() end
  return body
end

-- Headers by name, as nginx's variables tell them.
local HEADERS = setmetatable({}, { __index = function(_, name)
  return ngx.var["http_" .. name:gsub("-", "_")]
end })

local function request_of(segments)
  local query = ngx.var.args or ""
  if ngx.var.request_uri:find("#", 1, true) then query = query .. "#" end
  return {
    method = reply.method(), segments = segments, query = query,
    headers = HEADERS, body = read_body,
  }
end

local function spawn(fn)
  local ok, message = ngx.timer.at(0, fn)
  if not ok then ngx.log(ngx.ERR, "respool: ", message) end
end

local function names(value)
  local kept = options.table(value)
  for _, name in ipairs(kept or {}) do
    if type(name) ~= "string" then kept = nil end
  end
  return kept, "a list of names"
end

local ADMIN = setmetatable({
  of = "http.admin", prefix = options.string, hosts = names,
}, { __index = reply.of_store })

-- Answers a request below the path `prefix` of the options.
local function serve(o, store, more)
  local segments = path_behind(o.prefix)
  if not segments then
    return reply.refuse(404, "NOT_FOUND", ("'%s' is not below the prefix '%s'")
      :format(ngx.var.uri, o.prefix))
  end
  more.store, more.hosts, more.server_name = store, o.hosts, ngx.var.server_name
  more.record, more.spawn = json.record, spawn
  more.to_cbor, more.from_cbor = json.to_cbor, json.from_cbor
  reply.give(routes.answer(routes.new(more), request_of(segments)))
end

---@class respool.admin_options : respool.store_of
---@field prefix string of the location, such as "/admin/"
---@field hosts string[]? names of this server beside its server_name

-- Queues, dead letters, replays and schedules as JSON, to look at and to
-- change: see the guide. Guard the location.
---@param given respool.admin_options
function M.serve(given)
  local store, o = reply.begin(ADMIN, given)
  if not store then return end
  reply.need(ADMIN, o, "prefix")
  serve(o, store, { writable = true })
end

local CONSOLE = setmetatable({
  of = "http.console", prefix = options.string, hosts = names,
  writable = options.boolean, token = options.string,
}, { __index = reply.of_store })

---@class respool.console_options : respool.admin_options
---@field writable boolean? false: it only looks
---@field token string? which acting needs

-- The console's page and what it asks for.
---@param given respool.console_options
function M.console(given)
  local store, o = reply.begin(CONSOLE, given)
  if not store then return end
  reply.need(CONSOLE, o, "prefix")
  if o.writable and (o.token or "") == "" then
    compat.misuse "http.console: option 'writable' needs a 'token'"
  end
  serve(o, store, { page = true, writable = o.writable or false,
                             token = o.writable and o.token or nil })
end

return M
