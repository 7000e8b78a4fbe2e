-- SPDX-License-Identifier: MIT

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

describe("a store whose map is full", function()
  it("is drained, and fills again", function()
    local run = assert(io.popen(build .. "/spec/brim 2>&1; echo $?"))
    local said = run:read "*a"
    run:close()
    assert.equal("0\n", said)
  end)
end)
