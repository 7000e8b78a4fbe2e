-- SPDX-License-Identifier: MIT
--
-- What a commit writes, in bytes: pages that are copied on their way to the
-- root. The small tables share a tree, so that it is one path for all of them.

local helper = require "spec.helper"

local COMMITS = 50

-- The KiB that this process has written by calls so far.
local function written()
  return tonumber(helper.read "/proc/self/io":match "wchar: (%d+)") / 1024
end

-- What a push, a take and a settle of one item write, on average.
local function costs(q)
  local push, take, settle = 0, 0, 0
  for i = 1, COMMITS do
    local start = written()
    assert(q:push(i, { key = "key " .. i, priority = 9 }))
    local pushed = written()
    local batch = assert(q:take())
    local taken = written()
    batch:done()
    assert(batch:settle())
    push, take = push + pushed - start, take + taken - pushed
    settle = settle + written() - taken
  end
  return push / COMMITS, take / COMMITS, settle / COMMITS
end

describe("a lone keyed item", function()
  for _, backlog in ipairs { 0, 20000 } do
    it(("is pushed, taken and done by 16, 12, 16 KiB beside %d items")
      :format(backlog), function()
      local q = assert(helper.store():queue "orders")
      local list = helper.range(1000)
      for _ = 1, backlog / 1000 do assert(q:push_many(list)) end
      local push, take, settle = costs(q)
      assert.is_true(push > 12 and push < 17, push)
      assert.is_true(take > 8 and take < 13, take)
      assert.is_true(settle > 12 and settle < 17, settle)
    end)
  end
end)
