-- SPDX-License-Identifier: MIT
-- What single things cost: one durable push, a take and its settle beside a
-- large backlog, memory, dead letters and their replay, and the file after
-- churn.

local report = require "report"
local rounds = require "rounds"

local M = {}

local THREADS = 64
local MANY, FEWER = 10000000, 1000000 -- items of the large backlog
local ROOM = 2 * 2^30                 -- that MANY take on tmpfs
local DEAD_LETTERS = 100000
local CHURN = 200000

local function program(o, key, name, more)
  return { key = key, run = ('"%s/%s"'):format(o.bin, name), more = more }
end

local function push(o)
  report.progress "one durable push"
  local measured = rounds.run(o, {
    program(o, "push", "push", ("--seconds %g --group 1 --producers %d "
      .. "--consumers 1"):format(o.seconds, THREADS)),
  })
  local function of(f)
    return rounds.median(measured, function(r) return f(r.push) end)
  end
  local to_bare = of(function(p) return p.push_ns / p.bare_ns end)
  local to_one = of(function(p) return p.all_threads / p.one_thread end)
  report.table {
    { "one durable push", "" },
    { "respool, median", report.time(of(function(p) return p.push_ns end)) },
    { "bare LMDB commit of the same bytes, median",
      report.time(of(function(p) return p.bare_ns end)) },
    { "one thread, pushes/s",
      report.short(of(function(p) return p.one_thread end)) },
    { THREADS .. " threads, pushes/s",
      report.short(of(function(p) return p.all_threads end)) },
  }
  report.goal("one durable push to a bare LMDB commit", to_bare, "most", 1.3,
              report.times)
  report.goal("64 threads pushing, to one", to_one, "least", 20,
              report.times)
end

-- How many items the large backlog is to have: it lies on tmpfs.
local function backlog()
  local text = rounds.capture "df --output=avail -B1 /dev/shm | tail -n 1"
  if (tonumber(text) or 0) >= ROOM then return MANY end
  report.line("/dev/shm has no room for %s items: %s are measured.",
              report.grouped(MANY), report.grouped(FEWER))
  return FEWER
end

local DEPTHS = {
  { "few", "1,000 waiting" }, { "some", "100,000 waiting" },
  { "many", "%s waiting" }, { "claims", "1,000 waiting, 100,000 leased" },
}

local function depth(o)
  local n = backlog()
  report.progress("take and settle beside %s items", report.grouped(n))
  local more = ("--seconds %g --backlog %d --size 100 --group "):format(
    2 * o.seconds, n)
  local measured = rounds.run({ dir = o.dir, rounds = 1 }, {
    program(o, "1", "depth", more .. 1),
    program(o, "100", "depth", more .. 100),
  })[1]
  local rows = { { "take and settle, without a flush", "1 item", "× 1,000",
                   "100 items", "× 1,000" } }
  for _, d in ipairs(DEPTHS) do
    local row = { d[2]:format(report.grouped(n)) }
    for _, group in ipairs { "1", "100" } do
      local m = measured[group]
      local ratio = m[d[1] .. "_ns"] / m.few_ns
      row[#row + 1] = report.time(m[d[1] .. "_ns"])
      row[#row + 1] = report.times(ratio)
      if d[1] ~= "few" then
        report.goal(("take and settle of %s with %s, to 1,000 waiting"):format(
          group, row[1]), ratio, "most", 1.15, report.times)
      end
    end
    rows[#rows + 1] = row
  end
  report.table(rows)
  report.goal(("memory beyond the mapped file, %s waiting, MiB"):format(
    report.grouped(n)), measured["1"].memory_kib / 1024, "most", 32,
    report.times)
end

local function dead_letters(o)
  report.progress "dead letters"
  local more = ("--items %d --group 1000 --size 100"):format(DEAD_LETTERS)
  local measured = rounds.run(o, {
    program(o, "mine", "dead_letters"), program(o, "record",
      "dead_letters_record"),
  }, more)
  local to_done = rounds.median(measured, function(r)
    return r.mine.dead_ns / r.mine.done_ns
  end)
  local rate = rounds.value(measured, "mine", "rate")
  report.table {
    { "dead letters, pages and batches of 1,000", "" },
    { "replayed, dead letters/s", report.short(rate) },
    { "LMDB, one record an item, dead letters/s",
      report.short(rounds.value(measured, "record", "rate")) },
    { "settling a batch that is done",
      report.time(rounds.value(measured, "mine", "done_ns")) },
    { "settling a batch that dies",
      report.time(rounds.value(measured, "mine", "dead_ns")) },
  }
  report.goal("dead letters replayed a second", rate, "least", 600000,
              report.short)
  report.goal("a batch that dies, to one that is done", to_done, "most", 2.5,
              report.times)
end

local function churn(o)
  report.progress "churn"
  local m = rounds.run({ dir = o.dir, rounds = 1 }, {
    program(o, "churn", "churn",
            ("--seconds %g --backlog %d"):format(16 * o.seconds, CHURN)),
  })[1].churn
  local ratio = m.file_bytes / m.peak_bytes
  report.line("After %d rounds of filling and draining, with at most "
    .. "%.0f MiB of payload at once, the file has %.0f MiB.", m.rounds,
    m.peak_bytes / 2^20, m.file_bytes / 2^20)
  report.goal("file after churn, to the peak of live payload", ratio, "most",
              1.5, report.times)
end

function M.run(o)
  push(o)
  depth(o)
  dead_letters(o)
  churn(o)
end

return M
