-- SPDX-License-Identifier: MIT

local cli = require "spec.helper.cli"
local core = require "respool.core"
local helper = require "spec.helper"
local json = require "respool.support.json"
local respool = require "respool"

-- A store whose queue "mails" holds n items, or whose DLQ holds n dead letters.
local function store(n, dead)
  local path = helper.location()
  local s = assert(helper.open(path, { journal = false }))
  local q, list = assert(s:queue "mails"), {}
  for i = 1, n do list[i] = { n = i } end
  if n > 0 then q:push_many(list) end
  if dead then
    q:work(function(payload)
      return respool.dead { error = "no " .. payload.n, group = "g" }
    end, { stop_when_empty = true })
  end
  return path, q
end

-- How many of 1..n are not in the queue or another, and how many more than
-- once.
local function tally(q, n, other)
  local seen, lost, doubled = {}, 0, 0
  for _, from in ipairs { q, other } do
    for item in from:each() do
      local k = item.payload.n
      if seen[k] then doubled = doubled + 1 end
      seen[k] = true
    end
  end
  for i = 1, n do
    if not seen[i] then lost = lost + 1 end
  end
  return lost, doubled
end

local function lines(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

describe("respool export", function()
  it("writes one archive to its output", function()
    local path = store(3)
    local run = cli.run { "export", path, "mails" }
    assert.equal(0, run.status)
    assert.equal("", run.err)
    assert.equal(5, #lines(run.out))
    assert.same({ n = 2 }, json.decode(lines(run.out)[3]).payload)
  end)

  it("writes files into a directory, and their names to its output",
     function()
    local path, q = store(100)
    local dir = helper.dir() .. "/out"
    local run = cli.run { "export", path, "mails", dir, "--rotate", "4KiB",
                          "--zstd" }
    assert.equal(0, run.status)
    local files = core.file.list(dir)
    assert.equal(#files, #lines(run.out))
    assert.is_true(#files > 2)
    assert.matches("%.jsonl%.zst$", files[1])
    assert.equal(100, q:length().ready)
  end)

  it("moves dead letters with --dead and --remove", function()
    local path, q = store(5, true)
    local dir = helper.dir()
    local run = cli.run { "export", path, "mails", dir, "--dead", "--remove",
                          "--json" }
    assert.equal(0, run.status)
    local counts = json.decode(run.out)
    assert.equal(5, counts.removed)
    assert.equal(1, #counts.files)
    assert.equal(0, q.dead:count())
  end)

  it("writes an archive of nothing, which imports as that", function()
    for _, form in ipairs { "json", "cbor" } do
      local run = cli.run { "export", (store(0)), "mails", "--form", form }
      assert.same({ 0, "" }, { run.status, run.err })
      run = cli.run { "import", helper.location(), "in", input = run.out }
      assert.same({ status = 0, err = "",
                    out = "0 pushed, 0 imported before, 0 not imported\n" },
                  run)
    end
  end)

  it("to its output lacks its end when it was stopped", function()
    local path = store(3000)
    local whole = cli.run { "export", path, "mails" }.out
    local pipe = io.popen(("echo $$; exec %s bin/respool export %s mails "
      .. "2>/dev/null"):format(helper.lua(), path))
    local pid, text = pipe:read "*l", pipe:read(1000)
    helper.sh("kill -INT " .. pid) -- it waits for us to read
    text = text .. pipe:read "*a"
    pipe:close()
    assert.is_true(#text < #whole)
    assert.is_nil(text:find('"end":', 1, true))
    local run = cli.run { "import", helper.location(), "in", input = text }
    assert.equal(1, run.status)
    assert.matches("it is cut off behind record %d+", run.err)
  end)

  it("takes a DLQ that is no queue by its name", function()
    local path, q = store(2, true)
    q.store:drop_queue "mails"
    local run = cli.run { "export", path, "mails" }
    assert.equal(0, run.status)
    assert.equal("dead_letters", json.decode(lines(run.out)[1]).kind)
  end)

  it("says what stays when items are moved", function()
    local path, q = store(2)
    q:push({ n = 3 }, { delay = 3600 })
    local run = cli.run { "export", path, "mails", helper.dir(), "--remove",
                          "--gzip", "--form", "cbor" }
    assert.equal(0, run.status)
    assert.equal("respool: 1 items stay: 0 ready, 1 scheduled, 0 "
                 .. "retrying, 0 leased\n",
                 run.err)
  end)

  it("follows what comes until it is asked to end, and ends whole", function()
    local path, q = store(1, true)
    local dir = helper.dir()
    local process = cli.start { "export", path, "mails", dir, "--dead",
                                "--remove", "--follow", "--every", "0.01" }
    process:expect ".jsonl"
    q:push { n = 2 }
    q:work(function() return respool.dead() end, { stop_when_empty = true })
    repeat until q.dead:count() == 0
    assert.equal(130, process:kill "TERM")
    for _, name in ipairs(core.file.list(dir)) do
      assert.matches("%.jsonl$", name)
    end
    local to = helper.location()
    assert.equal(0, cli.run { "import", to, "mails", dir }.status)
    local lost, doubled = tally(assert(helper.open(to)):queue "mails", 2)
    assert.equal(0, lost + doubled)
  end)

  it("publishes what it has when it is asked to end", function()
    local path, q = store(3, true)
    local dir = helper.dir()
    local process = cli.start { "export", path, "mails", dir, "--dead",
                                "--remove", "--follow", "--every", "1h" }
    repeat until #core.file.list(dir) > 0
    assert.equal(130, process:kill "INT")
    assert.equal(0, q.dead:count())
    assert.equal(0, cli.run { "import", "--verify", "x", "x", dir }.status)
  end)

  it("shares a directory with others that export at the same time",
     function()
    local dir, all, n = helper.dir(), {}, 0
    for i = 1, 3 do
      all[i] = cli.start { "export", store(400), "mails", dir, "--rotate",
                           "4KiB" }
    end
    for i = 1, 3 do
      assert.equal(0, all[i]:wait())
      n = n + select(2, all[i]:output():gsub("%.jsonl\n", ""))
    end
    assert.equal(n, #core.file.list(dir))
    local run = cli.run { "import", "--verify", "x", "x", dir }
    assert.equal(0, run.status)
    assert.matches("^1,200 records", run.out)
  end)

  it("tells wrong input in one line, with a status", function()
    local path = store(1)
    local wrong = {
      { { "export" }, 2 }, { { "export", path }, 2 },
      { { "export", path .. "/no", "mails" }, 1, "there is no store" },
      { { "export", path, "mial" }, 1, "no queue or DLQ 'mial'" },
      { { "export", path, "mails", "--remove" }, 2, "needs a DIRECTORY" },
      { { "export", path, "mails", "--json" }, 2, "--json needs a DIRECTORY" },
      { { "export", path, "mails", "--rotate", "1MB" }, 2,
        "--rotate needs a DIRECTORY" },
      { { "export", path, "mails", "d", "--rotate", "x" }, 2, "'x'" },
      { { "export", path, "mails", "d", "--gzip", "--zstd" }, 2 },
      { { "export", path, "mails", "/no/such/place" }, 1, "cannot create" },
      { { "export", path, "mails", "/tmp", "--follow" }, 2, "--remove" },
    }
    for _, case in ipairs(wrong) do
      local run = cli.run(case[1])
      assert.equal(case[2], run.status)
      assert.equal("", run.out)
      assert.equal(1, #lines(run.err))
      assert.matches(case[3] or "respool: ", run.err, 1, true)
    end
  end)
end)

describe("respool import", function()
  it("pushes what an export wrote, once, through a pipe too", function()
    local path = store(5)
    local to = helper.location()
    local text = cli.run { "export", path, "mails" }.out
    local run = cli.run { "import", to, "mails", input = text }
    assert.equal(0, run.status)
    assert.equal("5 pushed, 0 imported before, 0 not imported\n", run.out)
    run = cli.run { "import", to, "mails", "-", input = text }
    assert.equal("0 pushed, 5 imported before, 0 not imported\n", run.out)
    run = cli.run { "import", to, "mails", "--again", "--json", input = text }
    assert.equal(5, json.decode(run.out).pushed)
    assert.equal(10, assert(helper.open(to)):queue "mails":length().ready)
  end)

  it("imports up to damage, says where, and deletes nothing of it", function()
    local path, dir = store(40), helper.dir()
    cli.run { "export", path, "mails", dir }
    local file = dir .. "/" .. core.file.list(dir)[1]
    local text = helper.read(file)
    helper.write(file, text:sub(1, math.floor(#text / 2)))
    local to = helper.location()
    local run = cli.run { "import", to, "mails", dir, "--delete" }
    assert.equal(1, run.status)
    assert.matches("^respool: .*: record %d+ is damaged: it is cut off\n",
                   run.err)
    assert.equal(1, #core.file.list(dir))
    helper.write(file, text)
    run = cli.run { "import", to, "mails", dir, "--delete" }
    assert.equal(0, run.status)
    assert.same({}, core.file.list(dir))
    local lost, doubled = tally(assert(helper.open(to)):queue "mails", 40)
    assert.equal(0, lost + doubled)
  end)

  it("reads a pipe that has a name", function()
    local path, dir, to = store(3), helper.dir(), helper.location()
    helper.write(dir .. "/text", cli.run { "export", path, "mails" }.out)
    helper.sh(("cd %s; mkfifo pipe; (cat text >pipe) >/dev/null 2>&1 &")
      :format(dir))
    assert.equal("3 pushed, 0 imported before, 0 not imported\n",
                 cli.run { "import", to, "mails", dir .. "/pipe" }.out)
  end)

  it("refuses payloads newer than its consumers", function()
    local path = helper.location()
    local s = assert(helper.open(path))
    s:queue("mails", { version = 3 }):push { n = 1 }
    local text, to = cli.run { "export", path, "mails" }.out, helper.location()
    local run = cli.run { "import", to, "mails", "--payload-version", "2",
                          input = text }
    assert.equal(1, run.status)
    assert.matches("payload version 3 is newer than 2", run.err)
    run = cli.run { "import", to, "mails", "--payload-version", "3",
                    input = text }
    assert.equal(0, run.status)
  end)

  it("counts what it ignored beside what it pushed", function()
    local path, q = store(2)
    q:push({ n = 3 }, { key = "k" })
    local text, to = cli.run { "export", path, "mails" }.out, helper.location()
    assert(helper.open(to)):queue "in":push({ n = 0 }, { key = "k" })
    local words = { "import", to, "in", "--on-conflict", "ignore",
                    input = text }
    assert.equal("2 pushed, 1 ignored, 0 imported before, 0 not imported\n",
                 cli.run(words).out)
    words[5] = "replace"
    assert.equal("1 pushed, 2 imported before, 0 not imported\n",
                 cli.run(words).out)
  end)

  it("names the file that is wrong, whatever it is called", function()
    local text = cli.run { "export", (store(3)), "mails" }.out
    local dir = helper.dir()
    helper.write(dir .. "/cut", text:sub(1, -9))
    local run = cli.run { "import", "to", "in", "cut", cwd = dir }
    assert.matches("^respool: cut: record %d+ is damaged: it is cut off\n",
                   run.err)
  end)

  it("verifies without touching a store", function()
    local path, dir = store(3), helper.dir()
    cli.run { "export", path, "mails", dir, "--gzip" }
    local to = helper.location()
    local run = cli.run { "import", "--verify", to, "mails", dir }
    assert.equal("3 records in 1 whole file\n", run.out)
    assert.is_nil((core.file.kind(to)))
  end)

  it("tells wrong input in one line, with a status", function()
    local path, dir = store(1), helper.dir()
    local to = helper.location()
    helper.write(dir .. "/text", "hello\n")
    local wrong = {
      { { "import", to }, 2 },
      { { "import", to, "mails", "/no/file" }, 2, "cannot open /no/file" },
      { { "import", to, "mails", "x", "--on-conflict", "panic" }, 2 },
      { { "import", to, "mails", "x", "--payload-version", "-1" }, 2 },
      { { "import", path, "mails", dir .. "/text" }, 1, "no respool archive" },
      { { "import", path, "mails" }, 1, "it is empty" },
      { { "import", path, "mails", input = '{"a":1}\n{"a":2}\n' }, 1,
        "`respool push` reads JSON Lines" },
      { { "import", path, "mails", input = "[1]\n" }, 1, "`respool push`" },
      { { "import", path, "mails", input = "\161\97\97\1" }, 1,
        "`respool push`" },
      { { "import", path, ".notes" }, 2, "begins with a dot" },
      { { "import", path, "mails", input = "\31\139xx" }, 1, "gzip -dc" },
    }
    for _, case in ipairs(wrong) do
      local run = cli.run(case[1])
      assert.equal(case[2], run.status)
      assert.equal(1, #lines(run.err))
      assert.matches(case[3] or "respool: ", run.err, 1, true)
    end
    assert.is_nil((core.file.kind(to)))
  end)
end)

describe("An import", function()
  -- 60 KB of zstd became 1.8 GB.
  it("reads no more of a record than it may have", function()
    local path, dir = store(2), helper.dir()
    assert.equal(0, cli.run { "export", path, "mails", dir, "--zstd" }.status)
    helper.sh(("{ printf '{'; head -c 40000000 /dev/zero; } | zstd -q >%s/bomb")
      :format(dir))
    local archive = helper.sh("ls " .. dir .. "/*.jsonl.zst"):match "%S+"
    for _, case in ipairs {
      { dir .. "/bomb", "the header is damaged: it is longer than 1048576" },
      { "--max-line", "100", archive,
        "record 1 is damaged: it is longer than 100 b" },
    } do
      local words = { "import", path, "in" }
      for i = 1, #case - 1 do words[i + 3] = case[i] end
      local run = cli.run(words)
      assert.equal(1, run.status)
      assert.matches(case[#case], run.err)
    end
  end)
end)

describe("help of export and import", function()
  it("has an example", function()
    for _, name in ipairs { "export", "import" } do
      local run = cli.run { name, "--help" }
      assert.equal(0, run.status)
      assert.matches("Examples:\n  %S", run.out)
    end
  end)
end)


-- Killed at random points. The seed is that of helper, which is printed.

local N = 6000

local random = 0

local function chance(n)
  random = (random * 1103515245 + 12345) % 2^31
  return math.floor(random / 65536) % n
end

-- Kills an export when so many files are there, and a little later. It follows,
-- so that it has not come to its end before, however fast it is.
local function kill_export(words, dir, files, is_empty)
  local process = cli.start(words)
  repeat until #core.file.list(dir) >= files or is_empty()
  for _ = 1, chance(20000) do random = random + 0 end
  assert.equal(128 + 9, process:kill())
end

-- Kills an import when so many are pushed, or later: there is room for some
-- more, but not for all.
local function kill_import(words, q, pushed)
  assert(q.store:queue(q.name, { max_items = pushed + 150 }))
  local process = cli.start(words)
  repeat until q:length().total >= pushed
  assert.equal(128 + 9, process:kill())
end

local function with(words, ...)
  local all = { ... }
  for i = #words, 1, -1 do table.insert(all, 1, words[i]) end
  return all
end

describe("export and import killed", function()
  random = helper.seed

  for _, dead in ipairs { true, false } do
    local what = dead and "dead_letters" or "items"

    it("lose and double no " .. what, function()
      local path, q = store(N, dead)
      local dir = helper.dir()
      local words = { "export", path, "mails", dir, "--remove", "--rotate",
                      "6KiB", dead and "--dead" or "--gzip" }
      for _ = 1, 12 do
        local files = #core.file.list(dir) + 1 + chance(4)
        kill_export(with(words, "--follow"), dir, files, function()
          return (dead and q:length().dead or q:length().total) == 0
        end)
      end
      -- What it had in hand when it was killed waits, and is exported later.
      assert.equal(0, cli.run(words).status)
      assert.equal(0, q:length().dead)
      local to = helper.location()
      local s = assert(helper.open(to))
      local target, written = s:queue "in", N - q:length().total
      words = { "import", to, "in", dir }
      for i = 1, 12 do
        kill_import(with(words, "--while-below", "1"), target,
                    math.floor(written / 14 * i) + chance(50))
      end
      assert(s:queue("in", { max_items = math.huge }))
      assert.equal(0, cli.run(words).status)
      local lost, doubled = tally(target, N, q)
      assert.equal(0, lost)
      assert.equal(0, doubled)
      assert.is_true(target:length().total > N / 2)
      assert.same({}, s:check())
      assert.same({}, q.store:check())
      -- The control: the same tally finds what is doubled, and what is lost.
      local first = core.file.list(dir)
      table.sort(first)
      local one
      for _, name in ipairs(first) do
        if not name:match "part$" then one = one or dir .. "/" .. name end
      end
      assert.equal(0, cli.run { "import", to, "in", one, "--again" }.status)
      lost, doubled = tally(target, N, q)
      assert.equal(0, lost)
      assert.is_true(doubled > 0)
      assert(os.remove(one))
      local other = helper.location()
      assert.equal(0, cli.run { "import", other, "in", dir }.status)
      lost, doubled = tally(assert(helper.open(other)):queue "in", N, q)
      assert.is_true(lost > 0)
      assert.equal(0, doubled)
    end)
  end
end)

describe("respool export", function()
  it("refuses files that are over after no time", function()
    for _, option in ipairs { "--every", "--keep-for" } do
      cli.assert_refused(cli.run { "export", helper.location(), "mails",
                                   helper.dir(), option, "0" }, 2,
                         "not a duration above 0")
    end
  end)
end)

describe("respool import --every", function()
  it("imports what comes into a directory, until it is stopped", function()
    local path, to, dir = helper.location(), helper.location(), helper.dir()
    local q = assert(helper.open(path)):queue "mails"
    local target = assert(helper.open(to)):queue "mails"
    local process = cli.start { "import", to, "mails", dir, "--delete",
                                "--every", "10ms" }
    for i = 1, 2 do
      q:push(i)
      assert.equal(0, cli.run({ "export", path, "mails", dir,
                                "--remove" }).status)
      repeat until target:length().ready == i
    end
    repeat until #core.file.list(dir) == 0
    assert.equal(130, process:kill "TERM")
  end)

  it("refuses what it cannot read again", function()
    local to, dir = helper.location(), helper.dir()
    local function refused(text, from, every, more)
      cli.assert_refused(cli.run { "import", to, "mails", from, "--every",
                                   every, more }, 2, text)
    end
    refused("not stdin", "-", "1s")
    refused("is for imports", dir, "1s", "--verify")
    refused("no time", dir, "0")
  end)
end)

describe("respool import, held back,", function()
  it("goes at a rate, and waits while the queue is too full", function()
    local path, to, dir = helper.location(), helper.location(), helper.dir()
    local q = assert(helper.open(path)):queue "mails"
    q:push_many { 1, 2, 3, 4 }
    assert.equal(0, cli.run({ "export", path, "mails", dir }).status)
    local target = assert(helper.open(to)):queue("mails", { max_items = 10 })
    local began = core.mono()
    local run = cli.run { "import", to, "mails", dir, "--rate", "20",
                          "--while-below", "0.9" }
    assert.equal(0, run.status)
    assert.is_true(core.mono() - began >= 50000) -- the rate was kept at all
    assert.equal(4, target:length().ready)
    cli.assert_refused(cli.run { "import", to, "mails", dir, "--while-below",
                                 "2" }, 2, "'2' is not a share")
  end)
end)
