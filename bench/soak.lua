-- SPDX-License-Identifier: MIT
-- The soak: several processes push, steadily and in bursts, and work with
-- random outcomes on one store, while the file, the memory of each process
-- and what pushes and waits take are sampled. It fails when one of them is
-- higher in the last third than in the first by more than it may be, or when
-- the store does not check in the end.

package.path = arg[0]:gsub("[^/]*$", "?.lua") .. ";" .. package.path

local report = require "report"
local respool = require "respool"
local rounds = require "rounds"
local socket = require "socket"

local usage = [[
usage: lua bench/soak.lua [--seconds S] [--rate N] [--workers N] [--dir DIR]
                          [--leak 1]

Exit status 1 when something did not stay flat or the store is damaged.

  --seconds  how long (180, at least 20)
  --rate     items a second that the steady producer pushes (5000); bursts
             of 20,000 come every 5 seconds besides
  --workers  processes that work (2)
  --dir      a directory on the disk to be used (build)
  --leak     1: workers keep all they handle. The control: it must fail
]]

local REPLAY = 2       -- seconds between replays of the dead letters
local SHOWN = 12       -- lines of samples

-- How much higher the last third may be than the first: a factor, and a
-- difference that does not count. Memory is that of the largest process, beyond
-- the mapped file. Latencies have wide bounds, as disks are shared.
local KINDS = {
  { "file", "file, MiB", 1.1, 4 }, { "rss", "memory, MiB", 1.15, 2 },
  { "push50", "push p50, ms", 2, 2 }, { "push99", "push p99, ms", 3, 20 },
  { "wait50", "wait p50, ms", 2, 200 }, { "wait99", "wait p99, ms", 2, 1000 },
}

local function options(argv)
  local o = { seconds = 180, rate = 5000, workers = 2, leak = 0,
              dir = os.getenv "RESPOOL_BUILD" or "build" }
  if argv[1] == "--help" then io.write(usage) os.exit(0) end
  for i = 1, #argv, 2 do
    local name = argv[i]:match "^%-%-(%a+)$"
    if o[name] == nil or not argv[i + 1] then rounds.fail("%s", usage) end
    o[name] = name == "dir" and argv[i + 1] or tonumber(argv[i + 1])
    if not o[name] then rounds.fail("%s: not a number", argv[i]) end
  end
  if o.seconds < 20 then rounds.fail("--seconds must be at least 20") end
  return o
end

local function start(o, role, number)
  local log = ("%s/%s-%d"):format(o.home, role, number)
  local pipe = assert(io.popen(("%s %s --role %s --number %d --store '%s' "
    .. "--log '%s' --until %.3f --rate %g --leak %d 2>&1"):format(arg[-1],
    arg[0]:gsub("soak.lua$", "soak_load.lua"), role, number, o.home, log,
    o.ends, o.rate, o.leak)))
  return { role = role, log = log, pipe = pipe }
end

