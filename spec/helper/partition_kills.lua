-- SPDX-License-Identifier: MIT
--
-- Processes that work on a queue with partitions, of each of which two items
-- may be leased, and that are killed; and what a store must hold behind them.
-- spec/fault/kill/partitions.c is the process.

local assert = require "luassert"
local helper = require "spec.helper"

local M = {}

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
local EACH, MOST = 9, 2

M.ROUNDS = 6
local THEN = 1800000000 + M.ROUNDS * 0.35 -- the time at the end of each run

-- Runs it, to be killed at a point after so many passes, or to break a rule;
-- how many pushes returned, and whether it was killed.
function M.run(path, point, passes, rule)
  local said = helper.sh(("'%s/spec/fault/partitions' '%s' %d '%s' %d %s 2>&1; "
    .. "echo $?"):format(build, path, M.ROUNDS, point or "", passes or 0,
                         rule and "'" .. rule .. "'" or ""))
  local _, pushes = said:gsub("pushed\n", "")
  return pushes, tonumber(said:match "%d+$") == 137
end

local function most_leased(q)
  local most = 0
  for _, p in ipairs(assert(q:partitions())) do
    most = math.max(most, p.leased)
  end
  return most
end

-- Takes under the leases that the dead left, then all that there is.
local function drain(store, q)
  q:take { limit = 100, lease = 1 }
  assert.is_true(most_leased(q) <= MOST)
  for _ = 1, 1000 do
    store:advance(3600)
    local batch = assert(q:take { limit = 100, lease = 1 })
    assert.is_true(most_leased(q) <= MOST)
    if #batch == 0 then break end
    batch:done()
    assert(batch:settle())
  end
end

local function open(path)
  local store = assert(helper.open(path, { clock = "manual" }))
  store:advance(THEN - store.handle:now())
  return store
end

-- True if no partition has too many items leased.
function M.is_bounded(path)
  local store = open(path)
  local most = most_leased(assert(store:queue "q"))
  store:close()
  return most <= MOST
end

-- Checks the store, which must lose nothing that was pushed.
function M.look(path, pushes, label)
  local store = open(path)
  local q = assert(store:queue "q")
  local findings = assert(store:check())
  if #findings == 0 then
    assert.is_true(most_leased(q) <= MOST, label)
    drain(store, q)
    local stats = assert(q:stats())
    assert.is_true(stats.done >= pushes * EACH, label)
    assert.equal(stats.pushed, stats.done, label)
    assert.same({}, q:partitions(), label)
    assert.same({}, store:check(), label)
  end
  store:close()
  return findings
end

return M
