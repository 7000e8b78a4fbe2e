-- SPDX-License-Identifier: MIT
--
-- Compaction: the file is smaller afterwards, what is in it the same, and no
-- commit is lost, whoever opens the store meanwhile.

local helper = require("spec.helper").without_journal()
local respool = require "respool"

-- A store whose file holds far more room than items, closed; its path.
local function airy()
  local path = helper.location()
  local store = assert(helper.open(path))
  local mails = store:queue("mails", { lease = 7 })
  mails:push { first = true }
  local chunk = ("x"):rep(9000)
  for _ = 1, 40 do mails:push_many { chunk, chunk, chunk } end
  for id = 2, 121 do assert(mails:remove(id)) end
  mails:push { last = true }
  store:close()
  return path
end

local function contents(path)
  local store = assert(helper.open(path, { read_only = true }))
  local mails, list = store:queue "mails", {}
  for item in mails:each() do
    item.queue = nil
    list[#list + 1] = item
  end
  local all = { list, mails:stats(), mails:config() }
  all[2].oldest_age = nil
  assert.same({}, store:check())
  store:close()
  return all
end

local function size(path)
  return #helper.read(path .. "/data.mdb")
end

-- Another process that has the store open, until it is killed.
local function holder(path)
  local process = helper.spawn([[
    local respool = require "respool"
    store = assert(respool.open(arg[1]))
    print "open"
    io.stdout:flush()
    store.handle:sleep(60)
  ]], path)
  process:expect "open"
  return process
end

describe("respool.compact", function()
  it("makes the file smaller and keeps what is in it", function()
    local path = airy()
    local before, bytes = contents(path), size(path)
    local done = assert(respool.compact(path))
    assert.equal(bytes, done.before)
    assert.equal(size(path), done.after)
    assert.is_true(done.after < done.before / 4)
    assert.same(before, contents(path))
  end)

  it("leaves a store that works: ids go on", function()
    local path = airy()
    assert(respool.compact(path))
    local store = assert(helper.open(path))
    local mails = store:queue "mails"
    assert.equal(123, mails:push "next")
    local batch = mails:take { limit = 10 }
    assert.equal(3, #batch)
    batch:done()
    assert(batch:settle())
    assert.equal(0, mails:length().total)
  end)

  it("may be done again, and has nothing to do", function()
    local path = airy()
    local first = assert(respool.compact(path))
    local second = assert(respool.compact(path))
    assert.equal(first.after, second.before)
    assert.equal(first.after, second.after)
  end)

  it("keeps the mode of the file, and no other file", function()
    local path = airy()
    helper.sh(("chmod 660 %s/data.mdb"):format(path))
    assert(respool.compact(path))
    assert.equal("660 data.mdb",
                 helper.sh(("stat -c '%%a data.mdb' %s/data.mdb"):format(path)))
    assert.equal("control\ndata.mdb\nlock.mdb", helper.sh("ls " .. path))
  end)

  it("is LOCKED while this process has the store open", function()
    local path = airy()
    local bytes = size(path)
    local store = assert(helper.open(path))
    assert.equal("LOCKED", select(3, respool.compact(path)))
    assert(store:queue("mails"):push "still there")
    assert.equal(bytes, size(path))
  end)

  it("is LOCKED while another process has the store open", function()
    local path = airy()
    local process = holder(path)
    assert.equal("LOCKED", select(3, respool.compact(path)))
    process:kill()
    assert(respool.compact(path))
  end)

  it("is NOT_FOUND where there is no store", function()
    local dir = helper.dir()
    assert.equal("NOT_FOUND", select(3, respool.compact(dir)))
    assert.equal("NOT_FOUND", select(3, respool.compact(dir .. "/none")))
    assert.equal("", helper.sh("ls " .. dir))
  end)

  it("raises on a path that is none", function()
    assert.has_error(function() respool.compact "" end)
    assert.has_error(function() respool.compact ":memory:" end)
    assert.has_error(function() respool.compact("x", { into = "y" }) end)
  end)
end)

describe("respool.compact with `to`", function()
  it("copies the store while another process has it open", function()
    local path, to = airy(), helper.location()
    local process = holder(path)
    local before, bytes = contents(path), size(path)
    local done = assert(respool.compact(path, { to = to }))
    assert.is_true(done.after < done.before / 4)
    assert.equal(bytes, size(path))
    assert.same(before, contents(to))
    process:kill()
  end)

  it("is EXISTS where there is a store already", function()
    local path, to = airy(), airy()
    local before = contents(to)
    assert.equal("EXISTS", select(3, respool.compact(path, { to = to })))
    assert.equal("EXISTS", select(3, respool.compact(path, { to = path })))
    assert.same(before, contents(to))
  end)
end)


-- Pushers open the store, push, print the id that is on disk now, and close
-- it, again and again, until it has been compacted some times. Whatever was
-- printed must be there, and no push may fail. The control replaces the file
-- as one would without any lock, by a copy and a rename.
local PUSHER = [[
  local respool = require "respool"
  local path, n = arg[1], 0
  while n < tonumber(arg[2]) or not io.open(path .. ".enough") do
    n = n + 1
    local store = assert(respool.open(path, { journal = false }))
    local id = assert(store:queue("mails"):push "x")
    store:close()
    print("pushed " .. id)
    io.stdout:flush()
    require "respool.core".process.nap(0.004)
  end
]]

local PUSHES = 60

local function runs(process)
  return helper.sh(("kill -0 %d 2>&1"):format(process.pid)) == ""
end

-- Ids that were printed and are not there, and what else is wrong.
local function harm(path, pushers)
  local store = helper.open(path, { read_only = true })
  if not store then return 1 end
  local mails, lines = store:queue "mails", store:check()
  if not mails or not lines then return 1 end
  local n = #lines
  for _, pusher in ipairs(pushers) do
    if pusher:wait() ~= 0 then n = n + 1 end
    for id in pusher:output():gmatch "pushed (%d+)" do
      if not mails:get(tonumber(id)) then n = n + 1 end
    end
  end
  store:close()
  return n
end

-- Compacts by compact(path) while two processes push: the harm that is done.
local function race(compact)
  local path, pushers, done = airy(), {}, 0
  for i = 1, 2 do pushers[i] = helper.spawn(PUSHER, path, PUSHES) end
  while runs(pushers[1]) or runs(pushers[2]) do
    if compact(path) then done = done + 1 end
    if done == 3 then helper.write(path .. ".enough", "") end
  end
  return harm(path, pushers)
end

-- What is wrong with a push whose store is replaced under it without a lock.
local function replaced_under()
  local path, copy = airy(), helper.location()
  local pusher = helper.spawn([[
    local store = assert(require "respool".open(arg[1]))
    print "open"
    io.stdout:flush()
    while not io.open(arg[1] .. "/go") do store.handle:sleep(0.002) end
    print("pushed " .. assert(store:queue("mails"):push "x"))
  ]], path)
  pusher:expect "open"
  assert(respool.compact(path, { to = copy }))
  assert(os.rename(copy .. "/data.mdb", path .. "/data.mdb"))
  helper.write(path .. "/go", "")
  return harm(path, { pusher })
end

describe("compaction among processes that push", function()
  it("loses no commit of theirs", function()
    assert.equal(0, race(respool.compact))
  end)

  it("would break some if it locked nobody out", function()
    assert.is_true(replaced_under() > 0)
  end)
end)

describe("a compaction that is killed", function()
  it("leaves a store that is whole, at any moment", function()
    local path = airy()
    local before = contents(path)
    for ms = 0, 12, 2 do
      local process = helper.spawn([[
        print "here"
        io.stdout:flush()
        for _ = 1, 50 do require "respool".compact(arg[1]) end
      ]], path)
      process:expect "here"
      helper.sh(("sleep 0.%03d"):format(ms))
      process:kill()
      assert.same(before, contents(path))
    end
    assert(respool.compact(path))
    assert.equal("control\ndata.mdb\nlock.mdb", helper.sh("ls " .. path))
  end)
end)
