-- SPDX-License-Identifier: MIT
--
-- respool ls: the queues and DLQs of a store, or the items of a queue.

local arguments = require "respool.cli.base.arguments"
local queue_stats = require "respool.observe.stats"
local output = require "respool.cli.base.output"
local show = require "respool.cli.base.show"

local M = { summary = "list queues, or the items of a queue" }

local LIMIT = 100 -- items in a table

function M.options(command)
  arguments.add_store(command)
  command:argument("queue", "List the items of this queue.")
    :argname "QUEUE":args "?":convert(arguments.name)
  command:option("--state", "Only items in this state.")
    :choices { "ready", "leased", "scheduled", "retrying" }
  command:option("-n --limit", "List so many items (100, all with --json).")
    :argname "N":convert(arguments.whole(1))
  show.add_raw(command)
  output.add_full(command)
  output.add_json(command)
  command:epilog [[
Examples:
  respool ls shop.respool
  respool ls shop.respool mails --state retrying]]
end


-- Queues and DLQs.

-- DLQs that are no queue's, with how many dead letters they hold.
local function other_dlqs(store, queues)
  local own, others = {}, {}
  for name in pairs(queues) do
    local queue = store:queue(name)
    if queue then own[queue.dead.dlq] = true end
  end
  for _, dlq in ipairs(arguments.check(store:dead_letter_queues())) do
    if not own[dlq] then
      others[dlq] = arguments.check(store:dead(dlq):count())
    end
  end
  return others
end

-- Why nothing is taken from a queue.
local function stopped(s, now)
  if s.paused then return "yes" end
  if s.held_until then
    return "held " .. output.duration(s.held_until - now)
  end
  if s.breaker == "closed" then return nil end
  return "breaker " .. s.breaker:gsub("_", " ")
end

local function queue_row(name, s, now)
  local n = output.number
  return {
    name, n(s.ready), n(s.leased), n(s.scheduled), n(s.retrying), n(s.dead),
    s.oldest and output.duration(s.oldest_age), output.bytes(s.bytes),
    stopped(s, now),
  }
end

local QUEUES = {
  { title = "QUEUE" }, { title = "READY", right = true },
  { title = "LEASED", right = true }, { title = "SCHEDULED", right = true },
  { title = "RETRYING", right = true }, { title = "DEAD", right = true },
  { title = "OLDEST", right = true },
  { title = "BYTES", right = true }, { title = "PAUSED" },
}

local function show_queues(io, queues, now)
  local rows = {}
  for _, name in ipairs(queue_stats.sorted(queues)) do
    rows[#rows + 1] = queue_row(name, queues[name], now)
  end
  if #rows == 0 then
    io.stdout:write "no queues\n"
  else
    output.table(io, QUEUES, rows)
  end
end

local function show_dlqs(io, dlqs)
  local rows = {}
  for _, name in ipairs(queue_stats.sorted(dlqs)) do
    rows[#rows + 1] = { name, output.number(dlqs[name]) }
  end
  if #rows == 0 then return end
  io.stdout:write "\n"
  output.table(io, {
    { title = "OTHER DLQ" }, { title = "DEAD", right = true },
  }, rows)
end

local function queue_json(io, name, s)
  local row = queue_stats.summary(s)
  row.queue, row.oldest_age = name, s.oldest and s.oldest_age or nil
  output.json(io, row)
end

local function list_queues(io, store, args)
  local queues = arguments.check(queue_stats.queues(store, true))
  local dlqs = other_dlqs(store, queues)
  if not args.json then
    show_queues(io, queues, store:now())
    return show_dlqs(io, dlqs)
  end
  for _, name in ipairs(queue_stats.sorted(queues)) do
    queue_json(io, name, queues[name])
  end
  for _, name in ipairs(queue_stats.sorted(dlqs)) do
    output.json(io, { dlq = name, dead_letters = dlqs[name] })
  end
end


-- Items.

local ITEMS = {
  { title = "ID", right = true }, { title = "STATE" },
  { title = "PRIORITY", right = true }, { title = "ATTEMPTS", right = true },
  { title = "AGE", right = true }, { title = "DUE IN", right = true },
  { title = "WORKER", cut = true }, { title = "PROGRESS", cut = true },
  { title = "ERROR", cut = true }, { title = "PAYLOAD", cut = true },
}
local SOME = { 9, 8, 7 } -- columns that are shown where an item has the field

local function item_row(item, now, how)
  local due = item.state ~= "ready" and item.visible_at or false
  return {
    output.number(item.id), item.state, item.priority, item.attempts,
    show.ago(now, item.pushed_at), due and output.duration(due - now),
    item.worker and show.owner(item.worker) or false,
    item.progress and show.progress(item.progress, now) or false,
    item.error and (how.full and item.error or output.cut(item.error, 72))
      or false,
    output.line(item, how),
  }
end

local function list_items(io, queue, args)
  local limit = args.limit or not args.json and LIMIT or math.huge
  local now, n, rows = queue.store:now(), 0, {}
  local how = { full = args.full, raw = args.raw }
  local damaged = {}
  local function on_damaged(ids)
    for _, id in ipairs(ids) do damaged[#damaged + 1] = id end
  end
  for item in queue:each { state = args.state, on_damaged = on_damaged } do
    if n == limit then break end
    n = n + 1
    if args.json then
      show.json(io, item, args)
    else
      rows[n] = item_row(item, now, how)
    end
  end
  show.damaged(io, damaged)
  return rows
end

local function any_has(rows, i)
  for _, row in ipairs(rows) do
    if row[i] then return true end
  end
  return false
end

-- The columns; without those that no item has anything for.
local function columns_of(rows)
  local columns = { (table.unpack or unpack)(ITEMS) }
  for _, i in ipairs(SOME) do
    if not any_has(rows, i) then
      table.remove(columns, i)
      for _, row in ipairs(rows) do table.remove(row, i) end
    end
  end
  return columns
end

local function show_items(io, queue, args)
  local rows = list_items(io, queue, args)
  if args.json then return end
  output.first_rows(io, columns_of(rows), rows, "items",
                    not args.limit and LIMIT)
end

function M.run(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  if not args.queue then
    if args.state then
      arguments.misuse "--state is for the items of a QUEUE"
    end
    return list_queues(io, store, args)
  end
  show_items(io, arguments.queue(store, args.queue, show.STORED), args)
end

return M
