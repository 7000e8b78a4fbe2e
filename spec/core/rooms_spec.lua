-- SPDX-License-Identifier: MIT
--
-- The architecture: which file knows which, read from linkage (`nm`), from
-- `#include` and from `require`, holds to the ranks in ranks.txt and has no
-- circle of files. A C file and its header are one.

local helper = require "spec.helper"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")


-- Reading.

-- Adds the arrow from a file to another, unless they are one.
local function add(arrows, from, to)
  if from ~= to then arrows[from .. " -> " .. to] = true end
end

local function lines(text)
  return text:gmatch "[^\n]+"
end

-- core/x.c, core/x.h: core/x
local function file_of(path)
  return (path:gsub("%.[^./]+$", ""))
end

-- Arrows from the output of `nm -A`, whose paths `name_of` turns into files;
-- nil: an object that is left over.
local function read_linkage(arrows, text, name_of)
  local definer, uses = {}, {}
  for line in lines(text) do
    local path, kind, symbol = line:match "^(.-):%s*%x* (%a) (%S+)$"
    local file = path and name_of(path)
    if file and kind == "U" then
      uses[#uses + 1] = { file, symbol }
    elseif file and kind:match "[TDRBC]" then
      definer[symbol] = file
    end
  end
  for _, use in ipairs(uses) do
    if definer[use[2]] then add(arrows, use[1], definer[use[2]]) end
  end
end

-- Names that a file keeps to itself although another of the same house, core or
-- lua, exports them: a reader, or a tool that goes by names, follows the wrong
-- one, and draws arrows and circles that are not there.
local function namesakes(text, name_of)
  local exporter, kept, found = {}, {}, {}
  for line in lines(text) do
    local path, kind, symbol = line:match "^(.-):%s*%x+ (%a) (%S+)$"
    local file = path and name_of(path)
    local name = file and file:match "^%w+/" .. symbol
    if name and kind:match "[TDRBC]" then
      exporter[name] = file
    elseif name then
      kept[#kept + 1] = { file, name }
    end
  end
  for _, one in ipairs(kept) do
    local other = exporter[one[2]]
    if other then
      found[#found + 1] = ("%s has the name of %s of %s"):format(
        one[1], one[2]:match "[^/]+$", other)
    end
  end
  return found
end

-- The rooms that alone may call a library, by the names of its functions.
local LIBRARIES = {
  { "^mdb_", "core/lmdb/env/" },
  { "^PQ", "core/postgres/" },
  { "^json_[aioldtu]", "core/json/" },
  { "^luaL?_", "lua/" },
  { "^curl_", "lua/curl/" },
}

-- The calls of libraries from other rooms, by the output of `nm -A`.
local function strays(text, name_of)
  local found = {}
  for line in lines(text) do
    local path, symbol = line:match "^(.-):%s*U (%S+)$"
    local file = path and name_of(path)
    for _, library in ipairs(file and LIBRARIES or {}) do
      if symbol:find(library[1]) and file:find(library[2], 1, true) ~= 1 then
        found[#found + 1] = file .. " calls " .. symbol
      end
    end
  end
  return found
end

-- Arrows from the `#include "..."` lines of a file, as `exists` finds them.
local function read_includes(arrows, path, text, exists)
  local folder = path:match "^(.*/)"
  for line in lines(text) do
    local name = line:match '^#include "([^"]+)"'
    for _, start in ipairs { folder, "core/", "lua/binding/" } do
      if name and exists(start .. name) then
        add(arrows, file_of(path), file_of(start .. name))
        break
      end
    end
  end
end

-- Arrows from the `require` calls of a Lua file.
local function read_requires(arrows, path, text, exists)
  for name in text:gmatch "require%s*%(?%s*[\"'](res[%w_.]+)[\"']" do
    local base = "lua/" .. name:gsub("%.", "/")
    for _, tail in ipairs { ".lua", "/init.lua" } do
      if exists(base .. tail) then
        add(arrows, file_of(path), file_of(base .. tail))
      end
    end
  end
end


-- Judging.

local function trim(text)
  return (text:match "^%s*(.-)%s*$")
end

-- before[a][b]: a chain leads from room a to room b.
local function read_ranks(text)
  local before = {}
  local function put(a, b)
    before[a], before[b] = before[a] or {}, before[b] or {}
    before[a][b] = true
  end
  for line in lines(text) do
    local last
    for step in (line:match "^[^#]*"):gmatch "[^<]+" do
      local rooms = {}
      for room in step:gmatch "[^,]+" do rooms[#rooms + 1] = trim(room) end
      for _, a in ipairs(last or {}) do
        for _, b in ipairs(rooms) do put(a, b) end
      end
      last = rooms
    end
  end
  for middle in pairs(before) do
    for a in pairs(before) do
      for b in pairs(before[a][middle] and before[middle] or {}) do
        before[a][b] = true
      end
    end
  end
  return before
end

local function room_of(before, file)
  local room = file
  while room and not before[room] do room = room:match "^(.*)/" end
  return room
end

local function sorted(set)
  local list = {}
  for key in pairs(set) do list[#list + 1] = key end
  table.sort(list)
  return list
end

-- The arrows that no chain allows.
local function upward(arrows, before)
  local found = {}
  for arrow in pairs(arrows) do
    local from, to = arrow:match "^(%S+) %-> (%S+)$"
    local a, b = room_of(before, from), room_of(before, to)
    if not (a and b and (a == b or before[b][a])) then found[arrow] = true end
  end
  return sorted(found)
end

-- The circles: sets of files that all reach one another (Tarjan).
local function circles(arrows)
  local next_of, found = {}, {}
  for _, arrow in ipairs(sorted(arrows)) do
    local from, to = arrow:match "^(%S+) %-> (%S+)$"
    next_of[from], next_of[to] = next_of[from] or {}, next_of[to] or {}
    table.insert(next_of[from], to)
  end
  local index, low, on_stack, stack, n = {}, {}, {}, {}, 0
  local function visit(file)
    n = n + 1
    index[file], low[file], on_stack[file] = n, n, true
    stack[#stack + 1] = file
    for _, to in ipairs(next_of[file]) do
      if not index[to] then
        visit(to)
        low[file] = math.min(low[file], low[to])
      elseif on_stack[to] then
        low[file] = math.min(low[file], index[to])
      end
    end
    if low[file] ~= index[file] then return end
    local circle = {}
    repeat
      local top = table.remove(stack)
      on_stack[top], circle[top] = nil, true
    until top == file
    circle = sorted(circle)
    if #circle > 1 then found[#found + 1] = table.concat(circle, ", ") end
  end
  for _, file in ipairs(sorted(next_of)) do
    if not index[file] then visit(file) end
  end
  return found
end


-- The tree.

local known = {}
for path in lines(helper.sh "find core lua -name '*.[ch]' -o -name '*.lua'") do
  known[path] = true
end

local function exists(path)
  return known[path]
end

-- build/core/a/x.o: core/a/x, build/5.4/binding/a/x.o: lua/binding/a/x
local function source_of(object)
  local file = object:sub(#build + 2):gsub("^5%.4/", "lua/")
  file = file_of(file)
  return known[file .. ".c"] and file
end

local linkage = helper.sh(("find %s/core %s/5.4/binding %s/5.4/curl " ..
  "-name '*.o' | xargs nm -A"):format(build, build, build))
local tree = {}
read_linkage(tree, linkage, source_of)
for path in pairs(known) do
  local read = path:match "%.lua$" and read_requires or read_includes
  read(tree, path, helper.read(path), exists)
end
local ranks = read_ranks(helper.read "spec/core/ranks.txt")


describe("the rooms", function()
  it("know only rooms of a lower rank", function()
    assert.same({}, upward(tree, ranks))
  end)

  it("have no circle of files", function()
    assert.same({}, circles(tree))
  end)

  it("call a library each, and no other", function()
    assert.same({}, strays(linkage, source_of))
  end)

  it("have no file that keeps the name of another's function", function()
    assert.same({}, namesakes(linkage, source_of))
  end)

  it("have a rank, each file", function()
    for path in pairs(known) do
      assert.truthy(room_of(ranks, file_of(path)), path)
    end
  end)
end)

-- The checks above, on a house that is made up.
describe("a made-up house", function()
  local before = read_ranks "a < b < c, d # ranks\nd < e\n"

  it("has an arrow upward, sideways or to nowhere", function()
    local arrows = { ["b/x -> a/y"] = true, ["c/x -> b/y"] = true,
                     ["a/y -> a/z"] = true, ["e/x -> a/y"] = true }
    assert.same({}, upward(arrows, before))
    arrows["a/y -> e/x"] = true
    arrows["c/x -> d/x"] = true
    arrows["a/z -> f/x"] = true
    assert.same({ "a/y -> e/x", "a/z -> f/x", "c/x -> d/x" },
                upward(arrows, before))
  end)

  it("has a circle", function()
    local arrows = { ["x -> y"] = true, ["y -> z"] = true,
                     ["w -> x"] = true }
    assert.same({}, circles(arrows))
    arrows["z -> x"] = true
    assert.same({ "x, y, z" }, circles(arrows))
  end)

  it("has a namesake of another file's function", function()
    assert.same({ "core/b has the name of run of core/a" }, namesakes([[
core/a.o:0000000000000000 T run
core/b.o:0000000000000000 t run
core/b.o:0000000000000020 t walk
core/c.o:0000000000000000 t walk
core/d.o:                 U run
lua/e.o:0000000000000000 t run
]], file_of))
  end)

  it("has a call of LMDB where none should be", function()
    assert.same({ "core/lmdb/queue/x calls mdb_get" }, strays([[
core/lmdb/env/txn.o:                 U mdb_get
core/lmdb/queue/x.o:                 U mdb_get
core/lmdb/queue/x.o:                 U malloc
lua/binding/x.o:                 U luaL_checkany
]], file_of))
  end)

  it("is read from linkage, includes and requires", function()
    local arrows = {}
    read_linkage(arrows, [[
a/x.o:0000000000000000 T run
a/x.o:                 U helper
a/x.o:                 U malloc
b/y.o:0000000000000010 T helper
b/y.o:0000000000000010 t run
b/y.o:                 U table
c/z.o:0000000000000010 R table
]], file_of)
    read_includes(arrows, "core/a/x.c",
      '#include "b/y.h"\n#include "z.h"\n#include <stdio.h>\n',
      function(path) return path == "core/b/y.h" or path == "core/a/z.h" end)
    read_requires(arrows, "lua/respool/queue.lua",
      'local a = require "respool.push"\nlocal b = require("respool")\n',
      function(path)
        return path == "lua/respool/push.lua" or path == "lua/respool/init.lua"
      end)
    assert.same({ ["a/x -> b/y"] = true, ["b/y -> c/z"] = true,
                  ["core/a/x -> core/b/y"] = true,
                  ["core/a/x -> core/a/z"] = true,
                  ["lua/respool/queue -> lua/respool/push"] = true,
                  ["lua/respool/queue -> lua/respool/init"] = true }, arrows)
  end)
end)
