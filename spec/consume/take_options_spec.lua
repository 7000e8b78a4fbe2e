-- SPDX-License-Identifier: MIT
--
-- Options that takes and batches accept and refuse.

local helper = require "spec.helper"

local huge, nan = math.huge, 0 / 0

local refuses = helper.refuses(it)

local function queue()
  return assert(helper.store():queue "orders")
end

describe("queue:take", function()
  local q
  before_each(function() q = queue() end)

  refuses("queue:take", function(o) q:take(o) end, {
    limit = { 0, -1, 1.5, "x", huge },
    bytes = { 0, -1, "x" },
    timeout = { -1, nan, "1" },
    lease = { -1, nan, huge, "x" },
  })

  it("takes one item when not told", function()
    q:push_many { 1, 2 }
    assert.equal(1, #q:take())
  end)

  it("gives an empty batch when there is nothing", function()
    local batch = q:take { limit = 5 }
    assert.equal(0, #batch)
    for _ in batch:each() do error "an item?" end
    assert.is_true(batch:settle())
    assert.is_true(batch:close())
  end)

  it("waits for what is due", function()
    q:push("later", { delay = 100 })
    local before = q.store:now()
    assert.equal("later", q:take { timeout = 200 }:item(1).payload)
    assert.near(before + 100, q.store:now(), 1)
  end)

  it("waits no longer than told", function()
    q:push("later", { delay = 100 })
    local before = q.store:now()
    assert.equal(0, #q:take { timeout = 5 })
    assert.near(before + 5, q.store:now(), 0.1)
  end)

  it("bounds a batch by bytes, but gives one item", function()
    q:push_many { ("x"):rep(100), ("x"):rep(100), ("x"):rep(100) }
    assert.equal(2, #q:take { limit = 3, bytes = 250 })
    assert.equal(1, #q:take { limit = 3, bytes = 1 })
  end)
end)

describe("a batch", function()
  local q, batch
  before_each(function()
    q = queue()
    q:push_many { "a", "b", "c" }
    batch = q:take { limit = 3 }
  end)

  it("gives items with what is known about them", function()
    local item = batch:item(2)
    assert.equal(2, item.id)
    assert.equal("b", item.payload)
    assert.equal("orders", item.queue)
    assert.equal(0, item.attempts)
    assert.equal(1, item.deliveries)
    assert.equal(0, item.crashes)
    assert.equal(0, item.replays)
    assert.equal(0, item.priority)
    assert.near(q.store:now(), item.pushed_at, 1)
    assert.is_nil(item.expires_at)
    assert.is_nil(item.error)
    assert.is_nil(item.headers)
    assert.error_matches(function() return item.atempts end,
                         "no field 'atempts'; did you mean 'attempts'?",
                         1, true)
  end)

  it("suggests a field that begins as the unknown one", function()
    assert.error_matches(function() return batch:item(1).deliv end,
                         "no field 'deliv'; did you mean 'deliveries'?",
                         1, true)
    assert.error_matches(function() return batch:item(1).de end,
                         "no field 'de'$")
  end)

  it("has no other items than its own", function()
    for _, i in ipairs { 0, 4, -1 } do
      assert.error_matches(function() batch:item(i) end, "there is no item")
    end
  end)

  it("settles each item as it is marked", function()
    batch:item(1):done()
    batch:item(2):retry { delay = 5, error = "busy" }
    batch:item(3):dead { error = "bad", group = "data" }
    assert.is_true(batch:settle())
    assert.same({ ready = 0, leased = 0, scheduled = 0, retrying = 1,
                  dead = 1, total = 1 },
                q:length())
    assert.equal("busy", q:get(2).error)
    assert.equal("data", q.dead:oldest().group)
  end)

  it("walks over what is not settled yet", function()
    batch:item(2):done()
    batch:settle()
    local seen = {}
    for payload, item in batch:each() do
      table.insert(seen, payload .. item.id)
    end
    assert.same({ "a1", "c3" }, seen)
  end)

  it("goes by the last word", function()
    batch:item(1):dead()
    batch:item(1):done()
    batch:settle()
    assert.equal(0, q:length().dead)
    assert.error_matches(function() batch:item(1):done() end, "settled")
  end)

  it("goes by the last word of the batch, too", function()
    batch:item(2):release()
    batch:done()
    batch:item(1):release()
    batch:settle()
    assert.same({ "ready" }, { q:get(1).state })
    assert.equal(1, q:length().total)
  end)

  it("snoozes, drops and releases", function()
    batch:release()
    batch:item(1):snooze(5)
    batch:item(2):drop { error = "junk" }
    batch:settle()
    assert.equal("scheduled", q:get(1).state)
    assert.is_nil(q:get(2))
    assert.equal("ready", q:get(3).state)
    assert.equal(0, q:get(1).attempts)
    assert.equal(0, q:length().dead)
  end)

  it("refuses outcomes that are none", function()
    local item = batch:item(1)
    assert.error_matches(function() item:retry { delay = -1 } end, "'delay'")
    assert.error_matches(function() item:retry { later = 1 } end, "'later'")
    assert.error_matches(function() item:dead { group = {} } end, "'group'")
    assert.error_matches(function() item:snooze() end, "bad argument #1")
    assert.error_matches(function() batch:snooze(nan) end, "bad argument #1")
    assert.error_matches(function() batch:settle { tkae = 1 } end, "'tkae'")
    assert.error_matches(function() batch:settle { take = { timeout = 1 } } end,
                         "unknown option 'timeout'")
    assert.error_matches(function() batch:extend "x" end, "bad argument #1")
  end)

  it("hands over: outcome, follow-ups and the next batch at once", function()
    local next_queue = q.store:queue "mails"
    q:push "d"
    batch:done()
    local ok, more = batch:settle {
      push = { { queue = next_queue, payload = { to = "a" }, priority = 3 } },
      take = { limit = 10 },
    }
    assert.is_true(ok)
    assert.equal("d", more:item(1).payload)
    local mail = next_queue:peek()[1]
    assert.same({ to = "a" }, mail.payload)
    assert.equal(3, mail.priority)
  end)

  it("pushes with an item only when that is done", function()
    local follow = q.store:queue "mails"
    for i = 1, 3 do batch:item(i):push(follow, "mail " .. i) end
    batch:release()
    batch:item(1):done()
    batch:item(2):retry()
    batch:settle()
    assert.equal(1, follow:length().total)
    assert.equal("mail 1", follow:peek()[1].payload)
    assert.error_matches(function() batch:item(2):push("mails", 1) end,
                         "bad argument #1 to 'push' %(a queue expected")
  end)

  it("changes nothing once its lease is lost", function()
    q.store:advance(31)
    local again = q:take { limit = 3 }
    batch:done()
    local ok, message, code = batch:settle()
    assert.is_nil(ok)
    assert.is_string(message)
    assert.equal("LEASE_LOST", code)
    assert.equal(3, batch.lost)
    assert.is_true(#again > 0)
    assert.equal(3, q:length().total)
  end)

  it("keeps its lease when extended", function()
    q.store:advance(20)
    assert.is_true(batch:extend(60))
    q.store:advance(50)
    assert.equal(0, #q:take())
    batch:done()
    assert.is_true(batch:settle())
  end)

  it("keeps its lease by itself", function()
    assert.is_true(batch:keep())
    q.store:advance(600)
    assert.equal(0, #q:take())
    batch:done()
    assert.is_true(batch:settle())
  end)

  it("settles what is marked and releases the rest when closed", function()
    batch:item(1):done()
    assert.is_true(batch:close())
    assert.is_true(batch:close())
    assert.equal(2, q:length().ready)
    assert.error_matches(function() batch:done() end, "closed batch")
  end)

  it("tells what it is", function()
    assert.equal("respool batch of 3 from orders", tostring(batch))
    assert.equal("respool item 1 of orders", tostring(batch:item(1)))
    batch:close()
    assert.equal("respool batch (closed)", tostring(batch))
  end)
end)
