-- SPDX-License-Identifier: MIT
--
-- Programs that allow no undeclared global (strict.lua and its like): all
-- modules load there, and the queue works. compat.lua read `loadstring`,
-- which Lua 5.3 and 5.4 have not.

local helper = require "spec.helper"

local STRICT = [[
  setmetatable(_G, {
    __index = function(_, name)
      error("undeclared global '" .. tostring(name) .. "' is read", 2)
    end,
    __newindex = function(_, name)
      error("undeclared global '" .. tostring(name) .. "' is written", 2)
    end,
  })
]]

local USE = [[
  local respool = require "respool"
  local store = assert(respool.open(":memory:",
    { clock = "manual", log = false }))
  local q = assert(store:queue("orders", { max_attempts = 1,
    buffer = { items = 10 }, keep_done = 60 }))
  assert(q:push { a = { 0.5, true, "x" } })
  q:flush()
  q:work(function() error "no" end, { stop_when_empty = true })
  q.dead:replay { where = function() return true end }
  q:work(function() end, { stop_when_empty = true })
  store:transaction(function(tx) tx:push(q, 1) end)
  store:maintain()
  assert(store:metrics() and store:health().status)
  assert(respool.export { queue = q, writer = function(list) return #list end })
  store:close()
]]

-- What a program says on its end, run by this Lua.
local function run(text)
  local path = helper.dir() .. "/main.lua"
  helper.write(path, text)
  return helper.sh(("%s %s 2>&1"):format(helper.lua(), path))
end

describe("under strict globals", function()
  it("the queue works", function()
    assert.equal("", run(STRICT .. USE))
  end)

  -- Modules that others bring are loaded before, as they keep rules of theirs.
  it("every module loads", function()
    local list = helper.sh "cd lua && find respool -name '*.lua'"
    local text = { [[for _, name in ipairs { "cjson", "dkjson", "argparse",
      "socket", "ssl", "openssl.hmac" } do pcall(require, name) end]],
      STRICT }
    for path in list:gmatch "%S+" do
      local name = path:gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
      text[#text + 1] = ("require %q"):format(name)
    end
    assert.equal("", run(table.concat(text, "\n")))
  end)
end)
