-- SPDX-License-Identifier: MIT
--
-- The engine while the world breaks: the server crashes and comes back, or a
-- client is killed. Acknowledged pushes are counted against handled items.

local database = require "spec.helper.database"
local helper = require "spec.helper"
local server = database.server

-- Pushes numbers until it is killed, or until there is a file, and ten more;
-- prints what is on disk.
local PRODUCER = [[
  local store = assert(require "respool".open(arg[1], { log = false }))
  local q = assert(store:queue "orders")
  local i, left = 0, 10
  while left > 0 do
    i = i + 1
    local id, message, code = q:push(arg[2] .. i)
    io.write(id and "pushed " or code .. " ", arg[2], i, "\n")
    io.flush()
    local file = io.open(arg[3])
    if file then left = left - 1 file:close() end
  end
  print "end"
]]

-- Takes and settles until nothing has come for a while; prints what is done.
local CONSUMER = [[
  local store = assert(require "respool".open(arg[1], { log = false }))
  local q = assert(store:queue "orders")
  print "open"
  io.flush()
  local empty = 0
  while empty < 4 do
    local batch = q:take { limit = 5, timeout = 1 }
    if not batch then
      io.write("failed\n")
    elseif #batch == 0 then
      empty = empty + 1
    else
      empty = 0
      local names = {}
      for i = 1, #batch do
        names[i] = batch:item(i).payload
        io.write("settling ", names[i], "\n")
      end
      io.flush()
      batch:done()
      local ok, _, code = batch:settle()
      for _, name in ipairs(names) do
        io.write(ok and "done " or code .. " ", name, "\n")
      end
    end
    io.flush()
  end
]]

-- How often each name stands behind a word in what processes have printed.
local function count(processes, word)
  local seen = {}
  for _, process in ipairs(processes) do
    for name in process:output():gmatch(word .. " (%S+)") do
      seen[name] = (seen[name] or 0) + 1
    end
  end
  return seen
end

describe("producers and consumers of a store in a database", function()
  if not database.installed() then
    pending "needs the package postgresql"
    return
  end

  local location

  setup(function()
    location = helper.sh(server .. "database faults")
               .. "&schema=faults&patience=60" -- a crash may take its time
  end)

  teardown(function() helper.sh(server .. "stop") end)

  -- Every acknowledged push is done or still there, and nothing is done twice.
  -- One that was `killed` may have settled what it has not said to be done.
  local function assert_sound(producers, consumers, killed)
    local pushed = count(producers, "pushed")
    local done = count(consumers, "done")
    local tried = killed and count(consumers, "settling") or {}
    local store = assert(helper.open(location))
    local left = {}
    for item in store:queue "orders":each() do left[item.payload] = true end
    for name in pairs(pushed) do
      assert.is_true((done[name] or left[name] or tried[name]) ~= nil, name)
    end
    for name, times in pairs(done) do
      assert.equal(1, times, name)
      assert.is_nil(left[name])
    end
    assert.same({}, store:check())
    store:queue "orders":purge()
  end

  it("lose nothing and do nothing twice while the server crashes", function()
    local producers, consumers, enough = {}, {}, helper.dir() .. "/enough"
    for i = 1, 2 do
      producers[i] = helper.spawn(PRODUCER, location, "p" .. i .. "-", enough)
      consumers[i] = helper.spawn(CONSUMER, location)
    end
    for i = 1, 2 do -- a server that is away is none to begin with
      producers[i]:expect(("pushed p%d-10\n"):format(i), 120)
      consumers[i]:expect("open", 120)
    end
    helper.sh(server .. "crash; " .. server .. "start")
    helper.write(enough, "")
    for i = 1, 2 do
      assert.equal(0, producers[i]:wait(), producers[i]:output())
      assert.equal(0, consumers[i]:wait(), consumers[i]:output())
      assert.is_nil(producers[i]:output():match "UNKNOWN_OUTCOME")
      assert.matches("pushed p" .. i .. "%-%d+\nend\n$",
                     producers[i]:output())
    end
    assert_sound(producers, consumers)
  end)

  it("lose nothing when they are killed", function()
    local producers, consumers = {}, {}
    for i = 1, 3 do
      producers[i] = helper.spawn(PRODUCER, location, "k" .. i .. "-", "none")
      consumers[i] = helper.spawn(CONSUMER, location)
    end
    for i = 1, 3 do
      producers[i]:expect(("pushed k%d-%d\n"):format(i, 5 * i), 120)
      producers[i]:kill()
      consumers[i]:kill()
    end
    assert_sound(producers, consumers, true)
  end)
end)
