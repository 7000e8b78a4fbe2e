-- SPDX-License-Identifier: MIT
--
-- The engine seam: the verbs on the engine of spec/c/memory_engine.c, with
-- nothing of core/lmdb linked.

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

local function output_of(command)
  local pipe = assert(io.popen(command .. " 2>&1; echo $?"))
  local text = pipe:read "*a"
  pipe:close()
  return text:match "^(.-)(%d+)\n$"
end

describe("another engine", function()
  it("serves the verbs", function()
    local said, status = output_of(build .. "/spec/seam")
    assert.equal("0", status, said)
    local held = 0
    for line in said:gmatch "[^\n]+" do
      assert.truthy(line:match "^holds: ", line)
      held = held + 1
    end
    assert.is_true(held > 10)
  end)

  it("is all there is: nothing of LMDB is linked", function()
    local said, status = output_of("nm " .. build .. "/spec/seam")
    assert.equal("0", status)
    assert.truthy(said:find("respool_push", 1, true))
    assert.is_nil(said:match "[^\n]*mdb_[^\n]*")
  end)
end)
