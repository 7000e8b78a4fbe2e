-- SPDX-License-Identifier: MIT
--
-- The requests that the console and http.admin answer, below a prefix. What
-- serves them makes a request of what it got and sends the answer: nginx
-- (resty/respool/admin.lua), the command line (respool/cli/console.lua).
--
-- Looking is GET and changes nothing. What changes something is POST or DELETE,
-- needs a header that a form cannot send, must not come from a page of another
-- site, and where the console is not `writable` it is refused. A request that
-- is not understood to the last parameter does nothing.

local act = require "respool.console.act"
local answer = require "respool.console.answer"
local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local filter = require "respool.console.filter"
local guard = require "respool.console.guard"
local json = require "respool.support.json"
local live = require "respool.console.live"
local location = require "respool.support.location"
local look = require "respool.console.look"
local options = require "respool.support.options"
local page = require "respool.console.page"
local parameters = require "respool.console.parameters"
local replays = require "respool.console.replays"
local schedules = require "respool.console.schedules"
local text_of = require "respool.support.text"
local trend = require "respool.console.trend"
local workers = require "respool.console.workers"

local M = {}

---@class respool.console.request
---@field method string HEAD is GET
---@field segments string[] of the path behind the prefix, decoded
---@field query string
---@field headers table<string, string> by names in lower case
---@field body fun(): string?, respool.console.answer? the body, "" when there
--- is none; nil and the answer when it cannot be read

---@class respool.console
---@field store respool.store
---@field writable boolean
---@field page boolean? the page is served, too, and data lies below api/
---@field hosts string[] names of this server, of pages as well
---@field server_name string? another
---@field token string? needed to change something
---@field closed boolean? looking needs the token, too
---@field record fun(record: table): string its JSON
---@field to_cbor fun(text: string): string?, string?
---@field spawn fun(fn: function) runs it beside requests
---@field state { failures: table<string, string>, look: table? } what went
--- wrong with named replays, by name, and the last look at the store; of all
--- consoles of a store in this process
---@field encoded respool.codec

local MOST = 1000

local number, text, flag = parameters.number, parameters.text, parameters.flag
local limit, whole = parameters.whole(1, MOST), parameters.whole

-- Kinds by name, those of a filter among them.
local function with(kinds, more)
  local all = {}
  for name, kind in pairs(kinds) do all[name] = kind end
  for name, kind in pairs(more) do all[name] = kind end
  return all
end

local ITEMS = with(filter.ITEMS, {
  limit = limit, brief = flag, cursor = text, state = parameters.choice {
    "all", "ready", "leased", "scheduled", "retrying",
  },
})
local FINISHED = {
  limit = limit, brief = flag, cursor = text, since = parameters.time,
  ["until"] = parameters.time,
}
local DEAD = with(filter.DEAD, {
  limit = limit, brief = flag, after = whole(0, 2^53 - 1),
  order = parameters.choice { "newest", "oldest" },
})
local REPLAY = with(filter.DEAD, {
  limit = number, to = parameters.name, rate = parameters.positive,
  name = parameters.name, dry_run = flag,
})
local PURGE = with(filter.DEAD, { dry_run = flag })
local PUSH = { priority = whole(0, 255), delay = parameters.whole(0, 2^31),
               key = parameters.key }
local TREND = {
  queue = parameters.name, span = parameters.choice { "1m", "1h", "1d" },
  since = parameters.time, ["until"] = parameters.time,
}
local PARTITIONS = {
  order = parameters.choice { "key", "size" }, limit = limit,
  after = parameters.key,
}
local DRY_RUN = { dry_run = flag }
local KILL, MOVE = { error = text }, { to = parameters.name }
local BRIEF, PAYLOAD = { brief = flag }, { as = parameters.choice { "json" } }

