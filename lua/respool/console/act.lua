-- SPDX-License-Identifier: MIT
--
-- The answers to POST and DELETE: changes of a store.

local answer = require "respool.console.answer"
local core = require "respool.core"
local filter = require "respool.console.filter"
local policy = require "respool.policy"
local timing = require "respool.support.timing"

local M = {}

-- Calls fn(queue) with a handle that is closed behind it. Payloads are pushed
-- as the CBOR that they are already.
local function with_queue(console, name, fn)
  local queue, message, code = console.store:queue(name, {
    create = false, codec = console.encoded,
  })
  if not queue then return answer.fail(message, code) end
  local told = fn(queue)
  queue.handle:close()
  return told
end

-- An action on a queue, whose answer is told with the result.
local function on_queue(act)
  return function(console, r)
    return with_queue(console, r.name, function(queue)
      local result, message, code = act(queue, r)
      if result == nil then return answer.fail(message, code) end
      return answer.json(result)
    end)
  end
end

M.pause = on_queue(function(queue)
  local ok, message, code = queue:pause()
  return ok and { paused = true }, message, code
end)

M.resume = on_queue(function(queue)
  local ok, message, code = queue:resume()
  return ok and { paused = false }, message, code
end)

M.purge = on_queue(function(queue)
  local n, message, code = queue:purge()
  return n and { removed = n }, message, code
end)

-- Removes a queue; `dry_run` only tells with what.
M.drop = on_queue(function(queue, r)
  local s, message, code = queue:stats()
  if not s then return nil, message, code end
  local told = {
    name = queue.name, dead_letters = s.dead, finished = s.kept,
    items = s.ready + s.leased + s.scheduled + s.retrying,
    dry_run = r.o.dry_run or nil,
  }
  if r.o.dry_run then return told end
  local ok
  ok, message, code = queue.store:drop_queue(queue.name)
  return ok and told, message, code
end)

-- JSON has no infinities: a limit that is none is null in it.
local function with_limits(value)
  if value == core.cbor.null then return math.huge end
  if type(value) ~= "table" then return value end
  for name, part in pairs(value) do value[name] = with_limits(part) end
  return value
end

-- The settings of a body in JSON, and what they would change of the queue's;
-- nil and the answer where they are wrong.
local function planned(console, queue, body)
  local bytes, why = console.to_cbor(body)
  local given = bytes and core.cbor.decode(bytes)
  if type(given) ~= "table" then
    return nil, answer.refuse(400, "JSON", "the body is no JSON object: "
      .. (why or "settings by name are expected"))
  end
  given = with_limits(given)
  for name, value in pairs(given) do given[name] = policy.from_json(value) end
  local before, message, code = queue.handle:config()
  if not before then return nil, answer.fail(message, code) end
  local stored = policy.told(before)
  for name in pairs(given) do
    if stored[name] == nil then
      return nil, answer.refuse(400, "PARAMETER",
        ("there is no setting '%s'"):format(tostring(name):sub(1, 40)))
    end
  end
  local ok, changes = pcall(policy.planned, before, given, queue.name)
  if not ok then
    return nil, answer.refuse(400, "PARAMETER", (tostring(changes):gsub(
      "^.-store:queue: ", "")))
  end
  return given, changes
end

-- Changes settings; `dry_run` only tells which.
function M.configure(console, r)
  return with_queue(console, r.name, function(queue)
    local given, changes = planned(console, queue, r.body)
    if not given then return changes end
    if not r.o.dry_run then
      given.create = false
      local changed, message, code = console.store:queue(queue.name, given)
      if not changed then return answer.fail(message, code) end
      changed.handle:close()
    end
    return answer.json { changes = core.cbor.array(changes),
                         dry_run = r.o.dry_run or nil }
  end)
end

M.remove = on_queue(function(queue, r)
  local ok, message, code = queue:remove(r.number)
  return ok and { id = r.number, removed = true }, message, code
end)

