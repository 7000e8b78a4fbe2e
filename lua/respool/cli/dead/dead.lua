-- SPDX-License-Identifier: MIT
--
-- respool dead: dead letters are shown, pushed, retried and removed one by one.
-- respool replay moves many of them.

local actions = require "respool.cli.base.actions"
local arguments = require "respool.cli.base.arguments"
local each = require "respool.cli.base.each"
local output = require "respool.cli.base.output"
local pages = require "respool.support.pages"
local progress = require "respool.cli.base.progress"
local show = require "respool.cli.base.show"

local M = { summary = "show, push, retry or remove dead letters" }

local LIMIT = 100


-- Options.

local function add_dlq(command)
  arguments.add_store(command)
  command:argument("dlq", "Name of the DLQ, or of its queue.")
    :argname "DLQ":convert(arguments.name)
end

local function add_numbers(command)
  add_dlq(command)
  command:argument("numbers", "Numbers of the dead letters."):argname "NUMBER"
    :args "+":convert(arguments.whole(1))
end

local function list_options(command)
  add_dlq(command)
  command:option("--group", "Only dead letters of this group."):argname "GROUP"
  command:option("--after", "Only dead letters after this number.")
    :argname "NUMBER":convert(arguments.whole(0))
  command:option("-n --limit", "List so many (100, all with --json).")
    :argname "N":convert(arguments.whole(1))
  command:flag("--newest", "Newest first; --after then means before.")
  show.add_raw(command)
  output.add_full(command)
  output.add_json(command)
  command:epilog "Example:\n  respool dead list shop.respool mails --newest"
end

local function show_options(command)
  add_numbers(command)
  show.add_raw(command)
  output.add_full(command)
  output.add_json(command)
  command:epilog "Example:\n  respool dead show shop.respool mails 7 --full"
end

local function groups_options(command)
  arguments.add_store(command)
  command:argument("dlq", "Only this DLQ, or that of this queue.")
    :argname "DLQ":args "?":convert(arguments.name)
  output.add_json(command)
  command:epilog "Example:\n  respool dead groups shop.respool"
end

local function retry_options(command)
  add_numbers(command)
  command:option("--to", "Move them to this queue, not each to its own.")
    :argname "QUEUE":convert(arguments.own_name)
  command:flag("--keep-attempts",
               "Keep the counts of attempts instead of setting them to 0.")
  command:epilog [[
A dead letter whose key another item of the queue has by now goes back without
the key. respool replay moves many dead letters, with a filter, a rate and
changed payloads.

Example:
  respool dead retry shop.respool mails 7 8]]
end

local function remove_options(command)
  add_numbers(command)
  command:epilog "Example:\n  respool dead remove shop.respool mails 7 8"
end

local function purge_options(command)
  add_dlq(command)
  command:option("--older-than",
                 "Only dead letters that died at least so long ago.")
    :argname "DURATION":convert(arguments.duration)
  command:option("--group", "Only dead letters of this group."):argname "GROUP"
  command:flag("--all", "Remove every dead letter of the DLQ.")
  command:flag("--dry-run", "Only count them.")
  command:epilog [[
Example:
  respool dead purge shop.respool mails --older-than 30d]]
end


-- Looking.

local COLUMNS = {
  { title = "NUMBER", right = true }, { title = "QUEUE" },
  { title = "ID", right = true }, { title = "REASON" },
  { title = "GROUP", cut = true },
  { title = "DIED", right = true }, { title = "ERROR", cut = true },
  { title = "PAYLOAD", cut = true },
}

local function row(dead_letter, now, how)
  local err = dead_letter.error and output.clean(dead_letter.error)
  return {
    output.number(dead_letter.number), dead_letter.queue,
    dead_letter.id > 0 and output.number(dead_letter.id) or nil,
    dead_letter.reason, dead_letter.group,
    dead_letter.died_at and show.ago(now, dead_letter.died_at) .. " ago",
    err and (how.full and err or output.cut(err, 72)),
    output.line(dead_letter, how),
  }
end

-- Calls each(dead letter) for up to `limit` dead letters.
local function walk(dead, args, limit, each_dead_letter)
  local after, n = args.after, 0
  while n < limit do
    local page = arguments.check(dead:list {
      after = after, group = args.group,
      order = args.newest and "newest" or nil,
      limit = math.min(limit - n, LIMIT), bytes = pages.BYTES,
    })
    if #page == 0 then return end
    for _, dead_letter in ipairs(page) do each_dead_letter(dead_letter) end
    n, after = n + #page, page[#page].number
  end
end

local function show_rows(io, rows, args)
  output.first_rows(io, COLUMNS, rows, "dead letters", not args.limit and LIMIT)
end

