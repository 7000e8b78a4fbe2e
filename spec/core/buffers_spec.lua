-- SPDX-License-Identifier: MIT

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

describe("the buffers of a store", function()
  it("keep what cannot be flushed, past their own end", function()
    local run = assert(io.popen(build .. "/spec/buffers 2>&1; echo $?"))
    local said = run:read "*a"
    run:close()
    assert.equal("0\n", said)
  end)
end)
