-- SPDX-License-Identifier: MIT
--
-- respool replay.

local cjson = require "cjson"
local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local respool = require "respool"

local dir, place, store, q

before_each(function()
  dir = helper.dir()
  place = dir .. "/store"
  store = assert(helper.open(place))
  q = assert(store:queue("q", { max_attempts = 1 }))
end)

-- Dead letters whose payloads are { n = 1 } .. { n = n }, in groups by `of`.
local function dead_letters(n, of)
  local list = {}
  for i = 1, n do list[i] = { n = i } end
  assert(q:push_many(list))
  q:work(function(p)
    return respool.dead { group = of and of(p.n) or "odd", error = "boom" }
  end, { stop_when_empty = true })
end

local function parity(n)
  return n % 2 == 1 and "odd" or "even"
end

-- What is in the queue, as a list of n in order.
local function queued(queue)
  local list = {}
  for item in (queue or q):each() do list[#list + 1] = item.payload.n end
  table.sort(list)
  return list
end

local function replay(words)
  words =
    { "replay", place, (table.unpack or unpack)(words) } -- luacheck: ignore
  return cli.run(words)
end

local MEND = [[return { queue = "q", replay = {
  transform = function(p) p.mended = true return p end } }]]

local function script(code)
  helper.write(dir .. "/mend.lua", code)
  return dir .. "/mend.lua"
end

-- A script that kills its process at the fifth dead letter, once.
local function dying()
  return script(([[return { queue = "q", replay = { transform = function(p)
    local file = %q
    if p.n == 5 and not io.open(file) then
      io.open(file, "w"):close()
      os.execute "kill -9 $PPID"
    end
    return p
  end } }]]):format(dir .. "/killed"))
end

describe("respool replay", function()
  it("moves the dead letters of a DLQ back to their queue", function()
    dead_letters(3)
    local run = replay { "q" }
    assert.same({ status = 0, out = "3 dead letters moved\n", err = "" }, run)
    assert.same({ 1, 2, 3 }, queued())
  end)

  it("filters by expression, group and limit", function()
    dead_letters(20, parity)
    local run = replay { "q", "--where", "payload.n > 5 and deliveries == 1",
                         "--group", "odd", "--limit", "3" }
    assert.equal("3 dead letters moved, 3 skipped\n", run.out)
    assert.same({ 7, 9, 11 }, queued())
  end)

  it("filters by when dead letters died", function()
    dead_letters(2)
    assert.equal("0 dead letters moved, 2 skipped\n",
                 replay { "q", "--until", "1h ago" }.out)
    assert.equal("0 dead letters moved, 2 skipped\n",
                 replay { "q", "--since", "2100-01-01T00:00:00Z" }.out)
    assert.equal("2 dead letters moved\n", replay { "q", "--since", "1h" }.out)
  end)

  it("moves to another queue, which must be there", function()
    dead_letters(2)
    local run = replay { "q", "--to", "r" }
    assert.equal(1, run.status)
    assert.matches("there is no queue 'r'", run.err)
    local r = assert(store:queue "r")
    assert.equal(0, replay { "q", "--to", "r" }.status)
    assert.same({ 1, 2 }, queued(r))
  end)

  it("uses filter and transform of a script besides its own", function()
    dead_letters(4)
    local path = script [[return { queue = "q", replay = {
      where = function(dead) return dead.payload.n > 1 end,
      transform = function(p) p.n = p.n * 10 return p end } }]]
    assert.equal(0, replay { "q", path, "--where", "payload.n < 4" }.status)
    assert.same({ 20, 30 }, queued())
  end)

  it("keeps to a rate", function()
    dead_letters(4)
    local before = os.time()
    assert.equal(0, replay { "q", "--rate", "1" }.status)
    assert.is_true(os.time() - before >= 2)
  end)

  it("shows in a dry run what it would do, and does nothing", function()
    dead_letters(5, parity)
    local run = replay { "q", script(MEND), "--dry-run" }
    assert.equal(0, run.status)
    assert.matches("^dry run: 5 of 5 dead letters would be moved\n", run.out)
    assert.matches("\nGROUP  DEAD\nodd       3\neven      2\n",
                   run.out)
    assert.matches('\ndead letter 1, odd, before:\n  {\n    "n": 1\n  }\n'
      .. 'after:\n  {\n    "mended": true,\n    "n": 1\n  }\n', run.out)
    assert.equal(5, q.dead:count())
    assert.is_nil(q.dead:get(1).payload.mended)
    assert.equal(0, q:length().total)
  end)

  it("gives programs its counts as JSON", function()
    dead_letters(3, parity)
    local run = replay { "q", "--dry-run", "--json", "--where", "group=='odd'" }
    local counts = cjson.decode(run.out)
    assert.same({ 2, 1, 2 }, { counts.moved, counts.skipped,
                               counts.by_group.odd })
    assert.equal(3, counts.samples[2].before.n)
  end)

  it("tells dead letters that its filter fails for, and fails", function()
    dead_letters(2)
    local run = replay { "q", "--where", "payload.n == 1 or payload.x.y" }
    assert.equal(1, run.status)
    assert.matches("respool: dead letter 2: %-%-where:1: attempt to index",
      run.err)
    assert.same({ 1 }, queued())
  end)

  it("says how many dead letters somebody else took meanwhile", function()
    dead_letters(300)
    local process = cli.start { "replay", place, "q", "--rate", "150" }
    repeat until q:length().ready > 0
    local removed = q.dead:purge()
    assert.equal(0, process:wait())
    assert.equal(300 - removed, #queued())
    local moved, gone =
      process:output():match "^(%d+) dead letters moved,? ?(%d*)"
    assert.equal(300 - removed, tonumber(moved))
    assert.is_true((tonumber(gone) or 0) <= removed)
  end)

  it("tells what is wrong with its script, not with itself", function()
    dead_letters(1)
    local run = replay { "q", script "return { replay = { rate = 'x' } }" }
    assert.equal(2, run.status)
    assert.matches("^respool: [^\n]*/mend.lua: option 'rate' must be [^\n]*\n$",
                   run.err)
    run = replay { "q", script "return { replay = { where = 5 } }" }
    assert.equal(2, run.status)
    assert.matches("/mend.lua: option 'where' must be a function", run.err)
    run = replay { "q", script [[return { replay = {
      transform = function() return { print } end } }]] }
    assert.equal("respool: dead letter 1: cannot encode function at [1]\n",
      run.err)
  end)

  it("filters payloads that are bytes, if told so", function()
    local raw = assert(store:queue("raw", { codec = "raw" }))
    assert(raw:push_many { "keep this", "a" })
    raw:work(function() return respool.dead() end, { stop_when_empty = true })
    local run = replay { "raw", "--raw", "--where", "payload:find 'keep'" }
    assert.equal("1 dead letter moved, 1 skipped\n", run.out)
    assert.equal("keep this", raw:peek()[1].payload)
  end)

  it("refuses expressions that are wrong or reach out", function()
    dead_letters(1)
    for expression, problem in pairs {
      ["gruop == 1"] = "there is no field 'gruop'",
      ["os.exit()"] = "there is no field 'os'",
      ["_G"] = "there is no field '_G'",
      ["payload ="] = "expected", ["a = 1"] = "expected",
    } do
      local run = replay { "q", "--where", expression }
      assert.equal(2, run.status)
      assert.matches("^respool: %-%-where:[^\n]+\n$", run.err)
      assert.truthy(run.err:find(problem, 1, true), run.err)
    end
    assert.equal(1, q.dead:count())
  end)

  it("suggests the DLQ that was meant", function()
    assert(store:queue "orders")
    local run = replay { "odrers" }
    assert.equal(1, run.status)
    assert.matches("no DLQ 'odrers' in '[^']+'; did you mean 'orders'%?",
                   run.err)
  end)
end)

describe("respool replay --name", function()
  local function state(name)
    local run = cli.run { "replay", "show", place, name, "--json" }
    return run.status == 0 and cjson.decode(run.out) or nil
  end

  -- Waits until the replay has moved something.
  local function wait_moved(name)
    for _ = 1, 6000 do
      local found = store:replay(name)
      if found and found.moved > 0 then return end
      helper.pause(0.01)
    end
    error "it moves nothing"
  end

  it("moves each dead letter once, killed at any time and resumed", function()
    dead_letters(600)
    local words = { "replay", place, "q", script(MEND), "--name", "j",
                    "--where", "payload.n ~= 7", "--rate", "20" }
    local process = cli.start(words)
    wait_moved "j"
    assert.equal(137, process:kill())
    assert.equal("interrupted", state("j").state)
    words[#words] = "1500"
    for i = 1, 3 do
      process = cli.start(words)
      words = { "replay", "resume", place, "j" }
      helper.pause((5 + (helper.seed + i * 7) % 20) / 100)
      process:kill()
    end
    local left = q.dead:count()
    local run = cli.run { "replay", "resume", place, "j" }
    if left > 1 then assert.equal(0, run.status) end
    assert.equal("finished", state("j").state)
    assert.equal(1, q.dead:count())
    assert.equal(599, #queued())
    assert.equal(599, assert(store:replay "j").moved)
    assert.equal(7, q.dead:oldest().payload.n)
  end)

  it("stops at SIGINT and says how to go on", function()
    dead_letters(50)
    local process = cli.start { "replay", place, "q", "--name", "j",
                                "--rate", "5" }
    wait_moved "j"
    helper.sh("kill -INT " .. process.pid)
    assert.equal(130, process:wait())
    assert.matches("stopped; `respool replay resume %S+ j` goes on",
                   process:output())
    assert.equal("stopped", state("j").state)
  end)

  it("keeps to its limit when it is resumed", function()
    dead_letters(30)
    local process = cli.start { "replay", place, "q", dying(), "--name", "j",
                                "--rate", "20", "--limit", "7" }
    assert.equal(137, process:wait())
    assert.is_true(store:replay "j".moved < 7)
    local resumed = cli.run { "replay", "resume", place, "j" }
    assert.equal(0, resumed.status)
    assert.equal("7 dead letters moved\n", resumed.out)
    assert.equal(7, #queued())
  end)

  it("refuses to run a named replay twice at the same time", function()
    dead_letters(50)
    local process = cli.start { "replay", place, "q", "--name", "j",
                                "--rate", "2" }
    wait_moved "j"
    local run = cli.run { "replay", "resume", place, "j" }
    assert.equal(1, run.status)
    assert.matches("named replay 'j' is run by process " .. process.pid,
                   run.err)
  end)

  it("is stopped by cancel, and can be resumed", function()
    dead_letters(20)
    local process = cli.start { "replay", place, "q", "--name", "j",
                                "--rate", "1" }
    wait_moved "j"
    local run = cli.run { "replay", "cancel", place, "j" }
    assert.equal(0, run.status)
    assert.equal(1, process:wait())
    assert.matches("named replay 'j' was cancelled", process:output())
    assert.equal("cancelled", state("j").state)
    assert.matches("`respool replay resume` goes on with it", run.out, 1, true)
    local left = q.dead:count()
    assert.is_true(left > 0)
    cli.assert_refused(cli.run { "replay", "cancel", place, "j" }, 1,
                       "named replay 'j' is not running")
    assert.equal(0, replay { "q", "--name", "j" }.status)
    assert.equal(20, #queued())
  end)

  it("of a program is stopped by cancel, and told apart", function()
    dead_letters(3)
    local run
    local counts = q.dead:replay { name = "p", where = function()
      run = run or cli.run { "replay", "cancel", place, "p" }
      return true
    end }
    assert.equal("cancelled", counts.state)
    assert.equal("named replay 'p' is cancelled; the program that began it "
      .. "goes on with it\n", run.out)
  end)

  it("is removed by forget, unless it is running", function()
    dead_letters(20)
    local process = cli.start { "replay", place, "q", "--name", "j",
                                "--rate", "1" }
    wait_moved "j"
    cli.assert_refused(cli.run { "replay", "forget", place, "j" }, 1,
                       "named replay 'j' is run by process " .. process.pid)
    process:kill()
    assert.equal("named replay 'j' is forgotten; dead letters that it has not "
      .. "moved stay\n", cli.run { "replay", "forget", place, "j" }.out)
    assert.same({}, store:replays())
    assert.is_true(q.dead:count() > 0)
    assert.equal(1, cli.run { "replay", "forget", place, "j" }.status)
  end)

  it("is told apart from one that asks for something else", function()
    dead_letters(5)
    replay { "q", "--name", "j", "--limit", "2" }
    local run = replay { "q", "--name", "j", "--group", "x" }
    assert.equal(1, run.status)
    assert.matches("named replay 'j' is not finished and has other options",
                   run.err)
  end)

  -- A named replay that was killed is begun again with the very same words.
  it("keeps to its limit in all its runs", function()
    dead_letters(30)
    local words = { "replay", place, "q", dying(), "--name", "j", "--limit",
                    "7" }
    assert.equal(137, cli.start(words):wait())
    assert.is_true(store:replay "j".moved < 7)
    assert.equal("7 dead letters moved\n", cli.run(words).out)
    local run = cli.run(words)
    assert.equal(1, run.status)
    assert.matches("^respool: named replay 'j' has moved 7 dead letters, "
      .. "its limit", run.err)
    assert.equal(7, #queued())
  end)

  it("goes on with a higher limit, or with none", function()
    dead_letters(9)
    replay { "q", "--name", "j", "--limit", "2" }
    assert.equal("5 dead letters moved\n",
                 replay { "q", "--name", "j", "--limit", "5" }.out)
    assert.equal(1, cli.run { "replay", "resume", place, "j" }.status)
    assert.equal("9 dead letters moved\n", replay { "q", "--name", "j" }.out)
  end)

  it("keeps to the limit of its script in all its runs", function()
    dead_letters(5)
    local path = script "return { replay = { limit = 2 } }"
    assert.equal(0, replay { "q", path, "--name", "j" }.status)
    local run = replay { "q", path, "--name", "j" }
    assert.matches("has moved 2 dead letters", run.err)
    run = replay { "q", path, "--name", "j", "--limit", "4", "--dry-run" }
    assert.matches("^dry run: 2 of 2 dead letters would be moved\n", run.out)
    assert.equal(2, #queued())
  end)

  it("is listed with what it has done", function()
    dead_letters(3)
    replay { "q", "--name", "j", "--where", "payload.n < 3" }
    local run = cli.run { "replay", "list", place }
    assert.matches("^NAME%s+FROM%s+TO%s+STATE", run.out)
    assert.matches("\nj%s+q%s+%-%s+finished%s+3%s+2%s+1%s+0%s", run.out)
    run = cli.run { "replay", "show", place, "j" }
    assert.matches("\nwhere +payload.n < 3\n", run.out)
    assert.equal("[]\n", cli.run { "replay", "list", "--json",
      (function()
        local empty = helper.location()
        assert(helper.open(empty))
        return empty
      end)() }.out)
  end)

  it("shows how far a replay of a history has come", function()
    local kept = assert(store:queue("kept", { keep_done = 3600 }))
    kept:push_many { 1, 2 }
    assert(kept:work(function() end, { stop_when_empty = true }))
    assert(kept.history:replay { name = "again", to = q, limit = 1 })
    local run = cli.run { "replay", "show", place, "again" }
    assert.matches("\nfrom +history of kept\nto +q\nstate +stopped\n", run.out)
    assert.matches("\nplace +item 1, done %d%d%d%d%-", run.out)
    assert.matches("is forgotten; the finished items stay\n",
                   cli.run { "replay", "forget", place, "again" }.out)
  end)

  it("says that there is no such replay", function()
    for _, verb in ipairs { "show", "cancel", "resume", "forget" } do
      local run = cli.run { "replay", verb, place, "none" }
      assert.equal(1, run.status)
      assert.matches("^respool: [^\n]+\n$", run.err)
    end
  end)
end)
