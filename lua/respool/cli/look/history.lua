-- SPDX-License-Identifier: MIT
--
-- respool history: the finished items that a queue keeps.

local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"
local show = require "respool.cli.base.show"

local M = { summary = "list finished items" }

local LIMIT = 100

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command)
  command:option("--since", "Only items done at this time or later: "
    .. "2026-01-31T12:00:00Z, '2h ago'."):argname "TIME"
    :convert(arguments.moment)
  command:option("--before", "Only items done before this time.")
    :argname "TIME":convert(arguments.moment)
  command:option("-n --limit", "List so many (100, all with --json).")
    :argname "N":convert(arguments.whole(1))
  show.add_raw(command)
  output.add_full(command)
  output.add_json(command)
  command:epilog [[
A queue keeps items that were done or cancelled as long as its setting keep_done
says.

Example:
  respool history shop.respool mails --since '1h ago']]
end

local function row(item, now, how)
  return {
    output.number(item.id), show.ago(now, item.done_at) .. " ago", item.state,
    item.priority, item.attempts, item.deliveries,
    output.line(item, how),
  }
end

function M.run(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local queue = arguments.queue(store, args.queue, show.STORED)
  local limit = args.limit or not args.json and LIMIT or math.huge
  local rows, n, now = {}, 0, store:now()
  for item in queue.history:each { since = args.since, before = args.before } do
    if n == limit then break end
    n = n + 1
    if args.json then
      show.json(io, item, args)
    else
      rows[n] = row(item, now, { full = args.full, raw = args.raw })
    end
  end
  if args.json then return end
  output.first_rows(io, {
    { title = "ID", right = true }, { title = "DONE", right = true },
    { title = "STATE" }, { title = "PRIORITY", right = true },
    { title = "ATTEMPTS", right = true },
    { title = "DELIVERIES", right = true }, { title = "PAYLOAD", cut = true },
  }, rows, "finished items", not args.limit and LIMIT)
end

return M