M.run_now = on_queue(function(queue, r)
  local ok, message, code = queue:run_now(r.number)
  return ok and { id = r.number, due = true }, message, code
end)

M.kill = on_queue(function(queue, r)
  local ok, message, code = queue:kill(r.number, { error = r.o.error })
  return ok and { id = r.number, killed = true }, message, code
end)

M.cancel = on_queue(function(queue, r)
  local ok, message, code = queue:cancel(r.number)
  return ok and { id = r.number, cancelled = true }, message, code
end)

local move = on_queue(function(queue, r)
  local to, message, code = queue.store:queue(r.o.to, { create = false })
  if not to then return nil, message, code end
  local id
  id, message, code = queue:move(r.number, to)
  to.handle:close()
  return id and { id = id, queue = to.name, moved = true }, message, code
end)

-- Moves an item to another queue, which must exist.
function M.move(console, r)
  if r.o.to and r.o.to ~= r.name then return move(console, r) end
  return answer.refuse(400, "PARAMETER",
    "parameter 'to' must be the name of another queue")
end

-- Calls `act` with the queue and the body, which must be JSON, as CBOR.
local function with_body(console, r, act)
  local bytes, why = console.to_cbor(r.body)
  if not bytes then
    return answer.refuse(400, "JSON", "the body cannot be read as JSON: "
      .. why)
  end
  return with_queue(console, r.name, function(queue)
    return act(queue, bytes)
  end)
end

-- Gives an item the payload that the body encodes in JSON.
function M.edit(console, r)
  return with_body(console, r, function(queue, bytes)
    local ok, message, code = queue:edit(r.number, bytes)
    if not ok then return answer.fail(message, code) end
    return answer.json { id = r.number, edited = true }
  end)
end

-- Pushes the value that the body encodes in JSON.
function M.push(console, r)
  return with_body(console, r, function(queue, bytes)
    local o = { priority = r.o.priority, delay = r.o.delay, key = r.o.key,
                timeout = 0 }
    local id, message, code = queue:push(bytes, o)
    if not id then return answer.fail(message, code) end
    local told = answer.json { id = id }
    told.status = 201
    return told
  end)
end

function M.retry_dead_letter(console, r)
  local ok, message, code = console.store:dead(r.name):retry(r.number)
  if not ok then return answer.fail(message, code) end
  return answer.json { number = r.number, retried = true }
end

function M.remove_dead_letter(console, r)
  local ok, message, code = console.store:dead(r.name):remove(r.number)
  if not ok then return answer.fail(message, code) end
  return answer.json { number = r.number, removed = true }
end

-- How many dead letters a purge would remove.
local function count(dead, o, where)
  local n = 0
  for dead_letter in dead:each { group = o.group } do
    if where(dead_letter) then n = n + 1 end
    timing.breathe()
  end
  return n
end

local function count_group(dead, group)
  if not group then return dead:count() end
  local groups, message, code = dead:groups()
  if not groups then return nil, message, code end
  local n = 0
  for _, one in ipairs(groups) do
    if (one.group or "") == group then n = n + one.count end
  end
  return n
end

function M.purge_dlq(console, r)
  local dead, where = console.store:dead(r.name, { codec = "raw" }),
    filter.of(r.o)
  local n, message, code
  if r.o.dry_run and where then
    n = count(dead, r.o, where)
  elseif r.o.dry_run then
    n, message, code = count_group(dead, r.o.group)
  else
    n, message, code = dead:purge { group = r.o.group, where = where }
  end
  if not n then return answer.fail(message, code) end
  return answer.json { removed = n, dry_run = r.o.dry_run or nil }
end

-- Verifies the store, which changes nothing, but takes its time.
function M.check(console)
  local findings, message, code = console.store:check()
  if not findings then return answer.fail(message, code) end
  return answer.json { findings = core.cbor.array(findings) }
end

return M
