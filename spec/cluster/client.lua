-- SPDX-License-Identifier: MIT
--
-- client.lua produce|consume URL NAME FILE: a process that pushes numbered
-- items, or takes and settles them, through whatever befalls the servers, and
-- prints a line for each item that says what became of it. Once FILE is there a
-- producer stops, and a consumer when the queue is empty.
--
--   pushed ITEM T       its push was acknowledged, T seconds on the clock
--   failed ITEM CODE    it was refused: it must never come
--   unknown ITEM        nobody can tell
--   done ITEM           its outcome was acknowledged
--   lost ITEM           the lease was lost: another does it
--   late ITEM           nobody can tell whether the outcome is there, or which
--                       of a batch were lost

local respool = require "respool"
local socket = require "socket"

local role, url, name, file = arg[1], arg[2], arg[3], arg[4]
local LEASE = 20

local function say(...)
  io.write(table.concat({ ... }, " "), "\n")
  io.flush()
end

local function is_over()
  local f = io.open(file)
  if f then f:close() end
  return f ~= nil
end

local function open()
  while true do
    local store, message = respool.open(url, { log = false })
    local q = store and store:queue("orders", { lease = LEASE })
    if q then return q end
    if message then say("open", message) end
    socket.sleep(0.5)
  end
end

local WORDS = { [true] = "pushed", UNKNOWN_OUTCOME = "unknown" }

local function produce(q)
  local i = 0
  while not is_over() do
    local items = {}
    for k = 1, i % 7 == 0 and 5 or 1 do items[k] = name .. i + k end
    i = i + #items
    local ok, message, code = q:push_many(items)
    local word = WORDS[ok and true or code] or "failed"
    if not ok then say("error", code, message) end
    for _, item in ipairs(items) do
      say(word, item, ok and ("%.3f"):format(socket.gettime()) or code)
    end
    socket.sleep(ok and 0.005 or 0.2)
  end
end

local function settle(batch)
  local ok, message, code
  repeat
    batch:done()
    ok, message, code = batch:settle()
    if not ok then say("error", code, message) end
  until ok or code ~= "IO" and code ~= "BUSY" and code ~= "TIMEOUT"
  if ok then return "done" end
  return code == "LEASE_LOST" and batch.lost == #batch and "lost" or "late"
end

local function consume(q)
  while true do
    local over = is_over()
    local batch, message, code = q:take { limit = 20, timeout = 1 }
    if not batch then
      say("error", code, message)
      socket.sleep(0.2)
    elseif #batch == 0 then
      local n = over and q:length()
      if n and n.leased + n.ready == 0 then return end
    else
      local items = {}
      for i = 1, #batch do items[i] = batch:item(i).payload end
      local word = settle(batch)
      for _, item in ipairs(items) do say(word, item) end
      batch:close()
    end
  end
end

local roles = { produce = produce, consume = consume }
roles[role](open())
say "end"
