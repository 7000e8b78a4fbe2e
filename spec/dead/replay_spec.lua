-- SPDX-License-Identifier: MIT

local core = require "respool.core"
local helper = require "spec.helper"
local respool = require "respool"

-- A queue whose items 1..n all became dead letters, grouped odd and even.
local function queue(n, options)
  local q = assert(helper.store():queue("orders", options))
  local list = {}
  for i = 1, n do list[i] = { n = i } end
  q:push_many(list)
  q:work(function(payload)
    return respool.dead { error = "no " .. payload.n,
                          group = payload.n % 2 == 0 and "even" or "odd" }
  end, { stop_when_empty = true })
  return q
end

local function numbers(dead_letters)
  local list = {}
  for i, dead_letter in ipairs(dead_letters) do list[i] = dead_letter.number end
  return list
end

local function payloads(q)
  local list = {}
  for item in q:each() do table.insert(list, item.payload.n) end
  return list
end

describe("dead letters", function()
  it("are counted, listed and grouped", function()
    local dead = queue(5).dead
    assert.equal(5, dead:count())
    assert.same({ { group = "odd", reason = "rejected", count = 3 },
                  { group = "even", reason = "rejected", count = 2 } },
                helper.groups(dead))
    assert.same({ 3, 4 }, numbers(dead:list { after = 2, limit = 2 }))
    assert.same({ 5, 4 }, numbers(dead:list { order = "newest", limit = 2 }))
    assert.same({ 4 }, numbers(dead:list { after = 2, group = "even" }))
  end)

  it("say what happened", function()
    local q = queue(0 + 1)
    local dead_letter = q.dead:get(1)
    assert.equal(1, dead_letter.number)
    assert.equal("orders", dead_letter.queue)
    assert.equal(1, dead_letter.id)
    assert.same({ n = 1 }, dead_letter.payload)
    assert.equal(respool.cbor.encode { n = 1 }, dead_letter.bytes)
    assert.equal("rejected", dead_letter.reason)
    assert.equal("no 1", dead_letter.error)
    assert.equal("odd", dead_letter.group)
    assert.equal(1, dead_letter.deliveries)
    assert.equal(0, dead_letter.crashes)
    assert.equal(0, dead_letter.replays)
    assert.equal(1, dead_letter.failures)
    assert.equal("no 1", dead_letter.history[1].error)
    assert.near(q.store:now(), dead_letter.died_at, 1)
    assert.near(dead_letter.died_at, dead_letter.first_failed_at, 1)
  end)

  it("are walked over one by one, from either end", function()
    local dead, up, down = queue(250).dead, 0, {}
    for dead_letter in dead:each() do
      up = up + 1
      assert.equal(up, dead_letter.number)
    end
    assert.equal(250, up)
    for dead_letter in dead:each { order = "newest", group = "odd" } do
      table.insert(down, dead_letter.number)
    end
    assert.equal(125, #down)
    assert.equal(249, down[1])
  end)

  it("that are not there are a value", function()
    local dead = queue(1).dead
    for _, verb in ipairs { "get", "remove", "retry" } do
      local result, message, code = dead[verb](dead, 9)
      assert.is_nil(result)
      assert.is_string(message)
      assert.equal("NOT_FOUND", code)
    end
    assert.is_nil(dead.store:dead "nobody":oldest())
    assert.equal(0, dead.store:dead "nobody":count())
  end)

  it("are removed one by one", function()
    local dead = queue(3).dead
    assert.is_true(dead:remove(1))
    assert.equal(2, dead:oldest().number)
    assert.equal(2, dead:count())
  end)

  it("are purged by age, group and predicate", function()
    local q = queue(4)
    q.store:advance(100)
    assert.equal(0, q.dead:purge { older_than = 200 })
    assert.equal(0, q.dead:purge { older_than = 2^40 })
    assert.equal(1, q.dead:purge {
      group = "odd", older_than = 50,
      where = function(dead_letter) return dead_letter.payload.n == 3 end,
    })
    assert.equal(2, q.dead:purge { group = "even", older_than = 50 })
    assert.equal(1, q.dead:purge())
    assert.equal(0, q.dead:count())
  end)

  it("are retried one by one, attempts from none", function()
    local q = queue(2)
    assert.is_true(q.dead:retry(2))
    local item = q:take():item(1)
    assert.same({ n = 2 }, item.payload)
    assert.equal(0, item.attempts)
    assert.equal(1, item.replays)
    assert.equal(1, q.dead:count())
  end)

  it("refuse bad arguments", function()
    local dead = queue(1).dead
    assert.error_matches(function() dead:get "1" end, "bad argument #1")
    assert.error_matches(function() dead:list { limit = 0 } end, "'limit'")
    assert.error_matches(function() dead:each { limit = 1 } end, "'limit'")
    assert.error_matches(function() dead:purge { where = 1 } end, "'where'")
    assert.error_matches(function() dead:purge { age = 1 } end, "'age'")
    assert.error_matches(function() dead:retry(1, { to = "x" }) end, "'to'")
    assert.error_matches(function() dead.store:dead "" end, "bad argument #1")
  end)
end)

describe("replay", function()
  it("moves dead letters back, oldest first", function()
    local q = queue(3)
    local counts = q.dead:replay()
    assert.same({ seen = 3, moved = 3, skipped = 0, failed = 0, gone = 0,
                  errors = {}, by_group = { odd = 2, even = 1 },
                  state = "finished" },
                counts)
    assert.same({ 1, 2, 3 }, payloads(q))
    assert.equal(0, q.dead:count())
    assert.equal(0, q:peek()[1].attempts)
  end)

  it("moves the newest first when asked", function()
    local q = queue(3)
    q.dead:replay { order = "newest", limit = 2 }
    assert.same({ 3, 2 }, payloads(q))
    assert.equal(1, q.dead:count())
  end)

  it("keeps attempts when asked", function()
    local q = assert(helper.store():queue("orders", { max_attempts = 2 }))
    q:push "a"
    q:work(function() error "no" end, { stop_when_empty = true })
    q.dead:replay { keep_attempts = true }
    assert.equal(2, q:peek()[1].attempts)
  end)

  it("filters", function()
    local q = queue(6)
    local counts = q.dead:replay { where = function(dead_letter)
      return dead_letter.group == "even"
    end }
    assert.equal(3, counts.moved)
    assert.equal(3, counts.skipped)
    assert.same({ 2, 4, 6 }, payloads(q))
    assert.equal(3, q.dead:count())
  end)

  it("transforms, and keeps the original", function()
    local q = queue(1)
    q.dead:replay { transform = function(payload, dead_letter)
      return { n = payload.n + 10, was = dead_letter.error }
    end }
    local item = q:take():item(1)
    assert.same({ n = 11, was = "no 1" }, item.payload)
    assert.same({ n = 1 }, item.original)
  end)

  it("keeps headers when it transforms", function()
    local q = assert(helper.store():queue "orders")
    q:push(1, { headers = { trace = "t" } })
    q:work(function() return respool.dead() end, { stop_when_empty = true })
    q.dead:replay { transform = function(n) return n + 1 end }
    assert.same({ trace = "t" }, q:peek()[1].headers)
  end)

  it("goes to another queue, in its codec", function()
    local q = queue(1)
    local to = q.store:queue("bytes", { codec = {
      name = "n", encode = function(p) return "n=" .. p.n end,
      decode = function(s) return s end,
    } })
    assert.equal(1, q.dead:replay { to = to }.moved)
    assert.equal("n=1", to:peek()[1].payload)
  end)

  it("leaves what the target's check refuses", function()
    local q = queue(2)
    local to = q.store:queue("strict", { validate = function(payload)
      assert(payload.n ~= 1, "not one")
    end })
    local counts = q.dead:replay { to = to }
    assert.equal(1, counts.moved)
    assert.equal(1, counts.failed)
    assert.matches("^dead letter 1: .*not one", counts.errors[1])
  end)

  it("skips dead letters that came back too often", function()
    local q = queue(1)
    for replays = 0, 2 do
      local counts = q.dead:replay { max_replays = 2 }
      assert.equal(replays < 2 and 1 or 0, counts.moved)
      q:work(function() return respool.dead() end, { stop_when_empty = true })
    end
    assert.equal(2, q.dead:oldest().replays)
  end)

  -- Each hundred was a commit of its own.
  it("moves more in a commit while it is quick, where a function chooses too",
     function()
    local q = queue(1500)
    local pages, mono = 0, core.mono
    core.mono = function() return 0 end -- as long as it takes, it is quick
    finally(function() core.mono = mono end)
    local counts = q.dead:replay {
      where = function() return true end,
      on_progress = function() pages = pages + 1 end,
    }
    assert.equal(1500, counts.moved)
    assert.equal(4, pages) -- of 100, 200, 400 and 800
  end)

  it("leaves a dead letter whose where or transform fails", function()
    local q = queue(3)
    local counts = q.dead:replay {
      where = function(dead_letter) return dead_letter.payload.n > 1
        or error "where" end,
      transform = function(payload)
        if payload.n == 2 then return payload end
      end,
    }
    assert.equal(1, counts.moved)
    assert.equal(2, counts.failed)
    assert.matches("^dead letter 1: .*where", counts.errors[1])
    assert.equal("dead letter 3: transform returned nothing", counts.errors[2])
    assert.equal(2, q.dead:count())
  end)

  it("changes nothing in a dry run", function()
    local q = queue(4)
    local counts = q.dead:replay { dry_run = true, name = "fix", limit = 3 }
    assert.equal(3, counts.moved)
    assert.is_true(counts.dry_run)
    assert.same({ odd = 2, even = 1 }, counts.by_group)
    assert.equal(4, q.dead:count())
    assert.equal(0, q:length().total)
    assert.same({}, q.store:replays())
  end)

  it("says in a dry run what could not be moved", function()
    local q = queue(2)
    q.store:drop_queue "orders"
    local counts = q.store:dead "orders":replay { dry_run = true }
    assert.same({ 0, 2 }, { counts.moved, counts.failed })
    assert.equal("dead letter 1: there is no queue 'orders'", counts.errors[1])
  end)

  it("fails dead letters that its transform makes too large", function()
    local q = assert(helper.store { max_item_bytes = 1000 }:queue "orders")
    q:push_many { 1, 2, 3 }
    q:work(function() return respool.dead() end, { stop_when_empty = true })
    local function grow(payload)
      return payload == 1 and ("x"):rep(2000) or payload
    end
    for _, dry_run in ipairs { true, false } do
      local counts = q.dead:replay { transform = grow, dry_run = dry_run }
      assert.same({ 2, 1 }, { counts.moved, counts.failed })
      assert.matches("^dead letter 1: %d+ bytes are more than an item may "
        .. "have, 1000", counts.errors[1])
    end
    assert.equal(1, q.dead:count())
  end)

  it("counts what somebody else took as gone, not as moved", function()
    for _, where in ipairs { false, function() return true end } do
      local q = queue(300)
      local counts = q.dead:replay {
        name = "fix", where = where or nil, limit = 250,
        transform = where and function(payload, dead_letter)
          if dead_letter.number == 150 then q.dead:remove(149) end
          return payload
        end or nil,
        on_progress = function() q.dead:remove(201) end,
      }
      local gone = where and 1 or 0
      assert.same({ 250, gone }, { counts.moved, counts.gone })
      assert.same({ 250, 250 + gone },
                  { q.store:replay "fix".moved, q.store:replay "fix".seen })
      assert.equal(250, q:length().ready)
    end
  end)

  it("keeps to a rate", function()
    local q = queue(10)
    local before = q.store:now()
    q.dead:replay { rate = 2 }
    assert.near(before + 4.5, q.store:now(), 0.1)
  end)

  it("of dead letters whose queue is gone counts them, and moves the others",
     function()
    local q = queue(2)
    local other = q.store:queue("other", { dead_letter = "orders" })
    other:push { n = 9 }
    other:work(function() return respool.dead() end, { stop_when_empty = true })
    q.store:drop_queue "orders"
    local counts = q.dead:replay()
    assert.equal(1, counts.moved)
    assert.equal(2, counts.failed)
    assert.same({ 9 }, payloads(other))
  end)

  it("stops when the target is full, and says so", function()
    local q = queue(3)
    local to = q.store:queue("small", { max_items = 0 })
    local counts, message, code, so_far = q.dead:replay { to = to }
    assert.is_nil(counts)
    assert.is_string(message)
    assert.equal("FULL", code)
    assert.equal(0, so_far.moved)
    assert.equal(3, q.dead:count())
  end)

  it("fills its target, however large the pages grew", function()
    local q = queue(700)
    local to = q.store:queue("small", { max_items = 450 })
    local _, _, code, so_far = q.dead:replay { to = to }
    assert.equal("FULL", code)
    assert.equal(450, so_far.moved)
    assert.equal(250, q.dead:count())
  end)

  it("counts groups over all its pages", function()
    local counts = queue(501).dead:replay()
    assert.same({ odd = 251, even = 250 }, counts.by_group)
  end)

  it("refuses options that are none", function()
    local dead = queue(1).dead
    local wrong = {
      name = "", where = 1, transform = "x", to = "orders", rate = 0,
      limit = 0, order = "random", dry_run = 1, keep_attempts = 1,
      on_progress = 1, max_replays = -1,
    }
    for name, value in pairs(wrong) do
      assert.error_matches(function() dead:replay { [name] = value } end,
                           "dead:replay: option '" .. name .. "' must be")
    end
    assert.error_matches(function() dead:replay { fast = 1 } end,
                         "unknown option 'fast'")
    assert.error_matches(function()
      dead:replay { name = "x", order = "newest" }
    end, "oldest")
  end)
end)

describe("a replay into a bounded queue", function()
  local function died(n, options)
    local q = queue(n)
    local target = assert(q.store:queue("bounded", options))
    return q, target
  end

  it("moves what fits, and says that it is full", function()
    for _, where in ipairs { false, function() return true end } do
      local q, to = died(120, { max_items = 50 })
      local counts, _, code, so_far = q.dead:replay {
        to = to, where = where or nil,
      }
      assert.is_nil(counts)
      assert.equal("FULL", code)
      assert.equal(50, so_far.moved)
      assert.same({ 50, 70 }, { to:length().ready, q.dead:count() })
    end
  end)

  it("moves what fits, and buries the rest where it overflows so", function()
    local q, to = died(1, { max_items = 20, overflow = "dead" })
    for i = 1, 150 do assert(q:push({ n = i }, { key = "k" .. i })) end
    q:work(function() return respool.dead() end, { stop_when_empty = true })
    assert.equal(151, q.dead:replay { to = to }.moved)
    assert.equal(20, to:length().ready)
    assert.equal(131, to.dead:count())
    assert.equal("overflow", to.dead:oldest().reason)
    assert.equal(20, to.dead:oldest().payload.n)
    assert.same({}, q.store:check())
  end)

  it("goes on in the background as room is made", function()
    local q, to = died(120, { max_items = 50 })
    local errors = {}
    q.store.on_error = function(err) table.insert(errors, err) end
    q.dead:replay_every { to = to, interval = 10 }
    for _ = 1, 60 do
      q.store:maintain()
      local batch = to:take { limit = 10 }
      batch:done()
      assert(batch:settle())
      q.store:advance(1)
    end
    assert.equal(0, q.dead:count())
    assert.equal(120, to:stats().done)
    assert.same({}, errors)
  end)
end)

describe("a named replay", function()
  it("stops where it is told and goes on from there", function()
    local q = queue(250)
    local counts = q.dead:replay {
      name = "fix", on_progress = function() return false end,
    }
    assert.equal("stopped", counts.state)
    assert.equal(100, counts.moved)
    assert.equal("stopped", q.store:replay "fix".state)
    counts = q.dead:replay { name = "fix" }
    assert.equal("finished", counts.state)
    assert.equal(250, counts.moved)
    assert.equal(250, q:length().ready)
  end)

  it("that was stopped is counted from none by a dry run", function()
    local q = queue(250)
    q.dead:replay { name = "fix", on_progress = function() return false end }
    local counts = q.dead:replay { name = "fix", dry_run = true }
    assert.same({ 150, 150 }, { counts.seen, counts.moved })
    assert.equal(100, q.store:replay "fix".moved)
  end)

  it("is listed, with its counts", function()
    local q = queue(3)
    q.dead:replay { name = "fix", where = function(l) return l.number < 3 end }
    local job = q.store:replays()[1]
    assert.equal("fix", job.name)
    assert.equal("orders", job.dlq)
    assert.equal("finished", job.state)
    assert.equal(3, job.seen)
    assert.equal(2, job.moved)
    assert.equal(1, job.skipped)
    assert.equal("NOT_FOUND", select(3, q.store:replay "other"))
    assert.is_true(q.store:remove_replay "fix")
    assert.same({}, q.store:replays())
  end)

  it("deals with the dead letters there were when it began", function()
    local q = queue(150)
    q.dead:replay { name = "fix", on_progress = function() return false end }
    q:work(function() return respool.dead() end, { stop_when_empty = true })
    assert.equal(150, q.dead:replay { name = "fix" }.moved)
    assert.equal(100, q.dead:count())
  end)

  it("that has finished starts a new round over what came since", function()
    local q = queue(2)
    q.dead:replay { name = "fix", where = function() return false end }
    q:push { n = 3 }
    q:work(function() return respool.dead() end, { stop_when_empty = true })
    local counts = q.dead:replay { name = "fix" }
    assert.equal(1, counts.seen)
    assert.same({ 3 }, payloads(q))
  end)

  it("stays with its DLQ and target", function()
    local q = queue(1)
    q.dead:replay { name = "fix" }
    assert.error_matches(function()
      q.store:dead "other":replay { name = "fix" }
    end, "replay 'fix' moves DLQ 'orders'")
    assert.error_matches(function()
      q.dead:replay { name = "fix", to = q.store:queue "mails" }
    end, "to each dead letter's queue")
  end)

  it("killed goes on where it was, each dead letter once", function()
    local q = queue(1000)
    local path, dead = q.store.path, q.dead
    local runner = helper.spawn([[
      local store = assert(require "respool".open(arg[1]))
      io.stdout:setvbuf "no"
      store:dead "orders":replay { name = "fix", rate = 1000,
        on_progress = function(counts)
          if counts.moved < 300 then return end
          print "moved 300"
          while true do store:stats() end
        end }
    ]], path)
    runner:expect "moved 300"
    assert.equal(128 + 9, runner:kill())
    assert.equal("interrupted", q.store:replay "fix".state)
    local counts = dead:replay { name = "fix" }
    assert.equal(1000, counts.moved)
    assert.equal(0, dead:count())
    local seen = {}
    for item in q:each() do
      assert.is_nil(seen[item.payload.n])
      seen[item.payload.n] = true
    end
    assert.equal(1000, #seen)
  end)
end)
