-- SPDX-License-Identifier: MIT

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

describe("the core's CBOR", function()
  it("packs, unpacks and skips within its bounds", function()
    local run = assert(io.popen(build .. "/spec/cbor 2>&1; echo $?"))
    local said = run:read "*a"
    run:close()
    assert.equal("0\n", said)
  end)
end)
