-- SPDX-License-Identifier: MIT
--
-- A process that stands still (SIGSTOP) while it has the turn to write to a
-- store: it holds the lock that a turn is.

local helper = require "spec.helper"

local WRITER = [[
  local store = assert(require "respool".open(arg[1]))
  local queue = assert(store:queue "orders")
  assert(queue:push "first")
  print "ready"
  io.stdout:flush()
  while true do queue:push "x" end
]]

local function has_turn(process, path)
  local inode = helper.sh(("stat -c %%i '%s/data.mdb'"):format(path))
  return helper.sh(("grep -c 'POSIX.* WRITE %d .*:%s 0 0' /proc/locks"):format(
    process.pid, inode)) == "1"
end

-- The process, stopped again and again until it holds the lock.
---@param path string of the store
---@return table process
return function(path)
  local process = helper.spawn(WRITER, path)
  process:expect "ready"
  for _ = 1, 500 do
    os.execute("kill -STOP " .. process.pid)
    if has_turn(process, path) then return process end
    os.execute("kill -CONT " .. process.pid)
    helper.pause(0.003)
  end
  error "it never was its turn"
end
