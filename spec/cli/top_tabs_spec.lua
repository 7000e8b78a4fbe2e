-- SPDX-License-Identifier: MIT
--
-- The tabs of respool top, their pages, and what capital letters do there.

local helper = require "spec.helper"
local top = require "spec.helper.top"

local FIRST, filled, given_back = top.FIRST, top.filled, top.given_back
local session = top.session

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
