-- SPDX-License-Identifier: MIT
--
-- respool peek: the items that a take would deliver next.

local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"
local show = require "respool.cli.base.show"

local M = { summary = "show the items that would be taken next" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command)
  command:option("-n --limit", "Show so many items.", 1)
    :argname "N":convert(arguments.whole(1, 1000000))
  show.add_raw(command)
  output.add_full(command)
  output.add_json(command)
  command:epilog [[
Nothing is taken, and nothing changes.

Example:
  respool peek shop.respool mails -n 3]]
end

function M.run(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local queue = arguments.queue(store, args.queue, show.STORED)
  local items = arguments.check(queue:peek(args.limit))
  show.damaged(io, items.damaged or {})
  for i, item in ipairs(items) do
    show.one_of(io, i, item, args, store:now(), show.item)
  end
  if #items == 0 and not args.json then
    io.stdout:write "no item is ready\n"
  end
end

return M
