-- SPDX-License-Identifier: MIT
-- The benchmark: runs the subjects by turns, a process each, in a fresh
-- directory each, and prints medians. A ratio is taken within a round, so
-- that both its sides saw the same weather; then its median is printed.

local usage = [[
usage: lua bench/run.lua [--items N] [--group N] [--size BYTES] [--rounds N]
                         [--backlog N] [--bin DIR] [--dir DIR]

Durable push + take + done, in groups, of respool against LMDB with one
record an item and against an append-only file.

  --items    measured items a round: 200,000, fewer when the disk is slow
  --group    items a commit (1000)
  --size     bytes an item (100)
  --rounds   interleaved rounds (7)
  --backlog  items that stand in the queue all the time (10 groups)
  --bin      where the benchmark programs are (build/bench)
  --dir      a directory on the disk to be measured (build/bench); files go
             to "respool-bench" there, and are removed again
]]

local BUILD = os.getenv "RESPOOL_BUILD" or "build"

local ITEMS = 200000     -- a round
local SECONDS = 40       -- of flushing, at most, when --items is not given
local FLUSHES = 22       -- that all subjects together do for a group

local lua = '"' .. arg[-1] .. '"'

-- `base` subjects are what the others are compared with.
local subjects = {
  { name = "respool, one thread", run = '"%s/lifecycle"' },
  { name = "respool, producer + consumer", run = '"%s/lifecycle"',
    more = " --threads 2" },
  { name = "LMDB, one record an item", run = '"%s/one_record"',
    base = "one_record" },
  { name = "append-only file", run = '"%s/append_log"', base = "append_log" },
  { name = "respool from Lua, tables", run = lua .. " bench/tables.lua",
    apart = true, needs = "respool" },
}

local function fail(...)
  io.stderr:write(string.format(...), "\n")
  os.exit(1)
end

-- What an option's text means; nil when it means nothing.
local function value_of(name, text)
  if name == "bin" or name == "dir" then return text end
  local n = math.tointeger(tonumber(text))
  return n and n >= (name == "backlog" and 0 or 1) and n or nil
end

local function options(argv)
  local o = {
    group = 1000, size = 100, rounds = 7, items = false, backlog = false,
    bin = BUILD .. "/bench", dir = BUILD .. "/bench",
  }
  for i = 1, #argv, 2 do
    local name = argv[i]:match "^%-%-(%a+)$"
    if name == "help" then io.write(usage) os.exit(0) end
    if o[name] == nil or not argv[i + 1] then fail("%s", usage) end
    o[name] = value_of(name, argv[i + 1])
    if not o[name] then fail("%s: bad number: %s", argv[i], argv[i + 1]) end
  end
  o.backlog = math.ceil((o.backlog or 10 * o.group) / o.group) * o.group
  return o
end

local function read_all(command)
  local p = assert(io.popen(command))
  local text = p:read "a"
  if not p:close() then fail("failed: %s", command) end
  return text
end

local function sh(...)
  local command = string.format(...)
  if not os.execute(command) then fail("failed: %s", command) end
end

-- Runs a program in a fresh directory, which is gone afterwards.
local function run(o, program, more)
  local dir = o.dir .. "/respool-bench"
  sh('rm -rf "%s" && mkdir -p "%s"', dir, dir)
  local text = read_all(('%s --dir "%s" %s'):format(program, dir, more or ""))
  sh('rm -r "%s"', dir)
  return text
end

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local mid = (#sorted + 1) // 2
  if #sorted % 2 == 1 then return sorted[mid] end
  return (sorted[mid] + sorted[mid + 1]) / 2
end

local function grouped(n)
  local s = string.format("%.0f", n)
  return (s:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
end

local function first_line(command)
  return read_all(command):match "[^\n]*"
end

local function cpu_model()
  for line in io.lines "/proc/cpuinfo" do
    local model = line:match "^model name%s*:%s*(.*)"
    if model then return model end
  end
  return first_line "uname -m"
end

local function machine(o)
  local facts = {}
  local text = run(o, ('"%s/machine"'):format(o.bin))
  for name, value in text:gmatch "(%S+) ([^\n]*)\n" do facts[name] = value end
  facts.cpu = ("%s, %s cores"):format(cpu_model(), first_line "nproc")
  facts.kernel = first_line "uname -sr"
  facts.fs = first_line(('df --output=fstype "%s" | tail -n 1'):format(o.dir))
  return facts
end

local function print_machine(m)
  print("cpu       " .. m.cpu)
  print("kernel    " .. m.kernel)
  print(("disk      %s, fdatasync of 4 KiB: median %.0f µs"):format(m.fs,
    m.fdatasync / 1e3))
  print(("versions  respool %s, LMDB %s, %s, %s"):format(m.respool, m.LMDB,
    m.compiler, _VERSION))
end

-- As many items as the disk can flush in the time, and whole groups.
local function choose_items(o, fdatasync)
  local groups = math.ceil((o.items or ITEMS) / o.group)
  if o.items then return groups * o.group end
  local most = SECONDS * 1e9 / (o.rounds * FLUSHES * fdatasync)
  return math.max(1, math.min(groups, math.floor(most))) * o.group
end

local function present(subject)
  return not subject.needs or pcall(require, subject.needs)
end

local function measure(o, subject)
  local more = ("--items %d --group %d --size %d --backlog %d%s"):format(
    o.items, o.group, o.size, o.backlog, subject.more or "")
  local text = run(o, subject.run:format(o.bin), more)
  local n, wall, cpu = text:match "items (%d+) wall_ns (%d+) cpu_ns (%d+)"
  if not n then fail("%s: no result", subject.name) end
  return { rate = n / wall * 1e9, cpu = cpu / n }
end

-- One round: the result of every subject, in turn.
local function round(o, list)
  local results = {}
  for i, subject in ipairs(list) do results[i] = measure(o, subject) end
  return results
end

local function column(rounds, i, value)
  local list = {}
  for r, results in ipairs(rounds) do list[r] = value(results[i], results) end
  return median(list)
end

local function ratio(rounds, list, i, base)
  for j, subject in ipairs(list) do
    if subject.base == base and not list[i].apart then
      return ("%.2f"):format(column(rounds, i, function(mine, results)
        return mine.rate / results[j].rate
      end))
    end
  end
  return ""
end

local row = "%-30s %12s %12s %12s %12s"

local function print_results(rounds, list)
  print(row:format("", "items/s", "CPU ns/item", "x one record",
    "x append"))
  for i, subject in ipairs(list) do
    local rate = column(rounds, i, function(r) return r.rate end)
    local cpu = column(rounds, i, function(r) return r.cpu end)
    print(row:format(subject.name, grouped(rate), grouped(cpu),
      ratio(rounds, list, i, "one_record"),
      ratio(rounds, list, i, "append_log")))
  end
end

local function main()
  local o = options(arg)
  local m = machine(o)
  print_machine(m)
  o.items = choose_items(o, m.fdatasync)
  print(("\ndurable push + take + done, %s B items in groups of %s;\n" ..
    "medians of %d interleaved rounds of %s items, backlog %s\n"):format(
    grouped(o.size), grouped(o.group), o.rounds, grouped(o.items),
    grouped(o.backlog)))
  local list, rounds = {}, {}
  for _, s in ipairs(subjects) do
    if present(s) then list[#list + 1] = s end
  end
  for r = 1, o.rounds do rounds[r] = round(o, list) end
  print_results(rounds, list)
end

main()
