-- SPDX-License-Identifier: MIT
--
-- respool pause: stops deliveries from a queue until it is resumed.

local arguments = require "respool.cli.base.arguments"

local M = { summary = "stop deliveries from a queue" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:epilog [[
A pause holds for all processes until `respool resume`. Pushes are accepted,
and leased items can be settled.

Example:
  respool pause shop.respool mails]]
end

function M.run(args, io)
  local store = arguments.open(io, args.store)
  arguments.check(arguments.queue(store, args.queue):pause())
end

return M
