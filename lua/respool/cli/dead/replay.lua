-- SPDX-License-Identifier: MIT
--
-- respool replay: moves dead letters of a DLQ back to a queue, or shows what
-- would be moved.

local arguments = require "respool.cli.base.arguments"
local compat = require "respool.support.compat"
local core = require "respool.core"
local location = require "respool.support.location"
local named = require "respool.cli.dead.named_replays"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"
local script = require "respool.worker_script"
local where_of = require "respool.cli.dead.where"

local check = arguments.check

local M = { summary = "move dead letters back to a queue" }


-- Options.

local SUMMARIES = {
  list = "List the named replays of a store.",
  show = "Show a named replay.",
  cancel = "Stop a named replay that is running; it can be resumed.",
  resume = "Go on with a named replay that was stopped or interrupted.",
  forget = "Remove a named replay that is not running; the dead letters stay.",
}

local EXAMPLES = {
  list = "respool replay list shop.respool",
  show = "respool replay show shop.respool mend --json",
  cancel = "respool replay cancel shop.respool mend",
  resume = "respool replay resume shop.respool mend",
  forget = "respool replay forget shop.respool mend",
}

-- The options of list, show and the others, which are about named replays.
local function named_options(command, action)
  local sub = command:command(action, SUMMARIES[action])
  arguments.add_store(sub)
  if action ~= "list" then
    sub:argument("name", "Name of the replay."):argname "NAME"
      :convert(arguments.name)
  end
  if action ~= "cancel" and action ~= "forget" then output.add_json(sub) end
  sub:epilog("Example:\n  " .. EXAMPLES[action])
end

local function filter_options(command)
  command:option("--where",
    "Only dead letters for which this Lua expression is true. Its variables "
    .. "are their fields: payload, headers, queue, id, reason, group, error, "
    .. "attempts, age ...")
    :argname "EXPRESSION"
  command:option("--group", "Only dead letters of this group."):argname "GROUP"
  command:option("--since",
    "Only dead letters that died at this time or later: "
    .. "2026-01-31T12:00Z, '2h ago'."):argname "TIME"
    :convert(arguments.moment)
  command:option("--until", "Only dead letters that died before this time.")
    :argname "TIME":convert(arguments.moment):target "upto"
end

local function run_options(command)
  command:option("-n --limit",
    "Move at most so many dead letters; a named replay counts all its runs.")
    :argname "N":convert(arguments.whole(1))
  command:option("--rate", "Move at most so many dead letters a second.")
    :argname "N":convert(arguments.positive)
  command:option("--to", "Move them to this queue, not each to its own.")
    :argname "QUEUE":convert(arguments.own_name)
  command:flag("--dry-run", "Move nothing; show counts by group, and payloads "
    .. "before and after the transform.")
  command:option("--name", "Keep the replay's progress in the store under "
    .. "this name: it can be stopped, killed, and resumed."):argname "NAME"
    :convert(arguments.name)
  command:flag("--raw", "Read payloads as the bytes that are stored.")
  output.add_json(command)
  output.add_full(command)
end

function M.options(command, words)
  if SUMMARIES[words[1]] then
    command:command_target "action"
    return named_options(command, words[1])
  end
  arguments.add_store(command)
  command:argument("dlq", "Name of the DLQ; by default that of its queue.")
    :argname "DLQ":convert(arguments.name)
  command:argument("script", "Worker script. Its `replay` table may have "
    .. "where, transform, rate, limit, keep_attempts and max_replays.")
    :argname "SCRIPT":args "?"
  filter_options(command)
  run_options(command)
  command:epilog [[
`respool replay list STORE` lists named replays. `show STORE NAME`, `cancel
STORE NAME`, `resume STORE NAME` and `forget STORE NAME` show one, stop it, go
on with it and remove it.

A named replay that has not finished goes on when it is run again or resumed.
The dead letters that it moved before count towards --limit; --rate and --limit
may change from run to run, its other options may not. A dead letter that is
damaged counts as failed, and the exit status is 1. One that somebody else
removed or replayed meanwhile counts as gone. One whose key another item of the
queue has by now goes back without the key.

Examples:
  respool replay shop.respool mails --group timeout --dry-run
  respool replay shop.respool mails mend.lua --name mend --rate 100
      --where 'payload.amount > 100 and age < 86400']]
end


-- The options of a replay.

