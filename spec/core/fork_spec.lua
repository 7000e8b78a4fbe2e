-- SPDX-License-Identifier: MIT

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

describe("a fork of a process that has a store open", function()
  it("leaves the parent's handles useless, and harms nothing", function()
    local run = assert(io.popen(build .. "/spec/fork 2>&1; echo $?"))
    local said = run:read "*a"
    run:close()
    assert.equal("0\n", said)
  end)
end)
