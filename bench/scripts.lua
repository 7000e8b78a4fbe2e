-- SPDX-License-Identifier: MIT
-- respool from Lua: tables of five fields through their whole life, CBOR
-- against lua-cjson, and replay, in every Lua that is there.

local report = require "report"
local rounds = require "rounds"

local M = {}

local INTERPRETERS = {
  { key = "5.4", name = "Lua 5.4", program = "lua5.4" },
  { key = "luajit", name = "LuaJIT", program = "luajit" },
}

local SHAPES = {
  { key = "many", name = "push_many, then work" },
  { key = "buffer", name = "a buffer, then work" },
  { key = "processes", name = "a buffer and work, a process each" },
}

local RATE, CPU, CBOR, REPLAY = 600000, 1.6, 3, 600000

-- Those that can load the module as it was built.
local function present(o)
  local list = {}
  for _, lua in ipairs(INTERPRETERS) do
    lua.run = ("LUA_CPATH='%s/%s/?.so;;' %s "):format(o.build, lua.key,
                                                      lua.program)
    if os.execute(lua.run .. "-e 'require \"respool\"' 2>/dev/null") then
      list[#list + 1] = lua
    else
      report.line("%s is not here, and not measured.", lua.name)
    end
  end
  return list
end

local function subject(lua, key, script)
  return { key = key, run = lua.run .. "bench/subjects/" .. script }
end

local function life(o, lua)
  local list = {}
  for i, shape in ipairs(SHAPES) do
    list[i] = subject(lua, shape.key, "tables.lua --shape " .. shape.key)
  end
  return rounds.run(o, list)
end

local function print_life(lua, measured, rows)
  local best = 0
  for _, shape in ipairs(SHAPES) do
    local rate = rounds.value(measured, shape.key, "rate")
    best = math.max(best, rate)
    rows[#rows + 1] = {
      lua.name .. ": " .. shape.name, report.short(rate),
      report.grouped(rounds.value(measured, shape.key, "cpu")),
      report.times(rounds.value(measured, shape.key, "cpu_to_codec")),
    }
  end
  report.goal(lua.name .. ", tables, items/s", best, "least", RATE,
              report.short)
  report.goal(lua.name .. ", buffer: CPU to encoding and decoding alone",
              rounds.value(measured, "buffer", "cpu_to_codec"), "most", CPU,
              report.times)
end

local function print_rest(o, lua, rows)
  local measured = rounds.run(o, {
    subject(lua, "cbor", "cbor.lua"), subject(lua, "replay", "replay.lua"),
  })
  local encode = rounds.value(measured, "cbor", "encode_ratio")
  local decode = rounds.value(measured, "cbor", "decode_ratio")
  local replay = rounds.value(measured, "replay", "rate")
  rows[#rows + 1] = {
    lua.name, report.times(encode), report.times(decode),
    report.short(replay),
  }
  report.goal(lua.name .. ", CBOR to lua-cjson, encoding", encode, "least",
              CBOR, report.times)
  report.goal(lua.name .. ", CBOR to lua-cjson, decoding", decode, "least",
              CBOR, report.times)
  report.goal(lua.name .. ", dead letters replayed a second", replay, "least",
              REPLAY, report.short)
end

function M.run(o)
  local lives = { { "tables of five fields, in groups of 10,000", "items/s",
                    "CPU ns/item", "× CPU of the codec alone" } }
  local rest = { { "", "CBOR × cjson, encoding", "decoding",
                   "dead letters replayed/s" } }
  for _, lua in ipairs(present(o)) do
    report.progress("%s", lua.name)
    print_life(lua, life(o, lua), lives)
    print_rest(o, lua, rest)
  end
  report.table(lives)
  report.table(rest)
end

return M
