-- SPDX-License-Identifier: MIT
--
-- Queues, items, boxes and letters as JSON, below the path `prefix`:
--
--   GET    queues   queues/NAME   queues/NAME/items?limit=
--   GET    boxes    boxes/NAME/groups
--   GET    boxes/NAME/letters?limit=&after=&group=&order=newest
--   GET    boxes/NAME/letters/N
--   DELETE boxes/NAME/letters/N
--   POST   boxes/NAME/letters/N/retry
--   POST   boxes/NAME/replay?limit=&group=
--
-- Whoever reaches the location may do all of this.

local cjson = require "cjson"
local core = require "respool.core"
local compat = require "respool.compat"
local figures = require "respool.figures"
local options = require "respool.options"
local reply = require "resty.respool.reply"

core.home(debug.getinfo(1, "S").source)

local M = {}

-- Can JSON tell it? Its text must be UTF-8, as which PCRE reads it.
local function encodable(value)
  local ok, text = pcall(cjson.encode, value)
  return ok and ngx.re.find(text, "^", "u") ~= nil
end

-- A payload that JSON cannot tell: a string is given itself, else its bytes
-- as they are stored.
local function base64_of(thing)
  local payload = thing.payload
  return ngx.encode_base64(type(payload) == "string" and payload
                           or thing.bytes)
end

-- An item or letter as JSON tells it. Of other strings than the payload, such
-- as errors, what is not ASCII is left out if they are not UTF-8.
local function tell(thing)
  local told = {}
  for name, value in pairs(thing) do
    if name == "bytes" or name == "header_bytes" then
      value = nil
    elseif not encodable(value) then
      value = name ~= "payload" and type(value) == "string"
        and value:gsub("[\128-\255]", "?") or nil
    end
    told[name] = value
  end
  if told.payload == nil and thing.bytes then told.base64 = base64_of(thing) end
  return told
end

local EMPTY = setmetatable({}, cjson.empty_array_mt or {})

local function tell_all(things)
  local list = {}
  for i, thing in ipairs(things) do list[i] = tell(thing) end
  return list[1] and list or EMPTY
end

local PAGE, MOST = 100, 1000

local function count_of(value, default, most)
  local n = tonumber(value)
  if not n or n < 0 or n % 1 ~= 0 then return default end
  return math.min(n, most)
end

local function find_queue(store, name)
  local handle, message, code = store.handle:find(name)
  if not handle then return nil, message, code end
  handle:close()
  return reply.open_queue { store = store, queue = name }
end

local function by_name(a, b)
  return a.name < b.name
end

local function list_queues(store)
  local all, message, code = figures.queues(store)
  if not all then return reply.fail(message, code) end
  local list = {}
  for name, s in pairs(all) do
    list[#list + 1] = {
      name = name, ready = s.ready, leased = s.leased, waiting = s.waiting,
      dead = s.dead, paused = s.paused, oldest_age = s.oldest_age,
      fill = s.fill,
    }
  end
  table.sort(list, by_name)
  reply.answer(200, { queues = list[1] and list or EMPTY })
end

local function show_queue(store, name)
  local handle, message, code = store.handle:find(name)
  if not handle then return reply.fail(message, code) end
  local stats
  stats, message, code = figures.queue(store, handle)
  handle:close()
  if not stats then return reply.fail(message, code) end
  stats.name = name
  reply.answer(200, tell(stats))
end

local function list_items(store, name, args)
  local queue, message, code = find_queue(store, name)
  local items
  if queue then
    items, message, code = queue:peek(math.max(
      count_of(args.limit, PAGE, MOST), 1))
  end
  if not items then return reply.fail(message, code) end
  reply.answer(200, { items = tell_all(items) })
end

local function list_boxes(store)
  local names, message, code = store:boxes()
  local list = {}
  for i, name in ipairs(names or {}) do
    local n
    n, message, code = store:dead(name):count()
    if not n then return reply.fail(message, code) end
    list[i] = { name = name, letters = n }
  end
  if not names then return reply.fail(message, code) end
  reply.answer(200, { boxes = list[1] and list or EMPTY })
end

