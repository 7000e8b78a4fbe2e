-- SPDX-License-Identifier: MIT
--
-- A process that is stopped (SIGSTOP) while it has the turn to write. The
-- others used to wait for it without a word, deaf to SIGINT and SIGTERM.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local stopped_with = require "spec.helper.stopped_with"

local path, stopped

local function stop(name)
  path = helper.location()
  stopped = stopped_with(name, path)
end

local function whom()
  return ("process %d %%(lua[^)]*%%)"):format(stopped.pid)
end

local PUSHER = [[
  local store = assert(require "respool".open(arg[1], {
    timeout = tonumber(arg[2]),
    log = arg[3] and function(level, message, fields)
      print(level, message, fields.process, fields.seconds >= 3)
    end or nil,
  }))
  local queue = assert(store:queue "orders")
  print "open"
  io.stdout:flush()
  print(queue:push "second")
]]

local function looks_at_once()
  local store = assert(helper.open(path, { timeout = 10 }))
  local queue = assert(store:queue "orders")
  assert.equal("first", queue:peek()[1].payload)
  assert.equal("first", queue:get(1).payload)
  assert.is_true(queue:stats().ready > 0)
  assert.same({}, store:check())
  assert.same({ "orders" }, store:queues())
  for _, args in ipairs {
    { "ls", path, "orders", "--state", "leased" }, { "stats", path },
    { "health", path },
  } do
    local run = cli.process(args)
    assert.equal(0, run.status, table.concat(args, " ") .. run.err)
  end
end

describe("while a process stands still in its turn", function()
  before_each(function() stop "turn" end)

  it("a push waits as long as the store's timeout says", function()
    local pusher = helper.spawn(PUSHER, path, 0.3)
    assert.equal(0, pusher:wait())
    assert.matches("nil\tgave up waiting for " .. whom() ..
      ", which uses store '[^\n]*'\tLOCKED", pusher:output())
  end)

  it("a push waits until it goes on, if there is no timeout", function()
    local pusher = helper.spawn(PUSHER, path)
    pusher:expect "open"
    pusher:expect "waiting for process"
    assert.matches("respool: waiting for " .. whom(), pusher:output())
    os.execute("kill -CONT " .. stopped.pid)
    assert.equal(0, pusher:wait())
    assert.matches("open\n.*%d+\n", pusher:output())
  end)

  it("a log of one's own hears of a long wait, too", function()
    local pusher = helper.spawn(PUSHER, path, math.huge, "log")
    pusher:expect "waiting for process"
    os.execute("kill -CONT " .. stopped.pid)
    assert.equal(0, pusher:wait())
    assert.matches("warn\ta call waited for another process\t" .. whom()
      .. "\ttrue\n%d+\n", pusher:output())
  end)

  it("looking waits for nobody", looks_at_once)

  it("a wait can be interrupted", function()
    local pusher = helper.spawn(PUSHER, path)
    pusher:expect "waiting for process"
    assert.equal(1, pusher:kill "INT")
    assert.matches("interrupted!", pusher:output())
  end)

  it("a command can be interrupted, and is told whom it waits for",
     function()
    local lines = helper.dir() .. "/lines"
    helper.write(lines, '{"n":1}\n')
    for _, signal in ipairs { "INT", "TERM" } do
      local command = cli.start { "push", path, "orders", lines }
      command:expect "waiting for process"
      assert.is_true(command:kill(signal) ~= 0)
      assert.matches("waiting for " .. whom(), command:output())
    end
  end)

  it("a buffer's flush, a ticket and closing end by the timeout", function()
    local store = assert(helper.open(path, { timeout = 0.3 }))
    local queue = assert(store:queue("orders", { buffer = { items = 10 } }))
    assert(queue:push "buffered")
    assert.equal("LOCKED", helper.code(queue:flush()))
    assert.is_nil((store:close()))
  end)

  it("pushes of other threads and what they flush lose nothing", function()
    local store = assert(helper.open(path, { timeout = 0.3 }))
    local queue = assert(store:queue "orders")
    for _ = 1, 3 do
      assert.equal("LOCKED", helper.code(queue:push "given up"))
    end
    os.execute("kill -CONT " .. stopped.pid)
    local id = assert(queue:push "done")
    assert.equal("done", queue:get(id).payload)
    for item in queue:each() do assert.not_equal("given up", item.payload) end
  end)
end)

-- The journal's locks are bytes of its control block. Waits for them had no
-- limit.
describe("while a process stands still within the journal", function()
  before_each(function() stop "journal" end)

  it("a push waits as long as the store's timeout says", function()
    local pusher = helper.spawn(PUSHER, path, 0.3)
    assert.equal(0, pusher:wait())
    assert.matches("nil\tgave up waiting for " .. whom() ..
      ", which uses store '[^\n]*'\tLOCKED", pusher:output())
  end)

  it("looking waits for nobody", looks_at_once)

  it("a push waits until it goes on, if there is no timeout", function()
    local pusher = helper.spawn(PUSHER, path)
    pusher:expect "waiting for process"
    os.execute("kill -CONT " .. stopped.pid)
    assert.equal(0, pusher:wait())
    assert.matches("open\n.*%d+\n", pusher:output())
  end)
end)

describe("while a process stands still that opens or compacts", function()
  before_each(function()
    path = helper.location()
    assert(helper.open(path)):close()
  end)

  it("opening gives up after the timeout", function()
    local holder = helper.spawn([[
      local pipe = io.popen("exec flock -F " .. arg[1] ..
        " sh -c 'echo; exec sleep 600'")
      pipe:read()
      print "locked"
      io.stdout:flush()
      pipe:read "*a"
    ]], path)
    holder:expect "locked"
    local store, message, code = helper.open(path, { timeout = 0.3 })
    assert.is_nil(store)
    assert.equal("LOCKED", code)
    assert.matches("gave up waiting for process %d+ %(%a+%)", message)
    os.execute("LD_PRELOAD= pkill -P " .. holder.pid)
  end)
end)
