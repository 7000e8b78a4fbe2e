-- SPDX-License-Identifier: MIT
--
-- Makes the store of format 1 that spec/lmdb/migrate_spec.lua migrates. Runs
-- with the tree as it was before format 2, commit e86f9e1, whose words it
-- uses (lots, boxes, jobs, lanes):
--
--   git worktree add OLD e86f9e1 && cd OLD && make lua5.4
--   LUA_PATH='lua/?.lua;lua/?/init.lua' LUA_CPATH='build/5.4/?.so' \
--     lua5.4 THIS-FILE DIRECTORY
--   bin/respool compact DIRECTORY
--   gzip -9n <DIRECTORY/data.mdb >spec/data/format1.mdb.gz

local respool = require "respool"

local dir = assert(arg[1], "a directory is missing")
local LONG = 100 * 365 * 86400

local function push(queue, payload, o)
  return assert(queue:push(payload, o))
end

local function numbers(n, word)
  local list = {}
  for i = 1, n do list[i] = { n = i, word = word } end
  return list
end

-- Sixteen bytes of digits for each `n`, which do not compress to nothing.
local function large(n)
  local parts, x = {}, 1
  for i = 1, n do
    x = x * 48271 % 2147483647
    parts[i] = ("%010d"):format(x)
  end
  return table.concat(parts)
end

local store = assert(respool.open(dir, { clock = "manual" }))

-- A queue's time never goes back: whoever opens the store sees it as it is now,
-- with its leases.
store:advance(20 * 365 * 86400)

-- Ready in several priorities, scheduled, and a segment half settled.
local ready = assert(store:queue("ready", { lanes = { [9] = 5, [0] = 1 } }))
assert(ready:push_many(numbers(300, "low")))
assert(ready:push_many(numbers(20, "high"), { priority = 9 }))
assert(ready:push_many(numbers(3, "later"), { delay = LONG }))
assert(ready:push_many(numbers(2, "soon"), { delay = 60 }))
local lot = assert(ready:take { items = 40 })
for payload, item in lot:each() do
  if payload.n % 3 == 0 then item:done() else item:release() end
end
assert(lot:settle())

-- Leased with a live claim and with one that has run out; retrying, snoozed
-- and crashed.
local leased = assert(store:queue("leased", {
  lease = 7 * 86400, max_hold = 7 * 86400, max_attempts = 4,
  retry = respool.backoff.exponential { initial = 5, max = 500 },
}))
assert(leased:push_many(numbers(50, "leased")))
lot = assert(leased:take { items = 10 })
for payload, item in lot:each() do
  if payload.n <= 4 then
    item:retry { delay = 500, error = "no answer", group = "timeout" }
  elseif payload.n <= 6 then
    item:snooze(400)
  else
    item:release()
  end
end
assert(lot:settle())
assert(leased:take { items = 10, lease = 5 })
store:advance(10)
assert(leased:take { items = 5, lease = 5 })
assert(leased:take { items = 5, lease = 5 })
assert(leased:take { items = 10 })
store:advance(6)
push(leased, { n = 51, word = "leased" })

-- Keys, a window, an expiry, headers, a codec of its own.
local keyed = assert(store:queue("keyed", { keep_done = 365 * 86400 }))
push(keyed, { to = "ada" }, { key = "ada", headers = { trace = "4bf9" } })
push(keyed, { to = "bob" }, { key = "bob", dedup = LONG })
push(keyed, { to = "old" }, { ttl = 20, priority = 3 })
push(keyed, { to = "eve" }, { ttl = LONG, key = "eve" })
lot = assert(keyed:take { items = 2 })
lot:done()
assert(lot:settle())
local raw = assert(store:queue("raw", { codec = "raw" }))
push(raw, "\0\1\2 plain bytes \255")
local own = assert(store:queue("own", { codec = {
  name = "reverse", encode = string.reverse, decode = string.reverse,
} }))
push(own, "stressed")

-- Large items, ready, dead and finished.
local big = assert(store:queue("big", { keep_done = 365 * 86400,
  dead_letter = "big failures" }))
for i = 1, 4 do push(big, { n = i, text = large(1600 + 50 * i) }) end
lot = assert(big:take { items = 2 })
lot:item(1):done()
lot:item(2):dead { group = "too big", error = "over the limit" }
assert(lot:settle())

-- Dead letters in several boxes, and named replays that stand half-way.
local mails = assert(store:queue("mails", { max_attempts = 1 }))
assert(mails:push_many(numbers(30, "mail"), { headers = { from = "x" } }))
lot = assert(mails:take { items = 30 })
for payload, item in lot:each() do
  if payload.n % 2 == 0 then
    item:dead { group = "no address", error = "no such user" }
  else
    item:retry { error = "greylisted", group = "later" }
  end
end
assert(lot:settle())
assert(mails.dead:replay { job = "mend", limit = 7,
  transform = function(mail) mail.mended = true return mail end })
assert(mails.dead:replay { job = "filter", limit = 2, to = ready,
  where = function(letter) return letter.group == "later" end })

-- A queue with a policy of many words, paused.
local policy = assert(store:queue("policy", {
  lease = 7, max_hold = 77, max_attempts = 9, max_crashes = 2, ttl = LONG,
  on_exhausted = { cooldown = 30 }, on_expire = "drop", ordered = true,
  max_items = 1000, max_queue_bytes = 1000000, overflow = "drop_oldest",
  keep_done = { seconds = 5, bytes = 5000 }, keep_dead = 86400,
  dead_letter = "elsewhere",
  retry = respool.backoff.list { 1, 2, 30, jitter = "none" },
}))
assert(policy:push_many(numbers(5, "ordered")))
assert(policy:pause())

-- What a transaction leaves, an item that was handed over among it.
local audit = assert(store:queue "audit")
assert(store:transaction(function(tx)
  tx:push(audit, { by = "transaction" })
  tx:push(keyed, { by = "transaction" }, { key = "both" })
end))
local hand = assert(store:queue "hand")
push(hand, { hand = "over" })
assert(hand:work(function(_, item)
  item:push(audit, { handed = true })
end, { stop_when_empty = true }))

-- Dead letters of another store, imported: they have an origin; what was
-- imported is noted in the queue ".imports".
local other = assert(respool.open(":memory:"))
local source = assert(other:queue "far")
assert(source:push_many(numbers(3, "far")))
lot = assert(source:take {})
lot:dead { group = "far away" }
assert(lot:settle())
local shelf = {}
assert(respool.dump { box = source.dead,
  writer = function(letters) shelf[#shelf + 1] = letters end })
assert(respool.restore { queue = audit,
  reader = function() return table.remove(shelf) end })
assert(other:close())

-- Notes of the command line.
local notes = require "respool.cli.notes"
notes.save(store, "push", "mails.jsonl", { line = 17, place = 4711 })
notes.save(store, "replay", "mend", { box = "mails", pid = 1, start = "0" })

-- Closing would release what is leased.
assert(#assert(store:check()) == 0)
assert(store:flush())
os.exit(0, false)
