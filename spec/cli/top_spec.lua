-- SPDX-License-Identifier: MIT
--
-- respool top, in a terminal and out of one, and what its screen is made of.

local cli = require "spec.helper.cli"
local chart = require "respool.cli.look.chart"
local dashboard = require "respool.cli.look.dashboard"
local helper = require "spec.helper"
local output = require "respool.cli.base.output"
local terminal = require "spec.helper.terminal"

-- A store with two queues, closed; its path.
local function filled()
  local path = helper.location()
  local store = assert(helper.open(path))
  local mails = store:queue("mails", { max_attempts = 1 })
  mails:push_many { 1, 2, 3 }
  local batch = mails:take()
  batch:retry { error = "no", group = "refused" }
  batch:settle()
  store:queue("orders"):push_many { 1, 2, 3, 4, 5 }
  store:close()
  return path
end

local function session(words, steps)
  local all = { "top", (table.unpack or unpack)(words) }
  all.env = words.env
  return terminal.session(all, steps)
end

-- The first row of queues, under the cursor.
local FIRST = "\27[6;1H\27[7m"

local ENTER, LEAVE = "\27[?1049h", "\27[?1049l"

-- Whether the screen that was there before is back, and the terminal's modes.
local function given_back(result)
  local _, entered = result.out:gsub("\27%[%?1049h", "")
  local _, left = result.out:gsub("\27%[%?1049l", "")
  return result.same and entered == left and entered > 0
    and result.out:find("\27[?25h", 1, true) ~= nil
end