-- By method and path, with the parameters taken; a NAME is any one segment, a
-- NUMBER is one of an item or a dead letter. `looks`: it changes nothing.
local ROUTES = {
  { "GET", "session", fn = look.session },
  { "GET", "events", fn = live.events },
  { "GET", "store", fn = look.store },
  { "GET", "health", fn = look.health },
  { "POST", "store", "check", fn = act.check, looks = true },
  { "GET", "queues", fn = look.queues },
  { "GET", "queues", "NAME", fn = look.queue },
  { "GET", "queues", "NAME", "policy", fn = look.policy },
  { "POST", "queues", "NAME", "policy", fn = act.configure, takes = DRY_RUN,
    has_body = true },
  { "DELETE", "queues", "NAME", fn = act.drop, takes = DRY_RUN },
  { "GET", "queues", "NAME", "partitions", fn = look.partitions,
    takes = PARTITIONS },
  { "POST", "queues", "NAME", "pause", fn = act.pause },
  { "POST", "queues", "NAME", "resume", fn = act.resume },
  { "POST", "queues", "NAME", "purge", fn = act.purge },
  { "GET", "queues", "NAME", "items", fn = look.items, takes = ITEMS },
  { "POST", "queues", "NAME", "items", fn = act.push, takes = PUSH,
    has_body = true },
  { "GET", "queues", "NAME", "items", "NUMBER", fn = look.item,
    takes = BRIEF },
  { "DELETE", "queues", "NAME", "items", "NUMBER", fn = act.remove },
  { "POST", "queues", "NAME", "items", "NUMBER", "run", fn = act.run_now },
  { "POST", "queues", "NAME", "items", "NUMBER", "kill", fn = act.kill,
    takes = KILL },
  { "POST", "queues", "NAME", "items", "NUMBER", "cancel", fn = act.cancel },
  { "POST", "queues", "NAME", "items", "NUMBER", "move", fn = act.move,
    takes = MOVE },
  { "POST", "queues", "NAME", "items", "NUMBER", "payload", fn = act.edit,
    has_body = true },
  { "GET", "queues", "NAME", "items", "NUMBER", "payload",
    fn = look.item_payload, takes = PAYLOAD },
  { "GET", "queues", "NAME", "items", "NUMBER", "result", fn = look.result },
  { "GET", "queues", "NAME", "finished", fn = look.finished,
    takes = FINISHED },
  { "GET", "dead", fn = look.dlqs },
  { "GET", "dead", "NAME", "items", fn = look.dead_letters, takes = DEAD },
  { "GET", "dead", "NAME", "groups", fn = look.groups },
  { "POST", "dead", "NAME", "replay", fn = replays.replay, takes = REPLAY,
    has_body = true },
  { "POST", "dead", "NAME", "purge", fn = act.purge_dlq, takes = PURGE },
  { "GET", "dead", "NAME", "items", "NUMBER", fn = look.dead_letter,
    takes = BRIEF },
  { "GET", "dead", "NAME", "items", "NUMBER", "payload",
    fn = look.dead_letter_payload, takes = PAYLOAD },
  { "DELETE", "dead", "NAME", "items", "NUMBER",
    fn = act.remove_dead_letter },
  { "POST", "dead", "NAME", "items", "NUMBER", "retry",
    fn = act.retry_dead_letter },
  { "GET", "trend", fn = trend.list, takes = TREND },
  { "GET", "workers", fn = workers.list },
  { "POST", "workers", "NUMBER", "stop", fn = workers.stop },
  { "GET", "schedules", fn = schedules.list },
  { "POST", "schedules", "NAME", "run", fn = schedules.run },
  { "POST", "schedules", "NAME", "pause", fn = schedules.pause },
  { "POST", "schedules", "NAME", "resume", fn = schedules.resume },
  { "DELETE", "schedules", "NAME", fn = schedules.remove },
  { "GET", "replays", fn = replays.list },
  { "POST", "replays", "NAME", "resume", fn = replays.resume },
  { "POST", "replays", "NAME", "cancel", fn = replays.cancel },
  { "DELETE", "replays", "NAME", fn = replays.forget },
}

