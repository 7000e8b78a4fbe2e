-- SPDX-License-Identifier: MIT
--
-- Schedules fired by processes that are killed at named points, and by several
-- at once: each tick is fired once. spec/fault/kill/schedule.c is the process.

local helper = require "spec.helper"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
local POINTS = { "begun", "ran", "committed", "pwrite", "fdatasync" }

local function command(path, hours, point, passes, rule)
  return ("'%s/spec/fault/schedule' '%s' %d '%s' %d %s 2>&1"):format(
    build, path, hours, point or "", passes or 0,
    rule and "'" .. rule .. "'" or "")
end

-- Whether it was killed.
local function killed(path, hours, point, passes)
  local status = helper.sh(command(path, hours, point, passes) .. "; echo $?")
  return tonumber(status:match "%d+$") == 137
end

-- The hours of the ticks that are in the queue, in order.
local function hours_of(path)
  local store = assert(helper.open(path, { clock = "manual" }))
  local list = {}
  for item in store:queue("q"):each() do
    list[#list + 1] = item.headers.at / 3600 - 500000
  end
  assert.same({}, store:check())
  table.sort(list)
  store:close()
  return list
end

-- Four processes at once, each killed somewhere else.
local function crowd(path, hours, passes)
  local all = {}
  for i = 1, 4 do
    all[i] = "(" .. command(path, hours, POINTS[i], passes) .. ") &"
  end
  helper.sh(table.concat(all, " ") .. " wait")
end

describe("schedules of processes that are killed", function()
  it("fire each tick once", function()
    local deaths = 0
    for _, point in ipairs(POINTS) do
      for passes = 0, 12, 4 do
        local path = helper.location()
        deaths = deaths + (killed(path, 6, point, passes) and 1 or 0)
        assert.is_false(killed(path, 8))
        assert.same(helper.range(8), hours_of(path), point .. passes)
      end
    end
    assert.is_true(deaths > 12, deaths)
  end)

  it("fire each tick once, all together", function()
    for passes = 5, 15, 10 do
      local path = helper.location()
      crowd(path, 40, passes)
      assert.is_false(killed(path, 41))
      assert.same(helper.range(41), hours_of(path), "after " .. passes)
    end
  end)

  -- A process that has read a schedule stands still until another has fired
  -- all there is; the hours that both fired.
  local function overtaken(rule)
    local path = helper.location()
    helper.sh(([[(exec %s) & pid=$!
      until grep -q '^State:.T' /proc/$pid/status; do sleep 0.01; done
      %s; kill -CONT $pid; wait]]):format(
      command(path, 20, "=schedule read", 3, rule),
      command(path, 20, nil, nil, rule)))
    return hours_of(path)
  end

  it("fire each tick once, though one be overtaken", function()
    assert.same(helper.range(20), overtaken())
  end)

  it("would fire some twice if revisions were not compared", function()
    assert.is_true(#overtaken "revisions are compared" > 20)
  end)
end)