local function list_letters(store, box, args)
  local letters, message, code = store:dead(box):list {
    after = count_of(args.after, nil, 2^53), group = args.group,
    limit = math.max(count_of(args.limit, PAGE, MOST), 1),
    descending = args.order == "newest",
  }
  if not letters then return reply.fail(message, code) end
  reply.answer(200, { letters = tell_all(letters) })
end

local function list_groups(store, box)
  local groups, message, code = store:dead(box):groups()
  if not groups then return reply.fail(message, code) end
  reply.answer(200, { groups = groups[1] and groups or EMPTY })
end

local function show_letter(store, box, _, number)
  local letter, message, code = store:dead(box):get(number)
  if not letter then return reply.fail(message, code) end
  reply.answer(200, tell(letter))
end

local function retry_letter(store, box, _, number)
  local ok, message, code = store:dead(box):retry(number)
  if not ok then return reply.fail(message, code) end
  reply.answer(200, { number = number, retried = true })
end

local function remove_letter(store, box, _, number)
  local ok, message, code = store:dead(box):remove(number)
  if not ok then return reply.fail(message, code) end
  reply.answer(200, { number = number, removed = true })
end

local function replay_box(store, box, args)
  local o = { limit = count_of(args.limit, nil, 2^31) }
  if args.group then
    o.where = function(letter) return letter.group == args.group end
  end
  local counts, message, code = store:dead(box):replay(o)
  if not counts then return reply.fail(message, code) end
  reply.answer(200, tell(counts))
end

-- By method and path; a NAME is any one segment, a NUMBER is one of a letter.
local ROUTES = {
  { "GET", "queues", fn = list_queues },
  { "GET", "queues", "NAME", fn = show_queue },
  { "GET", "queues", "NAME", "items", fn = list_items },
  { "GET", "boxes", fn = list_boxes },
  { "GET", "boxes", "NAME", "letters", fn = list_letters },
  { "GET", "boxes", "NAME", "groups", fn = list_groups },
  { "POST", "boxes", "NAME", "replay", fn = replay_box },
  { "GET", "boxes", "NAME", "letters", "NUMBER", fn = show_letter },
  { "DELETE", "boxes", "NAME", "letters", "NUMBER", fn = remove_letter },
  { "POST", "boxes", "NAME", "letters", "NUMBER", "retry", fn = retry_letter },
}

local function segments_of(path)
  local list = {}
  for segment in path:gmatch "[^/]+" do
    list[#list + 1] = ngx.unescape_uri(segment)
  end
  return list
end

-- Name and number when the path is that of the route.
local function match(route, segments)
  if #segments ~= #route - 1 then return false end
  local name, number
  for i, segment in ipairs(segments) do
    local wanted = route[i + 1]
    if wanted == "NAME" then
      name = options.name(segment)
      if not name then return false end
    elseif wanted == "NUMBER" then
      number = options.id(tonumber(segment))
      if not number then return false end
    elseif wanted ~= segment then
      return false
    end
  end
  return true, name, number
end

local function dispatch(store, path)
  local segments, method = segments_of(path), ngx.req.get_method()
  local allowed = {}
  for _, route in ipairs(ROUTES) do
    local is_it, name, number = match(route, segments)
    if is_it and route[1] == method then
      return route.fn(store, name, ngx.req.get_uri_args(), number)
    elseif is_it then
      allowed[#allowed + 1] = route[1]
    end
  end
  if not allowed[1] then
    return reply.refuse(404, "NOT_FOUND", "there is nothing here")
  end
  local methods = table.concat(allowed, ", ")
  ngx.header["Allow"] = methods
  reply.refuse(405, "METHOD", "use " .. methods)
end

local ADMIN = setmetatable({ of = "http.admin", prefix = options.string },
                           { __index = reply.of_store })

-- Answers a request below the path `prefix`.
---@param given { store: string|respool.store, open: table?, prefix: string }
function M.serve(given)
  local store, o = reply.begin(ADMIN, given)
  if not store then return end
  reply.need(ADMIN, o, "prefix")
  local path = ngx.var.request_uri:gsub("%?.*", "")
  if path:sub(1, #o.prefix) ~= o.prefix then
    compat.misuse(("http.admin: '%s' is not below prefix '%s'"):format(
      path, o.prefix))
  end
  dispatch(store, path:sub(#o.prefix + 1))
end

return M
