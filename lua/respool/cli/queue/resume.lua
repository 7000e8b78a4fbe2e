-- SPDX-License-Identifier: MIT
--
-- respool resume: lets a paused queue deliver again.

local arguments = require "respool.cli.base.arguments"

local M = { summary = "let a paused queue deliver again" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:epilog "Example:\n  respool resume shop.respool mails"
end

function M.run(args, io)
  local store = arguments.open(io, args.store)
  arguments.check(arguments.queue(store, args.queue):resume())
end

return M
