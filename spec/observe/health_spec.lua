-- SPDX-License-Identifier: MIT
--
-- Health: the storage, the reader slots and each queue.

local helper = require "spec.helper"

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue("orders", { max_attempts = 1 }))
end)

-- Works off `n` items of which the first `bad` fail.
local function work(n, bad)
  for i = 1, n do q:push(i <= bad) end
  q:work(function(fails) if fails then error "no" end end,
         { stop_when_empty = true })
end

-- The health of a store, `store` if none is given, whose disk may be slow
-- where no bound is given.
local function health(options, of)
  local all = {}
  for name, bound in pairs(helper.UNTIMED) do all[name] = bound end
  for name, bound in pairs(options or {}) do all[name] = bound end
  return (of or store):health(all)
end

local function orders(options)
  return health(options).components.queues.orders
end

describe("the health of a buffer", function()
  before_each(function()
    q = assert(store:queue("orders", {
      max_items = 2, buffer = { items = 9 } }))
  end)

  it("is told where there is one", function()
    assert(q:push "x")
    local b = health().components.buffers.orders
    assert.same({ "healthy", 1 }, { b.status, b.items })
  end)

  -- Twenty items were stuck on a full disk, and all was healthy.
  it("is degraded as long as its flushes fail", function()
    for i = 1, 3 do assert(q:push(i)) end
    assert.is_nil(q:flush())
    local never = { degraded = math.huge, unhealthy = math.huge }
    local h = health { fill = never }
    assert.equal("degraded", h.status)
    local b = h.components.buffers.orders
    assert.same({ "degraded", 1, "FULL" }, { b.status, b.items, b.code })
    assert.matches("max_items is 2", b.error)
    assert(store:queue("orders", { max_items = 9 }))
    assert(q:flush())
    assert.equal("healthy", health { fill = never }.status)
  end)
end)

