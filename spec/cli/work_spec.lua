-- SPDX-License-Identifier: MIT
--
-- respool work.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local json = require "respool.support.json"
local respool = require "respool"
local terminal = require "spec.helper.terminal"

local dir, place, store, q

before_each(function()
  dir = helper.dir()
  place = dir .. "/store"
  store = assert(helper.open(place))
  q = assert(store:queue("q", { max_attempts = 1 }))
end)

-- A worker script whose handler is this code; note() says that it was called.
local function script(code)
  helper.write(dir .. "/worker.lua", ([[
    local function note(word)
      local file = assert(io.open(%q .. "/log", "a"))
      file:write(word, "\n")
      file:close()
    end
    return { queue = "q", handle = function(payload, item)
      %s
    end }
  ]]):format(dir, code))
  return dir .. "/worker.lua"
end

local function push(n)
  local list = {}
  for i = 1, n do list[i] = { n = i } end
  assert(q:push_many(list))
end

local function wait_for(file)
  helper.sh(("cd %s; for i in $(seq 6000); do [ -e %s ] && break; sleep 0.01"
    .. "; done"):format(dir, file))
end

local function signal(process)
  helper.sh("kill -INT " .. process.pid)
end

describe("respool work", function()
  it("works until nothing is left, and says what it did", function()
    push(50)
    local run = cli.run { "work", place, script "note(payload.n)",
                          "--until-empty", "--workers", "3" }
    assert.equal(0, run.status)
    assert.equal("", run.out)
    assert.matches("^q: 50 done, 0 retried, 0 died, in %S+\n$", run.err)
    assert.equal("50", helper.sh("sort -u " .. dir .. "/log | wc -l"))
    assert.equal(0, q:length().total)
  end)

  it("fails when an item died", function()
    push(2)
    local path = script "if payload.n == 1 then error() end"
    local run = cli.run { "work", place, path, "--until-empty" }
    assert.equal(1, run.status)
    assert.matches("q: 1 done, 0 retried, 1 died", run.err)
    assert.equal(1, q.dead:count())
  end)

  it("writes a line for each failure, and the dead letters by group", function()
    assert(store:queue("q", {
      max_attempts = 2, retry = respool.backoff.constant { delay = 0.01 },
    }))
    push(2)
    local path = script [[
      if payload.n == 1 then error({ message = "no\27", group = "smtp" }) end
      error("odd", 0)
    ]]
    local run = cli.run { "work", place, path, "--until-empty" }
    assert.equal(1, run.status)
    for _, line in ipairs {
      "respool: q: item 1 failed, attempt 1 [smtp]: no\\x1b\n",
      "respool: q: item 1 failed, attempt 2 [smtp]: no\\x1b\n",
      "respool: q: item 2 failed, attempt 2: odd\n",
      "\n  1 died: smtp\n", "\n  1 died: odd\n",
      "\n  see: respool dead groups " .. place .. " q\n",
    } do
      assert.truthy(run.err:find(line, 1, true), run.err)
    end
    assert.is_nil(run.err:find "stack traceback")
  end)

  it("writes tracebacks if asked, or nothing", function()
    push(1)
    local path = script "error 'x'"
    local run = cli.run { "work", place, path, "--until-empty", "-v" }
    assert.matches("attempt 1: [^\n]+worker.lua:7: x\n    stack traceback:\n",
                   run.err)
    push(1)
    run = cli.run { "work", place, path, "--until-empty", "-q" }
    assert.same({ status = 1, out = "", err = "" }, run)
  end)

  it("writes JSON for programs", function()
    push(1)
    q:push({}, { delay = 3600 })
    local run = cli.run { "work", place, script "error('x', 0)",
                          "--until-empty", "--log", "json" }
    local lines = {}
    for line in run.err:gmatch "[^\n]+" do
      lines[#lines + 1] = json.decode(line)
    end
    assert.equal(2, #lines)
    local failed, ended = lines[1], lines[2]
    assert.same({ "a handler failed", "q", 1, 1, "x" },
      { failed.message, failed.queue, failed.id, failed.attempt, failed.error })
    assert.is_nil(failed.trace)
    assert.same({ 0, 1, 1, { x = 1 } },
                { ended.done, ended.died, ended.scheduled, ended.groups })
  end)

  it("says how many lines it left out", function()
    push(50)
    local run = cli.run { "work", place, script "error('x', 0)",
                          "--until-empty" }
    assert.is_true(select(2, run.err:gsub(" failed, attempt", "")) < 50)
    local left_out = 0
    for n in run.err:gmatch "respool: (%d+) more lines not shown\n" do
      left_out = left_out + tonumber(n)
    end
    assert.equal(50, left_out + select(2, run.err:gsub(" failed, attempt", "")))
  end)

  it("says how many items are scheduled for later", function()
    push(1)
    q:push({}, { delay = 3600 })
    local run = cli.run { "work", place, script "", "--until-empty" }
    assert.matches("^q: 1 done, 0 retried, 0 died, in %S+; 1 scheduled\n$",
                   run.err)
  end)

  it("lets a script require what lies beside it", function()
    push(1)
    helper.write(dir .. "/neighbour.lua", "return function() end")
    local path = script ""
    helper.write(path, [[local near = require "neighbour"
      return { queue = "q", handle = function() near() end }]])
    assert.equal(0, cli.run { "work", place, path, "--until-empty" }.status)
    helper.write(path, "require 'no.such'")
    local run = cli.run { "work", place, path, "--until-empty" }
    assert.same({ 2, ("respool: %s:1: module 'no.such' not found\n"):format(
      path) }, { run.status, run.err })
  end)

  it("replaces a worker that died, and fails", function()
    push(1)
    local path = script [[
      if item.crashes == 0 then note "a" os.execute "kill -9 $PPID" end
      note "b"
    ]]
    assert(store:queue("q", { lease = 2 }))
    local process = cli.start { "work", place, path }
    process:expect "respool: worker 1 ended, signal 9"
    helper.sh(("until grep -q b %s/log; do sleep 0.01; done"):format(dir))
    signal(process)
    assert.equal(1, process:wait())
    assert.matches("q: 1 done", process:output())
  end)

  it("stops at SIGINT when the item in hand is done", function()
    push(3)
    local process = cli.start { "work", place, script [[
      local process = require "respool.core".process
      local before = process.signals()
      note "x"
      while process.signals() == before do process.nap(0.01) end
    ]] }
    wait_for "log"
    signal(process)
    assert.equal(0, process:wait())
    assert.matches("q: 1 done, 0 retried, 0 died", process:output())
    assert.equal(2, q:length().ready)
  end)

  it("stops at once at the second SIGINT", function()
    push(1)
    local process = cli.start { "work", place, "--deadline", "1h",
                                script 'note "x" os.execute "sleep 600"' }
    wait_for "log"
    while not io.open(process.dir .. "/status") do -- two may count as one
      signal(process)
      helper.pause(0.1)
    end
    assert.equal(1, process:wait())
    assert.matches("worker 1 ended, signal 9", process:output())
    assert.equal(1, q:length().leased)
  end)

  it("shows one status line on a terminal", function()
    push(1)
    local path = script(('os.execute "until [ -e %s/go ]; do sleep 0.01; done"')
      :format(dir))
    local session = terminal.session({ "work", place, path, "--until-empty" }, {
      { "expect", "0 died; 0 ready" }, { "touch", dir .. "/go" }, { "end" },
    })
    assert.matches("q: 1 worker, 0 done, [^\n]*0 died; 0 ready", session.out)
    assert.matches("q: 1 done", session.out)
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
    assert.matches("/rate.lua: option 'rate' must be a number a second",
                   run.err)
  end)

  it("does not make a store", function()
    local run = cli.run { "work", dir .. "/none", script "" }
    assert.equal(1, run.status)
    assert.equal(("respool: there is no store in '%s/none'\n"):format(dir),
                 run.err)
  end)
end)
