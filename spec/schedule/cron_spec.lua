-- SPDX-License-Identifier: MIT
--
-- Cron expressions beside others' code: croniter in UTC, and a walk over every
-- minute with Python's zoneinfo about the nights on which clocks change. The
-- rest is in spec/c/schedule.c.

local helper = require "spec.helper"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
local seed = tonumber(os.getenv "RESPOOL_SEED" or os.time())

local function compared(with, n)
  return helper.sh(("/usr/bin/python3 spec/schedule/expected.py %s %d %d |" ..
    "%s/spec/schedule compare 2>&1; echo $?"):format(with, seed, n, build))
end

describe("a cron expression", function()
  it("is due when croniter says", function()
    local said = compared("croniter", 10000)
    assert.equal("10000 compared, 0 differ\n0", said, "seed " .. seed)
  end)

  it("is due once in each of the nights on which clocks change", function()
    local said = compared("zones", 500)
    assert.equal("500 compared, 0 differ\n0", said, "seed " .. seed)
  end)

  it("is found out when it is not", function()
    local said = helper.sh(("printf '0 5 * * *\tUTC\t0\t0\n' |" ..
      "%s/spec/schedule compare 2>&1; echo $?"):format(build))
    assert.matches("1 compared, 1 differ\n1", said)
  end)
end)