describe("respool top in a terminal", function()
  it("shows queues and dead letters by group, and ends with q", function()
    local result = session({ filled() }, {
      { "expect", ENTER }, { "expect", "mails" }, { "expect", "orders" },
      { "expect", "refused" }, { "send", "q" }, { "end" },
    })
    assert.equal(0, result.status)
    assert.is_true(given_back(result))
  end)

  it("ends with Ctrl-C", function()
    local result = session({ filled() }, {
      { "expect", "orders" }, { "send", "\3" }, { "end" },
    })
    assert.equal(0, result.status)
    assert.is_true(given_back(result))
  end)

  it("sorts by the key that is pressed, and the other way round", function()
    local result = session({ filled() }, {
      { "expect", "sorted by name" },
      { "send", "r" }, { "expect", FIRST .. "orders" },
      { "expect", "\27[7;1Hmails" }, { "expect", "sorted by ready" },
      { "send", "r" }, { "expect", FIRST .. "mails" },
      { "expect", "reversed" }, { "send", "q" }, { "end" },
    })
    assert.equal(0, result.status)
  end)

  it("begins with the order that --sort says", function()
    session({ filled(), "--sort", "ready" }, {
      { "expect", FIRST .. "orders" }, { "expect", "sorted by ready" },
      { "send", "q" }, { "end" },
    })
  end)

  it("draws anew when the window has another size", function()
    local result = session({ filled(), "--interval", "60s" }, {
      { "expect", "\27[20;1Hq quit" },
      { "resize", 60, 12 }, { "expect", "\27[2J" },
      { "expect", "\27[12;1Hq quit" }, { "send", "q" }, { "end" },
    })
    assert.equal(0, result.status)
  end)

  it("shows its keys on h, and goes back", function()
    session({ filled() }, {
      { "expect", "q quit" }, { "send", "h" },
      { "expect", "refresh less often" }, { "send", "\27" },
      { "expect", "orders" }, { "send", "q" }, { "end" },
    })
  end)

  it("shows what changes, line by line", function()
    local path = filled()
    local store = assert(helper.open(path))
    local result = session({ path, "--interval", "100ms" }, {
      { "expect", "orders" }, { "send", " " }, { "expect", "STANDING STILL" },
      { "send", " " }, { "expect", "q quit" }, { "send", "q" }, { "end" },
    })
    store:close()
    local _, wiped = result.out:gsub("\27%[2J", "")
    assert.is_true(wiped <= 2, "the screen is wiped only at first")
  end)

  it("takes no heed of what the terminal itself says", function()
    local result = session({ filled(), "--interval", "60s" }, {
      { "expect", "q quit" }, { "send", "\27[<0;3;3M\27[?1;2c\27[Ih" },
      { "expect", "refresh less often" }, { "send", "qq" }, { "end" },
    })
    assert.equal(0, result.status)
  end)

  it("gives the terminal back on a signal, and dies of it", function()
    for _, number in ipairs { 15, 1, 2, 11 } do
      local result = session({ filled() }, {
        { "expect", "orders" }, { "kill", number }, { "end" },
      })
      assert.equal(-number, result.status)
      assert.is_true(given_back(result))
    end
  end)

  it("does not give it back when it is killed: the specs would see",
     function()
    local result = session({ filled() }, {
      { "expect", "orders" }, { "kill", 9 }, { "end" },
    })
    assert.is_false(given_back(result))
    assert.is_nil(result.out:find(LEAVE, 1, true))
  end)

  it("stops on Ctrl-Z with the terminal given back, and goes on", function()
    local result = session({ filled() }, {
      { "expect", "orders" }, { "send", "\26" }, { "expect", LEAVE },
      { "stopped" },
      { "kill", 18 }, { "expect", ENTER }, { "expect", "orders" },
      { "send", "q" }, { "end" },
    })
    assert.equal(0, result.status)
    assert.is_true(given_back(result))
  end)

  -- The terminal was left to the shell with its keys unseen and its screen
  -- another.
  it("does so when others stop it, whatever is asked", function()
    local result = session({ filled(), "--writable" }, {
      { "expect", "orders" }, { "send", "P" }, { "expect", "y/n" },
      { "kill", 20 }, { "expect", LEAVE }, { "stopped" },
      { "kill", 18 }, { "expect", ENTER }, { "expect", "orders" },
      { "send", "q" }, { "send", "q" }, { "end" },
    })
    assert.equal(0, result.status)
    assert.is_true(given_back(result))
  end)

  it("draws anew after a stop that nobody can catch", function()
    local result = session({ filled(), "--interval", "60s" }, {
      { "expect", "q quit" }, { "kill", 19 }, { "stopped" },
      { "kill", 18 }, { "expect", "\27[2J" }, { "expect", "orders" },
      { "send", "q" }, { "end" },
    })
    assert.equal(0, result.status)
  end)

  -- A read of 64 bytes ended after an escape, which ended the view.
  it("goes on while an arrow is held", function()
    local result = session({ filled(), "--interval", "60s" }, {
      { "expect", "q quit" }, { "send", ("\27[B"):rep(40) },
      { "expect", "\27[7;1H\27[7morders" }, { "send", "h" },
      { "expect", "refresh less often" }, { "send", "qq" }, { "end" },
    })
    assert.equal(0, result.status)
  end)

  it("changes nothing in the store", function()
    local path = filled()
    local before = helper.read(path .. "/data.mdb")
    session({ path, "--interval", "100ms" }, {
      { "expect", "orders" }, { "send", "rdo" }, { "expect", "oldest" },
      { "send", "q" }, { "end" },
    })
    assert.is_true(before == helper.read(path .. "/data.mdb"))
  end)
end)

