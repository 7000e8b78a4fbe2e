-- SPDX-License-Identifier: MIT
--
-- Runs the programs in whose world one call fails: every allocation, every
-- system call, every allocation of Lua. FAULT=long takes all of Lua's, and
-- the others three times.

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

if _VERSION ~= "Lua 5.4" then return end -- they are the same under any

local long = os.getenv "FAULT" == "long"

-- What the program says, and its exit status.
local function run(program, ...)
  local words = { "LUA_CPATH='" .. build .. "/5.4/?.so;;'",
                  build .. "/fault/" .. program, ... }
  local pipe = assert(io.popen(table.concat(words, " ") .. " 2>&1; echo $?"))
  local said = pipe:read "*a"
  pipe:close()
  return said:match "^(.-)(%d+)\n$"
end

local function assert_right(said, status)
  assert.equal("0", status, said)
  for wrong in said:gmatch "(%d+) runs went wrong" do
    assert.equal("0", wrong)
  end
end

describe("a world in which one call fails", function()
  for _, fault in ipairs { "memory", "EIO", "ENOSPC", "EINTR", "short" } do
    it("leaves a sound store and no leak (" .. fault .. ")", function()
      local said, status = run("failing", long and "-l" or "", fault)
      assert_right(said, status)
      assert.is_true(tonumber(said:match "(%d+) calls failed") > 50)
    end)
  end

  it("leaves a sound store when Lua runs out of memory", function()
    local said, status = run("failing_lua", long and "" or "-s 5",
                             "spec/fault/calls/failing.lua")
    assert_right(said, status)
    assert.matches("control: found out", said)
    assert.is_true(tonumber(said:match "of (%d+); ") > 400)
  end)
end)
