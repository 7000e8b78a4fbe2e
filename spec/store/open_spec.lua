-- SPDX-License-Identifier: MIT
--
-- Opening a store while others open it. LMDB lets the first to come write into
-- its lock file what the others need, while they wait; here the first one does
-- not get to it.

local helper = require "spec.helper"

local build = assert(os.getenv "RESPOOL_BUILD")

-- A store with so many items, closed.
local function filled(n)
  local location = helper.location()
  local store = assert(helper.open(location))
  local q = assert(store:queue "orders")
  for i = 1, n do assert(q:push(i)) end
  assert(store:close())
  return location
end

-- Begins to open the store and stops in the middle; its process and pid.
local function begin_to_open(location, how)
  local opener = helper.spawn(
    [[os.execute(("exec '%s/spec/opener' '%s' %s"):format(...))]],
    build, location, how)
  opener:expect "opening"
  return tonumber(opener:output():match "opening (%d+)")
end

-- Says what it finds, and pushes one more.
local SECOND = [[
  print "comes"
  io.stdout:flush()
  local store = assert(require "respool".open((...)))
  local q, found = store:queue "orders", {}
  for item in q:each() do found[#found + 1] = item.payload end
  print("finds", table.concat(found, " "))
  print("pushes", (assert(q:push "new")))
  store:close()
]]

-- What is in the store after another came while the first was opening it and
-- `ended` by a signal.
local function open_twice(n, how, signal)
  local location = filled(n)
  local first = begin_to_open(location, how)
  local second = helper.spawn(SECOND, location)
  second:expect "comes"
  helper.sh "sleep 0.1"
  helper.sh(("kill -%s %d"):format(signal, first))
  assert.equal(0, second:wait(), second:output())
  local store = assert(helper.open(location))
  assert.same({}, store:check())
  return second:output(), helper.payloads(store:queue "orders")
end

-- Of LMDB's two places for a commit either may be the last.
local function assert_all_there(how, signal)
  for n = 3, 4 do
    local want = helper.range(n)
    local said, found = open_twice(n, how, signal)
    assert.matches("finds\t" .. table.concat(want, " ") .. "\n", said)
    assert.matches(("pushes\t%d\n"):format(n + 1), said)
    want[n + 1] = "new"
    assert.same(want, found)
  end
end

describe("opening a store", function()
  it("finds all that is there when the first to open it is killed", function()
    assert_all_there("respool", "KILL")
  end)

  it("finds all that is there when the first one's call fails", function()
    assert_all_there("respool", "USR1")
  end)

  it("finds all that is there when another program is killed", function()
    assert_all_there("lmdb", "KILL")
  end)
end)

-- While this process has the store open, another was killed between the two
-- places to which LMDB writes the number of a commit.
describe("opening a store whose last commit LMDB's lock file does not tell of",
         function()
  local location, store, q

  before_each(function()
    location = filled(3)
    store = assert(helper.open(location, { journal = false }))
    q = assert(store:queue "orders")
    local died = helper.spawn(
      [[os.execute(("exec '%s/spec/opener' '%s' commit"):format(...))]],
      build, location)
    died:wait()
    assert.equal("", died:output())
  end)

  it("finds that commit, and goes on behind it", function()
    local second = helper.spawn(SECOND, location)
    assert.equal(0, second:wait(), second:output())
    assert.matches("finds\t1 2 3 1\n", second:output())
    assert.matches("pushes\t5\n", second:output())
    assert.same({ 1, 2, 3, 1, "new" }, helper.payloads(q))
    assert.same({}, store:check())
  end)

  it("finds the one before where nothing may be written", function()
    local looker = helper.spawn([[
      local store = assert(require "respool".open((...), { read_only = true }))
      print(store:queue "orders":length().ready)
    ]], location)
    assert.equal(0, looker:wait(), looker:output())
    assert.equal("3\n", looker:output())
    assert.equal(5, assert(q:push "new"))
    assert.same({ 1, 2, 3, 1, "new" }, helper.payloads(q))
  end)
end)

-- A process that may write no more to the file of a store, which is also out
-- of reach when it is opened again, until both are mended.
local LOST = [[
  local respool, path = require "respool", arg[1]
  local store = assert(respool.open(path))
  local q = assert(store:queue "orders")
  local function say(what, ok, _, code) print(what, ok and "done" or code) end
  local function limit(to)
    os.execute("prlimit --pid $PPID --fsize=" .. to)
  end
  q:push "kept"
  limit "4096:"
  say("push", q:push "in doubt")
  os.rename(path .. "/data.mdb", path .. "/away")
  say("push", q:push "refused")
  say("flush", store:flush())
  if arg[2] == "close" then say("close", store:close()) os.exit(0, true) end
  if arg[2] == "collect" then store, q = nil, nil collectgarbage() end
  limit "unlimited:"
  os.rename(path .. "/away", path .. "/data.mdb")
  if not store then
    store = assert(respool.open(path))
    q = store:queue "orders"
  end
  say("flush", store:flush())
  say("push", q:push "after")
  print(q:peek()[1].payload, #store:check())
]]

describe("a store whose disk is gone", function()
  local function run(what)
    local dir = helper.dir()
    helper.write(dir .. "/main.lua", LOST)
    return helper.sh(("trap '' XFSZ; %s %s/main.lua %s/store %s 2>&1; echo $?")
      :format(helper.lua(), dir, dir, what))
  end

  local GONE = "push\tUNKNOWN_OUTCOME\npush\tIO\nflush\tIO\n"

  it("is used again once it is there again", function()
    assert.equal(GONE .. "flush\tdone\npush\tdone\nkept\t0\n0", run "stay")
  end)

  it("can be closed", function()
    -- stderr and stdout are one file here, but buffered apart.
    local said, logged = run "close":gsub("respool: error: [^\n]+\n", "")
    assert.equal(1, logged)
    assert.matches("^" .. GONE .. "close\t%a+\n0$", said)
  end)

  it("can be collected", function()
    assert.equal(GONE .. "flush\tdone\npush\tdone\nkept\t0\n0", run "collect")
  end)
end)

-- Two processes that are number 1, each in a container. LMDB tells its readers
-- apart by that number, and said "Resource temporarily unavailable".
describe("a process of the same number in another container", function()
  local HOLDER = [[
    local store, message, code = require "respool".open(arg[1])
    if not store then print(message, code) os.exit(1) end
    assert(store:queue "orders":push "x")
    print "open"
    io.stdout:flush()
    if arg[2] then require "respool.core".process.nap(20) end
  ]]

  local function in_container(...)
    local dir = helper.dir()
    helper.write(dir .. "/main.lua", HOLDER)
    local line = {
      "exec unshare -pf --kill-child", helper.lua(), dir .. "/main.lua", ...,
    }
    return helper.spawn([[os.execute(arg[1])]], table.concat(line, " "))
  end

  it("is told why it cannot open the store", function()
    if helper.sh "unshare -pf true 2>&1" ~= "" then
      pending "namespaces need root"
      return
    end
    local path = helper.location()
    local first = in_container(path, "stay")
    first:expect "open"
    local second = in_container(path)
    second:wait()
    assert.matches("another container %(pid namespace%).*\tLOCKED\n",
                   second:output())
    helper.sh("LD_PRELOAD= pkill -P " .. first.pid)
    first:wait()
    local third = in_container(path)
    third:wait()
    assert.equal("open\n", third:output())
  end)
end)

-- The map was made smaller for a store that was there, not for a new one.
it("a store is made and opened where address space is scarce", function()
  local dir = helper.dir()
  helper.write(dir .. "/main.lua", [[
    for i = 1, 2 do
      local store = assert(require "respool".open(arg[1]))
      assert(store:queue "orders":push(i))
      print(store:queue "orders":length().ready)
      assert(store:close())
    end
  ]])
  local said = helper.sh(("ulimit -v 16000000; %s %s/main.lua '%s' 2>&1")
    :format(helper.lua(), dir, helper.location()))
  assert.equal("1\n2", said)
end)
