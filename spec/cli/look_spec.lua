-- SPDX-License-Identifier: MIT
--
-- The commands that look at a store, and those that care for a queue by hand.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local json = require "respool.support.json"
local process = require "respool.core".process

-- A store on the wall clock with an item in each state, closed; its path.
local function filled()
  local path = helper.location()
  local store = assert(helper.open(path, { journal = false }))
  local mails = store:queue("mails", { lease = 3600, ttl = 7200 })
  mails:push({ to = "ada", list = { 1, 2 } },
             { priority = 3, headers = { trace = "t1" }, key = "k1" })
  mails:push_many { { to = "bob" }, { text = ("long "):rep(100) } }
  mails:push({ to = "later" }, { delay = 3600 })
  local batch = mails:take()
  batch:close()
  mails:take()
  store:queue("words", { codec = "raw" }):push "hello\27[31m"
  store:queue "empty"
  store.handle:close() -- and leaves the lease as it is
  return path
end

local function refused(words, status, pattern)
  cli.assert_refused(cli.run(words), status, pattern)
end

describe("respool ls", function()
  it("lists queues in a table", function()
    local run = cli.run { "ls", filled() }
    assert.equal(0, run.status)
    assert.matches("^QUEUE +READY +LEASED +SCHEDULED +RETRYING", run.out)
    assert.matches("\nmails +2 +1 +1 +0 +0 ", run.out)
    assert.matches("\nempty +0 +0 +0 +0 +0 ", run.out)
  end)

  it("lists queues as JSON, one a line", function()
    local list = cli.values(cli.run { "ls", filled(), "--json" })
    assert.equal(3, #list)
    assert.equal("mails", list[2].queue)
    assert.equal(2, list[2].ready)
    assert.equal(1, list[2].leased)
    assert.is_false(list[2].paused)
  end)

  it("lists a queue's items, long payloads cut", function()
    local run = cli.run { "ls", filled(), "mails" }
    assert.matches('{"to":"bob"}', run.out, 1, true)
    assert.matches("long lo.*…\n", run.out)
    for line in run.out:gmatch "[^\n]+" do assert.is_true(#line < 140) end
    run = cli.run { "ls", filled(), "mails", "--full" }
    assert.matches(("long "):rep(100), run.out, 1, true)
  end)

  it("lists the errors of items that failed", function()
    local path = helper.location()
    local store = assert(helper.open(path))
    local q = store:queue("q", {
      retry = require "respool".backoff.constant { delay = 3600 },
    })
    q:push_many { 1, 2 }
    q:work(function(n) error("no " .. n, 0) end, { limit = 1 })
    local run = cli.run { "ls", path, "q", "--state", "retrying" }
    assert.matches("DUE IN  ERROR  PAYLOAD\n", run.out)
    assert.matches("  no 1   1\n", run.out)
    assert.is_nil(cli.run { "ls", path, "q", "--state", "ready" }.out
      :find "ERROR")
  end)

  it("fits a terminal", function()
    local run = cli.run { "ls", filled(), "mails", columns = 80 }
    for line in run.out:gmatch "[^\n]+" do
      assert.is_true(select(2, line:gsub("[^\128-\191]", "")) <= 80, line)
    end
  end)

  -- To a scraper the names of queues are told byte by byte.
  it("tells a terminal no name that it obeys, in metrics either", function()
    local path = helper.dir() .. "/store"
    local store = assert(helper.open(path))
    assert(store:queue "\27[31m\194\155")
    local shown = cli.run { "metrics", path, columns = 80 }.out
    assert.is_truthy(shown:find([[queue="\x1b[31m\u009b"]], 1, true))
    assert.is_nil(shown:find "[%z\1-\9\11-\31\127-\159]")
    assert.is_truthy(cli.run { "metrics", path }.out
      :find('queue="\27[31m\194\155"', 1, true))
  end)

  it("lists only items of a state, and so many", function()
    local path = filled()
    local list = cli.values(cli.run {
      "ls", path, "mails", "--state", "scheduled", "--json",
    })
    assert.equal(1, #list)
    assert.same({ to = "later" }, list[1].payload)
    assert.equal(2, #cli.values(cli.run {
      "ls", path, "mails", "-n", "2", "--json",
    }))
  end)

  it("shows when items are due, and nothing where they are", function()
    local out = cli.run { "ls", filled(), "mails" }.out
    assert.is_nil(out:find("false", 1, true))
    assert.matches("ready +%d+ +0 +%S+ +%- +{", out)
    assert.matches("scheduled +0 +0 +%S+ +%d+[hm]%d+[ms] +{", out)
  end)

  it("says that there is no store, or no such queue", function()
    refused({ "ls", helper.location() }, 1, "there is no store in")
    refused({ "ls", filled(), "mial" }, 1, "there is no queue 'mial'")
    refused({ "ls", filled(), "mailz" }, 1, "did you mean 'mails'")
    refused({ "ls", filled(), "--state", "ready" }, 2, "QUEUE")
  end)
end)

describe("respool peek", function()
  it("shows the next item with its payload over several lines", function()
    local run = cli.run { "peek", filled(), "mails" }
    assert.equal(0, run.status)
    assert.matches("item +2 of mails", run.out)
    assert.matches('\n    "to": "bob"\n', run.out, 1, true)
  end)

  it("gives all there is as JSON", function()
    local list = cli.values(cli.run { "peek", filled(), "mails", "-n", "9",
                                  "--json" })
    assert.equal(2, #list)
    assert.same({ to = "bob" }, list[1].payload)
    assert.is_nil(list[1].bytes)
  end)

  it("shows raw bytes, but nothing a terminal obeys", function()
    for _, raw in ipairs { "--raw", "--json" } do
      local run = cli.run { "peek", filled(), "words", raw }
      assert.matches("hello\\u001b[31m", run.out, 1, true)
      assert.is_nil(run.out:find "\27")
    end
  end)

  it("shows the bytes of a codec that it does not know", function()
    local path = helper.location()
    local function same(text) return text end
    local rot = { name = "rot13", encode = same, decode = same }
    assert(helper.open(path)):queue("q", { codec = rot }):push "uryyb\27"
    local run = cli.run { "peek", path, "q" }
    assert.matches('payload (cannot be decoded)\n  "uryyb\\u001b"', run.out, 1,
                   true)
    run = cli.run { "peek", path, "q", "--raw" }
    assert.matches("payload\n  \"uryyb", run.out, 1, true)
  end)
end)

describe("respool get", function()
  it("shows an item whatever its state, with all that it has", function()
    local run = cli.run { "get", filled(), "mails", "1" }
    assert.equal(0, run.status)
    assert.matches("state +leased", run.out)
    assert.matches("priority +3", run.out)
    assert.matches("key +k1", run.out)
    assert.matches('"trace": "t1"', run.out, 1, true)
    assert.matches('"to": "ada"', run.out, 1, true)
  end)

  it("gives it as JSON", function()
    local item = cli.values(cli.run {
      "get", filled(), "mails", "1", "--json" })[1]
    assert.same({ to = "ada", list = { 1, 2 } }, item.payload)
    assert.same({ trace = "t1" }, item.headers)
    assert.equal("leased", item.state)
  end)

  it("says that there is no such item, or no such id", function()
    refused({ "get", filled(), "mails", "99" }, 1, "no item 99")
    refused({ "get", filled(), "mails", "x" }, 2, "'x' is not a whole number")
    refused({ "get", filled(), "mails" }, 2, "which item?")
  end)

  it("finds an item by its key", function()
    local path = filled()
    local run = cli.run { "get", path, "mails", "--key", "k1" }
    assert.matches("state +leased", run.out)
    refused({ "get", path, "mails", "--key", "k2" }, 1,
            "no item of queue 'mails' holds this key")
    refused({ "get", path, "mails", "1", "--key", "k1" }, 2, "which item?")
    refused({ "get", path, "mails", "--key", "" }, 2, "a key is a string")
  end)
end)

describe("respool stats", function()
  it("shows a store's figures and counters", function()
    local run = cli.run { "stats", filled() }
    assert.equal(0, run.status)
    assert.matches("reader slots +1 of 256", run.out)
    assert.matches("\nmails +4 ", run.out)
  end)

  it("shows a queue's, with its policy", function()
    local run = cli.run { "stats", filled(), "mails" }
    assert.matches("\nlease +1h00m\n", run.out)
    assert.matches("\npushed +4\n", run.out)
    assert.matches("\nwaited +mean %S+, p50 ≤ %S+, p95 ≤ %S+\n", run.out)
    assert.matches("\nretry +{[^\n]+}\n", run.out)
    assert.is_nil(run.out:find("weights", 1, true))
  end)

  it("gives both as JSON", function()
    local path = filled()
    local all = cli.values(cli.run { "stats", path, "--json" })[1]
    assert.equal(4, all.queues.mails.pushed)
    assert.is_true(all.store.used_bytes > 0)
    local run = cli.run { "stats", path, "mails", "--json" }
    local one = cli.values(run)[1]
    assert.equal(3600, one.policy.lease)
    assert.equal(4, one.pushed)
    assert.matches('"retry":{[^}]*"name":"exponential"', run.out)
  end)
end)

describe("respool health", function()
  it("is 0 for a healthy store", function()
    local path = filled()
    local run = cli.until_healthy(function()
      return cli.run { "health", path }
    end)
    assert.equal(0, run.status)
    assert.matches("^healthy\n", run.out)
  end)

  it("is 1 for a degraded one", function()
    local path = helper.location()
    local store = assert(helper.open(path))
    local full = store:queue("full", { max_items = 10 })
    full:push_many { 1, 2, 3, 4, 5, 6, 7, 8, 9 }
    store:queue "empty"
    store:close()
    local run = cli.run { "health", path }
    assert.equal(1, run.status)
    assert.matches("PART +STATUS\nqueue full +degraded.*\nqueue empty",
                   run.out)
  end)

  it("is 2 for an unhealthy one, and for one that does not open", function()
    local path = helper.location()
    local store = assert(helper.open(path))
    store:queue("full", { max_items = 1 }):push(1)
    store:close()
    assert.equal(2, cli.run({ "health", path }).status)
    local run = cli.run { "health", helper.location(), "--json" }
    assert.equal(2, run.status)
    assert.equal("unhealthy", json.decode(run.out).status)
  end)

  it("judges the errors that it has watched", function()
    local path = helper.location()
    local q = assert(helper.open(path)):queue("bad", { max_attempts = 1 })
    local nap, napped = process.nap, nil
    function process.nap(seconds) -- what others do meanwhile
      napped = seconds
      q:push_many(helper.range(20))
      q:work(function() error "no" end, { stop_when_empty = true })
    end
    local ok, run = pcall(cli.run, { "health", path, "--watch", "500ms",
                                     "--json" })
    process.nap = nap
    assert(ok, run)
    assert.same({ 2, 0.5 }, { run.status, napped })
    assert.equal("unhealthy",
                 json.decode(run.out).components.queues.bad.status)
  end)
end)

describe("respool metrics", function()
  it("prints them for Prometheus, or as OpenMetrics", function()
    local path = filled()
    local run = cli.run { "metrics", path }
    assert.equal(0, run.status)
    assert.matches('respool_pushed_total{queue="mails"} 4\n', run.out, 1, true)
    run = cli.run { "metrics", path, "--openmetrics" }
    assert.matches("# EOF\n$", run.out)
  end)
end)

describe("looking", function()
  it("changes no byte, no counter and makes no commit", function()
    local path = filled()
    local function state()
      local store = assert(helper.open(path, { read_only = true }))
      local commits = store:stats().last_txn
      local stats = store:queue("mails"):stats()
      store:close()
      stats.oldest_age = nil
      return { commits, stats, helper.read(path .. "/data.mdb") }
    end
    local before = state()
    for _, words in ipairs {
      { "ls", path }, { "ls", path, "mails" }, { "peek", path, "mails" },
      { "get", path, "mails", "1" }, { "stats", path },
      { "stats", path, "mails" }, { "health", path }, { "metrics", path },
      { "dead", "list", path, "mails" }, { "dead", "groups", path },
      { "dead", "purge", path, "mails", "--all", "--dry-run" },
      { "check", path }, { "top", path, "--interval", "100ms" },
    } do
      local run = cli.until_healthy(function() return cli.run(words) end)
      assert.equal("", run.err)
      assert.equal(0, run.status)
    end
    assert.same(before, state())
  end)

  it("is seen to change something when it does: the probe of health",
     function()
    local path = filled()
    local before = helper.read(path .. "/data.mdb")
    assert.is_true(cli.run({ "health", path, "--probe" }).status <= 1)
    assert.is_false(before == helper.read(path .. "/data.mdb"))
  end)
end)

describe("respool remove", function()
  it("removes items, and tells which it could not", function()
    local path = filled()
    local run = cli.run { "remove", path, "mails", "2", "1", "99", "3" }
    assert.equal(1, run.status)
    assert.equal("2 removed\n", run.out)
    assert.matches("item 1 of queue 'mails' is leased", run.err)
    assert.matches("no item 99", run.err)
    run = cli.run { "ls", path, "mails", "--json" }
    assert.equal(2, #cli.values(run))
  end)

  it("removes items by their keys", function()
    local path = filled()
    local run = cli.run { "remove", path, "mails", "2", "--key", "k1",
                          "--key", "k2" }
    assert.equal("1 removed\n", run.out)
    assert.matches("item 1 of queue 'mails' is leased", run.err)
    assert.matches("no item of queue 'mails' holds this key", run.err)
    refused({ "remove", path, "mails" }, 2, "which items?")
  end)
end)

describe("respool pause and resume", function()
  it("stop a queue from delivering, and let it go on", function()
    local path = filled()
    assert.equal(0, cli.run({ "pause", path, "mails" }).status)
    local store = assert(helper.open(path))
    assert.equal(0, #store:queue("mails"):take())
    assert.equal(0, cli.run({ "resume", path, "mails" }).status)
    assert.equal(1, #store:queue("mails"):take())
  end)

  it("leave the queues of the command line alone", function()
    local path = filled()
    assert.equal(0, cli.run { "push", path, "words", "-", "--resume",
                              input = "1\n" }.status)
    for _, words in ipairs {
      { "pause", path, ".notes" }, { "resume", path, ".notes" },
      { "remove", path, ".notes", "1" }, { "push", path, ".notes" },
      { "receive", path, ".notes" }, { "replay", path, "words", "--to", ".x" },
      { "dead", "retry", path, "words", "1", "--to", ".x" },
    } do
      refused(words, 2, "'%.%l+' begins with a dot")
    end
  end)

  it("do not make a queue that is missing", function()
    local path = filled()
    refused({ "pause", path, "other" }, 1, "there is no queue 'other'")
    refused({ "resume", path, "other" }, 1, "there is no queue 'other'")
    assert.equal(3, #cli.values(cli.run { "ls", path, "--json" }))
  end)
end)

describe("respool hold", function()
  it("keeps a queue for some time, which is shown with its reason", function()
    local path = filled()
    local run = cli.run { "hold", path, "mails", "10m", "--reason",
                          "the relay is away" }
    assert.equal(0, run.status)
    local store = assert(helper.open(path))
    assert.equal(0, #store:queue("mails"):take())
    assert.matches("held +%S+: the relay is away",
                   cli.run({ "stats", path, "mails" }).out)
    assert.matches("mails[^\n]* held %d+m", cli.run({ "ls", path }).out)
    assert.matches("held: the relay is away",
                   cli.run({ "health", path }).out)
    assert.equal(0, cli.run({ "hold", path, "mails", "0" }).status)
    assert.equal(1, #store:queue("mails"):take())
  end)
end)

describe("respool partitions", function()
  it("lists those with most items first, and holds one", function()
    local path = helper.location()
    local store = assert(helper.open(path))
    local mails = store:queue "mails"
    mails:push_many({ 1, 2, 3 }, { partition = "ada" })
    mails:push(4, { partition = "bob" })
    local run = cli.run { "hold", path, "mails", "10m", "--partition", "bob" }
    assert.equal(0, run.status)
    run = cli.run { "partitions", path, "mails" }
    assert.matches("\nada +3 +0 +0[^\n]*\nbob +1 +0 +0 +%d+m", run.out)
    local list = cli.values(cli.run {
      "partitions", path, "mails", "--json", "--order", "key", "--after", "ada",
    })
    assert.equal(1, #list)
    assert.equal("bob", list[1].key)
    assert.equal(1, list[1].ready)
  end)
end)

describe("respool maintain", function()
  it("expires what has outlived its TTL", function()
    local path = helper.location()
    local store = assert(helper.open(path))
    local brief = store:queue("brief", { on_expire = "drop" })
    brief:push_many({ 1, 2, 3 }, { ttl = 0.001 })
    brief:push(4)
    store.handle:sleep(0.01)
    store:close()
    local run = cli.run { "maintain", path, "--json" }
    assert.equal(3, cli.values(run)[1].expired)
    run = cli.run { "maintain", path, "--seconds", "5s" }
    assert.matches("items expired +0\n", run.out)
  end)
end)

describe("each of these commands", function()
  local COMMANDS = {
    "ls", "peek", "get", "stats", "top", "health", "metrics", "dead",
    "item", "remove", "pause", "resume", "hold", "partitions", "maintain",
    "check", "compact",
  }

  it("has a help with an example", function()
    for _, name in ipairs(COMMANDS) do
      local run = cli.run { name, "--help" }
      assert.equal(0, run.status)
      assert.matches("Examples?[^\n]*:\n  respool " .. name, run.out)
    end
  end)

  it("tells that no number here is negative", function()
    refused({ "get", filled(), "mails", "-1" }, 2,
            "'%-1' is below 0, which no option or argument may be")
  end)

  it("tells what it does not know in one line, with status 2", function()
    for _, name in ipairs(COMMANDS) do
      refused({ name, "--frobnicate" }, 2, "%-%-frobnicate")
    end
  end)
end)
