-- SPDX-License-Identifier: MIT
--
-- Server-sent events that keep a page up to date: the figures of
-- all queues, of the store and of the named replays. The figures are counters
-- of the store, so that what a look costs grows with the queues, not with their
-- items; the clients of a process share the looks, which take at most a
-- twentieth of a processor and half of the time; and a client is sent the
-- queues alone whose figures have changed.

local compat = require "respool.support.compat"
local core = require "respool.core"
local queue_stats = require "respool.observe.stats"
local json = require "respool.support.json"
local replays = require "respool.console.replays"
local timing = require "respool.support.timing"
local trend = require "respool.observe.trend"

local M = {}

local LEAST, SHARE = 1, 20 -- seconds between looks, and their CPU times that

local function row_of(name, stats)
  local row = queue_stats.summary(stats)
  row.name, row.oldest_age = name, nil -- which changes by itself
  return json.encode(row)
end

-- A look at the store: JSON by queue, and of the rest.
local function take_look(console)
  trend.tick(console.store)
  local all, message, code = queue_stats.queues(console.store, true)
  local named, stats
  if all then named, message, code = replays.all(console) end
  if named then stats, message, code = console.store:stats() end
  if not stats then return nil, message, code end
  local rows = {}
  for name, s in pairs(all) do
    rows[name] = row_of(name, s)
    timing.breathe()
  end
  stats.commits, stats.commit_operations = nil, nil
  return { rows = rows, store = json.encode(stats),
           replays = json.encode(named) }
end

-- The look of this process that is not too old, or a new one.
local function look(console)
  local last = console.state.look
  if last and (last.pending or timing.left(last.ends) > 0) then return last end
  local pending = last or {}
  pending.pending = true
  console.state.look = pending
  local began, cpu = core.mono(), os.clock()
  local ok, fresh, message, code = compat.pcall(take_look, console)
  pending.pending = nil
  if not ok then fresh, message, code = nil, tostring(fresh), "INTERNAL" end
  fresh = fresh or { error = message, code = code }
  fresh.wait = math.max(LEAST, (os.clock() - cpu) * SHARE,
                        (core.mono() - began) / 1e6)
  fresh.ends = timing.deadline(fresh.wait * 0.9)
  fresh.now = console.store:now()
  console.state.look = fresh
  return fresh
end

-- The event that brings a client, who has `had` these rows, up to date.
local function event_of(fresh, had)
  local changed, gone = {}, core.cbor.array {}
  for name, text in pairs(fresh.rows) do
    if had[name] ~= text then
      had[name], changed[#changed + 1] = text, text
    end
  end
  for name in pairs(had) do
    if not fresh.rows[name] then gone[#gone + 1] = name end
  end
  for _, name in ipairs(gone) do had[name] = nil end
  return ('event: look\ndata: {"now":%s,"queues":[%s],"gone":%s,'
    .. '"store":%s,"replays":%s}\n\n'):format(core.decimal(fresh.now),
    table.concat(changed, ","), json.encode(gone), fresh.store, fresh.replays)
end

local function event_for(fresh, had)
  if fresh.rows then return event_of(fresh, had) end
  if not fresh.error then return ": wait\n\n" end -- the first look is under way
  return ("event: trouble\ndata: %s\n\n"):format(
    json.encode { error = fresh.code, message = fresh.error })
end

-- Sends events until the client is gone or the process is to end.
function M.events(console)
  return { events = function(send)
    local had = {}
    while not timing.is_ending() do
      local fresh = look(console)
      if not send(event_for(fresh, had)) then return end
      timing.pause(fresh.wait or LEAST)
    end
  end }
end

return M
