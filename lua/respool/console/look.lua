-- SPDX-License-Identifier: MIT
--
-- The answers to GET: a store as the console shows it.

local answer = require "respool.console.answer"
local core = require "respool.core"
local queue_stats = require "respool.observe.stats"
local filter = require "respool.console.filter"
local json = require "respool.support.json"
local location = require "respool.support.location"
local items_of = require "respool.observe.items"
local pages = require "respool.support.pages"
local timing = require "respool.support.timing"

local cbor, fail = core.cbor, answer.fail
local min = math.min

local M = {}

local list_of = cbor.array -- which is a list even when it is empty

local RAW = { codec = "raw" } -- JSON is made of the stored bytes

local PAGE = 100 -- records, unless `limit` says otherwise
local PIECE = 100 -- of these at once, for which a server waits

-- A filter looks at so many records in a request, or for so long: then the
-- answer tells where to go on.
local LOOKED, LONG = 5000, 0.5 -- seconds
local SHOWN = 200              -- bytes of a payload in a brief record


-- Records.

-- A record in a list for people: without payload, but how many bytes it has,
-- and the beginning of its text.
local function brief(record)
  local about = {}
  for name, value in pairs(record) do about[name] = value end
  about.bytes, about.header_bytes, about.original = nil, nil, nil
  about.history = nil
  local bytes = rawget(record, "bytes") or ""
  local codec = json.codec_of(record, rawget(record, "codec"))
  local text = json.body(bytes, codec, { limit = SHOWN })
  return ('%s,"payload_bytes":%d,"preview":%s}'):format(
    json.record(about):sub(1, -2), #bytes, json.encode(text))
end

local function texts_of(console, records, o)
  local texts = {}
  for i, record in ipairs(records) do
    texts[i] = o.brief and brief(record) or console.record(record)
    timing.breathe()
  end
  return texts
end

-- The elements of a list that a filter lets pass.
local function passing(records, where)
  if not where then return records end
  local kept = {}
  for _, record in ipairs(records) do
    if where(record) then kept[#kept + 1] = record end
    timing.breathe()
  end
  return kept
end

-- A list of the records that next_records(limit) gives and the filter lets
-- pass, up to the limit. `rest` tells where to go on.
local function filtered(console, name, o, next_records, rest)
  local left, looked, where = o.limit or PAGE, 0, filter.of(o)
  local ends = timing.deadline(LONG)
  local function next_page()
    local found = {}
    while #found == 0 do
      if left <= 0 then return {} end
      if where and (looked >= LOOKED or timing.left(ends) <= 0) then
        return {}
      end
      local records, message, code = next_records(min(left, PIECE))
      if not records then return nil, message, code end
      if #records == 0 then return {} end
      looked, found = looked + #records, passing(records, where)
      timing.breathe()
    end
    left = left - #found
    return texts_of(console, found, o)
  end
  return answer.list(name, next_page, rest)
end


-- Queues.

-- A list of small values, in pieces.
local function rows_of(name, list)
  local at = 0
  return answer.list(name, function()
    local texts = {}
    for i = at + 1, min(at + PIECE, #list) do
      texts[#texts + 1] = json.encode(list[i])
    end
    at = at + #texts
    timing.breathe()
    return texts
  end)
end

local function by_name(a, b)
  return a.name < b.name
end

function M.queues(console)
  local all, message, code = queue_stats.queues(console.store, true)
  if not all then return fail(message, code) end
  local list = {}
  for name, s in pairs(all) do
    local row = queue_stats.summary(s)
    row.name = name
    list[#list + 1] = row
    timing.breathe()
  end
  table.sort(list, by_name)
  return rows_of("queues", list)
end

function M.queue(console, r)
  local handle, message, code = console.store.handle:find(r.name)
  if not handle then return fail(message, code) end
  local stats
  stats, message, code = queue_stats.queue(console.store, handle)
  handle:close()
  if not stats then return fail(message, code) end
  stats.name = r.name
  return answer.json(stats)
end

-- Calls fn(queue) with a handle that reads payloads as they are stored.
local function with_queue(console, name, fn)
  local queue, message, code = console.store:queue(name, {
    create = false, codec = "raw",
  })
  if not queue then return fail(message, code) end
  return fn(queue)
end

function M.policy(console, r)
  return with_queue(console, r.name, function(queue)
    local policy, message, code = queue:config()
    queue.handle:close()
    if not policy then return fail(message, code) end
    return answer.json(policy)
  end)
end

-- Those with most items, or by key those behind `after`.
function M.partitions(console, r)
  return with_queue(console, r.name, function(queue)
    local o = r.o
    local list, message, code = queue:partitions {
      order = o.order or "size", limit = o.limit, after = o.after,
    }
    queue.handle:close()
    if not list then return fail(message, code) end
    return rows_of("partitions", list)
  end)
end


-- Items.

-- What the handler of a finished item returned; no bytes stand for true.
function M.result(console, r)
  return with_queue(console, r.name, function(queue)
    local found, message, code = queue.handle:result(r.number)
    queue.handle:close()
    if not found then return fail(message, code) end
    local bytes, text = found[1].bytes, "true"
    if bytes ~= "" then
      text = json.body(bytes, nil, nil, console.from_cbor)
    end
    return answer.text(('{"id":%.0f,"result":%s}'):format(r.number, text))
  end)
end

-- The next items to be taken, in order.
local function peek(console, r)
  return with_queue(console, r.name, function(queue)
    local items, message, code = queue:peek(r.o.limit or PAGE)
    queue.handle:close()
    if not items then return fail(message, code) end
    local page = texts_of(console, items, r.o)
    return answer.list("items", function()
      local texts = page
      page = {}
      return texts
    end)
  end)
end

-- The items of one state or all, from a cursor on.
local function browse(console, r)
  local cursor = core.cursor(r.o.cursor)
  if not cursor then
    return answer.refuse(400, "PARAMETER", "parameter 'cursor' must be one "
      .. "that an answer held")
  end
  local state = r.o.state ~= "all" and r.o.state or nil
  return with_queue(console, r.name, function(queue)
    local damaged, over = list_of {}, false
    return filtered(console, "items", r.o, function(limit)
      local items, message, code = items_of.page(queue, cursor, state, limit)
      for _, id in ipairs(items and items.damaged or {}) do
        damaged[#damaged + 1] = id
      end
      over = items ~= nil and #items == 0
      return items, message, code
    end, function()
      queue.handle:close()
      return { damaged = #damaged > 0 and damaged or nil,
               cursor = not over and tostring(cursor) or nil }
    end)
  end)
end

function M.items(console, r)
  local o = r.o
  if o.state or o.cursor or filter.of(o) then return browse(console, r) end
  return peek(console, r)
end

local function show(console, record, o)
  if o.brief then return answer.text(brief(record)) end
  return answer.text(console.record(record))
end

function M.item(console, r)
  return with_queue(console, r.name, function(queue)
    local item, message, code = queue:get(r.number)
    queue.handle:close()
    if not item then return fail(message, code) end
    return show(console, item, r.o)
  end)
end

-- The payload as a text of JSON, exactly: pages lose digits of large numbers.
local function payload_text(console, record)
  local text, known = json.body(record.bytes,
    json.codec_of(record, rawget(record, "codec")), { indent = 2 },
    console.from_cbor)
  if known then return answer.text(text) end
  return answer.refuse(409, "BYTES", "the payload is no JSON, but bytes")
end

-- The stored bytes, which no browser is to show.
local function download(console, record, name, o)
  if o.as == "json" then return payload_text(console, record) end
  local is_cbor = rawget(record, "codec") == nil
    and not rawget(record, "damaged")
  return {
    status = 200, type = "application/octet-stream", text = record.bytes,
    headers = { ["Content-Disposition"] = ('attachment; filename="%s.%s"')
      :format(name, is_cbor and "cbor" or "bin") },
  }
end

function M.item_payload(console, r)
  return with_queue(console, r.name, function(queue)
    local item, message, code = queue:get(r.number)
    queue.handle:close()
    if not item then return fail(message, code) end
    return download(console, item, ("item-%.0f"):format(r.number), r.o)
  end)
end

-- Where a list of finished items goes on: behind the one done then.
local function after_of(text)
  local at, id = (text or ""):match "^(%d+%.?%d*):(%d+)$"
  return at and { done_at = core.number(at), id = tonumber(id) }
end

function M.finished(console, r)
  local o, after = r.o, after_of(r.o.cursor)
  if o.cursor and not after then
    return answer.refuse(400, "PARAMETER", "parameter 'cursor' must be one "
      .. "that an answer held")
  end
  return with_queue(console, r.name, function(queue)
    local last
    return filtered(console, "items", { limit = o.limit, brief = o.brief },
      function(limit)
        local items, message, code = queue.history:list {
          since = o.since, before = o["until"], limit = limit, after = after,
        }
        after = items and items[#items] or after
        last = items and items[#items] or last
        return items, message, code
      end, function()
        queue.handle:close()
        return { cursor = last and ("%s:%.0f"):format(
          core.decimal(last.done_at), last.id) }
      end)
  end)
end


-- Dead letters.

function M.dlqs(console)
  local store = console.store
  local names, message, code = store:dead_letter_queues()
  local list = {}
  for i, name in ipairs(names or {}) do
    local n
    timing.breathe()
    n, message, code = store:dead(name):count()
    if not n then return fail(message, code) end
    list[i] = { name = name, dead_letters = n }
  end
  if not names then return fail(message, code) end
  return rows_of("dead_letter_queues", list)
end

function M.dead_letters(console, r)
  local dead, o, after = console.store:dead(r.name, RAW), r.o, r.o.after
  local over = false
  return filtered(console, "dead_letters", o, function(limit)
    local dead_letters, message, code = dead:list {
      after = after, group = o.group, limit = limit, order = o.order,
      bytes = pages.BYTES,
    }
    local last = dead_letters and dead_letters[#dead_letters]
    after = last and last.number or after
    over = dead_letters ~= nil and #dead_letters == 0
    return dead_letters, message, code
  end, function()
    return { after = o.brief and not over and after or nil }
  end)
end

function M.groups(console, r)
  local groups, message, code = console.store:dead(r.name):groups()
  if not groups then return fail(message, code) end
  return rows_of("groups", groups)
end

function M.dead_letter(console, r)
  local found, message, code =
    console.store:dead(r.name, RAW):get(r.number)
  if not found then return fail(message, code) end
  return show(console, found, r.o)
end

function M.dead_letter_payload(console, r)
  local found, message, code =
    console.store:dead(r.name, RAW):get(r.number)
  if not found then return fail(message, code) end
  return download(console, found, ("dead-letter-%.0f"):format(r.number),
                  r.o)
end


-- The store.

-- The facts that a page begins with.
function M.session(console)
  return answer.json {
    version = core.version, store = location.shown(console.store.path),
    writable = console.writable, token = console.token ~= nil,
    now = console.store:now(),
  }
end

function M.store(console)
  local stats, message, code = console.store:stats()
  if not stats then return fail(message, code) end
  stats.path = location.shown(console.store.path)
  return answer.json(stats)
end

-- The health; of queues those alone that are not healthy.
function M.health(console)
  local health = console.store:health()
  local sick = {}
  for name, part in pairs(health.components.queues or {}) do
    if part.status ~= "healthy" then sick[name] = part end
  end
  health.components.queues = sick
  return answer.json(health)
end

return M
