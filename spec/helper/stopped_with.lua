-- SPDX-License-Identifier: MIT
--
-- A process that stands still (SIGSTOP) while it holds a lock of a store: the
-- turn to write, or that of the journal's block.

local helper = require "spec.helper"

-- The options with which the writer opens the store, and its lock in
-- /proc/locks.
local LOCKS = {
  turn = { options = "{ journal = false }", file = "data.mdb",
           pattern = "POSIX.* WRITE %d .*:%s 0 0" },
  journal = { options = "{ sync = 'relaxed' }", file = "control",
              pattern = "OFDLCK .* WRITE -1 .*:%s 16 16" },
}

local WRITER = [[
  local store = assert(require "respool".open(arg[1], OPTIONS))
  local queue = assert(store:queue "orders")
  assert(queue:push "first")
  print "ready"
  io.stdout:flush()
  while true do queue:push "x" end
]]

local function holds(name, path, pid)
  local lock = LOCKS[name]
  local inode = helper.sh(("stat -c %%i '%s/%s'"):format(path, lock.file))
  local line = lock.pattern:gsub("%%d", pid):gsub("%%s", inode)
  return helper.sh(("grep -c '%s' /proc/locks"):format(line)) == "1"
end

-- The process, stopped again and again until it holds the lock.
---@param name "turn"|"journal"
---@param path string of the store
---@return table process
return function(name, path)
  local process = helper.spawn(WRITER:gsub("OPTIONS", LOCKS[name].options),
                               path)
  process:expect "ready"
  for _ = 1, 500 do
    os.execute("kill -STOP " .. process.pid)
    if holds(name, path, process.pid) then return process end
    os.execute("kill -CONT " .. process.pid)
    helper.pause(0.003)
  end
  error "it never held the lock"
end