-- Name and number when the path is that of the route.
local function match(route, segments)
  if #segments ~= #route - 1 then return false end
  local name, n
  for i, segment in ipairs(segments) do
    local wanted = route[i + 1]
    if wanted == "NAME" then
      name = options.name(segment)
      if not name then return false end
    elseif wanted == "NUMBER" then
      n = number(segment)
      if not n then return false end
    elseif wanted ~= segment then
      return false
    end
  end
  return true, name, n
end

local function check_act(console, request, route)
  local refusal = guard.check_meant(request, console)
  if refusal or route.looks then return refusal end
  if not console.writable then
    return answer.refuse(403, "READ_ONLY", "this console only looks")
  end
  return console.token and guard.check_token(request, console.token)
end

-- The parameters, and the body where the route has one.
local function read(request, route)
  local o, why = parameters.read(request.query, route.takes or {})
  if not o then return nil, answer.refuse(400, "PARAMETER", why) end
  if route[1] == "GET" then return { o = o } end
  local body, refusal = request.body()
  if not body then return nil, refusal end
  if body ~= "" and not route.has_body then
    return nil, answer.refuse(400, "BODY", "a body is not read here: "
      .. "parameters stand in the query")
  end
  return { o = o, body = body }
end

local function not_found()
  return answer.refuse(404, "NOT_FOUND", "there is nothing here")
end

-- In a database names are UTF-8: a name that is not leads to nothing there, and
-- is no parameter.
local function check_names(console, route, name, o)
  if not location.is_database(console.store.path) then return nil end
  if name and not text_of.is_utf8(name) then return not_found() end
  for parameter, value in pairs(o) do
    if route.takes[parameter] == parameters.name
       and not text_of.is_utf8(value) then
      return answer.refuse(400, "PARAMETER", ("parameter '%s' must be UTF-8, "
        .. "as names in a database are"):format(parameter))
    end
  end
end

local function perform(console, request, route, name, n)
  local refusal
  if route[1] ~= "GET" then refusal = check_act(console, request, route) end
  if refusal then return refusal end
  local r
  r, refusal = read(request, route)
  if not r then return refusal end
  r.name, r.number = name, n
  return check_names(console, route, name, r.o) or route.fn(console, r)
end

local function refuse_method(allowed)
  local names = table.concat(allowed, ", "):gsub("GET", "GET, HEAD")
  return answer.refuse(405, "METHOD", "use " .. names, nil,
                       { Allow = names })
end

local function dispatch(console, request, segments)
  local allowed = {}
  for _, route in ipairs(ROUTES) do
    local is_it, name, n = match(route, segments)
    if is_it and route[1] == request.method then
      return perform(console, request, route, name, n)
    elseif is_it then
      allowed[#allowed + 1] = route[1]
    end
  end
  if allowed[1] then return refuse_method(allowed) end
  return not_found()
end

local function answer_page(request)
  if #request.segments > 1 then return not_found() end
  local file = page.file(request.segments[1] or "")
  if not file then return not_found() end
  if request.method ~= "GET" then return refuse_method { "GET" } end
  return file
end

-- The answer to a request.
---@param console respool.console
---@param request respool.console.request
---@return respool.console.answer
function M.answer(console, request)
  local refusal = guard.check_host(request, console)
  if refusal then return refusal end
  local segments = request.segments
  if console.page then
    if segments[1] ~= "api" then return answer_page(request) end
    segments = { compat.unpack(segments, 2) }
  end
  refusal = console.closed and guard.check_token(request, console.token)
  return refusal or dispatch(console, request, segments)
end

-- The fields of a console that its server leaves out.
local DEFAULT = {
  writable = false, hosts = {}, record = json.record, to_cbor = json.to_cbor,
  encoded = codec.encoded_as "cbor",
}
DEFAULT.__index = DEFAULT

local states = setmetatable({}, { __mode = "k" }) -- by store

-- A console of a store.
---@param o table
---@return respool.console
function M.new(o)
  states[o.store] = states[o.store] or { failures = {} }
  o.state = states[o.store]
  return setmetatable(o, DEFAULT)
end

return M
