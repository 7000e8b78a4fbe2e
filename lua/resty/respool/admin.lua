-- SPDX-License-Identifier: MIT
--
-- Queues, items, DLQs and dead letters as JSON, below the path `prefix`:
--
--   GET    queues   queues/NAME   queues/NAME/items?limit=
--   GET    DLQs    DLQs/NAME/groups
--   GET    DLQs/NAME/dead letters?limit=&after=&group=&order=newest
--   GET    DLQs/NAME/dead letters/N
--   DELETE DLQs/NAME/dead letters/N
--   POST   DLQs/NAME/dead letters/N/retry
--   POST   DLQs/NAME/replay?limit=&group=
--
-- Anybody who reaches the location may do all of this, with a header X-Respool,
-- which a form cannot send, for what changes something, and not from a page of
-- another site: see resty/respool/origin.lua. A request that is not understood
-- to the last parameter does nothing.

local core = require "respool.core"
local figures = require "respool.observe.stats"
local json = require "resty.respool.json"
local options = require "respool.support.options"
local origin = require "resty.respool.origin"
local pages = require "respool.support.pages"
local reply = require "resty.respool.reply"
local timing = require "respool.support.timing"

core.home(debug.getinfo(1, "S").source)

local M = {}

local list_of = core.cbor.array -- which is a list even when it is empty

local RAW = { codec = "raw" } -- JSON is made of the stored bytes

local function records(things)
  local list = {}
  for i, thing in ipairs(things) do
    list[i] = json.record(thing)
    timing.breathe()
  end
  return list
end

local PAGE, MOST = 100, 1000

local function by_name(a, b)
  return a.name < b.name
end

local function list_queues(store)
  local all, message, code = figures.queues(store)
  if not all then return reply.fail(message, code) end
  local list = list_of {}
  for name, s in pairs(all) do
    list[#list + 1] = {
      name = name, ready = s.ready, leased = s.leased,
      scheduled = s.scheduled, retrying = s.retrying,
      dead = s.dead, paused = s.paused, oldest_age = s.oldest_age,
      fill = s.fill,
    }
  end
  table.sort(list, by_name)
  reply.answer(200, { queues = list })
end

local function show_queue(store, name)
  local handle, message, code = store.handle:find(name)
  if not handle then return reply.fail(message, code) end
  local stats
  stats, message, code = figures.queue(store, handle)
  handle:close()
  if not stats then return reply.fail(message, code) end
  stats.name = name
  reply.answer(200, stats)
end

local function list_items(store, name, o)
  local queue, message, code = store:queue(name, {
    create = false, codec = RAW.codec,
  })
  local items
  if queue then
    items, message, code = queue:peek(o.limit or PAGE)
    queue.handle:close()
  end
  if not items then return reply.fail(message, code) end
  local texts = records(items)
  reply.list("items", function()
    local page = texts
    texts = {}
    return page
  end)
end

local function list_dlqs(store)
  local names, message, code = store:dead_letter_queues()
  local list = list_of {}
  for i, name in ipairs(names or {}) do
    local n
    timing.breathe()
    n, message, code = store:dead(name):count()
    if not n then return reply.fail(message, code) end
    list[i] = { name = name, dead_letters = n }
  end
  if not names then return reply.fail(message, code) end
  reply.answer(200, { dead_letter_queues = list })
end

