-- SPDX-License-Identifier: MIT
--
-- respool check: verifies invariants and checksums, in a child process that
-- can only read.

local arguments = require "respool.cli.base.arguments"
local child = require "respool.cli.maintenance.child"
local compat = require "respool.support.compat"
local core = require "respool.core"
local queue_stats = require "respool.observe.stats"
local findings = require "respool.cli.maintenance.findings"
local location = require "respool.support.location"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"
local store_of = require "respool.store"

local M = { summary = "look for damage in a store" }

function M.options(command)
  arguments.add_store(command)
  command:flag("--full", "Show every finding, however many.")
  command:option("--timeout", "Give up after so long, such as 30s; 0: never. "
    .. "By default a minute, and a second more for every 10 MB.")
    :argname "DURATION":convert(arguments.duration)
  output.add_json(command)
  command:epilog [[
It reads the whole store and changes nothing; other processes may go on
working. The exit status is 0 when nothing is wrong, 1 when something is, 2
when the store cannot be checked.

Example:
  respool check shop.respool]]
end


-- In the child.

-- A figure; raises why there is none.
local function figure(value, message)
  if value == nil then error(message, 0) end
  return value
end

local function counts(store)
  local n = { queues = 0, items = 0, dead_letters = 0 }
  for _, stats in pairs(figure(queue_stats.queues(store, true))) do
    n.queues = n.queues + 1
    n.items = n.items + stats.ready + stats.leased + stats.scheduled
      + stats.retrying
  end
  for _, dlq in ipairs(figure(store:dead_letter_queues())) do
    n.dead_letters = n.dead_letters + figure(store:dead(dlq):count())
  end
  n.bytes = figure(store:stats()).file_bytes
  return n
end

local UNREADABLE = "the store cannot be read through: "

-- The findings, and how much was looked at. A figure that cannot be had is a
-- finding, unless the check has some already, which say why.
local function look(path)
  local store, message, code = store_of.open(path, { read_only = true })
  if not store then return { failed = message, code = code } end
  local lines
  lines, message, code = store:check()
  if not lines then return { unread = message, code = code } end
  local ok, counted = compat.pcall(counts, store)
  if not ok and #lines == 0 then lines[1] = UNREADABLE .. tostring(counted) end
  store:close()
  return { lines = lines, counts = ok and counted or nil }
end


-- In the parent.

-- The findings and counts; or nil and why there are none. A signal
-- that somebody sent says nothing about the store.
local function outcome(ended)
  if ended.crash then
    return { "reading the store ended the process with " .. ended.signal }
  elseif ended.signal then
    return nil, "the check was ended by " .. ended.signal
  end
  local result = ended.result
  if not result then return nil, arguments.text_of(ended.error) end
  if result.lines then return result.lines, result.counts end
  local text = result.unread or result.failed
  if result.code == "CORRUPT" or result.unread and result.code == "IO" then
    return { UNREADABLE .. text }
  end
  return nil, text
end

local TOO_LONG = {}

-- Where LMDB's pages lead in a circle it goes round for ever.
local function give_up(seconds)
  return nil, ("the check did not come to an end in %s: LMDB may go round in "
    .. "damaged pages (`respool repair` does not), or the store is being "
    .. "compacted"):format(output.duration(seconds))
end

-- How long the check may take; math.huge: for ever.
local function patience(path, timeout)
  if timeout == 0 then return math.huge end
  return timeout or 60 + core.file.size(path .. "/data.mdb") / 1e7
end

local function run_check(io, path, timeout)
  local bar, shown, limit = progress.new(io), 0, patience(path, timeout)
  local function tick()
    if bar:elapsed() > limit then error(TOO_LONG, 0) end
    if bar:elapsed() < shown + 0.5 then return end
    shown = bar:elapsed()
    bar:show(("checking %s, %s"):format(location.shown(path),
                                        output.duration(shown)))
  end
  local ran, ended, message = compat.pcall(compat.guard, function()
    return child.run(function() return look(path) end, tick)
  end, nil, function() bar:clear() end)
  bar:clear()
  if ended == TOO_LONG then return give_up(limit) end
  if not ran then error(ended, 0) end
  if not ended then return nil, message end
  return outcome(ended)
end

local SHOWN = 10

-- Findings by kind, in the order in which kinds were met.
local function by_kind(found)
  local kinds = {}
  for _, finding in ipairs(found) do
    if not kinds[finding.kind] then
      kinds[finding.kind] = {}
      kinds[#kinds + 1] = kinds[finding.kind]
    end
    table.insert(kinds[finding.kind], finding)
  end
  return kinds
end

local function wrapped(io, title, text)
  local line = title
  for word in text:gmatch "%S+" do
    if #line + #word > 76 then
      io.stdout:write(line, "\n")
      line = "        "
    end
    line = line .. " " .. word
  end
  io.stdout:write(line, "\n")
end

local function show_kind(io, list, full)
  io.stdout:write(("\n%s (%d)\n"):format(list[1].kind, #list))
  for i, finding in ipairs(list) do
    if i > SHOWN and not full then
      io.stdout:write(("  … %d more (--full shows them)\n"):format(
        #list - SHOWN))
      break
    end
    io.stdout:write("  ", output.clean(finding.text), "\n")
  end
  wrapped(io, "  means:", list[1].meaning)
  wrapped(io, "  do:   ", list[1].advice)
end

local function show(io, path, found, counted, full)
  local looked = counted
    and ("%s in %s, %s, %s"):format(
      output.count(counted.items, "item"),
      output.count(counted.queues, "queue"),
      output.count(counted.dead_letters, "dead letter"),
      output.bytes(counted.bytes))
    or "not read to the end"
  io.stdout:write(("%s: %s\n"):format(location.shown(path), looked))
  if #found == 0 then return io.stdout:write "nothing is wrong\n" end
  io.stdout:write(output.count(#found, "finding"), "\n")
  for _, list in ipairs(by_kind(found)) do show_kind(io, list, full) end
end

function M.run(args, io)
  arguments.check_store(args.store)
  local lines, counted = run_check(io, args.store, args.timeout)
  if not lines then
    if args.json then
      output.json(io, { store = args.store, status = "unchecked",
                        error = counted })
    end
    arguments.fail(tostring(counted), 2)
  end
  local found = {}
  for i, line in ipairs(lines) do found[i] = findings.explain(line) end
  if args.json then
    output.json(io, {
      store = args.store, status = #found == 0 and "clean" or "damaged",
      counts = counted, findings = require "respool".array(found),
    })
  else
    show(io, args.store, found, counted, args.full)
  end
  return #found == 0 and 0 or 1
end

return M
