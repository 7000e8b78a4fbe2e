-- SPDX-License-Identifier: MIT
--
-- Exports and imports under test: queues to export, a writer that keeps its
-- records, and archives in files.

local helper = require "spec.helper"
local respool = require "respool"

local array, null = respool.array, respool.null

local M = {}

-- A queue on a manual clock whose items 1..n all became dead letters.
function M.dead_letters(n, store)
  local q = assert((store or helper.store()):queue "orders")
  for i = 1, n do q:push({ n = i }, { headers = { trace = i } }) end
  q:work(function(payload)
    return respool.dead { error = "no " .. payload.n,
                          group = payload.n % 2 == 0 and "even" or "odd" }
  end, { stop_when_empty = true })
  return q
end

-- The n of each payload of a queue, in order.
function M.numbers(q)
  local list = {}
  for item in q:each() do list[#list + 1] = item.payload.n end
  table.sort(list)
  return list
end

-- A writer that keeps its batches.
function M.writer()
  local w = { batches = {} }
  function w:write(batch) table.insert(self.batches, batch) end
  return w
end

-- A reader of the batches that such a writer kept.
function M.reader(w)
  local i = 0
  return function()
    i = i + 1
    return w.batches[i]
  end
end


-- Archives.

local function deep(n)
  local t = { 1 }
  for _ = 1, n do t = { t } end
  return t
end

-- Payloads that some form of an archive could change.
M.HARD = {
  0, -1, 2^53, -2^53, 0.1, 1 / 3, 1e300, 5e-324, 1 / 0, -1 / 0, -0.0,
  "", "text", "\0\1\n\"\\\127", "\255\254", "é/€", true, false, null,
  {}, array {}, array { 1, null, array {} }, { a = { b = {} } },
  { ["$base64"] = "x" }, { [1.5] = 1 }, { [7] = "seven" }, { ["\255"] = 1 },
  { [true] = false }, ("x"):rep(70000), deep(40),
}
if math.type then
  for _, x in ipairs { 3.0, 1e15, math.maxinteger, math.mininteger } do
    M.HARD[#M.HARD + 1] = x
  end
end

-- { n = 1 } to { n = n }.
function M.upto(n)
  local list = {}
  for i = 1, n do list[i] = { n = i } end
  return list
end

-- A queue of these payloads.
function M.queue_of(payloads)
  local q = helper.store():queue "orders"
  for _, payload in ipairs(payloads) do q:push(payload) end
  return q
end

-- Exports a queue into files of a directory: their paths, and the counts.
function M.export(q, dir, o)
  local given = { store = q.store }
  for name, value in pairs(o or {}) do given[name] = value end
  local w = assert(respool.file_writer(dir, given))
  local counts = assert(respool.export { queue = q, writer = w })
  return w.files, counts
end

-- Imports files into a queue, a new one if none is given: the counts, the
-- reader and the queue.
function M.import(paths, q)
  q = q or helper.store():queue "in"
  local r = assert(respool.file_reader(paths))
  local counts = assert(respool.import { to = q, reader = r })
  return counts, r, q
end

return M
