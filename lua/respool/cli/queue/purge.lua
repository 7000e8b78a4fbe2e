-- SPDX-License-Identifier: MIT
--
-- respool purge: removes the items of a queue.

local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"

local M = { summary = "remove all items of a queue" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  arguments.add_yes(command)
  command:epilog [[
Leased items stay; dead letters and finished items do, too. Without --yes
nothing is removed: what would be is reported, and the exit status is 1.

Example:
  respool purge shop.respool mails --yes]]
end

local function plan(queue)
  local n = arguments.check(queue:length())
  local stay = n.leased > 0
    and ("; %s stay"):format(output.count(n.leased, "leased item")) or ""
  return ("remove %s from queue '%s'%s"):format(
    output.count(n.total - n.leased, "item"), queue.name, stay)
end

function M.run(args, io)
  local store = arguments.open(io, args.store)
  local queue = arguments.queue(store, args.queue)
  arguments.need_yes(args, plan(queue))
  io.stdout:write(("%s removed\n"):format(
    output.count(arguments.check(queue:purge()), "item")))
end

return M
