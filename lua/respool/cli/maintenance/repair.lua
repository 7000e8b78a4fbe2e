-- SPDX-License-Identifier: MIT
--
-- respool repair: makes a new store of the readable records of a damaged one.

local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"
local repair = require "respool.repair"

local M = { summary = "save what can be read of a damaged store" }

function M.options(command)
  command:argument("from", "The damaged store."):args(1)
  command:argument("to", "A directory for the new store, which does not "
    .. "exist yet or is empty."):args(1)
  output.add_json(command)
  command:epilog [[
FROM is only read; no process may have it open. All undamaged items come back
with their ids and attempts, and queues with their options; leases end, and
nothing counts as a failure. What was lost, set aside as a dead letter or
guessed is reported, a line each. The exit status is 0 when nothing was lost, 1
when something was or the repair failed.

Example:
  respool repair shop.respool shop.repaired]]
end

local COUNTS = {
  { "queues", "queues" }, { "items", "items" },
    { "dead_letters", "dead letters" },
  { "nameless", "of them, in 'recovered'" },
  { "set_aside", "items set aside as dead letters" },
  { "settled", "older copies left" }, { "lost_items", "items lost" },
  { "lost_dead_letters", "dead letters lost" },
  { "lost_records", "other records lost" },
  { "damaged_pages", "pages damaged" },
}

local function show(io, done)
  for _, finding in ipairs(done.findings) do
    io.stdout:write(output.clean(finding), "\n")
  end
  local list = {}
  for _, count in ipairs(COUNTS) do
    if done[count[1]] > 0 or #list < 3 then
      list[#list + 1] = { count[2], output.number(done[count[1]]) }
    end
  end
  output.fields(io, list)
end

function M.run(args, io)
  if args.from == "" or args.to == "" then
    arguments.misuse "the name of a directory cannot be empty"
  elseif args.from == ":memory:" or args.to == ":memory:" then
    arguments.misuse "a store in memory cannot be repaired: name a directory"
  end
  local done = arguments.check(repair.repair(args.from, args.to))
  if args.json then
    done.findings = require "respool".array(done.findings)
    output.json(io, done)
  else
    show(io, done)
  end
  return done.lost_items + done.lost_dead_letters + done.lost_records
    + done.set_aside > 0 and 1 or 0
end

return M
