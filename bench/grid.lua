-- SPDX-License-Identifier: MIT
-- The durable life of items, push, take under a lease, done, in groups of
-- several sizes: respool against LMDB with one record an item, a bare
-- append-only file, a job table in SQLite, and LevelDB.

local report = require "report"
local rounds = require "rounds"

local M = {}

local SIZES, GROUPS = { 100, 1024 }, { 1, 10, 100, 1000, 10000 }

local NAMES = {
  { "pipelined", "respool, pipelined" },
  { "alone", "respool, one thread" },
  { "append", "append-only file" },
  { "record", "LMDB, one record an item" },
  { "sqlite", "SQLite, a job table" },
  { "leveldb", "LevelDB, one record an item" },
}

local function subjects(o)
  local function run(program) return ('"%s/%s"'):format(o.bin, program) end
  return {
    { key = "pipelined", run = run "lifecycle",
      more = ("--producers %d --consumers %d"):format(o.producers,
        o.consumers) },
    { key = "alone", run = run "lifecycle" },
    { key = "append", run = run "append_log" },
    { key = "record", run = run "one_record" },
    { key = "sqlite", run = run "sqlite" },
    { key = "leveldb", run = run "leveldb" },
  }
end

-- What stands in the queue all the time: ten groups, two of the largest.
local function backlog(group)
  return group * math.max(2, math.min(10, 20000 // group))
end

local function cell(o, size, group)
  report.progress("%d B, groups of %d", size, group)
  local more = ("--seconds %g --size %d --group %d --backlog %d"):format(
    o.seconds, size, group, backlog(group))
  return rounds.run(o, subjects(o), more)
end

local function keep(o, size, group, cells)
  for _, name in ipairs(NAMES) do
    o.out:write(("%d\t%d\t%s\t%.0f\n"):format(size, group, name[1],
      rounds.value(cells, name[1], "rate")))
  end
end

local function print_rates(size, cells)
  local rows = { { ("%s B, items/s in groups of"):format(
    report.grouped(size)) } }
  for _, group in ipairs(GROUPS) do
    table.insert(rows[1], report.grouped(group))
  end
  for _, name in ipairs(NAMES) do
    local row = { name[2] }
    for _, group in ipairs(GROUPS) do
      row[#row + 1] = report.short(
        rounds.value(cells[group], name[1], "rate"))
    end
    rows[#rows + 1] = row
  end
  report.table(rows)
end

-- One cell in full: the ratios that the goals speak of.
local function print_cell(size, group, c)
  local rows = { { ("%s × %s B"):format(report.grouped(group),
    report.grouped(size)), "items/s", "CPU ns/item", "× append-only",
    "× one record", "× SQLite" } }
  for _, name in ipairs(NAMES) do
    local key = name[1]
    rows[#rows + 1] = {
      name[2], report.short(rounds.value(c, key, "rate")),
      report.grouped(rounds.value(c, key, "cpu")),
      report.times(rounds.ratio(c, key, "append", "rate")),
      report.times(rounds.ratio(c, key, "record", "rate")),
      report.times(rounds.ratio(c, key, "sqlite", "rate")),
    }
  end
  report.table(rows)
end

local function goals_of_small(c)
  local text = "1,000 × 100 B, pipelined, to "
  local function goal(what, base, limit)
    report.goal(text .. what, rounds.ratio(c, "pipelined", base, "rate"),
                "least", limit, report.times)
  end
  goal("LMDB with one record an item", "record", 4)
  goal("an append-only file", "append", 1.5)
  goal("SQLite", "sqlite", 6)
end

-- One thread, to the better of the two that people take for it.
local function goals_of_few(cells)
  for _, goal in ipairs { { 1, 2 }, { 10, 1.5 } } do
    local ratio = rounds.median(cells[goal[1]], function(c)
      return c.alone.rate / math.max(c.sqlite.rate, c.leveldb.rate)
    end)
    report.goal(("%d × 100 B, one thread, to the better of SQLite and LevelDB")
      :format(goal[1]), ratio, "least", goal[2], report.times)
  end
end

local function goal_of_many(c)
  report.goal("10,000 × 100 B, pipelined, to an append-only file",
              rounds.ratio(c, "pipelined", "append", "rate"), "least", 0.8,
              report.times)
end

local function goals_of_large(c)
  local text = "1,000 × 1 KiB, %s, to an append-only file"
  report.goal(text:format "one thread or pipelined",
    rounds.median(c, function(r)
      return math.max(r.alone.rate, r.pipelined.rate) / r.append.rate
    end), "least", 0.85, report.times)
  report.goal(text:format "one thread, CPU an item",
              rounds.ratio(c, "alone", "append", "cpu"), "most", 1.5,
              report.times)
end

-- The one cell that says most, in `make bench BENCH=quick`.
function M.quick(o)
  local c = cell(o, 100, 1000)
  print_cell(100, 1000, c)
  goals_of_small(c)
end

function M.run(o)
  for _, size in ipairs(SIZES) do
    local cells = {}
    for _, group in ipairs(GROUPS) do
      cells[group] = cell(o, size, group)
      keep(o, size, group, cells[group])
    end
    print_rates(size, cells)
    print_cell(size, 1000, cells[1000])
    if size == 100 then
      goals_of_small(cells[1000])
      goals_of_few(cells)
      goal_of_many(cells[10000])
    else
      goals_of_large(cells[1000])
    end
  end
end

return M
