-- SPDX-License-Identifier: MIT
--
-- A queue with partitions, worked on by processes that are killed at named
-- points: no partition has more items leased than it may, none is stuck, and no
-- item is lost. spec/fault/partitions.c is the process; of each partition it
-- may lease two items.

local helper = require "spec.helper"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
local POINTS = { "begun", "ran", "committed", "pwrite", "fdatasync" }
local ROUNDS, EACH, MOST = 6, 9, 2

-- Runs it; how many pushes returned, and whether it was killed.
local function run(path, point, passes, rule)
  local said = helper.sh(("'%s/spec/fault/partitions' '%s' %d '%s' %d %s 2>&1; "
    .. "echo $?"):format(build, path, ROUNDS, point or "", passes or 0,
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
  local n = 0
  q:take { limit = 100, lease = 1 }
  assert.is_true(most_leased(q) <= MOST)
  for _ = 1, 1000 do
    store:advance(3600)
    local batch = assert(q:take { limit = 100, lease = 1 })
    assert.is_true(most_leased(q) <= MOST)
    if #batch == 0 then break end
    n = n + #batch
    batch:done()
    assert(batch:settle())
  end
  return n
end

-- What a check finds in the store, which must lose nothing that was pushed.
local function look(path, pushes, label)
  local store = assert(helper.open(path, { clock = "manual" }))
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

describe("partitions of processes that are killed", function()
  it("keep their bounds, and none is stuck", function()
    local deaths = 0
    for _, point in ipairs(POINTS) do
      for passes = 1, 25, 6 do
        local path, label = helper.location(), point .. passes
        local pushes, killed = run(path, point, passes)
        local more = run(path)
        deaths = deaths + (killed and 1 or 0)
        assert.equal(ROUNDS, more, label)
        assert.same({}, look(path, pushes + more, label), label)
      end
    end
    assert.is_true(deaths > 12, deaths)
  end)

  it("would have too many leased if those of others did not count", function()
    local path = helper.location()
    run(path, nil, nil, "leases of partitions count")
    assert.is_true(#look(path, 0, "broken") > 0)
  end)
end)
