-- SPDX-License-Identifier: MIT
-- The README's Lua runs as it stands there, but for where its store lies.

local commands = require "respool.cli.commands"
local helper = require "spec.helper"
local respool = require "respool"

local function read()
  local file = assert(io.open("README.md"))
  local text = file:read "*a"
  file:close()
  return text
end

local function read_blocks()
  local blocks = {}
  for block in read():gmatch "```lua\n(.-)```" do
    blocks[#blocks + 1] = block
  end
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

  it("names only commands that there are", function()
    local known, unknown, n = {}, {}, 0
    for _, name in ipairs(commands.NAMES) do known[name] = true end
    for line in read():gmatch "\nrespool ([^\n]*)" do
      local name = line:match "^[%w-]+"
      n = n + 1
      if not known[name] then unknown[#unknown + 1] = line end
    end
    assert.same({}, unknown)
    assert.is_true(n > 5)
  end)
end)