describe("store:health", function()
  it("finds a store healthy that has nothing to complain of", function()
    local h = health()
    assert.equal("healthy", h.status)
    assert.equal("healthy", h.components.storage.status)
    if helper.engine == "lmdb" then
      assert.equal("healthy", h.components.readers.status)
      assert.equal(256, h.components.readers.max)
      assert.is_true(h.components.readers.used >= 1)
    end
    assert.same({
      status = "healthy", oldest_age = 0, paused = false, ready = 0,
      leased = 0, scheduled = 0, retrying = 0, dead = 0, refused = 0,
    }, h.components.queues.orders)
  end)

  it("times a durable write and a read", function()
    local storage = health().components.storage
    assert.is_true(storage.write_seconds > 0)
    assert.is_true(storage.read_seconds >= 0)
    if helper.engine == "lmdb" then
      assert.near(0, storage.store_fill, 0.001)
    end
  end)

  it("leaves no trace of that but a commit", function()
    local before = store:stats()
    for _ = 1, 50 do health() end
    local after = store:stats()
    assert.equal(before.last_txn + 50, after.last_txn)
    assert.is_true(after.used_bytes <= before.used_bytes + 2 * 4096)
    assert.same({}, store:replays())
    assert.same({ "orders" }, store:queues())
    assert.same({}, store:check())
  end)

  it("finds a slow storage degraded, or unhealthy", function()
    local o = { write_seconds = { degraded = 0, unhealthy = 60 } }
    assert.equal("degraded", health(o).status)
    local h = health { write_seconds = { unhealthy = 0 } }
    assert.equal("unhealthy", h.status)
    assert.equal("unhealthy", h.components.storage.status)
  end)

  it("finds a queue degraded whose items fail", function()
    orders()
    work(10, 2)
    local part = orders()
    assert.equal(0.2, part.error_rate)
    assert.equal("degraded", part.status)
    assert.equal("degraded", health().status)
    assert.equal("healthy", orders({ error_rate = 0.2,
                                     dead_share = 0.2 }).status)
  end)

  it("finds it unhealthy when most fail", function()
    orders()
    work(10, 8)
    assert.equal("unhealthy", orders().status)
  end)

  it("looks back no further than the window", function()
    orders()
    work(20, 20)
    assert.equal(1, orders({ window = 60 }).error_rate)
    store:advance(61)
    assert.is_nil(orders({ window = 60 }).error_rate)
    work(10, 0)
    assert.equal(0, orders({ window = 60 }).error_rate)
  end)

  it("does not judge a few failures", function()
    work(9, 9)
    assert.is_nil(orders().error_rate)
    assert.equal(1, orders({ least = 1 }).error_rate)
    work(1, 1)
    assert.equal(1, orders().error_rate)
  end)

  -- What was before its first call did not count.
  it("judges what was since the queue was opened", function()
    work(20, 20)
    assert.equal(1, orders().error_rate)
    local other = assert(helper.open(store.path, { clock = "manual" }))
    assert(other:queue "orders")
    assert.is_nil(health({}, other).components.queues.orders.error_rate)
  end)

  -- 200 of 600 items were dead, and all was healthy.
  it("finds a queue degraded whose items are dead letters", function()
    work(20, 5)
    orders()
    store:advance(301)
    local part = orders()
    assert.same({ "degraded", 0.25 }, { part.status, part.dead_share })
    assert.equal("unhealthy", orders({ dead_share = { unhealthy = 0.2 } })
                                .status)
    q.dead:purge()
    assert.equal("healthy", orders().status)
  end)

  it("finds a queue degraded that refuses pushes", function()
    local small = assert(store:queue("small", { max_items = 1 }))
    local never = { degraded = math.huge, unhealthy = math.huge }
    small:push(1)
    for _ = 1, 3 do assert.is_nil(small:push(2)) end
    local function part()
      return health { fill = never }.components.queues.small
    end
    assert.same({ "degraded", 3 }, { part().status, part().refused })
    store:advance(320)
    assert.same({ "healthy", 0 }, { part().status, part().refused })
  end)

  it("keeps to bounds for what is ready and what is dead", function()
    work(3, 3)
    q:push_many { 1, 2 }
    local never = { degraded = math.huge, unhealthy = math.huge }
    local function status(name, most)
      return orders({ error_rate = never, [name] = most }).status
    end
    assert.same({ "healthy", "degraded", "healthy", "degraded" }, {
      status("ready", 2), status("ready", 1), status("dead", 3),
      status("dead", 2) })
  end)

  it("judges one queue alone, if asked for", function()
    assert(store:queue "other")
    local parts = health { queue = "other" }.components.queues
    assert.same({ "other" }, { next(parts), next(parts, next(parts)) })
    assert.equal("unhealthy", health { queue = "none" }.status)
  end)

  -- It waited as long as somebody held the lock.
  it("answers within its bound while another process holds the writer lock",
     function()
    local go = helper.dir() .. "/go"
    local lock = assert(io.popen(("exec %s/spec/writer %s %s"):format(
      os.getenv "RESPOOL_BUILD", store.path, go)))
    assert.equal("held", lock:read())
    local o = { write_seconds = { degraded = 0, unhealthy = 0.05 } }
    for _ = 1, 2 do
      local h = health(o)
      assert.same({ "unhealthy", "TIMEOUT" },
                  { h.status, h.components.storage.code })
    end
    helper.write(go, "")
    lock:close()
    assert.equal("healthy", health().status)
  end)

  it("starts over with a queue that was made anew", function()
    work(20, 20)
    orders()
    store:drop_queue "orders"
    q = store:queue("orders", { max_attempts = 1 })
    work(5, 0)
    assert.is_nil(orders({ least = 1 }).error_rate)
    work(5, 0)
    assert.equal(0, orders({ least = 1 }).error_rate)
  end)

  it("finds a queue degraded that is left alone", function()
    q:push(1)
    store:advance(3600)
    assert.equal("healthy", orders().status)
    store:advance(1)
    assert.equal("degraded", orders().status)
    assert.equal(3601, orders().oldest_age)
    assert.equal("unhealthy", orders({
      oldest_age = { degraded = 60, unhealthy = 600 },
    }).status)
  end)

  it("finds a queue unhealthy that is full", function()
    q = store:queue("orders", { max_items = 10 })
    q:push_many { 1, 2, 3, 4, 5, 6, 7, 8 }
    assert.equal("healthy", orders().status)
    q:push(9)
    assert.equal("degraded", orders().status)
    q:push(10)
    assert.equal("unhealthy", orders().status)
    assert.equal(1, orders().fill)
  end)

  it("finds it unhealthy when the readers run out", function()
    local h = health { readers = { unhealthy = 0 } }
    assert.equal("unhealthy", h.components.readers.status)
    assert.equal("unhealthy", h.status)
  end)

  it("tells of a storage that cannot be written, while it cannot", function()
    local dir = helper.dir()
    helper.write(dir .. "/main.lua", [[
      local store = assert(require "respool".open(arg[1]))
      for _, limit in ipairs { "4096:", "unlimited:" } do
        os.execute("prlimit --pid $PPID --fsize=" .. limit)
        local bound = { degraded = 60, unhealthy = 60 }
        local h = store:health { read_seconds = bound, write_seconds = bound }
        print(h.status, h.components.storage.status,
              h.components.storage.code, h.components.storage.error)
      end
    ]])
    local said = helper.sh(("trap '' XFSZ; %s %s/main.lua %s/store 2>&1")
      :format(helper.lua(), dir, dir))
    assert.matches("^unhealthy\tunhealthy\tNOSPACE\tno space left",
                   said)
    assert.matches("\nhealthy\thealthy\tnil\tnil$", said)
  end)

  it("refuses bounds that are none", function()
    local wrong = {
      write_seconds = "x", read_seconds = -1, store_fill = { 1 },
      readers = { degraded = "x" }, error_rate = true,
      oldest_age = { worst = 1 }, fill = { unhealthy = -1 }, window = -1,
      least = 0,
    }
    for name, value in pairs(wrong) do
      assert.error_matches(function() store:health { [name] = value } end,
                           "store:health: option '" .. name .. "' must be")
    end
    assert.error_matches(function() store:health { x = 1 } end,
                         "store:health: unknown option 'x'")
  end)
end)
