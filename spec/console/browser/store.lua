-- SPDX-License-Identifier: MIT
--
-- The stores that the page's specs look at: `store.lua PATH` makes one with
-- items in every state, dead letters of several groups, and names and payloads
-- that would be markup; `store.lua PATH N` one with N queues.

local respool = require "respool"

-- A queue that has been worked on for three hours.
local function past(path)
  local store = assert(respool.open(path, { log = false, clock = "manual" }))
  local q = store:queue "busy"
  store:advance(-3 * 3600)
  for i = 0, 36 do
    for n = 1, 30 + i % 7 * 10 do q:push(n) end
    store:advance(200)
    q:work(function(n)
      store:advance(0.05)
      if n == 20 then
        return respool.dead { group = "past", error = "gone since " .. i }
      end
    end, { limit = 40 + i % 5 * 5, stop_when_empty = true })
    assert(store:maintain())
    store:advance(90)
  end
  store:close()
end

if not arg[2] then past(arg[1]) end

local store = assert(respool.open(arg[1], { log = false }))

if arg[2] then
  for i = 1, tonumber(arg[2]) do
    assert(store:queue(("queue-%04d"):format(i))):push(i)
  end
  store:close()
  os.exit(0)
end

local MARKUP = "<script>hacked = 1</script><img src=x onerror='hacked = 2'>"
local TURNED = "\226\128\174txt.exe" -- an override of direction

local q = store:queue("mails", {
  max_attempts = 3, retry = respool.backoff.constant { delay = 600 },
})
for i = 1, 40 do
  q:push({ to = ("user%d@example.org"):format(i), n = i,
           lines = { { sku = "A-" .. i, price = 9.5 }, { sku = "B" } } },
         { headers = { traceparent = "00-abc" } })
end
q:work(function(_, item)
  if item.id % 4 == 0 then error("connection refused", 0) end
  if item.id % 5 == 0 then
    item:dead { group = "HTTP 410", error = "HTTP 410: gone" }
  elseif item.id % 7 == 0 then
    item:dead { group = MARKUP, error = MARKUP .. TURNED }
  end
end, { limit = 30 })
local typos = store:queue "typos"
for i = 1, 3 do
  typos:push { to = ("user%d@exmaple.org"):format(i), n = i }
end
typos:work(function() return respool.dead { group = "no such host" } end,
  { limit = 3 })
q:push({ later = true }, { delay = 3600 })
q:push({ [MARKUP] = MARKUP .. TURNED, exact = 1234567890123456 },
       { priority = 9, key = MARKUP })
q:push(("M"):rep(2^20))
q:push(("\255\0\1"):rep(100))
store:queue(MARKUP):push(1)
store:queue(TURNED):push { text = TURNED }
store:queue("bytes\255name"):push(3)
store:queue(("long-"):rep(50)):push(4)

local kept = store:queue("orders", { keep_done = 3600, max_items = 100 })
for i = 1, 20 do kept:push { order = i } end
kept:work(function() end, { limit = 10 })
store:queue "holiday":pause()
store:queue "reports"
assert(store:schedule("nightly", {
  cron = "0 3 * * *", queue = "reports", payload = { all = true },
}))
local tenants = store:queue("tenants", { partitions = { concurrency = 1 } })
for i = 1, 12 do
  for _ = 1, i do tenants:push(i, { partition = ("tenant-%02d"):format(i) }) end
end
tenants:push(0, { partition = MARKUP .. TURNED })
tenants:hold(3600, { partition = "tenant-07", reason = "429 of " .. MARKUP })
local batch = store:queue("orders"):take { limit = 2, lease = 600 }
io.write(#batch, "\n")
os.exit(0) -- leased until the lease runs out
