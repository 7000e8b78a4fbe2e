-- SPDX-License-Identifier: MIT
--
-- respool maintain: expires, applies retention, frees reader slots.

local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"

local M = { summary = "expire items, apply retention" }

function M.options(command)
  arguments.add_store(command)
  command:option("--seconds", "Stop after so long, such as 30s.")
    :argname "DURATION":convert(arguments.duration)
  output.add_json(command)
  command:epilog [[
Expires items past their TTL, removes dead letters and history that are older
than their queues keep them, and frees the reader slots of processes that have
died. Work on a queue does the urgent part by itself; run this now and then
where nothing works on the store.

Example:
  respool maintain shop.respool --seconds 30]]
end

local SLICE = 1 -- seconds between two showings
local COUNTS = {
  "ticks", "expired", "dead_letters", "history", "windows", "readers",
}
local WORDS = {
  ticks = "ticks of schedules fired", expired = "items expired",
  dead_letters = "dead letters removed",
  history = "finished items forgotten", windows = "keys free again",
  readers = "reader slots freed",
}

local function add(sums, maintenance)
  local all = 0
  for _, name in ipairs(COUNTS) do
    sums[name] = (sums[name] or 0) + maintenance[name]
    all = all + sums[name]
  end
  sums.more = maintenance.more
  return all
end

-- Cares slice by slice until there is no more to do, or no more time.
local function maintain_for(store, io, seconds)
  local bar = progress.new(io, { noun = "record" })
  local sums = {}
  repeat
    local left = seconds - bar:elapsed()
    local maintenance = arguments.check(store:maintain {
      seconds = math.max(math.min(SLICE, left), 0.001),
    })
    bar:update(add(sums, maintenance))
  until not maintenance.more or bar:elapsed() >= seconds
  bar:clear()
  return sums
end

function M.run(args, io)
  local store = arguments.open(io, args.store)
  local sums = maintain_for(store, io, args.seconds or math.huge)
  if args.json then return output.json(io, sums) end
  local list = {}
  for i, name in ipairs(COUNTS) do
    list[i] = { WORDS[name], output.number(sums[name]) }
  end
  output.fields(io, list)
  if sums.more then io.stdout:write "there is more to do\n" end
end

return M
