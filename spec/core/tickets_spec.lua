-- SPDX-License-Identifier: MIT

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

describe("tickets", function()
  it("answer as blocking verbs do, and may be given up (X19)", function()
    local run = assert(io.popen(build .. "/spec/tickets 2>&1; echo $?"))
    local said = run:read "*a"
    run:close()
    assert.equal("0\n", said)
  end)
end)
