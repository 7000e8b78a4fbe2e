-- SPDX-License-Identifier: MIT
--
-- A queue and its model (spec/helper/model.lua) under the same random
-- operations. A failure names its seed, and the operations are made fewer as
-- long as it stays: what is printed is a short story that ends with it.
--
-- RESPOOL_SEED repeats a run; FAULT=long makes it 10^7 operations.

local helper = require "spec.helper"
local model = require "spec.helper.model"
local operations = require "spec.helper.model_operations"

local long = os.getenv "FAULT" == "long"
local OPERATIONS = long and 1e7 or 1e5
local COMPARE = 400 -- operations between two looks at all there is
local CHAPTER = 5000 -- operations on one store

-- Some operations come more often than others.
local OFTEN = {}
for name, times in pairs {
  push = 40, push_key = 8, take = 60, settle = 50, transact = 6, extend = 10,
  advance = 30, remove = 10, cancel = 8, change = 20, retry_dead_letter = 5,
  remove_dead_letter = 4,
  replay = 3, progress = 10,
  purge = 2, step_back = 2, hold = 2, policy = 1,
} do
  for _ = 1, times do OFTEN[#OFTEN + 1] = name end
end
table.sort(OFTEN)

-- A list of operations, each with a seed of its own. Options: `rare` come
-- besides; a `steady` clock does not step back; a `plain` queue gets no rate
-- and no breaker.
local function make(seed, n, options)
  local rare = options.rare
  local never = { step_back = options.steady, policy = options.plain }
  math.randomseed(seed)
  local list = {}
  for i = 1, n do
    local name = OFTEN[math.random(#OFTEN)]
    if rare and math.random(150) == 1 then name = rare end
    if never[name] then name = "push" end
    list[i] = { name = name, seed = math.random(2^31 - 1) }
  end
  return list
end

-- Does them on a new store; returns nil, or what went wrong, the number of
-- the operation, and the story so far.
local function try(list, seed, options)
  local m = model.new(options.memory and ":memory:" or helper.location(),
                      seed, options)
  local problem, at
  for i, operation in ipairs(list) do
    m.said = options.tell and m.said or {}
    math.randomseed(operation.seed)
    local ok, err = pcall(operations[operation.name], m)
    if ok and (i % COMPARE == 0 or i == #list) then
      ok, err = pcall(m.compare, m)
    end
    if not ok then
      problem, at = type(err) == "table" and err.differs or tostring(err), i
      break
    end
  end
  m:close()
  return problem, at, m
end

-- The list without those from `from` to `to`; `chance` gives the last one
-- another seed.
local function without(list, from, to, chance)
  local fewer = {}
  for i, operation in ipairs(list) do
    if i < from or i > to then fewer[#fewer + 1] = operation end
  end
  local last = fewer[#fewer]
  if last and chance > 0 then
    fewer[#fewer] = { name = last.name, seed = last.seed + chance }
  end
  return fewer
end

-- Leaves out what is not needed for a failure to stay: halves, quarters, ...
-- (delta debugging: A. Zeller, "Yesterday, my program worked. Today, it does
-- not. Why?", 1999). What the last operation hits hangs on all before it, so
-- it may choose anew.
local function shrink(list, seed, options)
  local size, tries = math.ceil(#list / 2), 0
  local most = options.memory and 3000 or 60
  while size >= 1 and tries < most do
    local from, before = 1, #list
    while from <= #list and tries < most do
      local problem, at, fewer
      for chance = 0, 3 do
        fewer = without(list, from, from + size - 1, chance)
        problem, at = try(fewer, seed, options)
        tries = tries + 1
        if problem then break end
      end
      if problem then
        for i = #fewer, at + 1, -1 do fewer[i] = nil end
        list = fewer
      else
        from = from + size
      end
    end
    if size > 1 then
      size = math.ceil(size / 2)
    elseif #list == before then
      size = 0
    end
  end
  return list
end

-- The story of a failure, told in full.
local function story(list, seed, options, first)
  local told = { tell = true }
  for name, value in pairs(options) do told[name] = value end
  local problem, _, m = try(list, seed, told)
  return ("seed %d, %d operations:\n%s\n%s (at first: %s)"):format(
    seed, #list, table.concat(m.said, "\n"), problem, first)
end

local function chapter(seed, n, options)
  local list = make(seed, n, options)
  local problem, at, m = try(list, seed, options)
  if not problem then return m.taken end
  for i = #list, at + 1, -1 do list[i] = nil end
  list = shrink(list, seed, options)
  return nil, story(list, seed, options, problem), list
end

local function run(n, options)
  local taken = 0
  for i = 1, n / CHAPTER do
    local more, told = chapter(helper.seed + i, CHAPTER, options)
    assert(more, told)
    taken = taken + more
  end
  return taken
end

describe("a queue under random operations", function()
  it("does as its model does", function()
    assert.is_true(run(OPERATIONS, { memory = true }) > OPERATIONS / 4)
  end)

  it("does so in strict order", function()
    local options = { memory = true, ordered = true }
    assert.is_true(run(OPERATIONS / 4, options) > OPERATIONS / 40)
  end)

  it("does so on any engine, in strict order or not", function()
    for _, ordered in ipairs { false, true } do
      local taken, told = chapter(helper.seed, CHAPTER / 4,
                                  { ordered = ordered, steady = true })
      assert.is_true(assert(taken, told) > CHAPTER / 80)
    end
  end)

  it("does so where it keeps results", function()
    assert.is_true(run(OPERATIONS / 20, { memory = true, results = true }) >
                   OPERATIONS / 200)
  end)

  -- A store in memory has no journal, nor uses a queue with a rate one.
  it("does so with its journal before it", function()
    assert.is_true(run(OPERATIONS / 5, { plain = true }) > OPERATIONS / 20)
  end)

  it("does so when it is opened again and again", function()
    assert.is_true(run(CHAPTER, { rare = "reopen" }) > CHAPTER / 8)
    assert.is_true(run(CHAPTER, { rare = "reopen", journal = false }) >
                   CHAPTER / 8)
  end)

  it("does so when some handles use the journal, and some do not", function()
    assert.is_true(run(CHAPTER, { rare = "reopen", journal = "changes" }) >
                   CHAPTER / 8)
  end)
end)

-- A queue that now and then forgets what it was told.
local function forgetful(q)
  local n = 0
  return setmetatable({ remove = function(_, id)
    n = n + 1
    if n % 5 == 0 and q:get(id) and q:get(id).state ~= "leased" then
      return true
    end
    return q:remove(id)
  end }, { __index = function(_, name)
    local value = q[name]
    if type(value) ~= "function" then return value end
    return function(_, ...) return value(q, ...) end
  end })
end

describe("the model", function()
  it("finds out a queue that forgets, in a short story (control)", function()
    local taken, told, list = chapter(helper.seed, CHAPTER, {
      memory = true, wrap = forgetful,
    })
    assert.is_nil(taken)
    assert.is_true(#list <= 20, told)
    assert.matches("seed %d+, %d+ operations:\n.*remove %d+\n", told)
  end)
end)
