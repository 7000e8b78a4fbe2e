-- SPDX-License-Identifier: MIT
--
-- respool top, in a terminal and out of one.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local top = require "spec.helper.top"

local FIRST, filled, given_back = top.FIRST, top.filled, top.given_back
local session = top.session

local ENTER, LEAVE = "\27[?1049h", "\27[?1049l"

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
