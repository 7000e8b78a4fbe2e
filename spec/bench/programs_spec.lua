-- SPDX-License-Identifier: MIT
--
-- The benchmark's programs run and print what run.lua reads. Their work is the
-- least there can be, and no time is asserted.

local helper = require "spec.helper"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

-- Its lines of a name and a number, from a directory of its own.
local function figures(command)
  local text = helper.sh(("(%s --dir '%s') 2>&1; echo rc $?"):format(command,
                         helper.dir()))
  local of = {}
  for name, value in text:gmatch "(%S+) ([^\n]*)" do of[name] = value end
  assert.equal("0", of.rc, text)
  return of
end

local LEAST = " --seconds 0 --group 10 --size 100 --items 100 --backlog 20"

-- A program, what it is called with, and a figure that it prints.
local PROGRAMS = {
  { "lifecycle", LEAST, "items" },
  { "lifecycle", LEAST .. " --producers 2 --consumers 2", "items" },
  { "one_record", LEAST, "items" },
  { "append_log", LEAST, "items" },
  { "sqlite", LEAST, "items" },
  { "leveldb", LEAST, "items" },
  { "churn", LEAST, "file_bytes" },
  { "machine", "", "fdatasync" },
  { "push", " --seconds 0 --group 1 --producers 2 --consumers 1", "push_ns" },
  { "depth", " --seconds 0 --group 10 --backlog 1000", "claims_ns" },
  { "dead_letters", " --items 100 --group 10 --size 100", "dead_ns" },
  { "dead_letters_record", " --items 100 --group 10 --size 100", "items" },
}

describe("the benchmark's program", function()
  for _, program in ipairs(PROGRAMS) do
    local name, arguments, figure = program[1], program[2], program[3]
    it(("%s runs with%s"):format(name, arguments), function()
      local of = figures(("%s/bench/%s%s"):format(build, name, arguments))
      assert.is_number(tonumber(of[figure]))
    end)
  end

  it("partitions prints a line a kind of names", function()
    local said = helper.sh(("%s/bench/partitions '%s' 1000 1"):format(build,
                           helper.dir()))
    local _, lines = said:gsub("rate x", "")
    assert.equal(3, lines, said)
  end)
end)

describe("the benchmark's script", function()
  for _, shape in ipairs { "many", "buffer", "processes" } do
    it("tables runs in the shape " .. shape, function()
      local of = figures(("%s bench/subjects/tables.lua --items 100 --group 10 "
        .. "--shape %s"):format(helper.lua(), shape))
      assert.equal("100", of.items)
    end)
  end

  it("run prints a table of all subjects, and the goals", function()
    local said = helper.sh(("lua5.4 bench/run.lua --quick --rounds 1 "
      .. "--seconds 0 --bin %s/bench --dir '%s' 2>&1"):format(build,
      helper.dir()))
    for _, subject in ipairs { "respool, pipelined", "respool, one thread",
      "append-only file", "LMDB, one record an item", "SQLite, a job table",
      "LevelDB, one record an item" } do
      assert.truthy(said:find("| " .. subject .. " |", 1, true), said)
    end
    assert.truthy(said:find("pipelined, to SQLite |", 1, true), said)
  end)

  it("nginx prints four ways to answer, and three numbers of workers",
     function()
    local said = helper.sh(("lua5.4 bench/nginx.lua --rounds 1 --seconds 1 "
      .. "--connections 4 --dir '%s' 2>&1"):format(helper.dir()))
    local _, lines = said:gsub("\n%([a-d]%) ", "")
    assert.equal(4 + 3, lines, said)
  end)
end)
