-- SPDX-License-Identifier: MIT
--
-- respool dead: dead letters, looked at and taken out by hand. Many at once
-- are the business of respool replay.

local arguments = require "respool.cli.arguments"
local each = require "respool.cli.each"
local output = require "respool.cli.output"
local progress = require "respool.cli.progress"
local show = require "respool.cli.show"

local M = { summary = "show, retry or remove dead letters" }

local LIMIT = 100


-- What is asked for.

local function add_box(command)
  arguments.add_store(command)
  command:argument("box", "Name of the box, or of its queue.")
    :argname "BOX":convert(arguments.name)
end

local function add_numbers(command)
  add_box(command)
  command:argument("numbers", "Numbers of the letters."):argname "NUMBER"
    :args "+":convert(arguments.whole(1))
end

local function list_options(command)
  add_box(command)
  command:option("--group", "Only letters of this group."):argname "GROUP"
  command:option("--after", "Only letters behind this number.")
    :argname "NUMBER":convert(arguments.whole(0))
  command:option("-n --limit", "List so many (100, all with --json).")
    :argname "N":convert(arguments.whole(1))
  command:flag("--newest", "The newest first; --after then means before.")
  show.add_raw(command)
  output.add_full(command)
  output.add_json(command)
  command:epilog "Example:\n  respool dead list jobs.respool mails --newest"
end

local function show_options(command)
  add_numbers(command)
  show.add_raw(command)
  output.add_full(command)
  output.add_json(command)
  command:epilog "Example:\n  respool dead show jobs.respool mails 7 --full"
end

local function groups_options(command)
  arguments.add_store(command)
  command:argument("box", "Only this box, or that of this queue.")
    :argname "BOX":args "?":convert(arguments.name)
  output.add_json(command)
  command:epilog "Example:\n  respool dead groups jobs.respool"
end

local function retry_options(command)
  add_numbers(command)
  command:option("--to", "Retry in this queue, not in their own.")
    :argname "QUEUE":convert(arguments.own_name)
  command:flag("--keep-attempts",
               "Attempts go on from where they were, not from none.")
  command:epilog("Many letters, with a filter, a rate and a change of their "
    .. "payload: respool replay.\n\n"
    .. "Example:\n  respool dead retry jobs.respool mails 7 8")
end

local function remove_options(command)
  add_numbers(command)
  command:epilog "Example:\n  respool dead remove jobs.respool mails 7 8"
end

local function purge_options(command)
  add_box(command)
  command:option("--older-than", "Only letters that died so long ago.")
    :argname "DURATION":convert(arguments.duration)
  command:option("--group", "Only letters of this group."):argname "GROUP"
  command:flag("--all", "Every letter of the box.")
  command:flag("--dry-run", "Only count them.")
  command:epilog("Example:\n  respool dead purge jobs.respool mails "
    .. "--older-than 30d")
end


-- Looking.

local COLUMNS = {
  { title = "NUMBER", right = true }, { title = "QUEUE" },
  { title = "ID", right = true }, { title = "REASON" }, { title = "GROUP" },
  { title = "DIED", right = true }, { title = "ERROR" },
  { title = "PAYLOAD" },
}

local function row(letter, now, how)
  local err = letter.error and output.clean(letter.error)
  return {
    output.number(letter.number), letter.queue,
    letter.id > 0 and output.number(letter.id) or nil,
    letter.reason, letter.group,
    letter.died_at and show.ago(now, letter.died_at) .. " ago",
    err and (how.full and err or output.cut(err, 40)),
    output.line(letter.payload, letter.bytes, how),
  }
end

-- Calls each(letter) for up to `limit` letters.
local function walk(dead, args, limit, each_letter)
  local after, n = args.after, 0
  while n < limit do
    local page = arguments.check(dead:list {
      after = after, group = args.group, descending = args.newest,
      limit = math.min(limit - n, LIMIT),
    })
    if #page == 0 then return end
    for _, letter in ipairs(page) do each_letter(letter) end
    n, after = n + #page, page[#page].number
  end
