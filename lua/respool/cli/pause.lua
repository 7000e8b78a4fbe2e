-- SPDX-License-Identifier: MIT
--
-- respool pause: a queue hands nothing out until it is resumed.

local arguments = require "respool.cli.arguments"

local M = { summary = "stop a queue from handing items out" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:epilog("It holds for every process and lasts until `respool resume`. "
    .. "Pushes go on, and leases that are held.\n\n"
    .. "Example:\n  respool pause shop.respool mails")
end

function M.run(args, io)
  local store = arguments.open(io, args.store)
  arguments.check(arguments.queue(store, args.queue):pause())
end

return M
