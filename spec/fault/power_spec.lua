-- SPDX-License-Identifier: MIT
--
-- The program does the work, and its own controls; under one Lua it
-- does so once.

if _VERSION ~= "Lua 5.4" then return end

describe("a power cut", function()
  it("leaves a sound store with all that was acknowledged, at any moment",
     function()
    local run = assert(io.popen "spec/fault/parts/power 2>&1; echo status $?")
    local said = run:read "*a"
    run:close()
    assert.matches("status 0\n$", said)
  end)
end)
