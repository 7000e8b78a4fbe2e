-- SPDX-License-Identifier: MIT
--
-- respool work, as a process.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"

local dir, place, store, q

before_each(function()
  dir = helper.dir()
  place = dir .. "/store"
  store = assert(helper.open(place))
  q = assert(store:queue("q", { max_attempts = 1 }))
end)

-- A worker script whose handler is this code; note() says that it was called.
local function job(code)
  helper.write(dir .. "/job.lua", ([[
    local function note(word)
      local file = assert(io.open(%q .. "/log", "a"))
      file:write(word, "\n")
      file:close()
    end
    return { queue = "q", handle = function(payload, item)
      %s
    end }
  ]]):format(dir, code))
  return dir .. "/job.lua"
end

local function push(n)
  local list = {}
  for i = 1, n do list[i] = { n = i } end
  assert(q:push_many(list))
end

local function wait_for(file)
  helper.sh(("cd %s; for i in $(seq 2000); do [ -e %s ] && break; sleep 0.01"
    .. "; done"):format(dir, file))
end

local function signal(process)
  helper.sh("kill -INT " .. process.pid)
end

describe("respool work", function()
  it("works until nothing is left, and says what it did", function()
    push(50)
    local run = cli.run { "work", place, job "note(payload.n)",
                          "--until-empty", "--workers", "3" }
    assert.equal(0, run.status)
    assert.equal("", run.out)
    assert.matches("^q: 50 done, 0 retried, 0 died, in %S+\n$", run.err)
    assert.equal("50", helper.sh("sort -u " .. dir .. "/log | wc -l"))
    assert.equal(0, q:length().total)
  end)

  it("fails when an item died", function()
    push(2)
    local path = job "if payload.n == 1 then error() end"
    local run = cli.run { "work", place, path, "--until-empty" }
    assert.equal(1, run.status)
    assert.matches("q: 1 done, 0 retried, 1 died", run.err)
    assert.equal(1, q.dead:count())
  end)

  it("replaces a worker that died, and fails", function()
    push(1)
    local path = job [[
      if item.crashes == 0 then note "a" os.execute "kill -9 $PPID" end
      note "b"
    ]]
    assert(store:queue("q", { lease = 0.2 }))
    local process = cli.start { "work", place, path }
    process:expect "respool: worker 1 ended, signal 9"
    helper.sh(("until grep -q b %s/log; do sleep 0.01; done"):format(dir))
    signal(process)
    assert.equal(1, process:wait())
    assert.matches("q: 1 done", process:output())
  end)

  it("stops at SIGINT when the item in hand is done", function()
    push(3)
    local process = cli.start { "work", place,
                                job 'note "x" os.execute "sleep 0.3"' }
    wait_for "log"
    signal(process)
    assert.equal(0, process:wait())
    assert.matches("q: 1 done, 0 retried, 0 died", process:output())
    assert.equal(2, q:length().ready)
  end)

  it("stops at once at the second SIGINT", function()
    push(1)
    local process = cli.start { "work", place, "--deadline", "1h",
                                job 'note "x" os.execute "sleep 600"' }
    wait_for "log"
    signal(process)
    helper.sh "sleep 0.1"
    signal(process)
    assert.equal(1, process:wait())
    assert.matches("worker 1 ended, signal 9", process:output())
    assert.equal(1, q:length().leased)
  end)

  it("shows one status line on a terminal", function()
    push(2)
    local path = job 'os.execute "sleep 0.3"'
    local shown = helper.sh(("script -qec %s /dev/null"):format(cli.quote(
      ("%s bin/respool work %s %s --until-empty"):format(
        helper.lua(), place, path))))
    assert.matches("q: 1 worker, 0 done, [^\n]*0 died; 0 ready", shown)
    assert.matches("q: 2 done", shown)
  end)

  it("says what is wrong with a script", function()
    helper.write(dir .. "/bad.lua", "return { queue = ")
    helper.write(dir .. "/odd.lua", "return { queue = 'q', handel = print }")
    helper.write(dir .. "/o.lua",
      "return { queue = 'q', handle = print, options = { leese = 1 } }")
    helper.write(dir .. "/dot.lua",
                 "return { queue = '.notes', handle = print }")
    for name, text in pairs {
      ["none.lua"] = "cannot open", ["bad.lua"] = "bad.lua:1: unexpected",
      ["odd.lua"] = "odd.lua: unknown option 'handel'",
      ["o.lua"] = "/o.lua: unknown option 'leese'",
      ["dot.lua"] = "dot.lua: queue '.notes' begins with a dot",
    } do
      local run = cli.run { "work", place, dir .. "/" .. name }
      assert.equal(2, run.status)
      assert.matches("^respool: [^\n]+\n$", run.err)
      assert.truthy(run.err:find(text, 1, true), run.err)
      assert.is_nil(run.err:find("bin/respool", 1, true))
    end
  end)

  it("says it, too, when only the workers find out", function()
    helper.write(dir .. "/rate.lua", [[return { queue = 'q', handle = print,
      replay = { interval = 1, rate = 'x' } }]])
    local run = cli.run { "work", place, dir .. "/rate.lua" }
    assert.equal(1, run.status)
    assert.is_nil(run.err:find("bin/respool", 1, true))
    assert.matches("/rate.lua: option 'rate' must be a number of dead letters",
                   run.err)
  end)

  it("does not make a store", function()
    local run = cli.run { "work", dir .. "/none", job "" }
    assert.equal(1, run.status)
    assert.equal(("respool: there is no store in '%s/none'\n"):format(dir),
                 run.err)
  end)
end)
