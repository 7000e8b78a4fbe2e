-- SPDX-License-Identifier: MIT
--
-- respool remove: removes items by their ids.

local arguments = require "respool.cli.base.arguments"
local each = require "respool.cli.base.each"

local M = { summary = "remove items from a queue" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:argument("ids", "Ids of the items."):argname "ID"
    :args "+":convert(arguments.whole(1))
  command:epilog [[
A leased item is not removed; the others are, and the exit status is 1.

Example:
  respool remove shop.respool mails 42 43]]
end

function M.run(args, io)
  local store = arguments.open(io, args.store)
  local queue = arguments.queue(store, args.queue)
  return each.run(io, args.ids, "removed", function(id)
    return queue:remove(id)
  end)
end

return M
