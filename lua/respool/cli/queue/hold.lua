-- SPDX-License-Identifier: MIT
--
-- respool hold: keeps items from being taken from a queue for some time.

local arguments = require "respool.cli.base.arguments"

local M = { summary = "stop deliveries from a queue for some time" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:argument("time", "For so long; 0 ends a hold.")
    :argname "TIME":convert(arguments.duration)
  command:option("--reason", "Why; shown by stats and health.")
    :argname "TEXT"
  command:option("--partition", "Only the items of this partition.")
    :argname "KEY":convert(arguments.key)
  command:epilog [[
A hold is for all processes. Pushes are accepted, and leased items can be
settled. It does not shorten a hold that is longer; 0 ends it.

Examples:
  respool hold shop.respool mails 10m --reason "relay is being replaced"
  respool hold shop.respool mails 0]]
end

function M.run(args, io)
  local store = arguments.open(io, args.store)
  local queue = arguments.queue(store, args.queue)
  arguments.check(queue:hold(args.time, {
    reason = args.reason, partition = args.partition,
  }))
end

return M
