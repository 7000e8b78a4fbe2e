-- SPDX-License-Identifier: MIT
--
-- respool partitions: which partitions of a queue have items, or are held.

local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"
local show = require "respool.cli.base.show"

local M = { summary = "list the partitions of a queue" }

local LIMIT = 100

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command)
  command:option("--order", "By 'key', or those with most items first: "
    .. "'size'."):choices { "key", "size" }:default "size"
  command:option("--after", "By key: only those behind this one.")
    :argname "KEY":convert(arguments.key)
  command:option("-n --limit", "List so many.", LIMIT)
    :argname "N":convert(arguments.whole(1, 1000))
  output.add_json(command)
  command:epilog [[
A partition is all items that were pushed with the same key. One without items
is listed as long as it is held, its rate was used lately, or its breaker is
not closed.

Example:
  respool partitions shop.respool mails -n 10]]
end

local function row(p, now)
  return {
    output.cut(output.clean(p.key), 40), output.number(p.ready),
    output.number(p.leased), output.number(p.scheduled),
    p.held_until and output.duration(p.held_until - now) or "",
    p.allowed < math.huge and output.number(p.allowed) or "",
    p.breaker ~= "closed" and p.breaker:gsub("_", " ") or "",
    p.held_for or "",
  }
end

function M.run(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local queue = arguments.queue(store, args.queue)
  local list = arguments.check(queue:partitions {
    order = args.order, limit = args.limit, after = args.after,
  })
  local rows = {}
  for i, p in ipairs(list) do
    if args.json then
      output.json(io, p)
    else
      rows[i] = row(p, store:now())
    end
  end
  if args.json then return end
  output.first_rows(io, {
    { title = "KEY" }, { title = "READY", right = true },
    { title = "LEASED", right = true }, { title = "SCHEDULED", right = true },
    { title = "HELD FOR", right = true }, { title = "ALLOWED", right = true },
    { title = "BREAKER" }, { title = "WHY", cut = true },
  }, rows, "partitions", args.limit)
end

return M