describe("The tabs of respool top", function()
  local DOWN, TAB, ENTER_KEY = "\27[B", "\9", "\13"

  -- A store with something on each tab; its path.
  local function busy()
    local path = helper.location()
    local store = assert(helper.open(path))
    local mails = store:queue("mails", { max_attempts = 2 })
    mails:push({ to = "later" }, { delay = 3600 })
    mails:push { to = "again" }
    mails:push { to = "never" }
    local batch = mails:take { limit = 2 }
    batch:item(1):retry { delay = 3600, error = "busy line" }
    batch:item(2):dead { error = "no such box", group = "refused" }
    batch:settle()
    mails:push { to = "now" }
    store:close()
    return path
  end

  local function watch(words, steps)
    table.insert(steps, { "send", "q" })
    table.insert(steps, { "end" })
    local result = session(words, steps)
    assert.equal(0, result.status)
    assert.is_true(given_back(result))
    return result
  end

  it("are eight, by number, Tab and arrows", function()
    watch({ busy(), "--interval", "60s" }, {
      { "expect", "[1 queues]" },
      { "send", TAB }, { "expect", "[2 at work]" }, { "expect", "nothing" },
      { "send", "\27[C" }, { "expect", "[3 scheduled]" },
      { "expect", "later" },
      { "send", "4" }, { "expect", "[4 retrying]" }, { "expect", "again" },
      { "send", "5" }, { "expect", "[5 dead]" }, { "expect", "refused" },
      { "send", "6" }, { "expect", "[6 schedules]" }, { "expect", "nothing" },
      { "send", "7" }, { "expect", "[7 replays]" },
      { "send", "8" }, { "expect", "[8 store]" }, { "expect", "in use" },
      { "send", TAB }, { "expect", "[1 queues]" },
      { "send", "\27[D" }, { "expect", "[8 store]" },
    })
  end)

  it("lead into queues, items and dead letters, and back", function()
    watch({ busy(), "--interval", "60s" }, {
      { "expect", "[1 queues]" },
      { "send", ENTER_KEY }, { "expect", "queues > mails" },
      { "expect", "later" },
      { "send", "\27[F" }, { "expect", "\27[7m" },
      { "send", ENTER_KEY }, { "expect", "queues > mails > item" },
      { "expect", "payload" },
      { "send", "\27" }, { "expect", "ITEM" },
      { "send", "\27" }, { "expect", "[1 queues]" },
      { "send", "5" }, { "expect", "refused" },
      { "send", ENTER_KEY }, { "expect", "dead > refused" },
      { "expect", "no such box" },
      { "send", ENTER_KEY }, { "expect", "dead > refused > dead letter 1" },
      { "expect", "failures" },
    })
  end)

  -- A page of large ones was taken for the last.
  it("show all items and dead letters, however large", function()
    local path = helper.location()
    local store = assert(helper.open(path))
    local mails = store:queue("mails", { max_attempts = 1 })
    local large = ("x"):rep(5 * 2^20)
    mails:push_many { "small", large, large }
    mails:work(function() error("no", 0) end, { stop_when_empty = true })
    mails:push_many { large, large, "little" }
    store:close()
    watch({ path, "--interval", "60s" }, {
      { "expect", "[1 queues]" }, { "send", ENTER_KEY },
      { "expect", "queues > mails" }, { "expect", "little" },
      { "send", "5" }, { "expect", "[5 dead]" },
      { "send", ENTER_KEY }, { "expect", "dead > " }, { "expect", "small" },
    })
  end)

  it("move a cursor that stays where it is when it can go no further",
     function()
    watch({ busy(), "--interval", "60s" }, {
      { "expect", "[1 queues]" }, { "send", DOWN .. "\27[A" .. ENTER_KEY },
      { "expect", "queues > mails" }, { "expect", "\27[4;1H\27[7m" },
      { "send", DOWN }, { "expect", "\27[5;1H\27[7m" },
      { "send", "\27[6~" }, { "expect", "\27[6;1H\27[7m" },
      { "send", "\27[H" }, { "expect", "\27[4;1H\27[7m" },
    })
  end)

  it("show what a filter lets pass", function()
    watch({ filled(), "--interval", "60s" }, {
      { "expect", "orders" }, { "send", "/ORd" },
      { "expect", "only rows with: ORd_" }, { "send", ENTER_KEY },
      { "expect", "only ord" }, { "expect", FIRST .. "orders" },
      { "send", "\27" }, { "expect", "\27[6;1Hmails" },
      { "expect", "\27[7;1H\27[7morders" },
      { "send", "/zz" .. ENTER_KEY }, { "expect", "none passes the filter" },
      { "send", "/x\127\27" }, { "expect", "mails" },
    })
  end)

  -- It ended with an error of its own.
  it("lead nowhere from a list without a queue", function()
    local path = helper.location()
    assert(helper.open(path)):close()
    watch({ path, "--interval", "60s" }, {
      { "expect", "no queues" }, { "send", "pvc" .. ENTER_KEY .. "h" },
      { "expect", "refresh less often" }, { "send", "h" },
    })
    watch({ filled(), "--interval", "60s" }, {
      { "expect", "orders" }, { "send", "/zz" .. ENTER_KEY },
      { "expect", "none passes the filter" }, { "send", "vpch" },
      { "expect", "refresh less often" }, { "send", "h" },
    })
  end)

  it("act on nothing unless they may", function()
    local path = busy()
    watch({ path, "--interval", "60s" }, {
      { "expect", "[1 queues]" }, { "send", "P" },
      { "expect", "with --writable it acts" },
    })
    local store = assert(helper.open(path))
    assert.is_false(store:queue("mails"):stats().paused)
  end)

  -- A text that was pasted answered its own question.
  it("act on no answer that was typed before the question", function()
    local path = busy()
    watch({ path, "--interval", "60s", "--writable" }, {
      { "expect", "[1 queues]" }, { "send", "Py" }, { "expect", "y/n" },
      { "send", "n" }, { "expect", "q quit" },
    })
    local store = assert(helper.open(path))
    assert.is_false(store:queue("mails"):stats().paused)
  end)

  it("are none of a pasted text, which is text where one is typed", function()
    local path = busy()
    watch({ path, "--interval", "60s", "--writable" }, {
      { "expect", "[1 queues]" },
      { "send", "\27[200~Py\27[201~" }, { "expect", "presses no keys" },
      { "send", "P" }, { "expect", "y/n" },
      { "send", "\27[200~yes\10y" }, { "send", "y\27[201~" },
      { "send", "n" }, { "expect", "q quit" },
      { "send", "/" }, { "send", "\27[200~ma\10il\27[201~" },
      { "expect", "mail_" }, { "send", "\13" }, { "expect", "only mail" },
    })
    local store = assert(helper.open(path))
    assert.is_false(store:queue("mails"):stats().paused)
  end)

  it("act after a question, and not after a no", function()
    local path = busy()
    watch({ path, "--interval", "60s", "--writable" }, {
      { "expect", "[1 queues]" },
      { "send", "P" }, { "expect", "Pause mails" }, { "send", "n" },
      { "expect", "q quit" },
      { "send", "P" }, { "expect", "y/n" }, { "send", "y" },
      { "expect", "mails is paused" },
      { "send", "4" }, { "expect", "R run now" },
      { "send", "R" }, { "expect", "Run now item 2 of mails? y/n" },
      { "send", "y" }, { "expect", "nothing" },
      { "expect", "item 2: run now" },
      { "send", "3" }, { "expect", "later" },
      { "send", "X" }, { "expect", "Cancel and remove item 1" },
      { "send", "y" }, { "expect", "item 1: cancel" },
      { "send", "5" }, { "expect", "refused" },
      { "send", "R" }, { "expect", "Replay up to 1,000 of the 1 dead" },
      { "send", "y" }, { "expect", "1 replayed, 0 failed" },
    })
    local store = assert(helper.open(path))
    local mails = store:queue "mails"
    assert.is_true(mails:stats().paused)
    assert.same({ 3, 0, 0, 0 }, { mails:length().ready,
      mails:length().scheduled, mails:length().retrying,
      mails.dead:count() })
  end)

  it("ask so that the answers are read in a narrow terminal", function()
    watch({ busy(), "--interval", "60s", "--writable" }, {
      { "expect", "[1 queues]" }, { "resize", 40, 20 },
      { "expect", "\27[2J" }, { "send", "5" }, { "expect", "[5 dead]" },
      { "expect", "refused" },
      { "send", "X" }, { "expect", "… y/n" }, { "send", "n" },
      { "expect", "q quit" },
    })
  end)

  it("kill items and remove dead letters", function()
    local path = busy()
    watch({ path, "--interval", "60s", "--writable" }, {
      { "expect", "[1 queues]" }, { "send", "4" }, { "expect", "again" },
      { "send", "K" }, { "expect", "Kill" }, { "send", "y" },
      { "expect", "item 2: kill" },
      { "send", "5" }, { "expect", "killed" },
      { "send", "/killed" .. ENTER_KEY }, { "expect", "only killed" },
      { "send", ENTER_KEY }, { "expect", "dead > killed" },
      { "send", "X" }, { "expect", "Remove dead letter 2 of mails? y/n" },
      { "send", "y" }, { "expect", "dead letter 2: remove" },
      { "send", "\0275" }, { "expect", "refused" },
      { "send", "X" }, { "expect", "Remove all 1 dead letters" },
      { "send", "y" }, { "expect", "1 removed" },
    })
    local store = assert(helper.open(path))
    assert.equal(0, store:dead("mails"):count())
  end)

  it("edit and move items, and purge a queue whose name is typed", function()
    local path = busy()
    local store = assert(helper.open(path))
    store:queue "other"
    local editor = helper.dir() .. "/editor"
    helper.write(editor, [[sed -i 's/"later"/"日本"/' "$1"]])
    local words = { path, "--interval", "60s", "--writable",
                    env = "EDITOR='sh " .. editor .. "'" }
    watch(words, {
      { "expect", "[1 queues]" }, { "send", "3" }, { "expect", "later" },
      { "send", "E" }, { "expect", "Give item 1 of mails the payload" },
      { "send", "y" }, { "expect", "日本" }, { "expect", "item 1: edited" },
      { "send", "E" }, { "expect", "nothing was changed" },
      { "send", "Mother" }, { "expect", "Move item 1 of mails" },
      { "send", "none" .. ENTER_KEY }, { "expect", "queue 'none'" },
      { "send", "M" }, { "expect", "to the queue: _" },
      { "send", "otherx\127" .. ENTER_KEY },
      { "expect", "it is item 1 of other" },
      { "send", "1" }, { "expect", "[1 queues]" },
      { "send", "U" }, { "expect", "Type its name: _" },
      { "send", "mail" .. ENTER_KEY }, { "expect", "nothing is removed" },
      { "send", "U" }, { "expect", "its name: _" },
      { "send", "mails" .. ENTER_KEY }, { "expect", "removed" },
    })
    assert.equal("日本", store:queue("other"):get(1).payload.to)
    assert.equal(0, store:queue("mails"):length().total)
  end)

  it("show policy, charts and partitions of a queue, and change a setting",
     function()
    local path = busy()
    local store = assert(helper.open(path))
    local q = store:queue "mails"
    for _ = 1, 3 do q:push("x", { partition = "tenant-1" }) end
    q:hold(3600, { partition = "tenant-1", reason = "429" })
    watch({ path, "--interval", "60s", "--writable" }, {
      { "expect", "[1 queues]" },
      { "send", "v" }, { "expect", "partitions" }, { "expect", "tenant-1" },
      { "expect", "429" }, { "send", "\27" }, { "expect", "[1 queues]" },
      { "send", "c" }, { "expect", "mails: the last hour" },
      { "expect", "backlog: " }, { "send", "c" },
      { "expect", "mails: the last day" }, { "send", "\27" },
      { "expect", "[1 queues]" },
      { "send", "p" }, { "expect", "max_attempts" },
      { "send", "/max_at" .. ENTER_KEY }, { "expect", "only max_at" },
      { "send", "E" }, { "expect", "max_attempts of mails: " },
      { "send", "x" .. ENTER_KEY }, { "expect", "max_attempts" },
      { "expect", "whole number" },
      { "send", "E" }, { "expect", "max_attempts of mails: " },
      { "send", "\0219" .. ENTER_KEY }, { "expect", "max_attempts is 9" },
    })
    assert.equal(9, store:queue("mails"):config().max_attempts)
  end)

  it("run, pause and remove schedules", function()
    local path = busy()
    local store = assert(helper.open(path))
    store:queue "reports"
    store:schedule("nightly", { cron = "0 3 * * *", queue = "reports",
                                payload = 1 })
    watch({ path, "--interval", "60s", "--writable" }, {
      { "expect", "[1 queues]" }, { "send", "6" }, { "expect", "nightly" },
      { "send", "R" }, { "expect", "Push an item of nightly now? y/n" },
      { "send", "y" }, { "expect", "nightly: item 1 is pushed" },
      { "send", "P" }, { "expect", "Pause nightly" }, { "send", "y" },
      { "expect", "nightly: paused" },
    })
    assert.is_true(store:schedules()[1].paused)
    assert.equal(1, store:queue("reports"):length().ready)
    watch({ path, "--interval", "60s", "--writable" }, {
      { "expect", "[1 queues]" }, { "send", "6" }, { "expect", "nightly" },
      { "send", "X" }, { "expect", "Remove the schedule" }, { "send", "y" },
      { "expect", "nightly: removed" },
    })
    assert.same({}, store:schedules())
  end)

  it("show workers, and ask them to stop", function()
    local path = busy()
    local store = assert(helper.open(path))
    local asked = false
    store:queue("mails"):work(function(_, item)
      watch({ path, "--interval", "60s", "--writable" }, {
        { "expect", "[1 queues]" }, { "send", "2" },
        { "expect", "running" }, { "send", ENTER_KEY },
        { "expect", "at work > mails" }, { "expect", "leased" },
        { "send", "\27" }, { "expect", "running" },
        { "send", "S" }, { "expect", "Ask worker" }, { "send", "y" },
        { "expect", "stopping" },
        { "expect", "was asked to stop" },
      })
      asked = store:workers()[1].state
      item:done()
    end, { limit = 1 })
    assert.equal("stopping", asked)
  end)

  it("have colours, unless NO_COLOR is set", function()
    local path = filled()
    local store = assert(helper.open(path))
    store:queue("mails"):pause()
    store:close()
    for env, coloured in pairs { ["NO_COLOR="] = true,
                                 ["NO_COLOR=1"] = false } do
      local result = watch({ path, env = env }, { { "expect", "paused" } })
      assert.equal(coloured, result.out:find("\27[33m", 1, true) ~= nil)
    end
  end)

  it("end with Ctrl-C, whatever is asked", function()
    for _, keys in ipairs { "P", "/abc" } do
      local result = session({ busy(), "--writable" }, {
        { "expect", "[1 queues]" }, { "send", keys }, { "expect", "\27[1m" },
        { "send", "\3" }, { "end" },
      })
      assert.equal(0, result.status)
      assert.is_true(given_back(result))
    end
  end)

  it("are drawn anew when the window has another size", function()
    watch({ busy(), "--interval", "60s" }, {
      { "expect", "[1 queues]" }, { "send", "3" }, { "expect", "later" },
      { "resize", 60, 6 }, { "expect", "\27[2J" }, { "expect", "mails" },
      { "expect", "\27[6;1Hq quit" },
      { "resize", 80, 24 }, { "expect", "\27[24;1Hq quit" },
    })
  end)
end)

