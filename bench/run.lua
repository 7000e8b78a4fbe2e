-- SPDX-License-Identifier: MIT
-- The benchmark: what the parts measure, as a report in Markdown.

package.path = arg[0]:gsub("[^/]*$", "?.lua") .. ";" .. package.path

local report = require "report"
local rounds = require "rounds"

local usage = [[
usage: lua bench/run.lua [--quick] [--only PART] [--rounds N] [--seconds S]
                         [--producers N] [--consumers N]
                         [--bin DIR] [--dir DIR] [--out FILE]

Measures respool, against LMDB with one record an item, an append-only file,
SQLite and LevelDB, in interleaved rounds; a report in Markdown goes to standard
output.

  --quick      one cell only: groups of 1,000 items of 100 bytes
  --only       grid, small, costs or scripts; without, all
  --rounds     of which medians are taken (5)
  --seconds    that a subject runs in a round (0.2)
  --producers  threads of the pipelined subject (8)
  --consumers  and these (4)
  --bin        where the benchmark programs are (build/bench)
  --dir        a directory on the disk to be measured (build/bench); files go
               to "respool-bench" there, and are removed again
  --out        where the rates of the grid go, for bench/plot.lua
]]

local BUILD = os.getenv "RESPOOL_BUILD" or "build"

local PARTS = { "grid", "small", "costs", "scripts" }

local NUMBERS = { rounds = 1, seconds = 0, producers = 1, consumers = 1 }

-- What an option's text means; nil when it means nothing.
local function value_of(name, text)
  local least = NUMBERS[name]
  if not least then return text end
  local n = name == "seconds" and tonumber(text)
            or math.tointeger(tonumber(text))
  return n and n >= least and n or nil
end

local function check_part(o)
  for _, part in ipairs(PARTS) do
    if o.only == "" or o.only == part then return end
  end
  rounds.fail("--only: no such part: %s", o.only)
end

local function options(argv)
  local o = {
    rounds = 5, seconds = 0.2, producers = 8, consumers = 4, only = "",
    build = BUILD, bin = BUILD .. "/bench", dir = BUILD .. "/bench",
    out = "/dev/null",
  }
  local i = 1
  while i <= #argv do
    local name = argv[i]:match "^%-%-(%a+)$"
    if name == "help" then io.write(usage) os.exit(0) end
    if name == "quick" then
      o.quick, i = true, i + 1
    else
      if o[name] == nil or not argv[i + 1] then rounds.fail("%s", usage) end
      o[name] = value_of(name, argv[i + 1])
      if not o[name] then
        rounds.fail("%s: bad number: %s", argv[i], argv[i + 1])
      end
      i = i + 2
    end
  end
  check_part(o)
  return o
end

local function first_line(command)
  return rounds.capture(command):match "[^\n]*"
end

local function cpu_model()
  for line in io.lines "/proc/cpuinfo" do
    local model = line:match "^model name%s*:%s*(.*)"
    if model then return model end
  end
  return first_line "uname -m"
end

local function print_machine(o)
  local m = rounds.facts(o, ('"%s/machine"'):format(o.bin))
  report.line("%s, %s cores; %s; %s, fdatasync of 4 KiB in %.2f ms; respool "
    .. "%s, LMDB %s, SQLite %s, %s. Medians of %d interleaved rounds of "
    .. "%g s a subject; load before: %s.", cpu_model(), first_line "nproc",
    first_line "uname -sr",
    first_line(('df --output=fstype "%s" | tail -n 1'):format(o.dir)),
    m.fdatasync / 1e6, m.respool, m.LMDB, m.SQLite, m.compiler, o.rounds,
    o.seconds, first_line "cat /proc/loadavg":match "%S+")
end

local function main()
  local o = options(arg)
  print_machine(o)
  o.out = assert(io.open(o.quick and "/dev/null" or o.out, "w"))
  if o.quick then
    require("grid").quick(o)
  else
    for _, part in ipairs(PARTS) do
      if o.only == "" or o.only == part then require(part).run(o) end
    end
  end
  o.out:close()
  report.goals()
end

main()
