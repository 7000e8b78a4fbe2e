-- SPDX-License-Identifier: MIT
--
-- respool result: what the handler of an item returned.

local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"
local show = require "respool.cli.base.show"

local M = { summary = "show the result of a finished item" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command)
  command:argument("id", "Id of the item."):argname "ID"
    :convert(arguments.whole(1))
  command:option("--wait", "Wait so long until the item is over.")
    :argname "TIME":convert(arguments.duration)
  command:epilog [[
Writes JSON: what the handler of the item returned, or true. A queue keeps that
with its finished items (keep_done). The exit status is 1 when the item died, or
is not over.

Example:
  respool result shop.respool mails 42 --wait 30s]]
end

function M.run(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local queue = arguments.queue(store, args.queue)
  local value, message
  if args.wait then
    value, message = queue:await(args.id, { timeout = args.wait })
  else
    value, message = queue:result(args.id)
  end
  if value == nil then arguments.fail(message) end -- false is a result, too
  output.json(io, value)
end

return M
