-- SPDX-License-Identifier: MIT
--
-- respool schedule: items pushed at the ticks of a cron expression.

local actions = require "respool.cli.base.actions"
local arguments = require "respool.cli.base.arguments"
local each = require "respool.cli.base.each"
local output = require "respool.cli.base.output"
local show = require "respool.cli.base.show"

local M = { summary = "push items by the clock" }


-- The actions.

local function list_options(command)
  arguments.add_store(command)
  output.add_json(command)
  command:epilog "Example:\n  respool schedule list shop.respool"
end

-- Columns of a moment: when, and how far away.
local function moment(t, now)
  if not t then return "-" end
  local away = output.duration(math.abs(t - now))
  return ("%s (%s)"):format(output.time(t),
                            t > now and "in " .. away or away .. " ago")
end

local function list(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local rows, now = {}, store:now()
  for _, s in ipairs(arguments.check(store:schedules())) do
    if args.json then
      s.bytes = nil
      output.json(io, s)
    end
    rows[#rows + 1] = {
      s.name, s.cron, s.timezone, s.queue,
      s.paused and "paused" or moment(s.next_at, now), moment(s.last_at, now),
      output.number(s.fired), output.number(s.missed_ticks),
    }
  end
  if args.json then return end
  if #rows == 0 then return io.stdout:write "no schedules\n" and nil end
  output.table(io, {
    { title = "NAME" }, { title = "CRON" }, { title = "TIMEZONE" },
    { title = "QUEUE" }, { title = "NEXT" }, { title = "LAST" },
    { title = "FIRED", right = true }, { title = "MISSED", right = true },
  }, rows)
end

local function name_argument(command)
  arguments.add_store(command)
  command:argument("name", "Name of the schedule."):argname "NAME"
    :convert(arguments.name)
end

local function set_options(command)
  name_argument(command)
  command:argument("cron", "Five fields of crontab(5) in one word, or @hourly, "
    .. "@daily, @weekly, @monthly, @yearly."):argname "CRON"
  arguments.add_queue(command, true)
  command:argument("payload", "Payload of the items, as JSON.")
    :argname "JSON"
  command:option("--timezone", "Read the expression by the clock of this "
    .. "place, such as Europe/Berlin. (default: UTC)"):argname "ZONE"
  command:option("--missed", "What to push of ticks that pass while nothing "
    .. "works on the store."):choices { "one", "all", "none" }:default "one"
  command:option("--priority", "Give the items this priority, 0 to 255.")
    :argname "N":convert(arguments.whole(0, 255))
  command:flag("--raw", "Push the text as it is.")
  command:epilog [[
Example:
  respool schedule set shop.respool nightly '0 3 * * *' reports '{"all":true}' \
    --timezone Europe/Berlin]]
end

local function set(args, io)
  local store = arguments.open(io, args.store)
  local queue = arguments.queue(store, args.queue,
                                args.raw and { codec = "raw" } or nil)
  local ok, s, message = pcall(store.schedule, store, args.name, {
    cron = args.cron, timezone = args.timezone, queue = queue,
    payload = arguments.payload(args.payload, args.raw), missed = args.missed,
    priority = args.priority,
  })
  if not ok then arguments.misuse(arguments.text_of(s)) end
  arguments.check(s, message)
  io.stdout:write(("next: %s\n"):format(moment(s.next_at, store:now())))
end

-- Options of an action on schedules that are named.
local function names_of(action)
  return function(command)
    arguments.add_store(command)
    command:argument("names", "Names of the schedules."):argname "NAME"
      :args "+":convert(arguments.name)
    command:epilog(("Example:\n  respool schedule %s shop.respool nightly")
      :format(action))
  end
end

-- An action on each of the schedules that are named.
local function on_each(verb, done)
  return function(args, io)
    local store = arguments.open(io, args.store)
    return each.run(io, args.names, done, function(name)
      local ok, result, message = pcall(store[verb], store, name)
      if not ok then return nil, arguments.text_of(result) end
      return result, message
    end)
  end
end


-- The command.

local ACTIONS = {
  { "list", "list schedules, with their next and last ticks", list_options,
    list },
  { "set", "make a schedule, or change it", set_options, set },
  { "run", "push their items now", names_of "run",
    on_each("run_schedule", "pushed") },
  { "pause", "stop their ticks until they are resumed", names_of "pause",
    on_each("pause_schedule", "paused") },
  { "resume", "let them go on; ticks are not made up", names_of "resume",
    on_each("resume_schedule", "resumed") },
  { "remove", "remove schedules", names_of "remove",
    on_each("remove_schedule", "removed") },
}

function M.options(command)
  command:epilog [[
Schedules are fired by whatever works on a queue of the store or maintains it,
each tick once: respool work, respool maintain, programs. Where nothing does,
ticks are missed, and --missed says what becomes of them then.

Example:
  respool schedule list shop.respool]]
  actions.add(command, ACTIONS)
end

function M.run(args, io)
  return actions.run(ACTIONS, args, io)
end

return M
