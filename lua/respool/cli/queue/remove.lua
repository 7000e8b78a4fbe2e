-- SPDX-License-Identifier: MIT
--
-- respool remove: removes items by their ids or keys.

local arguments = require "respool.cli.base.arguments"
local each = require "respool.cli.base.each"

local M = { summary = "remove items from a queue" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:argument("ids", "Ids of the items."):argname "ID"
    :args "*":convert(arguments.whole(1))
  command:option("--key", "Remove the item with this key; may be repeated.")
    :argname "KEY":count "*":convert(arguments.key)
  command:epilog [[
A leased item is not removed; the others are, and the exit status is 1.

Examples:
  respool remove shop.respool mails 42 43
  respool remove shop.respool mails --key invoice-7]]
end

function M.run(args, io)
  local all = args.ids
  for _, key in ipairs(args.key) do all[#all + 1] = { key = key } end
  if #all == 0 then
    arguments.misuse "which items? give their IDs, or --key"
  end
  local store = arguments.open(io, args.store)
  local queue = arguments.queue(store, args.queue)
  return each.run(io, all, "removed", function(one)
    return queue:remove(one)
  end)
end

return M
