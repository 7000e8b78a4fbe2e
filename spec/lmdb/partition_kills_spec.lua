-- SPDX-License-Identifier: MIT
--
-- A queue with partitions, worked on by processes that are killed at named
-- points: no partition has more items leased than it may, none is stuck, and no
-- item is lost. FAULT=long kills at each pass.

local helper = require "spec.helper"
local kills = require "spec.helper.partition_kills"

local POINTS = { "begun", "ran", "committed", "pwrite", "fdatasync" }
local STEP = os.getenv "FAULT" == "long" and 1 or 6

describe("partitions of processes that are killed", function()
  it("keep their bounds, and none is stuck", function()
    local deaths = 0
    for _, point in ipairs(POINTS) do
      for passes = 1, 25, STEP do
        local path, label = helper.location(), point .. passes
        local pushes, killed = kills.run(path, point, passes)
        local more = kills.run(path)
        deaths = deaths + (killed and 1 or 0)
        assert.equal(kills.ROUNDS, more, label)
        assert.same({}, kills.look(path, pushes + more, label), label)
      end
    end
    assert.is_true(deaths > 12, deaths)
  end)

  it("would have too many leased if those of others did not count", function()
    local path = helper.location()
    kills.run(path, nil, nil, "leases of partitions count")
    assert.is_true(#kills.look(path, 0, "broken") > 0)
  end)
end)
