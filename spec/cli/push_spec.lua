-- SPDX-License-Identifier: MIT
--
-- respool push, as a process.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local respool = require "respool"

local dir, place

before_each(function()
  dir = helper.dir()
  place = dir .. "/store"
end)

local function file(text)
  helper.write(dir .. "/in.jsonl", text)
  return dir .. "/in.jsonl"
end

-- What is in the queue, in the order of ids.
local function items(name, options)
  local store = assert(helper.open(place, { create = false }))
  local list = {}
  for item in assert(store:queue(name or "q", options)):each() do
    list[#list + 1] = item
  end
  store:close()
  table.sort(list, function(a, b) return a.id < b.id end)
  return list
end

local function payloads(name, options)
  local list = items(name, options)
  for i, item in ipairs(list) do list[i] = item.payload end
  return list
end

-- Numbers from..to as lines {"n":i}.
local function numbered(from, to)
  local lines = {}
  for i = from, to do lines[#lines + 1] = ('{"n":%d}\n'):format(i) end
  return table.concat(lines)
end

-- That the queue holds n = 1..count, each once and in order.
local function assert_numbers(count)
  local list = payloads()
  assert.equal(count, #list)
  for i, payload in ipairs(list) do assert.equal(i, payload.n) end
end

describe("respool push", function()
  it("pushes each line of a file and says nothing in a pipe", function()
    local run = cli.run { "push", place, "q", file('{"n":1}\n\n[2,"é"]\n3') }
    assert.same({ status = 0, out = "", err = "" }, run)
    assert.same({ { n = 1 }, { 2, "é" }, 3 }, payloads())
  end)

  it("reads stdin when no file is named", function()
    assert.equal(0, cli.run { "push", place, "q", input = "1\n2\n" }.status)
    assert.equal(0, cli.run { "push", place, "q", "-", input = "3\n" }.status)
    assert.same({ 1, 2, 3 }, payloads())
  end)

  it("tells bad lines by number, goes on and fails", function()
    local run = cli.run {
      "push", place, "q", input = '{"n":1}\n{"secret":\n\n\255\n{"n":2}\n',
    }
    assert.equal(1, run.status)
    assert.matches("^respool: line 2: [^\n]+\nrespool: line 4: not UTF%-8\n"
      .. "respool: 2 of 4 lines not pushed\n$", run.err)
    assert.is_nil(run.err:find "secret")
    assert_numbers(2)
  end)

  it("refuses a whole number that would be stored as another", function()
    local run = cli.run { "push", place, "q", input = "99999999999999999999\n" }
    assert.equal(1, run.status)
    assert.matches("line 1: a whole number beyond", run.err)
  end)

  it("keeps empty arrays, null and whole numbers as they are", function()
    cli.run { "push", place, "q", input = '{"a":[],"o":{},"x":null,"i":1}\n' }
    local p = payloads()[1]
    assert.equal(respool.array_mt, getmetatable(p.a))
    assert.is_nil(getmetatable(p.o))
    assert.equal(respool.null, p.x)
    assert.equal("\161\97\105\1", respool.cbor.encode { i = p.i })
  end)

  it("passes over the mark that some programs begin a file with", function()
    cli.run { "push", place, "q", input = "\239\187\1911\r\n2\r\n" }
    assert.same({ 1, 2 }, payloads())
  end)

  it("passes over lines that are longer than asked", function()
    local input = ("1\n%s\n%s\n2\n"):format(("3"):rep(9), ("4"):rep(10))
    local run = cli.run { "push", place, "q", "--max-line", "9", input = input }
    assert.equal("respool: line 3: longer than 9 B (--max-line)\n"
      .. "respool: 1 of 4 lines not pushed\n", run.err)
    assert.same({ 1, 333333333, 2 }, payloads())
  end)

  it("passes over lines that are too long for an item", function()
    local path = dir .. "/huge"
    helper.sh(([[{ echo 1; for n in 70 160; do head -c $((n << 20)) /dev/zero |
      tr '\0' x; echo; done; echo 2; } >%s]]):format(path))
    local run = cli.run { "push", place, "q", "--raw", path }
    assert.equal(1, run.status)
    assert.matches("^respool: line 2: [^\n]* more than an item may have"
      .. "[^\n]*\nrespool: line 3: longer than 96 MiB %(%-%-max%-line"
      .. "%)\n", run.err)
    assert.same({ "1", "2" }, payloads("q", { codec = "raw" }))
  end)

  -- All that had come of a line was put together again and again: five times
  -- the longest line.
  it("keeps little more of a line that is too long than a line may have",
     function()
    local script = helper.dir() .. "/read.lua"
    helper.write(script, [[
      local records = require "respool.cli.queue.records"
      local lines = records.new(io.stdin, "stdin", "lines", 2^25)
      local record = lines:next(-1)
      print(record.bytes, record.number, record.stop, (lines:next(-1)).bytes)
      print(io.open "/proc/self/status":read "*a":match "VmHWM:%s*(%d+)")
    ]])
    local out = helper.sh(("{ head -c 200000000 /dev/zero; echo; echo 2; } | "
      .. "%s %s"):format(helper.lua(), script))
    local kib = out:match "^nil\t1\t200000001\t2\n(%d+)$"
    assert.is_true(tonumber(kib) < 3 * 2^15, out)
  end)

  it("takes raw lines as the bytes they are", function()
    cli.run { "push", place, "q", "--raw", input = "{bad\n\n\255\0x\r\nlast" }
    assert.same({ "{bad", "", "\255\0x\r", "last" },
                payloads("q", { codec = "raw" }))
  end)

  it("takes a CBOR sequence", function()
    local encode = respool.cbor.encode
    local long = ("x"):rep(3000000)
    local run = cli.run {
      "push", place, "q", "--cbor",
      input = encode { n = 1 } .. encode(long) .. encode "é",
    }
    assert.same({ status = 0, out = "", err = "" }, run)
    assert.same({ { n = 1 }, long, "é" }, payloads())
  end)

  it("says which value of a sequence is cut short", function()
    local run = cli.run { "push", place, "q", "--cbor", input = "\1\130\1" }
    assert.equal(1, run.status)
    assert.matches("^respool: value 2: [^\n]+ %(the input ends in it%)\n",
                   run.err)
    assert.same({ 1 }, payloads())
  end)

  it("gives items priority, delay and time to live", function()
    cli.run { "push", place, "q", "--priority", "9", "--delay", "2h",
              "--ttl", "3d", input = "1\n" }
    local item = items()[1]
    assert.equal(9, item.priority)
    assert.equal("scheduled", item.state)
    assert.near(7200, item.visible_at - item.pushed_at, 1)
  end)

  it("pushes a key once while it is held", function()
    local input = '{"u":{"id":1}}\n{"u":{"id":"1"}}\n{"u":{}}\n{"u":{"id":2}}\n'
    local run = cli.run { "push", place, "q", "--key", "u.id", input = input }
    assert.equal(1, run.status)
    assert.matches("^respool: line 3: no string or number at 'u.id'", run.err)
    cli.run { "push", place, "q", "--key", "u.id", input = input }
    assert.same({ { u = { id = 1 } }, { u = { id = 2 } } }, payloads())
  end)

  it("tells the lines whose key is held, if asked to", function()
    local run = cli.run { "push", place, "q", "--key", "id", "--on-conflict",
                          "fail", input = '{"id":1}\n{"id":1}\n{"id":2}\n' }
    assert.equal(1, run.status)
    assert.matches("^respool: line 2: [^\n]* holds this key\n", run.err)
    assert.equal(2, #payloads())
  end)

  it("stops where the queue is full and says where", function()
    local store = assert(helper.open(place))
    assert(store:queue("q", { max_items = 3 }))
    store:close()
    local run = cli.run { "push", place, "q", file(numbered(1, 9)) }
    assert.equal(1, run.status)
    assert.matches("^respool: line 4: [^\n]*; 3 pushed, %-%-resume goes on",
                   run.err)
    assert_numbers(3)
  end)

  -- A batch that was larger than the queue may be waited for ever.
  it("waits for room where the queue says so, however small that is",
     function()
    local store = assert(helper.open(place))
    local q = assert(store:queue("q", { max_items = 2, overflow = "wait" }))
    local consumer = helper.spawn([[
      local q = require "respool".open(arg[1]):queue "q"
      assert(q:work(function() end, { limit = 9, seconds = 600 }))
    ]], place)
    local run = cli.run { "push", place, "q", file(numbered(1, 9)) }
    assert.equal(0, run.status, run.err)
    assert.equal(0, consumer:wait())
    assert.equal(9, q:stats().done)
  end)

  it("passes over what is larger than the queue may be", function()
    local store = assert(helper.open(place))
    assert(store:queue("q", { max_queue_bytes = 200 }))
    store:close()
    local run = cli.run { "push", place, "q", input = '{"n":1}\n{"n":"'
      .. ("x"):rep(200) .. '"}\n{"n":3}\n' }
    assert.equal(1, run.status)
    assert.matches("^respool: line 2: an item that takes [^\n]* is over "
                   .. "max_queue_bytes", run.err)
    assert.equal(2, #payloads())
  end)

  it("shows its progress on a terminal", function()
    local path = file(numbered(1, 3) .. "bad\n")
    local shown = helper.sh(("script -qec %s /dev/null"):format(cli.quote(
      ("%s bin/respool push %s q %s"):format(helper.lua(), place, path))))
    assert.matches("3 lines, [^\n]+/s, [^\n]*1 bad", shown)
    assert.matches("3 lines pushed in [^\n]+/s", shown)
    assert.matches("\27%[Krespool: line 4: ", shown)
  end)

  it("tells on a terminal how many lines it ignored", function()
    local shown = helper.sh(("script -qec %s /dev/null"):format(cli.quote(
      ("%s bin/respool push %s k %s --key n --on-conflict ignore"):format(
        helper.lua(), place, file '{"n":1}\n{"n":1}\n{"n":1}\n'))))
    assert.matches("1 line pushed %(2 ignored: the key is in use%) in",
                   shown)
  end)

  it("does not make a store for wrong input", function()
    for _, words in ipairs {
      { "push", place, "q", dir .. "/none" }, { "push", place },
      { "push", place, "q", "--priority", "256" },
      { "push", place, "q", "--priority", "-1" },
      { "push", place, ".notes" }, { "push", place, "q", "--whole" },
      { "push", place, "q", "--resume", "--restart" },
      { "push", place, "q", "--raw", "--key", "id" },
      { "push", place, "q", "--raw", "--cbor" },
    } do
      local run = cli.run(words)
      assert.equal(2, run.status)
      assert.matches("^respool: [^\n]+\n$", run.err)
    end
    assert.is_nil(io.open(place))
  end)

  it("commits what came when nothing more comes", function()
    local store = assert(helper.open(place))
    local q = assert(store:queue "q")
    local pipe = io.popen(("%s %s/bin/respool push %s q"):format(
      helper.lua(), helper.sh "pwd", cli.quote(place)), "w")
    pipe:write('{"n":1}\n')
    pipe:flush()
    local batch = assert(q:take { timeout = 60 })
    assert.equal(1, #batch)
    batch:done()
    batch:settle()
    pipe:close()
  end)
end)

describe("respool push --resume", function()
  it("begins at the beginning where nothing was pushed", function()
    local path = file(numbered(1, 3))
    assert.equal(0, cli.run { "push", place, "q", path, "--resume" }.status)
    assert_numbers(3)
  end)

  it("pushes what a file has gained since", function()
    local path = file(numbered(1, 3))
    cli.run { "push", place, "q", path }
    cli.run { "push", place, "q", path, "--resume" }
    file(numbered(1, 5))
    local run = cli.run { "push", place, "q", "in.jsonl", "--resume",
                          cwd = dir }
    assert.same({ status = 0, out = "", err = "" }, run)
    assert_numbers(5)
  end)

  it("waits with a last line that is not written to its end", function()
    local path = file(numbered(1, 2) .. '{"n":')
    assert.equal(1, cli.run { "push", place, "q", path }.status)
    file(numbered(1, 4))
    assert.equal(0, cli.run { "push", place, "q", path, "--resume" }.status)
    assert_numbers(4)
  end)

  it("leaves a last line that may go on", function()
    for format, texts in pairs {
      ["--raw"] = { "one\ntw", "one\ntwo\nthree\n",
                    { "one", "two", "three" } },
      ["--batch=9"] = { "1\n2", "1\n234\n5\n", { 1, 234, 5 } },
    } do
      local codec = format == "--raw" and { codec = "raw" } or nil
      local path, name = file(texts[1]), format:sub(3, 5)
      local run = cli.run { "push", place, name, format, path, "--resume" }
      assert.same({ 0, "" }, { run.status, run.out })
      assert.equal("respool: line 2 is left, as no newline ends it: it may go "
        .. "on (--whole pushes it)\n", run.err)
      assert.equal(1, #payloads(name, codec))
      file(texts[2])
      run = cli.run { "push", place, name, format, path, "--resume" }
      assert.same({ status = 0, out = "", err = "" }, run)
      assert.same(texts[3], payloads(name, codec))
    end
  end)

  it("pushes a last line that is complete, or is said to be", function()
    local path = file '{"n":1}\n{"n":2}'
    local run = cli.run { "push", place, "q", path, "--resume" }
    assert.same({ status = 0, out = "", err = "" }, run)
    file '{"n":1}\n{"n":2}\n3'
    run = cli.run { "push", place, "q", path, "--resume", "--whole" }
    assert.same({ status = 0, out = "", err = "" }, run)
    file '{"n":1}\n{"n":2}\n3\n4\nbad\n'
    run = cli.run { "push", place, "q", path, "--resume" }
    assert.matches("^respool: line 5: ", run.err)
    assert.same({ { n = 1 }, { n = 2 }, 3, 4 }, payloads())
  end)

  it("does not push the rest of a line for a line", function()
    local path = file "one\ntw"
    cli.run { "push", place, "q", "--raw", path }
    file "one\ntwo\n\nfour\n"
    local run = cli.run { "push", place, "q", "--raw", path, "--resume" }
    assert.equal(1, run.status)
    assert.matches("^respool: line 2: it went on after its beginning", run.err)
    assert.same({ "one", "tw", "", "four" }, payloads("q", { codec = "raw" }))
  end)

  it("begins again with --restart, in a pipe too", function()
    local path = file(numbered(1, 3))
    cli.run { "push", place, "other", path, "--resume" }
    file(numbered(4, 5))
    local run = cli.run { "push", place, "other", path, "--resume" }
    assert.matches("%-%-restart begins at its beginning", run.err)
    run = cli.run { "push", place, "other", path, "--restart" }
    assert.equal(0, run.status)
    assert.equal(5, #payloads "other")
    cli.run { "push", place, "q", "--resume", input = "1\n2\n" }
    assert.equal(1, cli.run { "push", place, "q", "--resume",
                              input = "3\n4\n" }.status)
    cli.run { "push", place, "q", "--restart", input = "3\n4\n" }
    cli.run { "push", place, "q", "--resume", input = "3\n4\n5\n" }
    assert.same({ 1, 2, 3, 4, 5 }, payloads())
  end)

  it("counts lines on from where it was", function()
    local path = file(numbered(1, 3))
    cli.run { "push", place, "q", path }
    file(numbered(1, 3) .. "bad\n")
    local run = cli.run { "push", place, "q", path, "--resume" }
    assert.matches("^respool: line 4: ", run.err)
  end)

  it("refuses a file that is another one", function()
    local path = file(numbered(1, 3))
    cli.run { "push", place, "q", path }
    file(numbered(4, 9))
    local run = cli.run { "push", place, "q", path, "--resume" }
    assert.equal(1, run.status)
    assert.matches("is not what was pushed before", run.err)
    assert_numbers(3)
  end)

  it("goes on in a pipe behind what came before", function()
    cli.run { "push", place, "q", "-", "--resume", input = numbered(1, 3) }
    cli.run { "push", place, "q", "-", "--resume", input = numbered(1, 5) }
    assert_numbers(5)
  end)

  it("keeps a place for each queue", function()
    local path = file(numbered(1, 3))
    cli.run { "push", place, "other", path }
    cli.run { "push", place, "q", path, "--resume" }
    assert_numbers(3)
  end)

  -- The queue "q", which holds no more than so many items: who pushes more of
  -- them waits.
  local function bounded(store, most)
    return assert(store:queue("q", { max_items = most, overflow = "wait" }))
  end

  -- The store is closed here when a push is killed: one killed between the
  -- commit's two writes keeps others from opening it while it is open anywhere.
  local function total()
    local store = assert(helper.open(place))
    local n = assert(store:queue "q"):length().total
    store:close()
    return n
  end

  -- Killed again and again, each time in the commits of a twelfth more of a
  -- pipe, which stays open, so that no push ends before it is killed. The
  -- control: pushes without --resume leave doubles behind.
  local function push_killed(n, resume)
    local path = dir .. "/pipe"
    helper.sh("mkfifo " .. path)
    local words = { "push", place, "q", path, "--batch", "7" }
    if resume then words[#words + 1] = "--resume" end
    for i = 1, 12 do
      local process, before = cli.start(words), total()
      local pipe = assert(io.open(path, "w"))
      pipe:write(numbered(1, math.floor(n * i / 12)))
      pipe:flush()
      for _ = 1, 20000 do
        if total() > before then break end
        helper.pause(0.001)
      end
      assert.equal(137, process:kill(), process:output())
      pipe:close()
    end
    local last = cli.start(words)
    local pipe = assert(io.open(path, "w"))
    pipe:write(numbered(1, n))
    pipe:close()
    assert.equal(0, last:wait())
  end

  it("neither loses nor doubles a line when killed at any time", function()
    push_killed(4000, true)
    assert_numbers(4000)
  end)

  it("is what keeps lines from being doubled", function()
    push_killed(4000, false)
    assert.is_true(#payloads() > 4000)
  end)

  it("stops at SIGINT behind what is committed", function()
    local path = file(numbered(1, 20000))
    local store = assert(helper.open(place))
    local q = bounded(store, 5000)
    local process = cli.start { "push", place, "q", path, "--batch", "2" }
    local batch = assert(q:take { timeout = 60 })
    helper.sh("kill -INT " .. process.pid)
    batch:release()
    batch:close()
    assert.equal(130, process:wait())
    assert.matches("^respool: stopped behind line %d+; %-%-resume goes on",
                   process:output())
    local n = tonumber(process:output():match "line (%d+)")
    assert_numbers(n)
  end)
end)