local function start_all(o)
  local list = { start(o, "steady", 1), start(o, "bursty", 2) }
  for i = 1, o.workers do list[#list + 1] = start(o, "worker", 2 + i) end
  return list
end

-- Whether all ended well; what they said when they did not.
local function join(processes)
  local well = true
  for _, p in ipairs(processes) do
    local said = p.pipe:read "a"
    if not p.pipe:close() then
      well = false
      report.line("a %s process failed: %s", p.role, said)
    end
  end
  return well
end

local function file_mib(o)
  local f = assert(io.open(o.home .. "/data.mdb", "rb"))
  local size = f:seek "end"
  f:close()
  return size / 2^20
end


-- Samples: by window of the time, then by kind, a list of values.

local function add(o, windows, at, kind, value)
  local i = math.floor((at - o.began) / o.window) + 1
  if i < 1 or i > o.windows then return end
  windows[i][kind] = windows[i][kind] or {}
  table.insert(windows[i][kind], value)
end

local function read_samples(o, processes, windows)
  for _, p in ipairs(processes) do
    for line in io.lines(p.log) do
      local at, kind, value = line:match "^(%S+) (%S+) (%S+)$"
      value = tonumber(value)
      add(o, windows, tonumber(at), kind,
          kind == "rss" and value / 1024 or value)
    end
  end
end

local function percentile(list, p)
  if not list then return nil end
  table.sort(list)
  return list[math.max(1, math.ceil(#list * p))]
end

local function summary(w)
  return {
    file = percentile(w.file, 1), rss = percentile(w.rss, 1),
    push50 = percentile(w.push, 0.5), push99 = percentile(w.push, 0.99),
    wait50 = percentile(w.wait, 0.5), wait99 = percentile(w.wait, 0.99),
  }
end

-- The median of a kind over some windows.
local function middle(summaries, kind, from, to)
  local list = {}
  for i = from, to do list[#list + 1] = summaries[i][kind] end
  if #list == 0 then rounds.fail("no sample of %s", kind) end
  return rounds.middle(list)
end

local function head()
  local row = { "second" }
  for _, k in ipairs(KINDS) do row[#row + 1] = k[2] end
  return row
end

local function print_samples(o, summaries)
  local rows = { head() }
  local step = math.max(1, o.windows // SHOWN)
  for i = step, o.windows, step do
    local row = { ("%.0f"):format(i * o.window) }
    for _, k in ipairs(KINDS) do
      local value = summaries[i][k[1]]
      row[#row + 1] = value and ("%.1f"):format(value) or ""
    end
    rows[#rows + 1] = row
  end
  report.table(rows)
end

-- Compares the last third with the first; true when all is flat.
local function judge(o, summaries)
  local third, flat = o.windows // 3, true
  local rows = { { "", "first third", "last third", "" } }
  for _, k in ipairs(KINDS) do
    local first = middle(summaries, k[1], 1, third)
    local last = middle(summaries, k[1], o.windows - third + 1, o.windows)
    local well = last <= math.max(first * k[3], first + k[4])
    flat = flat and well
    rows[#rows + 1] = { k[2], ("%.1f"):format(first), ("%.1f"):format(last),
                        well and "flat" or "**rising**" }
  end
  report.table(rows)
  return flat
end


-- The run.

-- Meanwhile: the file, and the dead letters back to work.
local function watch(o, store, windows)
  local dead, replayed = store:dead "soak", socket.gettime()
  while socket.gettime() < o.ends do
    socket.sleep(math.min(0.5, math.max(0, o.ends - socket.gettime())))
    add(o, windows, socket.gettime(), "file", file_mib(o))
    if socket.gettime() - replayed >= REPLAY then
      assert(dead:replay())
      assert(store:maintain { seconds = 0.1 })
      replayed = socket.gettime()
    end
  end
end

local function print_counts(store)
  local s = assert(store:queue("soak"):stats())
  report.line("%s items pushed, %s deliveries; done %s, died %s, crashed %s; "
    .. "%s left.", report.grouped(s.pushed), report.grouped(s.delivered),
    report.grouped(s.done), report.grouped(s.died),
    report.grouped(s.crashed),
    report.grouped(s.ready + s.leased + s.waiting))
end

-- What respool_check finds.
local function findings(store)
  local list = assert(store:check())
  for i = 1, math.min(#list, 20) do report.line("check: %s", list[i]) end
  report.line("check: %d findings", #list)
  return #list
end

local function soak(o)
  local store = assert(respool.open(o.home))
  assert(store:queue "soak")
  o.began = socket.gettime()
  o.ends = o.began + o.seconds
  local windows, summaries = {}, {}
  for i = 1, o.windows do windows[i] = {} end
  local processes = start_all(o)
  watch(o, store, windows)
  local well = join(processes)
  read_samples(o, processes, windows)
  for i = 1, o.windows do summaries[i] = summary(windows[i]) end
  print_samples(o, summaries)
  print_counts(store)
  well = judge(o, summaries) and well
  well = findings(store) == 0 and well
  store:close()
  return well
end

local function main()
  local o = options(arg)
  o.home = o.dir .. "/respool-soak"
  o.windows = math.min(30, math.floor(o.seconds / 5))
  o.window = o.seconds / o.windows
  os.execute(('rm -rf "%s" && mkdir -p "%s"'):format(o.home, o.home))
  report.progress("%d processes for %g s", 2 + o.workers, o.seconds)
  local ok, well = pcall(soak, o)
  os.execute(('rm -rf "%s"'):format(o.home))
  if not ok then rounds.fail("%s", well) end
  report.line("%s", well and "All stayed flat." or "It did not stay flat.")
  os.exit(well and 0 or 1)
end

main()
