-- SPDX-License-Identifier: MIT
--
-- respool check and respool compact.

local cli = require "spec.helper.cli"
local findings = require "respool.cli.maintenance.findings"
local helper = require "spec.helper"
local json = require "respool.support.json"
local terminal = require "spec.helper.terminal"

local MARK = "a payload that is easily found"

-- A store with items, a dead letter, and much room that is free; its path.
local function filled()
  local path = helper.location()
  local store = assert(helper.open(path, { journal = false }))
  local mails = store:queue "mails"
  for i = 1, 30 do
    mails:push(MARK .. i)
    mails:push(("x"):rep(9000))
  end
  for id = 2, 60, 2 do mails:remove(id) end
  local batch = mails:take()
  for _, item in batch:each() do item:dead { group = "bad" } end
  batch:settle()
  store:close()
  return path
end

-- Changes bytes of the data file; returns how often.
local function damage(path, pattern, by)
  local file = path .. "/data.mdb"
  local text, n = helper.read(file):gsub(pattern, by)
  helper.write(file, text)
  return n
end

local function cut_off(path)
  local file = path .. "/data.mdb"
  helper.write(file, helper.read(file):sub(1, 4 * 4096))
end

local function check(...)
  return cli.run { "check", ... }
end

describe("respool check", function()
  it("finds nothing in a store that is well", function()
    local run = check(filled())
    assert.equal("", run.err)
    assert.equal(0, run.status)
    assert.matches("29 items in 1 queue, 1 dead letter,", run.out)
    assert.matches("\nnothing is wrong\n$", run.out)
    run = json.decode(check(filled(), "--json").out)
    assert.equal("clean", run.status)
    assert.same({}, run.findings)
    assert.equal(29, run.counts.items)
  end)

  it("refuses what names no store, as all commands do", function()
    for _, name in ipairs { "", ":memory:" } do
      assert.same({ 2, cli.run { "ls", name }.err },
                  { check(name).status, check(name).err })
    end
  end)

  it("finds damaged segments and dead letters, and says what to do", function()
    local path = filled()
    assert.is_true(damage(path, "a payload that", "a payloaD that") > 29)
    local run = check(path)
    assert.equal("", run.err)
    assert.equal(1, run.status)
    assert.matches("\nsegment%-damaged %(%d+%)\n  the segment at", run.out)
    assert.matches("\ndead%-letter%-damaged %(1%)\n  dead letter 1 of DLQ",
                   run.out)
    assert.matches("\n  means: ", run.out)
    assert.matches("\n  do: ", run.out)
    assert.is_nil(run.out:find("payloa", 1, true))
  end)

  it("gives each finding as JSON with its kind and meaning", function()
    local path = filled()
    damage(path, "a payload that", "a payloaD that")
    local run = check(path, "--json")
    assert.equal(1, run.status)
    local result = json.decode(run.out)
    assert.equal("damaged", result.status)
    local finding = result.findings[1]
    assert.equal("segment-damaged", finding.kind)
    for _, name in ipairs { "text", "meaning", "advice" } do
      assert.is_true(#finding[name] > 10)
    end
  end)

  it("tells of a file that is cut off", function()
    local path = filled()
    cut_off(path)
    local run = check(path)
    assert.equal("", run.err)
    assert.equal(1, run.status)
    assert.matches("\nunreadable %(1%)\n[^\n]* is cut off: its file ends "
      .. "before its data", run.out)
  end)

  it("gives up a store that it cannot read in time", function()
    local path, go = filled(), helper.dir() .. "/go"
    local gate = helper.spawn(([[
      os.execute("exec flock '%s' -c 'echo shut; "
        .. "until [ -e %s ]; do sleep 0.01; done'")
    ]]):format(path, go))
    gate:expect "shut"
    local run = cli.run { "check", path, "--timeout", "200ms" }
    assert.equal(2, run.status)
    assert.matches("^respool: the check did not come to an end in 200ms",
                   run.err)
    helper.write(go, "")
    gate:wait()
  end)

  it("changes no byte, of a store that is well or not", function()
    for _, harm in ipairs { function() end, cut_off, function(path)
      damage(path, "a payload that", "a payloaD that")
    end } do
      local path = filled()
      harm(path)
      local before = helper.read(path .. "/data.mdb")
      check(path)
      assert.is_true(before == helper.read(path .. "/data.mdb"))
    end
  end)

  it("goes on while others work", function()
    local path = filled()
    local store = assert(helper.open(path))
    assert.equal(0, check(path).status)
    assert(store:queue("mails"):push "still writable")
  end)

  it("survives bytes changed anywhere, one way or another", function()
    local seed = helper.seed
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2^31
      return math.floor(seed / 2^31 * n)
    end
    local path = filled()
    local whole = helper.read(path .. "/data.mdb")
    for _ = 1, 12 do
      local text = whole
      for _ = 1, 40 do
        local at = random(#text) + 1
        text = text:sub(1, at - 1) .. string.char(random(256))
          .. text:sub(at + 1)
      end
      helper.write(path .. "/data.mdb", text)
      local run = check(path)
      assert.is_true(run.status <= 2, run.status .. run.err)
      assert.is_true(run.status == 2 or run.err == "", run.err)
    end
  end)

  -- Dead letters' leaves of the data file, in the order of its pages.
  local function leaves(text, mark)
    local list = {}
    for at = 2 * 4096, #text - 4096, 4096 do
      local page = text:sub(at + 1, at + 4096)
      if page:sub(11, 12) == "\2\0" and page:find(mark, 1, true) then
        list[#list + 1] = at
      end
    end
    return list
  end

  -- Writes a page over another.
  local function misplace(path, from, to)
    local file = path .. "/data.mdb"
    local text = helper.read(file)
    helper.write(file, text:sub(1, to) .. text:sub(from + 1, from + 4096)
      .. text:sub(to + 4097))
  end

  -- A closed store with 1,000 dead letters, a record each; its path.
  local function buried()
    local path = helper.location()
    local store = assert(helper.open(path))
    local q, list = store:queue "mails", {}
    for i = 1, 1000 do list[i] = MARK .. i end
    q:push_many(list)
    local batch = q:take { limit = 1000 }
    for payload, item in batch:each() do
      item:dead { error = "bad " .. payload, group = "g" }
    end
    assert(batch:settle())
    store:close()
    return path
  end

  -- All that can be read of a store, or nil when not all can.
  local function listing(path)
    local parts = {}
    for _, words in ipairs {
      { "ls", path, "mails" }, { "dead", "list", path, "mails" },
      { "dead", "groups", path, "mails" },
    } do
      table.insert(words, "--json")
      local run = cli.run(words)
      if run.status ~= 0 then return nil end
      parts[#parts + 1] = run.out:gsub('"oldest_age":[^,}]*', "")
    end
    return table.concat(parts)
  end

  -- Only the number of dead letters was looked at, and a page counts as many
  -- wherever it lies.
  it("finds a page in the place of another, and listing ends", function()
    local path = buried()
    local list = leaves(helper.read(path .. "/data.mdb"), MARK)
    assert.is_true(#list > 10)
    misplace(path, list[3], list[#list - 3])
    local run = check(path)
    assert.equal("", run.err)
    assert.equal(1, run.status)
    assert.matches("\ntree%-disorder %(1%)\n  database 'dead_letters' is out "
      .. "of order: of 1000 ", run.out)
    assert.matches("may%s+be%s+lost", run.out)
    for _, verb in ipairs { "list", "groups" } do
      run = cli.run { "dead", verb, path, "mails", "--json" }
      assert.equal(1, run.status)
      assert.matches("stored bytes are damaged\n$", run.err)
    end
  end)

  it("says that nothing is wrong only when all can be read", function()
    local seed = helper.seed
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2^31
      return math.floor(seed / 2^31 * n)
    end
    local source, wrong = buried(), 0
    local whole = listing(source)
    local text = helper.read(source .. "/data.mdb")
    local pages, list = #text / 4096, leaves(text, MARK)
    for i = 1, 12 do
      local path = helper.location()
      os.execute(("cp -r '%s' '%s'"):format(source, path))
      misplace(path, random(pages) * 4096, i % 2 == 0
        and list[1 + random(#list)] or (2 + random(pages - 2)) * 4096)
      local run = check(path)
      assert.is_true(run.status <= 2, run.err)
      assert.is_nil((run.out .. run.err):find "%.lua:")
      if run.status == 0 then assert.equal(whole, listing(path)) end
      if run.status == 1 then assert.equal("", run.err) end
      wrong = wrong + run.status
    end
    assert.is_true(wrong > 0, "no damage was done")
  end)

  it("tells of a data file that is empty", function()
    local path = filled()
    helper.write(path .. "/data.mdb", "")
    local run = check(path)
    assert.equal(1, run.status)
    assert.matches("the data file of store .* is empty", run.out)
    local store, message, code = helper.open(path)
    assert.same({ nil, "CORRUPT" }, { store, code })
    assert.matches("the data file of store .* is empty", message)
  end)

  it("is 2 for what cannot be checked", function()
    local dir = helper.dir()
    helper.write(dir .. "/data.mdb", ("no store "):rep(10000))
    for _, path in ipairs { dir, helper.location() } do
      local run = check(path)
      assert.equal(2, run.status)
      assert.equal("", run.out)
      assert.matches("^respool: [^\n]*\n$", run.err)
      run = check(path, "--json")
      assert.equal(2, run.status)
      assert.equal("unchecked", json.decode(run.out).status)
    end
  end)
end)

describe("the kinds of findings", function()
  -- The words of every finding in the core, as it would write them.
  local function sentences()
    local source = helper.read "core/lmdb/repair/check.c"
      .. helper.read "core/lmdb/repair/check_partitions.c"
    local list = {}
    for call in source:gmatch 'found%(a,%s*(".-)%);' do
      local text = call:gsub('"%s*\n%s*"', ""):gsub('" PLACE "', "P")
        :gsub('" PLACE', 'P"'):match '^"([^\n]*)"'
      text = text:gsub("%%ll?u", "7"):gsub("%%[du]", "7"):gsub("%%s", "name")
      list[#list + 1] = text
    end
    return list
  end

  it("have a meaning for each that the core knows", function()
    local all = sentences()
    assert.is_true(#all > 30)
    for _, text in ipairs(all) do
      local kind = findings.explain(text).kind
      if text:find "is name a claim" then kind = "item-lost" end
      assert.not_equal("other", kind, text)
    end
    assert.equal("other", findings.explain("the moon is missing").kind)
  end)

  it("tell an item that nobody gets from one that two may get", function()
    assert.equal("item-lost", findings.explain(
      "item 3 in queue 'a' space 0 priority 0 id 1 is not in a claim"
    ).kind)
    assert.equal("item-twice", findings.explain(
      "item 3 in queue 'a' space 0 priority 0 id 1 is new but in a claim"
    ).kind)
  end)

  -- It said of dead letters that had gone that nothing was lost.
  it("tell what is missing from what was not counted", function()
    local function kind(text)
      local finding = findings.explain(text)
      if finding.kind:find "missing" then
        assert.matches("lost", finding.meaning)
        assert.matches("^Stop ", finding.advice)
      end
      return finding.kind
    end
    assert.equal("dead-letters-missing",
                 kind "DLQ '9' counts 10 dead letters, there are 9")
    assert.equal("DLQ-count",
      kind "DLQ 'q' counts 9 dead letters, there are 10")
    for text, least in pairs {
      ["queue '5' priority 0 counts %d ready, 0 leased, 1 scheduled, "
        .. '0 retrying; there are 3, 1, 2, 0'] = 5,
      ["the claim at queue 'q' space 1 priority 9 id 7 counts %d items, there "
        .. 'are 5'] = 5,
      ["queue 'a' was pushed %d items; 3 are gone and 4 are there"] = 7,
    } do
      assert.equal("items-missing", kind(text:format(least + 1)))
      assert.not_equal("items-missing", kind(text:format(least)))
      assert.not_equal("items-missing", kind(text:format(least - 1)))
    end
  end)

  it("go by the words around a queue's name, not by the name", function()
    assert.equal("priority-count", findings.explain(
      "queue 'claims overlap' priority 0 counts 1 ready").kind)
  end)
end)

describe("respool compact", function()
  local function size(path)
    return #helper.read(path .. "/data.mdb")
  end

  it("makes the file smaller, and tells sizes", function()
    local path = filled()
    local before = size(path)
    local run = cli.run { "compact", path }
    assert.equal("", run.err)
    assert.equal(0, run.status)
    assert.matches("^%S+ KiB %-> %S+ KiB %(%d+%%%)\n$", run.out)
    assert.is_true(size(path) < before / 2)
    assert.equal(0, check(path).status)
    local told = json.decode(cli.run({ "compact", path, "--json" }).out)
    assert.equal(size(path), told.after)
  end)

  it("refuses while another process has the store open", function()
    local path = filled()
    local store = assert(helper.open(path))
    local before = size(path)
    local run = cli.run { "compact", path }
    assert.equal(1, run.status)
    assert.matches("^respool: another process has store [^\n]*%-%-to[^\n]*\n$",
                   run.err)
    assert.equal(before, size(path))
    assert(store:queue("mails"):push "goes on")
  end)

  it("copies with --to while another process has it open", function()
    local path, to = filled(), helper.location()
    local store = assert(helper.open(path))
    assert.equal(0, cli.run({ "compact", path, "--to", to }).status)
    assert.equal(29, store:queue("mails"):length().total)
    local copy = assert(helper.open(to))
    assert.equal(29, copy:queue("mails"):length().total)
    local run = cli.run { "compact", path, "--to", to }
    assert.equal(1, run.status)
    assert.matches("there is a store in", run.err)
  end)

  it("ends with Ctrl-C, whole before or after", function()
    local path = filled()
    local before = size(path)
    local result = terminal.session({ "compact", path }, {
      { "expect", "bytes" }, { "send", "\3" }, { "end" },
    })
    assert.is_true(result.status == 130 or result.status == 0)
    assert.equal("control\ndata.mdb\nlock.mdb", helper.sh("ls " .. path))
    assert.is_true(size(path) == before or size(path) < before / 2)
    assert.equal(29, json.decode(check(path, "--json").out).counts.items)
  end)

  it("leaves a damaged store as it is", function()
    local path = filled()
    cut_off(path)
    local before = helper.read(path .. "/data.mdb")
    local run = cli.run { "compact", path }
    assert.equal(1, run.status)
    assert.matches("^respool: [^\n]*see respool check\n$", run.err)
    assert.is_true(before == helper.read(path .. "/data.mdb"))
    assert.equal("control\ndata.mdb\nlock.mdb", helper.sh("ls " .. path))
  end)

  it("says in one line what it cannot use", function()
    for status, words in pairs {
      { "compact", helper.location() }, { "compact", ":memory:" },
    } do
      local run = cli.run(words)
      assert.equal(status, run.status)
      assert.matches("^respool: [^\n]*\n$", run.err)
    end
  end)
end)
