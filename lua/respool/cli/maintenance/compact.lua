-- SPDX-License-Identifier: MIT
--
-- respool compact: writes the data file again without its free space.
-- A child does it: it can be ended at any moment, and a damaged file may end
-- it by itself; the store is the old one then.

local arguments = require "respool.cli.base.arguments"
local maintenance = require "respool.maintenance"
local child = require "respool.cli.maintenance.child"
local core = require "respool.core"
local compat = require "respool.support.compat"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"

local M = { summary = "make the file of a store smaller" }

function M.options(command)
  arguments.add_store(command)
  command:option("--to", "Leave the store as it is, and put the smaller copy "
    .. "into this directory."):argname "DIR"
  output.add_json(command)
  command:epilog [[
The file of a store never shrinks by itself: freed space is used again. Without
--to no other process may have the store open; those that open it wait until
the end, and the disk needs room for both files. With --to other processes go
on working, and the copy is a consistent backup.

Examples:
  respool compact shop.respool
  respool compact shop.respool --to /backup/shop.respool]]
end

local function in_child(args)
  return child.run(function()
    local done, message,
      code = maintenance.compact(args.store, { to = args.to })
    return done or { failed = message, code = code }
  end, args.tick)
end

-- Removes the incomplete copy that a killed child has left.
local function clean(made)
  os.remove(made)
end

local function outcome(ended, args)
  if ended.signal then clean(args.made) end
  if ended.crash then
    return nil, ("reading '%s' ended the process: see respool check"):format(
      args.store)
  elseif ended.signal then
    return nil, "the compaction was ended by " .. ended.signal
  end
  if ended.error then return nil, arguments.text_of(ended.error) end
  if ended.result.code == "LOCKED" then
    return nil, ended.result.failed .. "; --to DIR makes a copy"
  end
  return not ended.result.failed and ended.result, ended.result.failed
end

local function run_compact(io, args)
  local bar = progress.new(io, {
    noun = "byte", total = core.file.size(args.store .. "/data.mdb"),
  })
  args.made = (args.to or args.store) .. "/compact.mdb"
  function args.tick() bar:update(core.file.size(args.made)) end
  local ended, message = compat.guard(in_child, args, function()
    clean(args.made)
    bar:clear()
  end)
  bar:clear()
  if not ended then return nil, message end
  return outcome(ended, args)
end

function M.run(args, io)
  if args.store == "" or args.to == "" then
    arguments.misuse "the name of a directory cannot be empty"
  elseif args.store == ":memory:" or args.to == ":memory:" then
    arguments.misuse "a store in memory cannot be compacted: name a directory"
  end
  local done = arguments.check(run_compact(io, args))
  if args.json then return output.json(io, done) end
  io.stdout:write(("%s -> %s (%.0f%%)\n"):format(
    output.bytes(done.before), output.bytes(done.after),
    100 * done.after / done.before))
end

return M