describe("respool top where there is no terminal", function()
  it("prints one screen and ends", function()
    local run = cli.run { "top", filled(), "--interval", "100ms" }
    assert.equal(0, run.status)
    assert.matches("2 queues: 7 ready", run.out)
    assert.matches("\nmails +2 ", run.out)
    assert.matches("1  mails +exhausted +refused", run.out)
    assert.is_nil(run.out:find "\27")
  end)

  it("does so in a terminal that only writes on", function()
    local result = session({ filled(), "--interval", "100ms",
                             env = "TERM=dumb" }, { { "end" } })
    assert.equal(0, result.status)
    assert.matches("2 queues: 7 ready", result.out)
    assert.is_nil(result.out:find("\27", 1, true))
  end)

  it("does so in ASCII where the locale is not UTF-8", function()
    local run = cli.run {
      "top", filled(), "--interval", "100ms", env = "LC_ALL=C",
    }
    assert.equal(0, run.status)
    assert.is_nil(run.out:find "[\128-\255]")
    run = cli.run {
      "top", filled(), "--interval", "100ms", env = "LC_ALL=C.UTF-8",
    }
    assert.matches("▁", run.out)
  end)

  it("refuses an interval that is none, in one line", function()
    local run = cli.run { "top", filled(), "--interval", "0s" }
    assert.equal(2, run.status)
    assert.matches("^respool: %-%-interval: '0s' is not between[^\n]*\n$",
                   run.err)
  end)

  it("says that there is no store", function()
    local run = cli.run { "top", helper.location() }
    assert.equal(1, run.status)
    assert.matches("^respool: there is no store in [^\n]*\n$", run.err)
  end)
end)

