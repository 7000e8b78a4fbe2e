-- SPDX-License-Identifier: MIT
--
-- respool move: the items of a queue, or dead letters, to a queue of another
-- store.

local arguments = require "respool.cli.base.arguments"
local core = require "respool.core"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"
local show = require "respool.cli.base.show"
local transfer = require "respool.transfer.move"

local check = arguments.check

local M = { summary = "move items to another store" }

function M.options(command)
  command:argument("from", "Directory or URL of the store to move from.")
    :argname "FROM"
  command:argument("to", "Directory or URL of the store to move to; made when "
    .. "missing."):argname "TO"
  command:argument("queue", "Name of the queue, in both stores."):argname
    "QUEUE":convert(arguments.own_name)
  command:flag("--dead", "Move the dead letters of DLQ QUEUE, which become "
    .. "items of queue QUEUE.")
  command:option("--group", "With --dead: only dead letters of this group.")
    :argname "GROUP"
  command:option("--into", "Move into a queue of this name."):argname "QUEUE"
    :convert(arguments.own_name)
  command:option("-n --limit", "Move at most so many.")
    :argname "N":convert(arguments.whole(1))
  command:option("--on-conflict", "When an item there has the key of one that "
    .. "is moved: fail stops the move, ignore drops the moved one, replace "
    .. "removes the other.", "fail"):choices { "fail", "ignore", "replace" }
  output.add_json(command)
  command:epilog [[
Items that are leased, scheduled or retrying stay. Each batch is pushed in one
commit that notes what was moved, and removed after it: a move that was killed
is run again and moves each item once. Items keep their payload, headers, key,
priority, expiry and origin; ids are new.

Examples:
  respool move shop.respool postgres://shop@db/shop mails
  respool move postgres://shop@db/shop shop.respool mails --dead]]
end

local STOPPED = 130

local function new_hook(io, noun)
  local shown, signals = nil, core.process.signals()
  return function(counts)
    shown = shown or progress.new(io, {
      noun = noun, total = counts.total > 0 and counts.total or nil,
    })
    shown:update(counts.read)
    return core.process.signals() == signals
  end, function()
    if shown then shown:clear() end
    return core.process.signals() > signals
  end
end

-- Items that are leased stay, such as those of a move that was killed.
local function tell_left(io, queue)
  local text = show.staying(check(queue:length()))
  if text then io.stderr:write("respool: ", text, "\n") end
end

local function summary(args, io, noun, counts)
  local moved = counts.removed + counts.known
  if args.json then return output.json(io, { moved = moved,
                                             lost = counts.lost }) end
  io.stdout:write(output.count(moved, noun), " moved\n")
  if counts.lost > 0 then
    io.stderr:write(("respool: %s moved, but also delivered here meanwhile\n")
      :format(output.count(counts.lost, noun)))
  end
end

function M.run(args, io)
  if args.group and not args.dead then
    arguments.misuse "--group needs --dead"
  end
  core.process.watch()
  local from = arguments.open(io, args.from)
  local o = args.dead and { dlq = arguments.dlq(from, args.queue) }
    or { queue = arguments.queue(from, args.queue) }
  local there = arguments.open(io, args.to, { create = true })
  local same, why = transfer.is_same(from, there)
  if why then arguments.fail(why) end
  if same then arguments.misuse "FROM and TO are the same store" end
  local noun = args.dead and "dead letter" or "item"
  local ended
  o.to = check(there:queue(args.into or args.queue))
  o.group, o.limit, o.on_conflict = args.group, args.limit, args.on_conflict
  o.on_progress, ended = new_hook(io, noun)
  local counts, message, _, so_far = transfer.move(o)
  local stopped = ended()
  if counts or so_far then summary(args, io, noun, counts or so_far) end
  if not counts then arguments.fail(message) end
  if o.queue and not args.limit and not stopped then tell_left(io, o.queue) end
  if stopped then
    arguments.fail("stopped; begun again, it goes on where it was", STOPPED)
  end
  return counts.lost > 0 and 1 or 0
end

return M
