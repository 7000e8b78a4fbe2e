-- SPDX-License-Identifier: MIT
--
-- The runner of a named replay, and the pace of a replay.

local helper = require "spec.helper"
local killed = require "spec.helper.killed"
local respool = require "respool"
local background = require "respool.replay.background"

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue "orders")
end)

-- Dead letters of this group, of payloads 1 to n.
local function die(n, group)
  q:push_many(helper.range(n))
  q:work(function() return respool.dead { group = group } end, { limit = n })
end

-- The stored replay is now another's.
local function take_over(name, runner)
  local stored = assert(store.handle:replay_load(name))
  stored.runner = runner
  stored.updated_at = store:now()
  assert(store.handle:replay_save(stored))
end

describe("a named replay", function()
  -- The page was committed, and the run did not know: it left the replay as one
  -- that runs, of a runner that is gone.
  it("is stopped by an interrupt that cuts off a page, and goes on", function()
    die(300)
    local methods = killed.methods_of(store.handle)
    local move = methods.dead_move
    methods.dead_move = function(...)
      assert(move(...))
      error("interrupted!", 0)
    end
    local ok, message = pcall(q.dead.replay, q.dead, { name = "fix" })
    methods.dead_move = move
    assert.same({ false, "interrupted!" }, { ok, message })
    local stored = store:replay "fix"
    assert.same({ "stopped", 300 - q.dead:count() },
                { stored.state, stored.moved })
    assert(q.dead:replay { name = "fix" })
    assert.same({ 0, 300 }, { q.dead:count(), store:replay "fix".moved })
    assert.equal(300, q:length().ready)
  end)

  -- It ran to its end: only the command line looked whether it was cancelled.
  it("is cancelled from another process", function()
    die(300)
    local path, dead = store.path, q.dead
    local runner = helper.spawn([[
      local store = assert(require "respool".open(arg[1]))
      io.stdout:setvbuf "no"
      local counts = store:dead "orders":replay { name = "fix", rate = 10,
        on_progress = function(counts) print("moved " .. counts.moved) end }
      print(counts.state, counts.moved < 300)
    ]], path)
    runner:expect "moved 1"
    assert.equal("running", store:replay "fix".state)
    assert.equal("number", type(store:replay "fix".pid))
    assert.is_true(store:cancel_replay "fix")
    runner:expect "cancelled\ttrue"
    assert.equal("cancelled", store:replay "fix".state)
    assert.equal(300, dead:replay { name = "fix" }.moved)
  end)

  it("is cancelled after the page in hand", function()
    die(250)
    local counts = q.dead:replay { name = "fix", on_progress = function()
      store:cancel_replay "fix"
    end }
    assert.same({ "cancelled", 100 }, { counts.state, counts.moved })
    assert.equal("NOT_FOUND", select(3, store:cancel_replay "fix"))
    assert.equal("NOT_FOUND", select(3, store:cancel_replay "none"))
  end)

  it("ends when it is forgotten, and stores nothing more", function()
    die(250)
    local counts = q.dead:replay { name = "fix", on_progress = function()
      store:remove_replay "fix"
    end }
    assert.same({ "cancelled", 100 }, { counts.state, counts.moved })
    assert.same({}, store:replays())
  end)

  -- Dead letters were moved once, but both runs stored their own counts.
  it("has one runner at a time", function()
    die(250)
    local message, code
    assert(q.dead:replay { name = "fix", on_progress = function()
      local _
      _, message, code = q.dead:replay { name = "fix" }
    end })
    assert.equal("LOCKED", code)
    assert.matches("named replay 'fix' is run by process %d+", message)
    assert.equal(250, store:replay "fix".moved)
  end)

  it("is free again when a hook of its runner has raised", function()
    die(250)
    assert.error_matches(function()
      q.dead:replay { name = "fix", on_progress = function() error "oops" end }
    end, "oops")
    assert.equal("stopped", store:replay "fix".state)
    assert.equal(250, q.dead:replay { name = "fix" }.moved)
  end)

  it("fails in a runner from which it was taken over", function()
    die(250)
    local counts, _, code, so_far = q.dead:replay {
      name = "fix",
      on_progress = function() take_over("fix", "elsewhere 1 2 3 4 5") end,
    }
    assert.same({ nil, "LOCKED", 100 }, { counts, code, so_far.moved })
    assert.equal(100, store:replay "fix".moved)
  end)

  it("is taken over from a runner out of sight that is silent", function()
    die(150)
    q.dead:replay { name = "fix", limit = 1 }
    local stored = store.handle:replay_load "fix"
    stored.state, stored.updated_at = 0, store:now()
    stored.runner = "another-machine 1 2 3 4 5"
    assert(store.handle:replay_save(stored))
    store:advance(60)
    assert.equal("LOCKED", select(3, q.dead:replay { name = "fix" }))
    store:advance(1)
    assert.equal("interrupted", store:replay "fix".state)
    assert.equal(150, q.dead:replay { name = "fix" }.moved)
  end)

  it("that was cancelled is not begun again in the background", function()
    die(250)
    q.dead:replay_every { interval = 10, name = "fix" }
    background.tick(store)
    assert(store:cancel_replay "fix")
    store:maintain()
    store:advance(20)
    store:maintain()
    assert.equal(100, q:length().ready)
    store:remove_replay "fix"
    store:advance(20)
    store:maintain()
    assert.equal(250, q:length().ready)
  end)

  it("runs in the background of one process, the others pass it over",
    function()
    local errors = {}
    store.on_error = function(e) table.insert(errors, e.message) end
    die(150)
    q.dead:replay { name = "fix", on_progress = function()
      q.dead:replay_every { interval = 10, name = "fix" }
      store:maintain()
    end }
    assert.same({}, errors)
    assert.equal(150, store:replay "fix".moved)
  end)
end)

describe("a replay", function()
  -- A rate of 40 was 40 at once, each second.
  it("keeps its rate as a pace", function()
    die(40)
    local from, moved = store:now(), {}
    q.dead:replay { rate = 40, on_progress = function(counts)
      local tenth = math.floor((store:now() - from) * 10 + 0.5)
      moved[tenth] = counts.moved
    end }
    for tenth = 0, 9 do assert.equal(4 * (tenth + 1), moved[tenth]) end
  end)

  it("moves a group without a look at the others", function()
    die(3, "timeout")
    die(2, "refused")
    local counts = q.dead:replay { group = "timeout" }
    assert.same({ 3, 3, 0 }, { counts.seen, counts.moved, counts.skipped })
    assert.same({ timeout = 3 }, counts.by_group)
    assert.equal(2, q.dead:count())
  end)
end)
