-- SPDX-License-Identifier: MIT
--
-- The fuzz targets over their corpus, without a fuzzer: `make fuzz` makes
-- new inputs, these are the ones that are kept.

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

if _VERSION ~= "Lua 5.4" then return end -- they are the same under any

describe("the corpus of", function()
  for _, target in ipairs { "cbor", "segment", "records", "store", "json" } do
    it(target .. " harms nobody", function()
      local pipe = assert(io.popen(("%s/fuzz/%s spec/fuzz/corpus/%s/* 2>&1")
        :format(build, target, target)))
      local said = pipe:read "*a"
      pipe:close()
      assert.is_true(tonumber(said:match "(%d+) inputs\n$" or 0) > 4, said)
    end)
  end
end)
