-- SPDX-License-Identifier: MIT

local core = require "respool.core"
local helper = require "spec.helper"
local respool = require "respool"

local empty = { stop_when_empty = true }

-- A queue that retries after a second, with items pushed.
local function queue(payloads, options)
  local all = { retry = respool.backoff.constant { delay = 1 } }
  for name, value in pairs(options or {}) do all[name] = value end
  local q = assert(helper.store():queue("orders", all))
  if payloads then q:push_many(payloads) end
  return q
end

-- From now on settles with pushes fail as on a disk that says so.
local function refuse_pushes(code)
  local settle = core.batch.settle
  core.batch.settle = function(batch, no_wait, pushes, ...)
    if pushes then return nil, "the disk says " .. code, code end
    return settle(batch, no_wait, pushes, ...)
  end
  finally(function() core.batch.settle = settle end)
end

describe("queue:work", function()
  it("hands each item to the handler, then it is gone", function()
    local q = queue { "a", "b", "c" }
    local seen = {}
    local counts = q:work(function(payload, item)
      table.insert(seen, payload .. item.id)
    end, empty)
    assert.same({ "a1", "b2", "c3" }, seen)
    assert.same({ items = 3, done = 3, failed = 0, released = 0, snoozed = 0,
                  lost = 0, batches = 2 }, counts)
    assert.equal(0, q:length().total)
  end)

  it("takes batch after batch", function()
    local list = {}
    for i = 1, 250 do list[i] = i end
    local q, sum = queue(list), 0
    local counts = q:work(function(n) sum = sum + n end,
                          { batch = 100, stop_when_empty = true })
    assert.equal(250 * 251 / 2, sum)
    assert.equal(3, counts.batches)
    assert.equal(250, q:stats().done)
  end)

  it("plays retries out on a manual clock", function()
    local q, tries = queue({ "a" }, { max_attempts = 4 }), {}
    local counts = q:work(function(_, item)
      table.insert(tries, item.attempts)
      if item.attempts < 3 then error "not yet" end
    end, empty)
    assert.same({ 0, 1, 2, 3 }, tries)
    assert.equal(3, counts.failed)
    assert.equal(1, counts.done)
  end)

  it("lets other items go on while one waits", function()
    local q, seen = queue { "a", "b" }, {}
    q:work(function(payload, item)
      table.insert(seen, payload)
      if payload == "a" and item.attempts == 0 then error "later" end
    end, empty)
    assert.same({ "a", "b", "a" }, seen)
  end)

  it("stops after so many items", function()
    local q = queue { 1, 2, 3, 4, 5 }
    local counts = q:work(function() end, { batch = 2, limit = 3 })
    assert.equal(3, counts.items)
    assert.same({ ready = 2, leased = 0, scheduled = 0, retrying = 0,
                  dead = 0, total = 2 },
                q:length())
  end)

  it("stops at its deadline", function()
    local q = queue { 1, 2, 3 }
    local counts = q:work(function() q.store:advance(4) end, { seconds = 6 })
    assert.equal(2, counts.done)
    assert.equal(1, q:length().ready)
  end)

  it("stops when nothing came for so long", function()
    local q = queue { 1 }
    local before = q.store:now()
    assert.equal(1, q:work(function() end, { timeout = 5 }).done)
    assert.near(before + 5, q.store:now(), 0.1)
  end)

  it("stops when empty only once nothing is leased by others", function()
    local q = queue { 1, 2 }
    q:take()
    assert.equal(2, q:work(function() end, empty).done)
    assert.equal(0, q:length().total)
  end)

  it("stops when empty although items are scheduled for later", function()
    local q = queue { 1 }
    q:push(2, { delay = 86400 })
    q:push(3)
    local counts = q:work(function(n)
      if n == 3 then return respool.snooze(3600) end
    end, empty)
    assert.same({ 1, 1 }, { counts.done, counts.snoozed })
    assert.equal(2, q:length().scheduled)
  end)

  it("does not wait on a paused queue", function()
    local q = queue { 1 }
    q:pause()
    assert.equal(0, q:work(function() end, empty).done)
  end)

  it("keeps the lease while a handler takes its time", function()
    local q = queue({ 1 }, { lease = 10 })
    local counts = q:work(function()
      q.store:advance(100)
      assert.equal(0, #q:take())
    end, empty)
    assert.equal(1, counts.done)
    assert.equal(0, counts.lost)
  end)

  it("goes on after a lost lease", function()
    local q = queue({ 1 }, { lease = 10, max_lease = 20 })
    local calls = 0
    local counts = q:work(function()
      calls = calls + 1
      if calls > 1 then return end
      q.store:advance(100)
      q:take():close()
    end, empty)
    assert.equal(2, calls)
    assert.equal(1, counts.done)
    assert.equal(1, counts.lost)
  end)

  it("refuses what is no handler and no option", function()
    local q = queue()
    assert.error_matches(function() q:work(5) end,
                         "bad argument #1 to 'work' %(a function expected")
    local wrong = {
      batch = 0, stop_when_empty = 1, seconds = -1, timeout = "x", limit = 0,
      on_error = "x",
    }
    for name, value in pairs(wrong) do
      assert.error_matches(function() q:work(print, { [name] = value }) end,
                           "queue:work: option '" .. name .. "' must be")
    end
    assert.error_matches(function() q:work(print, { workers = 2 }) end,
                         "queue:work: unknown option 'workers'")
    assert.error_matches(function() q:work_batches(print, { batch = 0 }) end,
                         "queue:work_batches: option 'batch' must be")
  end)

  it("gives a storage error back as a value", function()
    local q = queue { "a", "b" }
    local mails = q.store:queue "mails"
    refuse_pushes("NOSPACE")
    local counts, message, code, so_far = q:work(function(payload, item)
      if payload == "b" then item:push(mails, 1) end
    end, empty)
    assert.is_nil(counts)
    assert.equal("the disk says NOSPACE", message)
    assert.equal("NOSPACE", code)
    assert.same({ 1, 1, 0 }, { so_far.done, so_far.released, so_far.failed })
    assert.same({ "b" }, helper.payloads(q))
    assert.equal(0, q:get(2).attempts)
  end)

  it("commits what an item pushes together with it", function()
    local q = queue { "a", "b" }
    local mails = q.store:queue "mails"
    q:work(function(payload, item)
      item:push(mails, "mail for " .. payload)
      if payload == "b" then return respool.dead() end
    end, empty)
    assert.equal(1, mails:length().total)
    assert.equal("mail for a", mails:peek()[1].payload)
  end)

  it("pushes nothing for an item whose lease was lost", function()
    local q = queue({ "a" }, { lease = 10, max_lease = 20 })
    local mails, calls = q.store:queue "mails", 0
    local counts = q:work(function(_, item)
      calls = calls + 1
      item:push(mails, calls)
      if calls == 1 then
        q.store:advance(100)
        q:take():close()
      end
    end, empty)
    assert.equal(1, counts.lost)
    assert.equal(1, counts.done)
    assert.equal(1, mails:length().total)
    assert.equal(2, mails:peek()[1].payload)
  end)

  it("takes a push that is too large as a failure of its item", function()
    local q = helper.store { max_item_bytes = 50 }:queue("orders", {
      max_attempts = 1,
    })
    q:push_many { 1, 2 }
    local counts = q:work(function(n, item)
      if n == 1 then item:push(q, ("x"):rep(100)) end
    end, empty)
    assert.equal(1, counts.done)
    assert.matches("over max_item_bytes, 50", q.dead:oldest().error)
  end)

  -- Such a settle was refused as a whole and stopped the work, each time it
  -- was begun again, and nothing was spent.
  it("fails an item whose push is refused, and goes on", function()
    local q = queue({ "a", "b", "c" }, { max_attempts = 2 })
    local mails = q.store:queue "mails"
    mails:push("there", { key = "b" })
    local counts = q:work(function(payload, item)
      item:push(mails, payload, { key = payload })
    end, empty)
    assert.same({ 2, 2, 4 }, { counts.done, counts.failed, counts.items })
    assert.same({ "there", "a", "c" }, helper.payloads(mails))
    local dead_letter = q.dead:oldest()
    assert.same({ "b", "exhausted", "EXISTS" },
                { dead_letter.payload, dead_letter.reason, dead_letter.group })
    assert.matches("^item:push: .*mails", dead_letter.error)
  end)

  it("hands over what has room", function()
    local q = queue(helper.range(11))
    local few = q.store:queue("few", { max_items = 10 })
    local counts = q:work(function(n, item) item:push(few, n) end,
                          { limit = 11 })
    assert.same({ 10, 1 }, { counts.done, counts.failed })
    assert.same(helper.range(10), helper.payloads(few))
    assert.matches("full", q:get(11).error)
    assert.equal(1, q:get(11).attempts)
  end)

  it("hands over all pushes of an item or none", function()
    local q = queue { 1, 2, 3 }
    local few = q.store:queue("few", { max_items = 3 })
    q:work(function(n, item)
      for k = 1, n do item:push(few, n * 10 + k) end
    end, { limit = 3 })
    assert.same({ 11, 21, 22 }, helper.payloads(few))
    assert.equal(1, q:get(3).attempts)
  end)

  it("takes a push to a queue that is gone as a failure of its item",
     function()
    local q = queue { 1, 2 }
    local gone = q.store:queue "gone"
    assert(q.store:drop_queue "gone")
    local counts = q:work(function(n, item)
      if n == 1 then item:push(gone, 1) end
    end, { limit = 2 })
    assert.same({ 1, 1 }, { counts.done, counts.failed })
    assert.matches("gone", q:get(1).error)
  end)

  it("asks decide, and tells the hooks, of a push that is refused", function()
    local codes = {}
    local function note(err)
      table.insert(codes, err.code .. (tostring(err):match "full" or ""))
    end
    local q = queue({ "a" }, {
      on_handler_error = note,
      decide = function(err) note(err); return "dead", "no room" end,
    })
    local full = q.store:queue("full", { max_items = 0 })
    q:work(function(_, item) item:push(full, 1) end,
           { limit = 1, on_error = note })
    assert.same({ "FULLfull", "FULLfull", "FULLfull" }, codes)
    assert.equal("no room", q.dead:oldest().group)
  end)

  it("settles nothing behind a refused push in an ordered queue", function()
    local q = queue(helper.range(6), { ordered = true })
    local few, seen = q.store:queue("few", { max_items = 2 }), {}
    local function move(n, item)
      table.insert(seen, n)
      item:push(few, n)
    end
    local counts = q:work(move, { batch = 6, limit = 6 })
    assert.same({ 2, 1, 3 }, { counts.done, counts.failed, counts.released })
    q.store:queue("few", { max_items = 99 })
    q.store:advance(1)
    q:work(move, { batch = 6, limit = 4 })
    assert.same({ 1, 2, 3, 4, 5, 6, 3, 4, 5, 6 }, seen)
    assert.same(helper.range(6), helper.payloads(few))
  end)

  it("hands over what others push beside a lost lease", function()
    local q = queue({ 1 }, { lease = 10, max_lease = 20 })
    local mails, seen = q.store:queue "mails", {}
    q:push("due", { priority = 9, delay = 1 })
    q.store:advance(1)
    local counts = q:work(function(payload, item)
      item:push(mails, payload)
      seen[#seen + 1] = payload
      if #seen == 2 then
        q.store:advance(100)
        assert.equal(1, #q:take { lease = 1000 })
      end
    end, { batch = 2, limit = 2 })
    assert.same({ "due", 1 }, seen)
    assert.same({ 1, 1 }, { counts.done, counts.lost })
    assert.same({ 1 }, helper.payloads(mails))
  end)

  it("keeps a settle by hand from happening when a push is refused",
     function()
    local q = queue { "a", "b" }
    local few = q.store:queue("few", { max_items = 1 })
    local batch = q:take { limit = 2 }
    for payload, item in batch:each() do item:push(few, payload) end
    batch:done()
    assert.equal("FULL", helper.code(batch:settle()))
    assert.same({ 2, 0 }, { q:length().leased, few:length().total })
    assert.equal("FULL", helper.code(batch:close()))
    assert.same({ "a" }, helper.payloads(few))
    assert.same({ "b" }, helper.payloads(q))
    assert.equal(0, q:get(2).attempts)
  end)

  it("pushes to no other store", function()
    local q, other = queue { 1 }, helper.store():queue "other"
    local batch = q:take()
    assert.error_matches(function() batch:item(1):push(other, 1) end,
                         "queue 'other' is of another store")
    batch:done()
    assert.error_matches(function()
      batch:settle { push = { { queue = other, payload = 1 } } }
    end, "queue 'other' is of another store")
  end)

  it("sets aside what cannot be decoded and goes on", function()
    local q = queue()
    helper.push_bytes(q, "\255")
    helper.push_bytes(q, "\1")
    local seen = {}
    local counts = q:work(function(n) table.insert(seen, n) end, empty)
    assert.same({ 1 }, seen)
    assert.equal(2, counts.items)
    assert.equal(1, counts.failed)
    assert.equal("undecodable", q.dead:oldest().reason)
  end)

  -- No item is made for a handler that has no parameter for it.
  it("gives the item to whoever can see it", function()
    local q, seen = queue { "a" }, {}
    local function see(_, item) seen[#seen + 1] = item.id .. item.payload end
    q:work(function() error "busy" end, { limit = 1, on_error = see })
    q.store:advance(1)
    q:work(function(...)
      see(...)
      return respool.retry { delay = 0 }
    end, { limit = 1 })
    q:work(see, { limit = 1 })
    assert.same({ "1a", "1a", "1a" }, seen)
  end)

  it("sets aside what cannot be decoded in a batch that is indexed", function()
    local q = queue()
    helper.push_bytes(q, "\255")
    helper.push_bytes(q, "\1")
    local seen = {}
    q:work_batches(function(batch)
      for i = 1, #batch do seen[i] = batch[i].payload or "unreadable" end
    end, { stop_when_empty = true, batch = 2 })
    assert.same({ "unreadable", 1 }, seen)
    assert.equal("undecodable", q.dead:oldest().reason)

    helper.push_bytes(q, "\255")
    local batch = q:take()
    assert.is_nil(batch[1].payload)
    batch[1]:done()
    assert(batch:settle())
    batch:close()
    assert.equal(2, q.dead:count())
  end)

  it("runs handlers that yield", function()
    if _VERSION == "Lua 5.1" and not rawget(_G, "jit") then
      pending "pcall of plain Lua 5.1 cannot be yielded across"
    end
    local q = queue { 1, 2 }
    local work = coroutine.wrap(function()
      return q:work(function(n) coroutine.yield(n) end, empty)
    end)
    assert.equal(1, work())
    assert.equal(2, work())
    assert.equal(2, work().done)
  end)
end)

describe("the batches of work", function()
  -- How many items each batch had, of handlers that take so many seconds.
  local function sizes(q, seconds, options)
    local list = {}
    options.stop_when_empty = true
    q:work_batches(function(batch)
      list[#list + 1] = #batch
      q.store:advance(seconds * #batch)
    end, options)
    return list
  end

  it("grow from one item while they take less than 50 ms", function()
    assert.same({ 1, 4, 16, 64, 115 }, sizes(queue(helper.range(200)), 0, {}))
    assert.same({ 1, 4, 5, 5, 5 }, sizes(queue(helper.range(20)), 0.01, {}))
  end)

  it("stay with one item where that takes long", function()
    assert.same({ 1, 1, 1 }, sizes(queue { 1, 2, 3 }, 0.25, {}))
  end)

  it("shrink when handlers become slow", function()
    local q = queue(helper.range(21))
    assert.same({ 1, 4, 16 }, sizes(q, 0, {}))
    q:push_many(helper.range(70))
    assert.same({ 64, 1, 1, 1, 1, 1, 1 }, sizes(q, 0.04, {}))
  end)

  it("are as large as is asked for", function()
    assert.same({ 2, 2, 1 }, sizes(queue(helper.range(5)), 9, { batch = 2 }))
  end)
end)

-- It hung: nobody made the room that it waited for.
describe("a handler that pushes into its own full queue", function()
  it("is told so where it would wait", function()
    local q = queue({ 1 }, { max_items = 1, overflow = "wait" })
    local message, code
    q:work(function()
      local id
      id, message, code = q:push(2)
      assert.is_nil(id)
    end, { limit = 1 })
    assert.equal("FULL", code)
    assert.matches("its own handler would wait for room", message)
  end)
end)

describe("queue:stop", function()
  it("ends the work after the item in hand", function()
    local q = queue { 1, 2, 3 }
    local stopping
    local counts = q:work(function(_, item)
      q:stop()
      stopping = item:stopping()
    end, { batch = 3 })
    assert.is_true(stopping)
    assert.equal(1, counts.done)
    assert.equal(2, counts.released)
    assert.equal(2, q:length().ready)
  end)

  it("concerns only the work that runs", function()
    local q = queue { 1 }
    q:stop()
    local stopping
    local counts = q:work(function(_, item)
      stopping = item:stopping()
    end, empty)
    assert.is_false(stopping)
    assert.equal(1, counts.done)
  end)

  -- Between items that take less than a millisecond it is not asked each time.
  it("may be asked for by a signal, in the middle of a batch", function()
    local q = assert(assert(helper.open(helper.location())):queue "orders")
    q:push_many(helper.range(20))
    local seen = 0
    function q.signal() return seen >= 5 end
    local counts = assert(q:work(function()
      seen = seen + 1
      core.process.nap(0.002)
    end, { batch = 20 }))
    assert.equal(5, counts.done)
    assert.equal(15, q:length().ready)
  end)

  it("is what closing the store does", function()
    local q = queue { 1, 2, 3 }
    local path = q.store.path
    q:work(function(n) if n == 2 then q.store:close() end end)
    local again = assert(helper.open(path)):queue "orders"
    assert.same({ ready = 2, leased = 0, scheduled = 0, retrying = 0,
                  dead = 0, total = 2 },
                again:length())
  end)
end)

describe("work on an ordered queue", function()
  it("releases the rest of a batch when an item fails", function()
    local q, seen = queue({ 1, 2, 3 }, { ordered = true }), {}
    q:work(function(n, item)
      table.insert(seen, n)
      if n == 2 and item.attempts == 0 then error "wait" end
    end, { batch = 3, stop_when_empty = true })
    assert.same({ 1, 2, 2, 3 }, seen)
  end)

  it("takes one item at a time when not told", function()
    local q = queue({ 1, 2, 3 }, { ordered = true })
    assert.equal(3, q:work(function() end, empty).batches)
  end)
end)

describe("queue:work_batches", function()
  it("hands over batches whole", function()
    local q, sizes = queue { 1, 2, 3, 4, 5 }, {}
    local counts = q:work_batches(function(batch)
      table.insert(sizes, #batch)
    end, { batch = 3, stop_when_empty = true })
    assert.same({ 3, 2 }, sizes)
    assert.equal(5, counts.done)
  end)

  it("leaves each item the outcome it was given", function()
    local q = queue { 1, 2, 3 }
    local counts = q:work_batches(function(batch)
      for n, item in batch:each() do
        if n == 2 then item:snooze(5) end
      end
    end, { limit = 3 })
    assert.equal(2, counts.done)
    assert.equal(1, counts.snoozed)
  end)

  it("fails what is not marked when the function fails", function()
    local q = queue { 1, 2, 3 }
    local counts = q:work_batches(function(batch)
      batch:item(1):done()
      error "half way"
    end, { batch = 3, limit = 3 })
    assert.equal(1, counts.done)
    assert.equal(2, counts.failed)
    assert.equal(1, q:get(2).attempts)
  end)

  it("gives an outcome to what is not marked", function()
    local q = queue { 1, 2 }
    q:work_batches(function() return respool.dead { group = "g" } end,
      { limit = 2 })
    assert.same({ { group = "g", reason = "rejected", count = 2 } },
                helper.groups(q.dead))
  end)

  it("may settle and close by hand", function()
    local q = queue { 1, 2 }
    q:work_batches(function(batch)
      batch:done()
      assert(batch:settle())
      assert(batch:close())
    end, empty)
    assert.equal(0, q:length().total)
  end)
end)

describe("the lua interpreter's Ctrl-C", function()
  it("gets through while work waits", function()
    local path = helper.location()
    local worker = helper.spawn([[
      local store = assert(require "respool".open(arg[1]))
      local q = store:queue "orders"
      io.stdout:setvbuf "no"
      q:work(function(payload) print("got " .. payload) end)
    ]], path)
    local q = assert(helper.open(path)):queue "orders"
    q:push "a"
    worker:expect "got a"
    repeat helper.pause(0.01) until q:length().total == 0 -- settled, too
    assert.are_not.equal(0, worker:kill "INT")
    assert.same({ ready = 0, leased = 0, scheduled = 0, retrying = 0,
                  dead = 0, total = 0 },
                q:length())
  end)
end)
