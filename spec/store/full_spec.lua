-- SPDX-License-Identifier: MIT
--
-- A full store (guarantee 7): it refuses pushes, and everything else
-- goes on until there is room again.

local helper = require "spec.helper"
local respool = require "respool"

local store, q

local function queue(name, options)
  local all = { retry = respool.backoff.constant { delay = 5 },
                codec = "raw" }
  for option, value in pairs(options or {}) do all[option] = value end
  return assert(store:queue(name or "orders", all))
end

before_each(function()
  store = helper.store { max_bytes = "2MiB", sync = "relaxed" }
  q = queue()
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local plain_it = it
local it = helper.checked(it)

-- A payload of a length that differs from its neighbours'.
local function payload(i, size)
  return ("%d:"):format(i) .. ("x"):rep(size + i % 7)
end

-- Pushes batches of payloads, then single ones, until the store is full.
-- Returns how many there are.
local function fill(size, options)
  local n, step = 0, 50
  repeat
    local list = {}
    for i = 1, step do list[i] = payload(n + i, size) end
    local id, _, code = q:push_many(list, options)
    if id then
      n = n + step
    else
      assert.equal("FULL", code)
      step = step > 1 and 1 or 0
    end
  until step == 0
  assert.is_true(n > 20)
  return n
end

-- Takes until nothing is left; `settle` deals with each batch.
local function drain(settle)
  local idle = 0
  while q:length().total > 0 do
    local batch = assert(q:take { limit = 37 })
    idle = #batch == 0 and idle + 1 or 0
    assert.is_true(idle < 20, "nothing comes any more")
    if #batch > 0 then settle(batch) end
    if #batch == 0 then store:advance(5) end
  end
end

local function settle_as(verb, argument)
  return function(batch)
    batch[verb](batch, argument)
    assert(batch:settle())
  end
end

-- There is room again for as much as there was before.
local function assert_room(n, size)
  q.dead:purge()
  assert.equal(0, q:stats().bytes)
  assert.is_true(fill(size) >= n * 0.9)
end

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

-- A process that holds a reader open until it is killed.
local function hold_reader()
  local process = helper.spawn([[
    os.execute("exec '" .. arg[1] .. "/spec/reader' '" .. arg[2] .. "'")]],
    build, store.path)
  process:expect "reading"
  return process
end

describe("a full store that somebody reads for long", function()
  for _, verb in ipairs { "done", "dead" } do
    it("refuses pushes, and lets all items be " .. verb, function()
      local n = fill(1000)
      local reader = hold_reader()
      assert.equal("FULL", (select(3, q:push(payload(0, 1000)))))
      drain(settle_as(verb))
      assert.equal(n, q:stats()[verb == "done" and "done" or "died"])
      os.execute("LD_PRELOAD= pkill -P " .. reader.pid)
      reader:wait()
      assert_room(n, 1000)
    end)
  end

  it("refuses pushes while it is held open since it was empty", function()
    local reader = hold_reader()
    local n = fill(1000)
    drain(settle_as "done")
    assert.equal(n, q:stats().done)
    os.execute("LD_PRELOAD= pkill -P " .. reader.pid)
    reader:wait()
  end)
end)

-- A file system of a few MiB (8), for root.
local function small_disk(body, size)
  local dir = helper.dir()
  local mounted = os.execute(("mount -t tmpfs -o size=%dm tmpfs %s 2>/dev/null")
    :format(size or 8, dir))
  if mounted ~= true and mounted ~= 0 then
    pending "a full disk needs root, to mount a small one"
    return
  end
  local ok, problem = pcall(function()
    store = assert(helper.open(dir .. "/store", {
      clock = "manual", seed = helper.seed, sync = "relaxed" }))
    q = queue()
    body()
    assert.same({}, store:check())
    store:close()
  end)
  os.execute("umount -l " .. dir)
  assert(ok, problem)
end

-- As fill(), of a disk, with lists of `most` items at first.
local function fill_disk(size, most)
  local n, step = 0, most or 50
  while step > 0 do
    local list = {}
    for i = 1, step do list[i] = payload(n + i, size) end
    local id, message, code = q:push_many(list)
    if id then
      n = n + step
    else
      assert.equal("NOSPACE", code)
      assert.matches("no space left on the device", message)
      step = step > 1 and 1 or 0
    end
  end
  assert.is_true(n > 20)
  return n
end

describe("a full disk", function()
  for _, size in ipairs { 100, 1000, 40000 } do
    plain_it(("is drained, of items of %d bytes"):format(size), function()
      small_disk(function()
        local n = fill_disk(size)
        drain(settle_as "done")
        assert.equal(n, q:stats().done)
        assert.is_true(fill_disk(size) > n / 4)
      end)
    end)
  end

  plain_it("lets items be dead, tried again, and done", function()
    small_disk(function()
      local n, i = fill_disk(1000), 0
      drain(function(batch)
        i = i + 1
        local verb = i > 60 and "done"
          or ({ "dead", "retry", "done" })[i % 3 + 1]
        settle_as(verb)(batch)
      end)
      assert.equal(n, q:stats().done + q:stats().died)
    end)
  end)

  -- Each item of a batch that was less than a quarter of its segment was copied
  -- to a segment of its own when it was put off, whole batches with them. On a
  -- full disk the copies took the room that is kept for settling, and then
  -- nothing went on. So it was after `respool export --remove`.
  for _, verb in ipairs { "snooze", "retry" } do
    plain_it("is drained of small items that were put off with " .. verb,
             function()
      small_disk(function()
        local n = fill_disk(20, 2000)
        local before = store:stats().file_bytes
        while q:length().ready > 0 do
          local batch = q:take { limit = 100 }
          settle_as(verb, verb == "snooze" and 20 or { delay = 20 })(batch)
        end
        assert.is_true(store:stats().file_bytes < before + 2^19)
        store:advance(20)
        drain(function(batch)
          for i, item in batch:each() do
            if #i % 7 == 0 then item:dead() end
          end
          settle_as "done"(batch)
        end)
        assert.equal(n, q:stats().done + q:stats().died)
      end)
    end)
  end

  -- It used to be told that the lock file had been left half made.
  plain_it("has no room for a new store, and says so", function()
    small_disk(function()
      local disk = store.path:match "^(.*)/"
      for _, block in ipairs { 65536, 4096, 1 } do
        helper.sh(("dd if=/dev/zero of='%s/fill.%d' bs=%d 2>&1"):format(
          disk, block, block))
      end
      local none, message, code = helper.open(disk .. "/new")
      assert.is_nil(none)
      assert.equal("NOSPACE", code)
      assert.matches("[Nn]o space left on [Dd]evice", message)
      helper.sh(("rm '%s'/fill.*"):format(disk))
      assert(helper.open(disk .. "/new")):close()
    end)
  end)

  -- A store that found no room for its journal, behind what it claims of the
  -- disk for the data file, did without until all processes had closed it.
  plain_it("lets the journal be made once there is room for it", function()
    small_disk(function()
      local disk = store.path:match "^(.*)/"
      local function has_journal()
        local file = io.open(store.path .. "/journal")
        if file then file:close() end
        return file ~= nil
      end
      helper.sh(("dd if=/dev/zero of='%s/fill' bs=65536 2>&1; "
        .. "truncate -s -10M '%s/fill'"):format(disk, disk))
      for _ = 1, 3 do assert(q:push "a") end
      assert.is_false(has_journal())
      os.remove(disk .. "/fill")
      for _ = 4, 40 do assert(q:push "a") end
      assert.is_true(has_journal())
      drain(settle_as "done")
      assert.equal(40, q:stats().done)
    end, 32)
  end)

  -- Dead letters of small items are larger than the items.
  plain_it("keeps room for what copies nothing when dead letters fill it",
           function()
    small_disk(function()
      local n = fill_disk(20, 2000)
      local ok, message, code, batch
      repeat
        batch = assert(q:take { limit = 100 })
        batch:dead { error = ("x"):rep(100), group = "g" }
        ok, message, code = batch:settle()
      until not ok
      assert.equal("NOSPACE", code)
      assert.matches("no space left on the device for store", message)
      local health = store:health()
      assert.same({ "unhealthy", "NOSPACE" },
                  { health.status, health.components.storage.code })
      local looker = assert(helper.open(store.path, { read_only = true }))
      assert.equal("NOSPACE", looker:health().components.storage.code)
      looker:close()
      local died = q:stats().died
      assert.is_true(died > 1000 and died < n - 1000)
      for _, item in batch:each() do item:done() end
      assert(batch:settle())
      drain(settle_as "done")
      assert.same({ n, died }, { q:stats().done + died, q.dead:count() })
    end)
  end)

  -- One take made dead letters of more than the disk had room for, and each
  -- that followed tried the same.
  plain_it("buries what has expired as far as there is room", function()
    small_disk(function()
      q = queue("orders", { ttl = 10 })
      local n = fill_disk(20, 2000)
      local batch, message, code
      store:advance(11)
      repeat batch, message, code = q:take() until not batch
      assert.equal("NOSPACE", code)
      assert.matches("no space left on the device for store", message)
      local died = q.dead:purge()
      assert.is_true(died > 1000)
      assert.equal(n, q:length().total + died)
      assert.equal(0, #assert(q:take()))
      assert.is_true(q.dead:count() > 1000)
      queue("orders", { on_expire = "drop" })
      while q:length().total > 0 do assert(q:take()) end
    end)
  end)

  -- A purge that needed more pages for its commit than there were did nothing.
  plain_it("gives back what dead letters take, few at a time if need be",
    function()
    small_disk(function()
      math.randomseed(1)
      for _ = 1, 4 do
        while q:push(("x"):rep(math.random(10, 40000))) do end
        os.execute(("dd if=/dev/zero of=%s/../rest bs=4k 2>/dev/null"):format(
          store.path))
        while q:length().total > 0 do
          local batch = assert(q:take())
          batch:dead { error = "no" }
          if not batch:settle() then -- its dead letter needs room
            for _, item in batch:each() do item:done() end
            assert(batch:settle())
          end
        end
        assert.is_true(q.dead:count() > 100)
        assert.equal(q.dead:count(), (assert(q.dead:purge())))
        assert.equal(0, q.dead:count())
      end
    end, 12)
  end)

  plain_it("harms nothing that was there", function()
    small_disk(function()
      local n, i = fill_disk(300), 0
      drain(function(batch)
        for found in batch:each() do
          i = i + 1
          assert.equal(payload(i, 300), found)
        end
        settle_as "done"(batch)
      end)
      assert.equal(n, i)
    end)
  end)
end)

-- `ulimit -f` bounds files where the disk has room: fallocate does not see it.
-- What the journal had taken could not be applied, and nothing went on.
describe("a file that may not grow", function()
  plain_it("refuses pushes, and consumers go on", function()
    local dir = helper.dir()
    helper.write(dir .. "/main.lua", [[
      local journal = arg[2] == "true"
      local store = assert(require "respool".open(arg[1], {
        journal = journal, log = false,
      }))
      local q, n, id, code, _ = store:queue "orders", -1
      repeat
        n = n + 1
        id, _, code = q:push(("x"):rep(3000))
      until not id
      local counts = assert(q:work(function() end, { stop_when_empty = true }))
      print(code, n > 100 and counts.done == n)
    ]])
    for _, journal in ipairs { "true", "false" } do
      local said = helper.sh(("ulimit -f 24000; %s %s/main.lua %s/%s %s 2>&1")
        :format(helper.lua(), dir, dir, journal, journal))
      assert.equal("NOSPACE\ttrue", (said:gsub("\n", "")))
    end
  end)
end)

describe("a full store", function()
  it("says so, and stores nothing of what it refuses", function()
    local n = fill(1000)
    local before = store:stats()
    local id, message, code = q:push(payload(0, 1000))
    assert.is_nil(id)
    assert.equal("FULL", code)
    assert.matches("max_bytes is 2097152", message)
    assert.equal(n, q:length().total)
    assert.equal(before.used_bytes, store:stats().used_bytes)
    assert.is_true(before.used_bytes <= 2^21)
  end)

  it("refuses pushes to every queue of it", function()
    fill(1000)
    local mails = queue "mails"
    local _, _, code = mails:push(payload(0, 1000))
    assert.equal("FULL", code)
  end)

  it("has everything that was acknowledged, as it was pushed", function()
    local n, i = fill(300), 0
    drain(function(batch)
      for found in batch:each() do
        i = i + 1
        assert.equal(payload(i, 300), found)
      end
      settle_as "done"(batch)
    end)
    assert.equal(n, i)
    assert_room(n, 300)
  end)

  for _, size in ipairs { 10, 1000, 40000 } do
    local of = (" of %d bytes"):format(size)

    it("takes and settles until it is empty, items" .. of, function()
      local n = fill(size)
      drain(settle_as "done")
      assert.equal(n, q:stats().done)
      assert_room(n, size)
    end)

    it("makes dead letters of everything, items" .. of, function()
      q = queue("orders", { max_attempts = 1 })
      local n = fill(size)
      drain(settle_as("retry", { error = "no", group = "full" }))
      assert.equal(n, q.dead:count())
      local quarter = {}
      for i = 1, math.floor(n / 4) do quarter[i] = payload(i, size) end
      assert.equal("FULL", select(3, q:push_many(quarter)))
      assert_room(n, size)
    end)
  end

  it("lets whole batches be tried again, released and snoozed", function()
    local n = fill(500)
    local rounds = 0
    drain(function(batch)
      rounds = rounds + 1
      local verb = rounds > 200 and "done"
        or ({ "retry", "release", "snooze" })[rounds % 3 + 1]
      settle_as(verb, verb == "snooze" and 3 or nil)(batch)
    end)
    assert.equal(n, q:stats().done + q:stats().died)
    assert_room(n, 500)
  end)

  it("lets every item have an outcome of its own", function()
    math.randomseed(helper.seed)
    local n = fill(200)
    local SAY = {
      function(item) item:done() end,
      function(item) item:retry { delay = math.random(30), error = "no" } end,
      function(item) item:snooze(math.random(30)) end,
      function(item) item:dead { error = "bad" } end,
    }
    drain(function(batch)
      for _, item in batch:each() do SAY[math.random(#SAY)](item) end
      assert(batch:settle())
    end)
    assert.equal(n, q:stats().done + q:stats().died)
    assert.equal(q:stats().died, q.dead:count())
    assert_room(n, 200)
  end)

  it("delivers again what crashed, in halves", function()
    local n = fill(1000)
    for _ = 1, 5 do
      q:take { limit = n }
      store:advance(31)
    end
    drain(settle_as "done")
    assert.equal(n, q:stats().done + q:stats().died)
  end)

  it("buries what has expired", function()
    local n = fill(1000, { ttl = 10 })
    store:advance(10)
    assert.equal(0, #q:take { limit = 10 })
    for _ = 1, 20 do q:take() end
    assert.same({ n, 0 }, { q.dead:count(), q:length().total })
    assert_room(n, 1000)
  end)

  it("can be purged", function()
    local n = fill(1000)
    assert.equal(n, q:purge())
    assert_room(n, 1000)
  end)

  it("refuses a settle that pushes, as a whole", function()
    local n = fill(1000)
    local batch = q:take { limit = 3 }
    batch:done()
    local list = {}
    for i = 1, 5 do list[i] = { queue = q, payload = payload(i, 1000) } end
    local ok, _, code = batch:settle { push = list }
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.same({ 3, n }, { q:length().leased, q:length().total })
    assert.is_true(batch:done())
    assert.is_true(batch:settle())
    assert.equal(3, q:stats().done)
  end)

  it("can be opened, worked on and drained by another", function()
    local n = fill(1000)
    assert(store:close())
    store = assert(helper.open(store.path, { clock = "manual",
                                             max_bytes = "2MiB" }))
    q = queue()
    assert.equal("FULL", select(3, q:push(payload(0, 1000))))
    local counts = q:work(function() end, { stop_when_empty = true })
    assert.equal(n, counts.done)
    assert_room(n, 1000)
  end)

  it("fills and drains again and again", function()
    local least = fill(2000)
    for _ = 1, 4 do
      drain(settle_as "done")
      local n = fill(2000)
      assert.is_true(n >= least * 0.9)
    end
    assert.is_true(store:stats().used_bytes <= 2^21)
  end)

  it("has room again with a higher max_bytes", function()
    local n = fill(1000)
    local other = assert(helper.open(store.path, { max_bytes = "4MiB" }))
    assert(other:queue("orders", { codec = "raw" }):push(payload(0, 1000)))
    assert.equal(n + 1, q:length().total)
  end)
end)
