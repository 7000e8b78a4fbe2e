-- SPDX-License-Identifier: MIT
--
-- The program does the work, and its own controls; under one Lua it
-- does so once.

if _VERSION ~= "Lua 5.4" then return end

describe("a killed process", function()
  it("loses its leases and nothing else, wherever it was killed", function()
    local run = assert(io.popen "spec/fault/parts/kills 2>&1; echo status $?")
    local said = run:read "*a"
    run:close()
    assert.matches("status 0\n$", said)
  end)

  it("loses nothing of what is in the journal, in a storm", function()
    local run = assert(io.popen(
      "KILLS=200 spec/fault/parts/storms 2>&1; echo status $?"))
    local said = run:read "*a"
    run:close()
    assert.matches("status 0\n$", said)
  end)
end)