local function list_dead_letters(store, dlq, o)
  local dead, after, left = store:dead(dlq, RAW), o.after, o.limit or PAGE
  reply.list("dead_letters", function()
    if left <= 0 then return {} end
    local dead_letters, message, code = dead:list {
      after = after, group = o.group, limit = left, order = o.order,
      bytes = pages.BYTES,
    }
    if not dead_letters then return nil, message, code end
    left = left - #dead_letters
    after = dead_letters[1] and dead_letters[#dead_letters].number
    return records(dead_letters)
  end)
end

local function list_groups(store, dlq)
  local groups, message, code = store:dead(dlq):groups()
  if not groups then return reply.fail(message, code) end
  reply.answer(200, { groups = list_of(groups) })
end

local function show_dead_letter(store, dlq, _, number)
  local dead_letter, message, code = store:dead(dlq, RAW):get(number)
  if not dead_letter then return reply.fail(message, code) end
  reply.send(200, "application/json", json.record(dead_letter) .. "\n")
end

local function retry_dead_letter(store, dlq, _, number)
  local ok, message, code = store:dead(dlq):retry(number)
  if not ok then return reply.fail(message, code) end
  reply.answer(200, { number = number, retried = true })
end

local function remove_dead_letter(store, dlq, _, number)
  local ok, message, code = store:dead(dlq):remove(number)
  if not ok then return reply.fail(message, code) end
  reply.answer(200, { number = number, removed = true })
end

-- The counts before an error stand beside it.
local function fail_replay(message, code, counts)
  if counts then
    counts.state, counts.errors = nil, list_of(counts.errors)
  end
  reply.fail(message, code, counts)
end

local function replay_dlq(store, dlq, o)
  local counts, message, code, so_far = store:dead(dlq):replay {
    limit = o.limit, group = o.group,
  }
  if not counts then return fail_replay(message, code, so_far) end
  counts.errors = list_of(counts.errors)
  reply.answer(200, counts)
end


-- Parameters, each with its kind.

local LARGEST = 2^53 - 1 -- whole numbers beyond are not told apart

local function whole(least, most)
  local kind = options.whole(least, most)
  return function(text)
    return kind(tonumber(tostring(text):match "^%d+$"))
  end
end

-- One without a value is `true`.
local function text(value)
  return options.string(value), "given a value"
end

local number = whole(1, LARGEST)
local limit = whole(1, MOST)

local DEAD_LETTERS = {
  limit = limit, after = whole(0, LARGEST), group = text,
  order = options.choice { newest = "newest", oldest = "oldest" },
}

local function why_not(takes, name, value)
  local kind = takes[name]
  if not kind then
    return ("there is no parameter '%s' here"):format(name:sub(1, 40))
  elseif type(value) == "table" then
    return ("parameter '%s' is given more than once"):format(name)
  end
  local kept, expected = kind(value)
  if kept == nil then
    return ("parameter '%s' must be %s"):format(name, expected)
  end
  return nil, kept
end

-- The parameters of a request; nil and why when they are not understood.
local function read_parameters(takes)
  local given, truncated = ngx.req.get_uri_args()
  if truncated then return nil, "there are too many parameters" end
  if ngx.var.request_uri:find("#", 1, true) then
    return nil, "a '#' must be written %23"
  end
  if ("&" .. (ngx.var.args or "")):find("&=", 1, true) then
    return nil, "there is a parameter without a name"
  end
  local o = {}
  for name, value in pairs(given) do
    local why, kept = why_not(takes, name, value)
    if why then return nil, why end
    o[name] = kept
  end
  return o
end

local function has_body()
  ngx.req.read_body()
  return ngx.req.get_body_data() ~= nil or ngx.req.get_body_file() ~= nil
end


-- Requests.

-- By method and path, with the parameters taken; a NAME is any one segment, a
-- NUMBER is one of a dead letter.
local ROUTES = {
  { "GET", "queues", fn = list_queues },
  { "GET", "queues", "NAME", fn = show_queue },
  { "GET", "queues", "NAME", "items", fn = list_items,
    takes = { limit = limit } },
  { "GET", "dead", fn = list_dlqs },
  { "GET", "dead", "NAME", "items", fn = list_dead_letters,
    takes = DEAD_LETTERS },
  { "GET", "dead", "NAME", "groups", fn = list_groups },
  { "POST", "dead", "NAME", "replay", fn = replay_dlq,
    takes = { limit = number, group = text } },
  { "GET", "dead", "NAME", "items", "NUMBER", fn = show_dead_letter },
  { "DELETE", "dead", "NAME", "items", "NUMBER",
    fn = remove_dead_letter },
  { "POST", "dead", "NAME", "items", "NUMBER", "retry",
    fn = retry_dead_letter },
}

local function as_it_is(segment)
  return segment
end

local function decoded(segment)
  return (segment:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
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

-- What is asked for, as nginx understood it when it let the request in. Only
-- where the path as it was written means the same are names read from that,
-- as they may hold a slash.
local function path_behind(prefix)
  prefix = segments_of(prefix, as_it_is)
  local understood = segments_of(ngx.var.uri, as_it_is)
  local written = segments_of(ngx.var.request_uri:match "^[^?#]*", decoded)
  return joined(written) == joined(understood) and behind(prefix, written)
    or behind(prefix, understood)
end

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

local function perform(route, store, hosts, name, n)
  if route[1] ~= "GET" and not origin.check_act(hosts) then return end
  local o, why = read_parameters(route.takes or {})
  if not o then return reply.refuse(400, "PARAMETER", why) end
  if route[1] ~= "GET" and has_body() then
    return reply.refuse(400, "BODY", "a body is not read here: parameters "
      .. "stand in the query")
  end
  route.fn(store, name, o, n)
end

local function dispatch(store, segments, hosts)
  local method, allowed = reply.method(), {}
  for _, route in ipairs(ROUTES) do
    local is_it, name, n = match(route, segments)
    if is_it and route[1] == method then
      return perform(route, store, hosts, name, n)
    elseif is_it then
      allowed[#allowed + 1] = route[1]
    end
  end
  if allowed[1] then return reply.refuse_method(allowed) end
  reply.refuse(404, "NOT_FOUND", "there is nothing here")
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

---@class respool.admin_options : respool.store_of
---@field prefix string
---@field hosts string[]? names of this server beside its server_name

-- Answers a request below the path `prefix`.
---@param given respool.admin_options
function M.serve(given)
  local store, o = reply.begin(ADMIN, given)
  if not store then return end
  reply.need(ADMIN, o, "prefix")
  local hosts, segments = o.hosts or {}, path_behind(o.prefix)
  if not origin.check_host(hosts) then return end
  if segments then return dispatch(store, segments, hosts) end
  reply.refuse(404, "NOT_FOUND", ("'%s' is not below the prefix '%s'"):format(
    ngx.var.uri, o.prefix))
end

return M
