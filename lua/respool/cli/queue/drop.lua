-- SPDX-License-Identifier: MIT
--
-- respool drop: removes a queue.

local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"

local M = { summary = "remove a queue" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  arguments.add_yes(command)
  command:epilog [[
The queue goes with its items, its finished items, its settings and counters;
its dead letters stay. A queue with leased items is not removed. Without --yes
nothing is removed: what would be is reported, and the exit status is 1.

Example:
  respool drop shop.respool mails --yes]]
end

local function plan(queue)
  local s = arguments.check(queue:stats())
  return ("remove queue '%s' with %s, %s and its settings; %s stay%s"):format(
    queue.name,
    output.count(s.ready + s.leased + s.scheduled + s.retrying, "item"),
    output.count(s.kept, "finished item"),
    output.count(s.dead, "dead letter"), s.dead == 1 and "s" or "")
end

function M.run(args, io)
  local store = arguments.open(io, args.store)
  local queue = arguments.queue(store, args.queue)
  arguments.need_yes(args, plan(queue))
  arguments.check(store:drop_queue(queue.name))
  io.stdout:write(("queue '%s' removed\n"):format(output.clean(queue.name)))
end

return M