describe("a sparkline", function()
  it("is as high as each number is of the highest", function()
    assert.equal("▁▅█", chart.sparkline({ 0, 2, 4 }, 3))
    assert.equal("_=#", chart.sparkline({ 0, 2, 4 }, 3, true))
  end)

  it("shows the last numbers, the newest on the right", function()
    assert.equal("▁█", chart.sparkline({ 9, 0, 4 }, 2))
    assert.equal("  █", chart.sparkline({ 4 }, 3))
  end)

  it("of nothing is flat", function()
    assert.equal("▁▁", chart.sparkline({ 0, 0 }, 2))
  end)
end)

describe("the screen of respool top", function()
  local function queue(name, ready, rate)
    return {
      name = name, past = { rate }, pushed = rate, done = rate, failed = 0,
      stats = {
        ready = ready, leased = 0, scheduled = 0, retrying = 0,
        dead = 0, oldest_age = 0,
        paused = false, breaker = "closed",
      },
    }
  end

  local function sample(n)
    local all = {
      at = 0, groups = {}, queues = {},
      store = { used_bytes = 0, max_bytes = 1, readers = 1, max_readers = 2 },
    }
    for i = 1, n do
      all.queues[i] = queue(("queue%03d"):format(i), i, i)
    end
    return all
  end

  local function view(columns, rows)
    return {
      path = "x", columns = columns, rows = rows, interval = 1, sort = "n",
      first = 1,
    }
  end

  local function width(s)
    return select(2, s:gsub("[^\128-\191]", ""))
  end

  it("fits into every window", function()
    for _, columns in ipairs { 1, 10, 40, 80, 81, 300 } do
      for _, rows in ipairs { 1, 2, 5, 6, 7, 24, 200 } do
        local lines = dashboard.draw(sample(50), view(columns, rows))
        assert.equal(rows, #lines)
        for _, line in ipairs(lines) do
          assert.is_true(width(line.text) <= columns)
        end
      end
    end
  end)

  it("keeps columns under each other, however wide characters are", function()
    local names = { "注文の列", "e\204\129te\204\129", "🚚 express",
                    ("宛"):rep(40), "plain" }
    local all = sample(0)
    for i, name in ipairs(names) do all.queues[i] = queue(name, 7, 0) end
    for _, columns in ipairs { 40, 41, 80 } do
      local lines = dashboard.draw(all, view(columns, 20))
      local ready = lines[5].text:find "READY"
      for i = 6, 10 do
        local before, after = lines[i].text:match "^(.-)(    7 .*)$"
        assert.equal(ready - 1, output.width(before), lines[i].text)
        assert.is_true(output.width(before .. after) <= columns)
      end
    end
    assert.same({ 4, "日…", "日…", "日本" },
                { output.width "日本", output.cut("日本語", 3),
                  output.cut("日本語", 4), output.cut("日本", 4) })
  end)

  it("shows as many queues as fit and says how many more there are",
     function()
    local lines = dashboard.draw(sample(50), view(80, 12))
    assert.matches("^queue001", lines[6].text)
    assert.matches("and 45 more", lines[11].text)
  end)

  it("shows the row under the cursor where there is room for one", function()
    local page, rows = {}, { { key = 1, text = "a" }, { key = 2, text = "b" } }
    local here = view(80, 4)
    here.tabs = ""
    assert.equal("b", dashboard.draw_page(sample(1), here, page, rows, 2)[3]
      .text)
    here = view(80, 7)
    here.at = "queue020"
    assert.matches("^queue020", dashboard.draw(sample(50), here)[6].text)
  end)

  it("shows a stopped queue in yellow, one that fails in red", function()
    local all = sample(3)
    all.queues[1].stats.paused = true
    all.queues[2].failed = 1
    local lines = dashboard.draw(all, view(80, 24))
    assert.same({ "yellow", "red", "" }, {
      lines[6].style:match "%a*$", lines[7].style:match "%a*$",
      lines[8].style:match "%a*$",
    })
  end)

  it("scrolls so that the cursor is shown", function()
    local down = view(80, 12)
    down.at = "queue020"
    local lines = dashboard.draw(sample(50), down)
    assert.matches("^queue020", lines[10].text)
    assert.matches("reverse", lines[10].style)
    assert.matches("and 30 more", lines[11].text)
  end)

  it("shows rows of a page within every window", function()
    local page, rows = { head = "HEAD" }, {}
    for i = 1, 30 do
      rows[i] = { key = i, text = ("row %d "):format(i):rep(9) }
    end
    for _, columns in ipairs { 1, 40, 80 } do
      for _, n in ipairs { 1, 2, 3, 4, 5, 24, 100 } do
        local here = view(columns, n)
        here.tabs = "[1 queues] 2 at work"
        local lines = dashboard.draw_page(sample(1), here, page, rows, 17)
        assert.equal(n, #lines)
        for _, line in ipairs(lines) do
          assert.is_true(width(line.text) <= columns)
        end
      end
    end
    local here = view(80, 24)
    here.tabs = ""
    local lines, seen = dashboard.draw_page(sample(1), here, page, rows, 30)
    for _, line in ipairs(lines) do seen = seen or line.text:find "^row 30" end
    assert.is_truthy(seen)
  end)

  it("shows a sparkline at 80 columns", function()
    local all = sample(2)
    for i = 1, 20 do all.queues[1].past[i] = i end
    local lines = dashboard.draw(all, view(80, 24))
    assert.matches("DONE/S *$", lines[5].text)
    assert.matches("▄.*█$", lines[6].text)
  end)

  it("shows queues in 40 columns and 10 rows, whatever died", function()
    local all = sample(9)
    for i = 1, 9 do
      all.groups[i] = { dlq = "q", group = "g", reason = "r", count = i }
    end
    local lines = dashboard.draw(all, view(40, 10))
    assert.matches("^QUEUE.*READY.*DEAD.*DONE/S", lines[5].text)
    for i = 1, 3 do assert.matches("^queue00" .. i, lines[5 + i].text) end
  end)

  it("says that it stands still, however long the store's path", function()
    for columns = 14, 120 do
      local held = view(columns, 24)
      held.path, held.held = ("/long"):rep(40), true
      local text = dashboard.draw(sample(1), held)[1].text
      assert.matches("STANDING STILL", text)
      assert.is_true(width(text) <= columns)
    end
  end)

  it("shows a queue's name without what a terminal would obey", function()
    local all = sample(1)
    all.queues[1].name = "a\27[2Jb\nc"
    for _, line in ipairs(dashboard.draw(all, view(80, 12))) do
      assert.is_nil(line.text:find "%c")
    end
  end)
end)
