-- SPDX-License-Identifier: MIT

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

describe("the core's leaves", function()
  it("keep what their headers promise", function()
    local run = assert(io.popen(build .. "/spec/leaves 2>&1; echo $?"))
    local said = run:read "*a"
    run:close()
    assert.equal("0\n", said)
  end)
end)
