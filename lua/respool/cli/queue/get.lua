-- SPDX-License-Identifier: MIT
--
-- respool get: one item by its id or key, whatever its state.

local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"
local show = require "respool.cli.base.show"

local M = { summary = "show one item" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command)
  command:argument("id", "Id of the item."):argname "ID":args "?"
    :convert(arguments.whole(1))
  command:option("--key", "Show the item with this key."):argname "KEY"
    :convert(arguments.key)
  show.add_raw(command)
  output.add_full(command)
  output.add_json(command)
  command:epilog [[
Examples:
  respool get shop.respool mails 42
  respool get shop.respool mails --key invoice-7]]
end

function M.run(args, io)
  if (args.id == nil) == (args.key == nil) then
    arguments.misuse "which item? give its ID, or --key"
  end
  local store = arguments.open(io, args.store, show.LOOK)
  local queue = arguments.queue(store, args.queue, show.STORED)
  local item = arguments.check(queue:get(args.id or { key = args.key }))
  if args.json then return show.json(io, item, args) end
  show.item(io, item, {
    now = store:now(), full = args.full, raw = args.raw,
  })
end

return M