local function load_script(path)
  if not path then return { replay = {} } end
  local ok, loaded = pcall(script.load, path, { "replay" })
  if not ok then arguments.misuse(arguments.text_of(loaded)) end
  return loaded
end

local NOT_KNOWN = 0 / 0 -- neither before nor after any time

-- Whether a dead letter is wanted, by all that was said of it.
local function filter(run)
  local asked, scripted = run.asked, run.script.replay.where
  if scripted and type(scripted) ~= "function" then
    arguments.misuse(asked.script .. ": option 'where' must be a function")
  end
  local expression = asked.where
    and where_of.compile(asked.where, run.store:now())
  if expression then
    local first = check(run.dead:list { limit = 1 })[1]
    if first then where_of.try(expression, first) end
  end
  if not (asked.since or asked.upto or scripted or expression) then
    return nil -- dead letters move without being read
  end
  return function(dead_letter)
    local died_at = dead_letter.died_at or NOT_KNOWN
    return (not asked.since or died_at >= asked.since)
      and (not asked.upto or died_at < asked.upto)
      and (not scripted or scripted(dead_letter))
      and (not expression or expression(dead_letter))
  end
end

-- Keeps the first few payloads as they were and as they become.
local SAMPLE = 3

local function add_sample(run, dead_letter, before, after)
  if #run.samples == SAMPLE then return end
  table.insert(run.samples, {
    number = dead_letter.number, group = dead_letter.group, before = before,
    after = after,
  })
end

local function sampled_where(run, where)
  return function(dead_letter)
    local wanted = not where or where(dead_letter)
    if wanted and not dead_letter.damaged then
      add_sample(run, dead_letter, dead_letter.payload or dead_letter.bytes)
    end
    return wanted
  end
end

-- The transform may change the payload in place.
local function sampled_transform(run, transform)
  return function(payload, dead_letter)
    local ok, bytes = pcall(core.cbor.encode, payload)
    local after = transform(payload, dead_letter)
    add_sample(run, dead_letter, ok and core.cbor.decode(bytes) or nil, after)
    return after
  end
end

local function take_samples(run, o)
  if o.transform then
    o.transform = sampled_transform(run, o.transform)
  else
    o.where = sampled_where(run, o.where)
  end
end

local function on_progress(run)
  return function(counts)
    run.progress:update(counts.moved, counts.seen,
      counts.failed > 0 and ("%d failed"):format(counts.failed) or nil)
  end
end

-- The rest of the limit: a named replay keeps to it over all its runs.
local function left_of(run)
  local limit = run.asked.limit or run.script.replay.limit
  if type(limit) ~= "number" then return limit end
  if limit > run.moved then return limit - run.moved end
  arguments.fail(("named replay '%s' has moved %s, its limit; a higher --limit "
    .. "lets it go on"):format(run.asked.name,
    output.count(limit, "dead letter")))
end

-- Options of a replay in the background, which this is not.
local NOT_NOW = { interval = true, while_below = true, name = true }

local function replay_options(run)
  local o, asked = {}, run.asked
  for name, value in pairs(run.script.replay) do
    if not NOT_NOW[name] then o[name] = value end
  end
  o.where = filter(run)
  o.group = asked.group or o.group
  o.to = run.to
  o.limit = left_of(run)
  o.rate, o.name = asked.rate or o.rate, asked.name
  o.dry_run = run.args.dry_run
  o.on_progress = on_progress(run)
  if o.dry_run then
    o.rate = nil
    take_samples(run, o)
  end
  return o
end

-- `asked` are the options that a named replay keeps.
local function new_run(args, io, store, asked)
  local run = {
    args = args, io = io, store = store, asked = asked, samples = {},
    moved = 0, script = load_script(asked.script),
  }
  local codec = {
    codec = asked.raw and "raw" or (run.script.options or {}).codec,
  }
  run.dead = arguments.dlq(store, asked.dlq, codec)
  run.to = asked.to and arguments.queue(store, asked.to, codec)
  run.progress = progress.new(io, {
    noun = "dead letter",
    total = not asked.name and check(run.dead:count()) or nil,
  })
  return run
end


-- The result.

