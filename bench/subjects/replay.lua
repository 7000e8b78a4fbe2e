-- SPDX-License-Identifier: MIT
-- Dead letters replayed from Lua, as a subject of the benchmark: 100,000 items
-- die, then dead:replay brings all of them back, durably. Prints what
-- bench.h describes.

local respool = require "respool"
local socket = require "socket"

local DEAD_LETTERS, GROUP = 100000, 1000

local function group()
  local list = {}
  for i = 1, GROUP do list[i] = { id = i, kind = "order.paid" } end
  return list
end

local function kill_all(queue)
  for _ = 1, DEAD_LETTERS / GROUP do
    assert(queue:push_many(group()))
    local batch = assert(queue:take { limit = GROUP })
    batch:dead { error = "connection refused" }
    assert(batch:close())
  end
  assert(queue.dead:count() == DEAD_LETTERS, "dead letters are missing")
end

local dir
for i = 1, #arg, 2 do if arg[i] == "--dir" then dir = arg[i + 1] end end
local store = assert(respool.open(dir))
local queue = assert(store:queue "bench")
kill_all(queue)
local wall, cpu = socket.gettime(), os.clock()
local counts = assert(queue.dead:replay())
wall, cpu = socket.gettime() - wall, os.clock() - cpu
assert(counts.moved == DEAD_LETTERS and queue.dead:count() == 0,
       "not all dead letters were moved")
store:close()
print(("items %d\nwall_ns %.0f\ncpu_ns %.0f"):format(DEAD_LETTERS, wall * 1e9,
                                                     cpu * 1e9))
