-- SPDX-License-Identifier: MIT
-- The README's Lua runs as it stands there, but for where its store lies.

local helper = require "spec.helper"
local respool = require "respool"

local function read_blocks()
  local file = assert(io.open("README.md"))
  local blocks = {}
  for block in file:read("*a"):gmatch "```lua\n(.-)```" do
    blocks[#blocks + 1] = block
  end
  file:close()
  return blocks
end

local function run(block, names, ...)
  local loader = rawget(_G, "loadstring") or load
  local chunk = assert(loader(("local %s = ...\n%s"):format(names, block)))
  return chunk(...)
end

describe("README.md", function()
  it("has the examples that are run here", function()
    assert.equal(2, #read_blocks())
  end)

  it("opens with an example that works", function()
    local printed = {}
    local function print(...) printed[#printed + 1] = { ... } end
    local block = read_blocks()[1]:gsub("shop%.respool", helper.dir())
    run(block, "print", print)
    assert.same({ { 1, "ada@example.org" } }, printed)
  end)

  it("shows by task what works", function()
    local store = helper.store()
    local mails = store:queue "mails"
    run(read_blocks()[2], "respool, store, mails, print", respool, store,
        mails, function() end)
    assert.equal(2, store:queue("audit"):length().ready)
  end)
end)
