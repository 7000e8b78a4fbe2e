-- SPDX-License-Identifier: MIT
--
-- What looks at many queues lets others of its thread run between: inside nginx
-- metrics of 500 queues held the event loop for 155 ms.

local core = require "respool.core"
local helper = require "spec.helper"
local timing = require "respool.support.timing"

local now = core.mono()

-- How often others had a turn during fn(), by a clock that goes on by a
-- millisecond each time it is read.
local function turns(fn)
  local mono, n = core.mono, 0
  core.mono = function()
    now = now + 1000
    return now
  end
  timing.set_breath(function() n = n + 1 end)
  local ok, err = pcall(fn)
  timing.set_breath(nil)
  core.mono = mono
  assert(ok, err)
  return n
end

describe("a look at many queues", function()
  local store

  before_each(function()
    store = helper.store()
    for i = 1, 20 do assert(store:queue("queue-" .. i)) end
  end)

  it("lets others run between samples of metrics", function()
    assert.is_true(turns(function() store:metrics() end) > 20 * 40 / 5)
  end)

  it("lets others run between queues in health", function()
    assert.is_true(turns(function() store:health() end) > 4)
  end)

  it("asks nobody where nobody is to run", function()
    assert.equal(0, turns(function()
      timing.set_breath(nil)
      store:metrics()
    end))
  end)
end)
