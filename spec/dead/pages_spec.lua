-- SPDX-License-Identifier: MIT
--
-- Lists of whole payloads are bounded by bytes, not only by number: three
-- hundred of a megabyte each took three hundred megabytes.

local helper = require "spec.helper"

local LARGE = ("x"):rep(2^20)

describe("a list of large payloads ends with about 4 MiB:", function()
  local store, q

  before_each(function()
    store = helper.store()
    q = store:queue("large", { codec = "raw", max_attempts = 1 })
    for _ = 1, 12 do q:push(LARGE) end
  end)

  local function is_bounded(list)
    assert.is_true(#list >= 4 and #list <= 6, #list)
  end

  it("queue:peek", function()
    is_bounded(q:peek(12))
    assert.equal(1, #q:peek())
  end)

  it("history:list", function()
    local kept = store:queue("kept", { codec = "raw",
                                       keep_done = "1GiB" })
    for _ = 1, 12 do kept:push(LARGE) end
    kept:work(function() end, { stop_when_empty = true })
    is_bounded(kept.history:list { limit = 12 })
  end)

  it("dead:list, which goes on behind the last", function()
    q:work(function() error("no", 0) end, { stop_when_empty = true })
    local n, after = 0, 0
    repeat
      local list = q.dead:list { limit = 12, after = after }
      if #list > 0 then after = list[#list].number end
      assert.is_true(#list <= 6)
      n = n + #list
    until #list == 0
    assert.equal(12, n)
    assert.equal(12, #q.dead:list { limit = 12, bytes = "1GiB" })
  end)
end)
