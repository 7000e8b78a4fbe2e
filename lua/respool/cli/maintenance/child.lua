-- SPDX-License-Identifier: MIT
--
-- A step of a command in a process of its own: reading a damaged file may end
-- the process that does it, and a call into the core cannot be stopped. The
-- result of the step comes back through a file without a name.

local compat = require "respool.support.compat"
local core = require "respool.core"
local json = require "respool.support.json"

local M = {}

local CRASHES = { [6] = "SIGABRT", [7] = "SIGBUS", [11] = "SIGSEGV" }

local PAUSE = 0.02 -- seconds between two looks at the child

-- How a child ended.
---@class respool.cli.ended
---@field result any what its function returned; nil when it did not
---@field error string? that it raised
---@field signal string? that ended it
---@field crash boolean? and nobody sends

-- Ends this process with what f() returns, as JSON. Where LMDB gives up it
-- says so on stderr, in words for its authors, and aborts: from a buffer that
-- is never written.
local function answer(f, pipe, file)
  core.process.obey()
  io.stderr:setvbuf("full", 65536)
  local ok, result = pcall(f)
  file:write(json.encode(ok and { result = result }
    or { error = tostring(result) }))
  file:flush()
  core.process.exit(0, pipe)
end

-- Waits until it has ended, and calls tick() while it waits. Raises
-- "interrupted!" once there are more signals than before.
local function await(pid, signals, tick)
  while true do
    if core.process.signals() > signals then error("interrupted!", 0) end
    local how, number = core.process.wait(pid)
    if how then return how, number end
    tick()
    core.process.nap(PAUSE)
  end
end

local function kill(pid)
  core.process.stop(pid, true)
  while not core.process.wait(pid) do core.process.nap(0.001) end
end

local function result_in(file)
  file:seek "set"
  local text = file:read "*a"
  file:close()
  return json.decode(text) or { error = "it has said nothing" }
end

local function ended(how, number, file)
  if how ~= "signal" then return result_in(file) end
  file:close()
  return { signal = CRASHES[number] or "signal " .. number,
           crash = CRASHES[number] ~= nil }
end

-- Runs f() in a child; `tick` is called some fifty times a second. When this
-- process is asked to end, so is the child first.
---@param f fun(): any a value that JSON can hold
---@param tick fun()
---@return respool.cli.ended?, string?
function M.run(f, tick)
  local file, message = io.tmpfile()
  if not file then return nil, message end
  core.process.watch() -- from before there is a child to be left alone
  local signals = core.process.signals()
  local pid, pipe = core.process.fork()
  if pid == 0 then answer(f, pipe, file) end
  if not pid then
    core.process.unwatch()
    return nil, pipe
  end
  local how, number = compat.guard(function()
    return await(pid, signals, tick)
  end, nil, function()
    kill(pid)
    core.process.unwatch()
  end)
  core.process.unwatch()
  core.process.last_words(pipe)
  return ended(how, number, file)
end

return M
