-- SPDX-License-Identifier: MIT
--
-- Runners of named replays and of workers. The record of one names its runner:
-- the boot of the machine, the namespace of process ids, the process with the
-- time when it began, and the run in it. So whoever reads the record on the
-- same machine knows whether that run is still there. Where that cannot be
-- seen, as from another container, a runner that has saved nothing for a while
-- is taken to be gone.

local core = require "respool.core"

local M = {}

local SILENCE = 60 -- seconds
M.BEAT = 10        -- seconds after which a replay that waits saves again

local function read(path)
  local file = io.open(path)
  local text = file and file:read "*a" or "" -- a process may end at any time
  if file then file:close() end
  return text
end

-- When a process began, in ticks of the system; nil when it has ended.
local function start_of(pid)
  local n = 2
  local text = read(("/proc/%s/stat"):format(pid))
  for field in (text:match "^.*%)%s+(.*)$" or ""):gmatch "%S+" do
    n = n + 1
    if n == 22 then return field end
  end
end

-- This Lua state: there may be several in a process. Asked for again in each
-- process, as a fork takes the answer along.
local state
local runs = setmetatable({}, { __mode = "v" }) -- of this state, by number
local last = 0

local function myself()
  local pid, namespace = core.process.self()
  if not state or state.pid ~= pid then
    state = {
      pid = pid, machine = ("%s %.0f"):format(
        read "/proc/sys/kernel/random/boot_id":match "%S*", namespace),
      id = ("%x"):format(core.mono()),
    }
  end
  return state
end

-- Enters a run as one of this process. Returns the name of the runner, and the
-- function that ends it.
---@param run table
---@return string, function
function M.enter(run)
  local me = myself()
  last = last + 1
  local n = last
  runs[n] = run
  return ("%s %.0f %s %s %d"):format(me.machine, me.pid,
    start_of(me.pid) or "-", me.id, n), function() runs[n] = nil end
end

local FORM = "^(%S+ %d+) (%d+) (%S+) (%S+) (%d+)$"

-- The process of a runner that is running for sure; nil when it is gone or
-- cannot be seen. The second result is whether it cannot be seen.
---@param runner string
---@return integer?, boolean
function M.pid(runner)
  local machine, pid, start, id, n = runner:match(FORM)
  local me = myself()
  if not machine then return nil, false end
  if machine ~= me.machine then return nil, true end
  if start_of(pid) ~= start then return nil, false end
  if tonumber(pid) == me.pid and id == me.id and not runs[tonumber(n)] then
    return nil, false
  end
  return math.floor(tonumber(pid)), false
end

-- The answer to who would run what another runs.
---@param replay { name: string, runner: string }
---@return nil, string, string
function M.locked(replay)
  local pid = M.pid(replay.runner)
  return nil, ("named replay '%s' is run by %s"):format(replay.name,
    pid and ("process %d"):format(pid) or "another process"), "LOCKED"
end

-- Whether the runner of a stored replay, which says that it is running, is
-- gone.
---@param replay { runner: string, updated_at: number }
---@param now number by the clock of the store
---@return boolean
function M.is_gone(replay, now)
  local pid, hidden = M.pid(replay.runner)
  if hidden then return now - (replay.updated_at or 0) > SILENCE end
  return pid == nil
end

return M
