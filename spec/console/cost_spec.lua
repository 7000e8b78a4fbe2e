-- SPDX-License-Identifier: MIT
--
-- What a live page costs: a look at the store touches as many pages of its
-- file, however many items there are.

local helper = require "spec.helper"

-- A store with so many items in each state; its path.
local function filled(n)
  local path = helper.location()
  local store = assert(helper.open(path))
  local q = store:queue "orders"
  local payloads = {}
  for i = 1, 1000 do payloads[i] = ("x"):rep(250) end
  for _ = 1, n / 1000 do q:push_many(payloads) end
  local batch = q:take { limit = math.floor(n / 2), lease = 600 }
  for i = 1, #batch, 2 do batch:item(i):retry { delay = 600 } end
  for i = 2, #batch, 2 do batch:item(i):dead { group = "g" } end
  batch:settle()
  for i = 1, 100 do q:push(i, { delay = 60 + i }) end
  store:close()
  return path
end

-- How many pages a process touches anew in its first look at a store, after it
-- has looked at another; and, as a control, in counting its dead letters by
-- group, which reads them all.
local LOOK = [[
  local live = require "respool.console.live"
  local respool = require "respool"
  local routes = require "respool.console.routes"
  local function look(path)
    local store = assert(respool.open(path, { read_only = true, log = false }))
    local console = routes.new { store = store }
    local function faults()
      local file = io.open "/proc/self/stat"
      local text = file:read "*a"
      file:close()
      local small, large = text:match("%) " .. ("%S+ "):rep(7)
        .. "(%d+) %S+ (%d+)")
      return tonumber(small) + tonumber(large)
    end
    collectgarbage "stop"
    local before, after = faults(), nil
    live.events(console).events(function(text)
      assert(text:find("orders", 1, true))
      after = faults()
    end)
    store:dead "orders":groups()
    return after - before, faults() - after
  end
  look(arg[1])
  print(look(arg[2]))
]]

local function pages(other, path)
  local script = helper.dir() .. "/look.lua"
  helper.write(script, LOOK)
  local looked, counted = helper.sh(("%s %s %s %s"):format(helper.lua(),
    script, other, path)):match "^(%d+)%s(%d+)$"
  return tonumber(looked), tonumber(counted)
end

describe("A live page", function()
  it("costs as much beside 200,000 items as beside 2,000", function()
    local few, many = filled(2000), filled(200000)
    local base, counted = pages(few, few)
    local looked, counted_many = pages(few, many)
    assert.is_true(looked <= base + 12)
    assert.is_true(counted_many > counted + 40) -- it would be seen
  end)
end)
