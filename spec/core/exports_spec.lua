-- SPDX-License-Identifier: MIT
--
-- What can be linked against is what include/respool.h declares, no more
-- and no less.

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

local function read(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "*a"
  pipe:close()
  assert.not_equal("", text, command)
  return text
end

-- The names matched in the lines of a text, sorted.
local function names(text, pattern)
  local found = {}
  for name in text:gmatch(pattern) do found[#found + 1] = name end
  table.sort(found)
  return found
end

local function declared()
  local file = assert(io.open "include/respool.h")
  local text = file:read "*a"
  file:close()
  return names(text, "\nRESPOOL_API [^;(]-([%w_]+)%(")
end

local function defined(options, file)
  return names(read(("nm %s --defined-only %s/%s")
    :format(options, build, file)), "%x+ %u ([%w_]+)")
end

describe("the exports", function()
  it("of librespool.so are the header's", function()
    assert.same(declared(), defined("-D", "librespool.so"))
  end)

  it("of librespool.a are the header's", function()
    assert.same(declared(), defined("-g", "librespool.a"))
  end)

  it("of a Lua module are what require looks for", function()
    for _, lua in ipairs { "5.4", "luajit" } do
      assert.same({ "luaopen_respool_core" },
                  defined("-D", lua .. "/respool/core.so"))
    end
  end)
end)

describe("a loaded module", function()
  it("stays loaded, for its threads' sake", function()
    for _, file in ipairs { "librespool.so", "5.4/respool/core.so" } do
      local flags = read(("readelf -d %s/%s"):format(build, file))
      assert.matches("NODELETE", flags)
    end
  end)
end)