end

local function show_rows(io, rows, args)
  output.first_rows(io, COLUMNS, rows, "letters", not args.limit and LIMIT)
end

local function list(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local dead = arguments.box(store, args.box, { codec = show.codec(args) })
  local now, rows = store:now(), {}
  local how = { full = args.full, columns = show.columns_left(io, 100) }
  walk(dead, args, args.limit or args.json and math.huge or LIMIT,
       function(letter)
    if args.json then return output.json(io, show.plain(letter)) end
    rows[#rows + 1] = row(letter, now, how)
  end)
  if not args.json then show_rows(io, rows, args) end
end

local function show_letters(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local dead = arguments.box(store, args.box, { codec = show.codec(args) })
  for i, number in ipairs(args.numbers) do
    local letter = arguments.check(dead:get(number))
    if args.json then
      output.json(io, show.plain(letter))
    else
      if i > 1 then io.stdout:write "\n" end
      show.letter(io, letter, { now = store:now(), full = args.full })
    end
  end
end

local function boxes_of(store, args)
  if args.box then return { arguments.box(store, args.box) } end
  local boxes = {}
  for i, name in ipairs(arguments.check(store:boxes())) do
    boxes[i] = store:dead(name)
  end
  return boxes
end

local function groups(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local rows = {}
  for _, dead in ipairs(boxes_of(store, args)) do
    for _, g in ipairs(arguments.check(dead:groups())) do
      if args.json then
        g.box = dead.box
        output.json(io, g)
      end
      rows[#rows + 1] = { dead.box, g.group, g.reason, output.number(g.count) }
    end
  end
  if args.json then return end
  if #rows == 0 then return io.stdout:write "no letters\n" and nil end
  output.table(io, {
    { title = "BOX" }, { title = "GROUP" }, { title = "REASON" },
    { title = "LETTERS", right = true },
  }, rows)
end


-- Taking out.

local function retry(args, io)
  local store = arguments.open(io, args.store)
  local dead = arguments.box(store, args.box)
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
  local dead = arguments.box(store, args.box)
  return each.run(io, args.numbers, "removed", function(number)
    return dead:remove(number)
  end)
end

local function count(store, dead, args, io)
  local before = args.older_than and store:now() - args.older_than
  local bar, n, seen = progress.new(io, { noun = "letters" }), 0, 0
  for letter in dead:each { group = args.group } do
    seen = seen + 1
    if not before or (letter.died_at or math.huge) < before then n = n + 1 end
    bar:update(seen)
  end
  bar:clear()
  io.stdout:write(("%d would be removed\n"):format(n))
end

local function purge(args, io)
  if not (args.older_than or args.group or args.all) then
    arguments.misuse(
      "say which letters: --older-than, --group, or --all of them")
  end
  local store = arguments.open(io, args.store,
                               args.dry_run and show.LOOK or nil)
  local dead = arguments.box(store, args.box)
  if args.dry_run then return count(store, dead, args, io) end
  local n = arguments.check(dead:purge {
    older_than = args.older_than, group = args.group,
  })
  io.stdout:write(("%d removed\n"):format(n))
end


-- The command.

local ACTIONS = {
  { "list", "list letters", list_options, list },
  { "show", "show letters with their history", show_options, show_letters },
  { "groups", "count letters by group and reason", groups_options, groups },
  { "retry", "move letters back to their queues", retry_options, retry },
  { "remove", "remove letters", remove_options, remove },
  { "purge", "remove many letters", purge_options, purge },
}

function M.options(command)
  command:command_target "action"
  command:epilog "Example:\n  respool dead groups jobs.respool"
  for _, action in ipairs(ACTIONS) do
    local sub = command:command(action[1], action[2]:gsub("^%l", string.upper)
      .. ".")
    sub:summary(action[2])
    action[3](sub)
  end
end

function M.run(args, io)
  for _, action in ipairs(ACTIONS) do
    if action[1] == args.action then return action[4](args, io) end
  end
end

return M
