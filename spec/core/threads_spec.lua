-- SPDX-License-Identifier: MIT

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

describe("threads on one store", function()
  it("end every item once, and share commits (D4)", function()
    local run = assert(io.popen(build .. "/spec/threads 2>&1; echo $?"))
    local said = run:read "*a"
    run:close()
    assert.equal("0\n", said)
  end)
end)