local function list(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local dead = arguments.dlq(store, args.dlq, show.STORED)
  local now, rows = store:now(), {}
  local how = { full = args.full, raw = args.raw }
  walk(dead, args, args.limit or args.json and math.huge or LIMIT,
       function(dead_letter)
    if args.json then return show.json(io, dead_letter, args) end
    rows[#rows + 1] = row(dead_letter, now, how)
  end)
  if not args.json then show_rows(io, rows, args) end
end

local function show_dead_letters(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local dead = arguments.dlq(store, args.dlq, show.STORED)
  for i, number in ipairs(args.numbers) do
    local dead_letter = arguments.check(dead:get(number))
    show.one_of(io, i, dead_letter, args, store:now(), show.dead_letter)
  end
end

local function dlqs_of(store, args)
  if args.dlq then return { arguments.dlq(store, args.dlq) } end
  local dlqs = {}
  for i, name in ipairs(arguments.check(store:dead_letter_queues())) do
    dlqs[i] = store:dead(name)
  end
  return dlqs
end

local function in_last_day(group)
  local n = 0
  for _, died in ipairs(group.hours) do n = n + died end
  return n
end

local function groups(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local now, rows = store:now(), {}
  for _, dead in ipairs(dlqs_of(store, args)) do
    for _, g in ipairs(arguments.check(dead:groups())) do
      if args.json then
        g.dlq = dead.dlq
        output.json(io, g)
      end
      rows[#rows + 1] = {
        dead.dlq, g.group, g.reason, output.number(g.count),
        output.number(in_last_day(g)), show.ago(now, g.last_died_at) .. " ago",
        output.number(g.newest),
      }
    end
  end
  if args.json then return end
  if #rows == 0 then return io.stdout:write "no dead letters\n" and nil end
  output.table(io, {
    { title = "DLQ" }, { title = "GROUP" }, { title = "REASON" },
    { title = "DEAD", right = true }, { title = "LAST DAY", right = true },
    { title = "DIED", right = true }, { title = "NEWEST", right = true },
  }, rows)
end


-- Taking out.

local function retry(args, io)
  local store = arguments.open(io, args.store)
  local dead = arguments.dlq(store, args.dlq)
  local o = {
    to = args.to and arguments.queue(store, args.to),
    keep_attempts = args.keep_attempts,
  }
  return each.run(io, args.numbers, "retried", function(number)
    return dead:retry(number, o)
  end)
end

local function remove(args, io)
  local store = arguments.open(io, args.store)
  local dead = arguments.dlq(store, args.dlq)
  return each.run(io, args.numbers, "removed", function(number)
    return dead:remove(number)
  end)
end

local function count(store, dead, args, io)
  local before = args.older_than and store:now() - args.older_than
  local bar, n, seen = progress.new(io, { noun = "dead letter" }), 0, 0
  for dead_letter in dead:each { group = args.group } do
    seen = seen + 1
    if not before or (dead_letter.died_at or math.huge) < before then
      n = n + 1
    end
    bar:update(seen)
  end
  bar:clear()
  io.stdout:write(("%d would be removed\n"):format(n))
end

local function purge(args, io)
  if not (args.older_than or args.group or args.all) then
    arguments.misuse(
      "which dead letters? give --older-than, --group or --all")
  end
  local store = arguments.open(io, args.store,
                               args.dry_run and show.LOOK or nil)
  local dead = arguments.dlq(store, args.dlq)
  if args.dry_run then return count(store, dead, args, io) end
  local n = arguments.check(dead:purge {
    older_than = args.older_than, group = args.group,
  })
  io.stdout:write(("%d removed\n"):format(n))
end


-- Putting in.

local function push_options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:argument("payload", "The payload, as JSON."):argname "JSON"
  command:option("--error", "What went wrong."):argname "TEXT"
  command:option("--group", "The group of the failure."):argname "GROUP"
  command:option("--attempts", "So many attempts were made. (default: 1)")
    :argname "N":convert(arguments.whole(0, 2^31))
  command:option("--key", "The key that the item has, once it is replayed.")
    :argname "KEY":convert(arguments.key)
  command:option("--priority", "The priority of the item, 0 to 255.")
    :argname "N":convert(arguments.whole(0, 255))
  command:option("--dlq", "The DLQ, where it is not the queue's own.")
    :argname "DLQ":convert(arguments.own_name)
  command:flag("--raw", "Push the text as it is.")
  output.add_json(command)
  command:epilog [[
A failure that happened elsewhere becomes a dead letter of the queue; a replay
brings it to the queue.

Example:
  respool dead push shop.respool mails '{"to":"ada"}' --error "no mailbox"]]
end

local function push(args, io)
  local payload = arguments.payload(args.payload, args.raw)
  local store = arguments.open(io, args.store)
  local given = args.raw and { codec = "raw" } or nil
  local queue = arguments.queue(store, args.queue, given)
  local dead = args.dlq and store:dead(args.dlq, given) or queue.dead
  local number = arguments.check(dead:push(payload, {
    queue = queue, error = args.error, group = args.group,
    attempts = args.attempts, key = args.key, priority = args.priority,
  }))
  if args.json then
    return output.json(io, { dlq = dead.dlq, number = number })
  end
  io.stdout:write(("dead letter %s pushed\n"):format(output.number(number)))
end


-- The command.

local ACTIONS = {
  { "list", "list dead letters", list_options, list },
  { "show", "show dead letters with their history", show_options,
    show_dead_letters },
  { "groups", "count dead letters by group and reason", groups_options,
    groups },
  { "push", "push a failure that happened elsewhere", push_options, push },
  { "retry", "move dead letters back to their queues", retry_options, retry },
  { "remove", "remove dead letters", remove_options, remove },
  { "purge", "remove many dead letters", purge_options, purge },
}

function M.options(command)
  command:epilog "Example:\n  respool dead groups shop.respool"
  actions.add(command, ACTIONS)
end

function M.run(args, io)
  return actions.run(ACTIONS, args, io)
end

return M