local function count_words(counts)
  local words = {}
  for _, name in ipairs { "skipped", "failed", "gone" } do
    if counts[name] > 0 then
      words[#words + 1] = (", %s %s"):format(output.number(counts[name]), name)
    end
  end
  return table.concat(words)
end

local function show_groups(io, counts)
  local rows = {}
  for group, n in pairs(counts.by_group) do rows[#rows + 1] = { group, n } end
  if #rows == 0 then return end
  table.sort(rows, function(a, b)
    return a[2] > b[2] or a[2] == b[2] and a[1] < b[1]
  end)
  io.stdout:write "\n"
  output.table(io, {
    { title = "GROUP" }, { title = "DEAD", right = true },
  }, rows)
end

local function show_sample(run, sample)
  local out, o = run.io.stdout, { indent = 2, full = run.args.full }
  local transformed = run.script.replay.transform ~= nil
  out:write(("\ndead letter %d%s%s\n"):format(sample.number,
    sample.group and ", " .. output.clean(sample.group) or "",
    transformed and ", before:" or ":"))
  out:write(output.pretty(sample.before, o), "\n")
  if transformed then
    out:write("after:\n", output.pretty(sample.after, o), "\n")
  end
end

local function show_dry_run(run, counts)
  run.io.stdout:write((
    "dry run: %s of %s would be moved%s\n"):format(
    output.number(counts.moved), output.count(counts.seen, "dead letter"),
    count_words(counts)))
  show_groups(run.io, counts)
  for _, sample in ipairs(run.samples) do show_sample(run, sample) end
end

local function show_errors(run, counts)
  for _, line in ipairs(counts.errors) do
    run.io.stderr:write("respool: ", output.clean(arguments.text_of(line)),
                        "\n")
  end
  if counts.failed > #counts.errors then
    run.io.stderr:write(("respool: ... and %d more\n"):format(
      counts.failed - #counts.errors))
  end
end

local function show(run, counts)
  run.progress:clear()
  show_errors(run, counts)
  if run.args.json then
    counts.samples = run.args.dry_run and core.cbor.array(run.samples) or nil
    counts.errors = core.cbor.array(counts.errors)
    output.json(run.io, counts)
  elseif run.args.dry_run then
    show_dry_run(run, counts)
  else
    run.io.stdout:write(("%s moved%s\n"):format(
      output.count(counts.moved, "dead letter"), count_words(counts)))
  end
end


-- The whole.

local INTERRUPTED = 130

local function interrupted(run)
  run.progress:clear()
  if not run.asked.name or run.args.dry_run then
    arguments.fail("stopped", INTERRUPTED)
  end
  arguments.fail(("stopped; `respool replay resume %s %s` goes on"):format(
    location.shown(run.args.store), run.asked.name), INTERRUPTED)
end

-- Options that the library refuses are the script's.
local function refuse(run, err)
  local path = run.asked.script
  local text = arguments.text_with(err, path)
  if path and text:sub(1, #path) == path then arguments.misuse(text) end
  error(err, 0)
end

local function replay(run)
  local ok, counts, message = pcall(run.dead.replay, run.dead,
                                    replay_options(run))
  if not ok then
    if compat.is_interrupt(counts) then interrupted(run) end
    refuse(run, counts)
  end
  check(counts, message)
  if counts.state == "cancelled" then
    run.progress:clear()
    arguments.fail(("named replay '%s' was cancelled"):format(run.asked.name))
  end
  show(run, counts)
  return counts.failed > 0 and 1 or 0
end

local function whole_path(path)
  if not path then return nil end
  local whole, message = core.input.whole_path(path)
  if not whole then arguments.misuse("cannot open " .. message) end
  return whole
end

local function begin(args, io)
  local store = arguments.open(io, args.store)
  local asked = {
    dlq = args.dlq, script = whole_path(args.script), where = args.where,
    group = args.group, since = args.since, upto = args.upto, to = args.to,
    limit = args.limit, rate = args.rate, raw = args.raw, name = args.name,
  }
  local run = new_run(args, io, store, asked)
  if args.name and args.dry_run then
    run.moved = named.moved(store, args.name)
  elseif args.name then
    run.moved = named.begin(store, args.name, asked)
  end
  return replay(run)
end

local function resume(args, io)
  local store = arguments.open(io, args.store)
  local asked, moved = named.resume(store, args.name)
  asked.name = args.name
  local run = new_run(args, io, store, asked)
  run.moved = moved
  return replay(run)
end

function M.run(args, io)
  if args.action == "resume" then return resume(args, io) end
  return (named[args.action] or begin)(args, io)
end

return M
