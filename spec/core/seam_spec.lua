-- SPDX-License-Identifier: MIT
--
-- The engine seam: the verbs work on the engine of spec/c/memory_engine.c
-- (programs_spec.lua runs them), with nothing of core/lmdb linked.

local helper = require "spec.helper"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

describe("the verbs on another engine", function()
  it("are linked without LMDB", function()
    local said = helper.sh("nm " .. build .. "/spec/seam")
    assert.truthy(said:find("respool_push", 1, true))
    assert.is_nil(said:match "[^\n]*mdb_[^\n]*")
  end)
end)
