-- SPDX-License-Identifier: MIT
--
-- The Lua side of spec/fault/calls/failing_lua.c: a store's life in which some
-- allocation of Lua fails. It tells the ledger what it is about to do with
-- an item, and what was acknowledged.

local respool = require "respool"

local NOWHERE, IN_QUEUE, IN_DLQ = 1, 2, 4

local function number(payload)
  return tonumber(payload:match "^item (%d%d)")
end

local function push(ledger, q, from, to)
  local list = {}
  for n = from, to do list[#list + 1] = ledger.payload(n) end
  for n = from, to do ledger.intend(n, IN_QUEUE) end
  assert(q:push_many(list))
  for n = from, to do ledger.note(n, IN_QUEUE) end
end

-- Six ways to go on, and where each leaves an item.
local WAYS = {
  { function(item) item:done() end, NOWHERE },
  { function(item) item:retry { delay = 0, error = "busy" } end, IN_QUEUE },
  { function(item) item:release() end, IN_QUEUE },
  { function(item) item:snooze(0) end, IN_QUEUE },
  { function(item) item:dead { error = "bad", group = "g" } end, IN_DLQ },
  { function(item) item:drop() end, NOWHERE },
}

local function settle(ledger, batch)
  local places = {}
  for i = 1, #batch do
    local item = batch:item(i)
    local way = WAYS[i % #WAYS + 1]
    way[1](item)
    places[number(item.payload)] = way[2]
  end
  for n, place in pairs(places) do ledger.intend(n, place) end
  assert(batch:settle())
  for n, place in pairs(places) do ledger.note(n, place) end
end

local function transact(ledger, store, q)
  ledger.intend(20, IN_QUEUE)
  assert(store:transaction(function(tx) tx:push(q, ledger.payload(20)) end))
  ledger.note(20, IN_QUEUE)
end

local function replay(ledger, q)
  for _, dead_letter in ipairs(assert(q.dead:list())) do
    local n = number(dead_letter.payload)
    ledger.intend(n, IN_QUEUE)
    assert(q.dead:retry(dead_letter.number))
    ledger.note(n, IN_QUEUE)
  end
end

local function buffer(ledger, store)
  local q = assert(store:queue("buffered", {
    codec = "raw", buffer = { items = 100 } }))
  for n = 21, 22 do
    ledger.intend(n, IN_QUEUE)
    assert(q:push(ledger.payload(n)))
  end
  assert(q:flush())
  for n = 21, 22 do ledger.note(n, IN_QUEUE) end
end

-- In a store of its own: the ledger knows plain payloads only.
local function encode()
  local store = assert(respool.open ":memory:")
  local q = assert(store:queue "tables")
  assert(q:push({ list = { 1, 2, 3 }, deep = { a = { b = "c" } } },
                { headers = { trace = "4bf9" } }))
  assert(q:work(function(payload)
    return payload.deep.a.b == "c"
  end, { stop_when_empty = true }))
  assert(store:close())
end

return function(path, ledger)
  local store = assert(respool.open(path))
  local q = assert(store:queue("jobs", { codec = "raw" }))
  push(ledger, q, 0, 9)
  settle(ledger, assert(q:take { limit = 7 }))
  transact(ledger, store, q)
  replay(ledger, q)
  buffer(ledger, store)
  encode()
  assert(q:stats().pushed > 0)
  assert(#assert(store:check()) == 0)
  assert(store:close())
end
