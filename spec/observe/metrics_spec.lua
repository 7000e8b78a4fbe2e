-- SPDX-License-Identifier: MIT
--
-- Metrics, read by a parser that is not ours: python3-prometheus-client,
-- whose OpenMetrics parser is strict. Where it is missing these specs fail.

local helper = require "spec.helper"
local respool = require "respool"

local PARSE = [=[
import sys, prometheus_client.parser, prometheus_client.openmetrics.parser
parser = {"prometheus": prometheus_client.parser,
          "openmetrics": prometheus_client.openmetrics.parser}[sys.argv[1]]
text = open(sys.argv[2], encoding="utf-8").read()
for f in parser.text_string_to_metric_families(text):
    print("type", f.name, f.type)
    for s in f.samples:
        labels = ",".join(k + "=" + v for k, v in sorted(s.labels.items()))
        print("sample", s.name + "{" + labels.encode("unicode_escape").decode()
              + "}", s.value)
print("parsed")
]=]

-- The samples of a text by name and labels, and the types of families.
local function parse(text, format)
  local dir = helper.dir()
  helper.write(dir .. "/parse.py", PARSE)
  helper.write(dir .. "/text", text)
  local said = helper.sh(("/usr/bin/python3 %s/parse.py %s %s/text 2>&1")
    :format(dir, format, dir))
  assert.matches("parsed$", said)
  local samples, types = {}, {}
  for name, value in said:gmatch "sample (.-}) (%S+)\n" do
    samples[name] = tonumber(value)
  end
  for name, kind in said:gmatch "type (%S+) (%S+)\n" do types[name] = kind end
  return samples, types
end

local function metrics(store, format)
  local text = assert(store:metrics { format = format })
  return parse(text, format or "prometheus")
end

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue("orders", { max_attempts = 1 }))
end)

-- Four items: one done, one dead, one leased, one ready.
local function live()
  q:push_many { "done", "dead", "leased", "ready" }
  store:advance(2)
  q:work(function(payload)
    store:advance(3)
    if payload == "dead" then error "no" end
  end, { batch = 2, limit = 2 })
  q:take()
end

describe("store:metrics", function()
  it("counts what happened to items, by queue", function()
    live()
    local m = metrics(store)
    assert.equal(4, m["respool_pushed_total{queue=orders}"])
    assert.equal(3, m["respool_delivered_total{queue=orders}"])
    assert.equal(1, m["respool_done_total{queue=orders}"])
    assert.equal(1, m["respool_dead_total{queue=orders,reason=exhausted}"])
    assert.equal(0, m["respool_dead_total{queue=orders,reason=rejected}"])
    for _, name in ipairs {
      "retried", "expired", "dropped", "removed", "lease_lost", "crashed",
      "released", "snoozed", "damaged",
    } do
      assert.equal(0, m[("respool_%s_total{queue=orders}"):format(name)])
    end
  end)

  it("tells what there is now", function()
    live()
    local m = metrics(store)
    assert.equal(1, m["respool_items{queue=orders,state=ready}"])
    assert.equal(1, m["respool_items{queue=orders,state=leased}"])
    assert.equal(0, m["respool_items{queue=orders,state=retrying}"])
    assert.equal(1, m["respool_dead_items{dlq=orders}"])
    assert.equal(8, m["respool_oldest_age_seconds{queue=orders}"])
    assert.equal(q:stats().bytes, m["respool_queue_bytes{queue=orders}"])
    assert.equal(0, m["respool_history_items{queue=orders}"])
  end)

  it("counts payload bytes in and out, of large items too", function()
    local raw = store:queue("raw", { codec = "raw" })
    raw:push("12345", { headers = { not_counted = true } })
    raw:push_many { "", ("x"):rep(100000) }
    raw:take { limit = 1 }:close()
    assert.equal(3, #raw:take { limit = 3 })
    local m = metrics(store)
    assert.equal(100005, m["respool_pushed_bytes_total{queue=raw}"])
    assert.equal(100010, m["respool_delivered_bytes_total{queue=raw}"])
  end)

  it("has histograms of handlers and of waits, in seconds", function()
    live()
    local m, types = metrics(store)
    assert.equal("histogram", types.respool_handler_seconds)
    assert.equal("histogram", types.respool_wait_seconds)
    assert.equal(2, m["respool_handler_seconds_count{queue=orders}"])
    assert.equal(6, m["respool_handler_seconds_sum{queue=orders}"])
    assert.equal(0, m["respool_handler_seconds_bucket{le=2.048,queue=orders}"])
    assert.equal(2, m["respool_handler_seconds_bucket{le=4.096,queue=orders}"])
    assert.equal(2, m["respool_handler_seconds_bucket{le=+Inf,queue=orders}"])
    assert.equal(3, m["respool_wait_seconds_count{queue=orders}"])
    assert.equal(2 + 2 + 8, m["respool_wait_seconds_sum{queue=orders}"])
  end)

  -- The cause: of a partition's items those that follow one another were
  -- counted together, each time with all behind them.
  it("has each item once in the histogram of waits", function()
    local parted = store:queue "parted"
    local first = parted:push_many({ 1, 2, 3, 4, 5 }, { partition = "p" })
    assert(parted:remove(first + 1))
    assert(parted:remove(first + 3))
    assert.equal(3, #parted:take { limit = 5 })
    assert.equal(3, metrics(store)["respool_wait_seconds_count{queue=parted}"])
  end)

  it("counts flushes of buffers by their reason", function()
    local b = store:queue("orders", { buffer = { items = 2 } })
    for i = 1, 5 do b:push(i) end
    assert.equal(1, metrics(store)["respool_buffered_items{queue=orders}"])
    b:flush()
    local m = metrics(store)
    assert.equal(2, m["respool_flushes_total{queue=orders,reason=items}"])
    assert.equal(1, m["respool_flushes_total{queue=orders,reason=manual}"])
    assert.equal(0, m["respool_flushes_total{queue=orders,reason=close}"])
    assert.equal(0, m["respool_buffered_items{queue=orders}"])
    assert.equal(5, m["respool_pushed_total{queue=orders}"])
  end)

  it("tells of the store, and of this process's commits", function()
    local before = metrics(store)["respool_commit_seconds_count{}"]
    q:push(1)
    q:push_many { 2, 3 }
    local m = metrics(store)
    assert.equal(2, m["respool_commit_seconds_count{}"] - before)
    assert.equal(m["respool_commit_seconds_count{}"],
                 m["respool_commit_operations_bucket{le=1.0}"])
    local stats = store:stats()
    assert.equal(stats.map_bytes, m["respool_map_bytes{}"])
    assert.equal(stats.file_bytes, m["respool_file_bytes{}"])
    assert.equal(256, m["respool_max_readers{}"])
    assert.is_true(m["respool_used_bytes{}"] <= m["respool_file_bytes{}"])
    assert.is_true(m["respool_readers{}"] >= 1)
  end)

  it("tells of a disk only where the store has one", function()
    local memory = assert(respool.open ":memory:")
    assert.equal(math.huge, memory:stats().available_bytes)
    assert.is_nil(memory:metrics():match "respool_disk")
    memory:close()
    assert.matches("\nrespool_disk_available_bytes %d+\n", store:metrics())
  end)

  it("tells which queues are paused", function()
    q:pause()
    store:queue "mails"
    local m = metrics(store)
    assert.equal(1, m["respool_paused{queue=orders}"])
    assert.equal(0, m["respool_paused{queue=mails}"])
  end)

  it("is right at once after the store is opened again", function()
    live()
    local location = store.path
    store:close()
    store = assert(helper.open(location, { clock = "manual" }))
    local m = metrics(store)
    assert.equal(4, m["respool_pushed_total{queue=orders}"])
    assert.equal(1, m["respool_dead_total{queue=orders,reason=exhausted}"])
    assert.equal(2, m["respool_items{queue=orders,state=ready}"])
    assert.equal(2, m["respool_handler_seconds_count{queue=orders}"])
  end)

  it("is strict OpenMetrics when asked, with the same samples", function()
    live()
    store:queue "mails"
    local prometheus = metrics(store, "prometheus")
    local open, types = metrics(store, "openmetrics")
    local disk = "respool_disk_available_bytes{}" -- others write there too
    if helper.engine == "lmdb" then
      assert.is_true(prometheus[disk] > 0 and open[disk] > 0)
    end
    prometheus[disk], open[disk] = nil, nil
    if helper.engine ~= "lmdb" then -- a server tidies up in its own time
      for _, what in ipairs { "used", "file" } do
        local name = ("respool_%s_bytes{}"):format(what)
        prometheus[name], open[name] = nil, nil
      end
    end
    assert.same(prometheus, open)
    assert.equal("counter", types.respool_pushed)
    assert.matches("\n# EOF\n$", store:metrics { format = "openmetrics" })
    assert.not_matches("# EOF", store:metrics())
  end)

  -- A queue whose name was what another's bytes are spelt as gave its series
  -- a second time.
  it("gives each queue and DLQ a series of its own", function()
    local names = { "\255", [[\xff]], [[\xFF]], [[\\xff]], [[\x5cxff]], [[\]],
                    "\\\255", [[\x5c]], "\252", "ü", [[\xc3\xbc]], [[ü\xff]] }
    for i, name in ipairs(names) do
      local named = store:queue(name)
      for _ = 1, i do named:push(1) end
      local batch = named:take()
      batch:dead()
      assert(batch:settle())
    end
    for _, format in ipairs { "prometheus", "openmetrics" } do
      local seen, n = {}, 0
      for line in store:metrics { format = format }:gmatch "[^\n]+" do
        local series = line:match "^([^#].*) %S+$"
        assert.is_nil(seen[series or ""], series)
        if series then seen[series], n = true, n + 1 end
      end
      assert.is_true(n > 100)
      local pushed, dlqs = {}, 0
      for series, value in pairs(metrics(store, format)) do
        if series:find "^respool_pushed_total" then pushed[value] = true end
        if series:find "^respool_dead_items" then dlqs = dlqs + 1 end
      end
      for i = 1, #names do assert.is_true(pushed[i], names[i]) end
      assert.equal(#names, dlqs)
    end
  end)

  it("escapes what a queue may be called", function()
    store:queue('a "b"\\\nc'):push(1)
    store:queue("\255"):push(1)
    store:queue("ü"):push(1)
    local m = metrics(store, "openmetrics")
    assert.equal(1, m[ [[respool_pushed_total{queue=a "b"\\\nc}]] ])
    assert.equal(1, m[ [[respool_pushed_total{queue=\\xff}]] ])
    assert.equal(1, m[ [[respool_pushed_total{queue=\xfc}]] ])
  end)

  it("tells the fill of bounded queues only", function()
    store:queue("small", { max_items = 4 }):push(1)
    local m = metrics(store)
    assert.equal(0.25, m["respool_fill_ratio{queue=small}"])
    assert.is_nil(m["respool_fill_ratio{queue=orders}"])
  end)

  it("makes no queue and writes nothing", function()
    local before = store:stats().last_txn
    assert(store:metrics())
    assert.equal(before, store:stats().last_txn)
    assert.same({ "orders" }, store:queues())
  end)

  it("refuses an unknown format", function()
    assert.error_matches(function() store:metrics { format = "json" } end,
      'store:metrics: option \'format\' must be "openmetrics" or "prometheus"')
  end)
end)

describe("queue:stats", function()
  it("tells the fill and the age of the oldest item", function()
    local small = store:queue("small", { max_items = 4 })
    assert.equal(0, small:stats().oldest_age)
    small:push_many { 1, 2 }
    store:advance(7)
    assert.equal(7, small:stats().oldest_age)
    assert.equal(0.5, small:stats().fill)
    assert.is_nil(q:stats().fill)
  end)

  it("tells the fill of the bound that is nearer", function()
    local small = store:queue("small",
      { codec = "raw", max_items = 100, max_queue_bytes = 1000 })
    small:push(("x"):rep(500))
    assert.near(0.5, small:stats().fill, 0.1)
  end)

  it("counts deaths by reason", function()
    q:push_many { 1, 2, 3 }
    q:work(function(n)
      if n == 1 then return respool.dead() end
      if n == 2 then error "no" end
    end, { stop_when_empty = true })
    local stats = q:stats()
    assert.equal(1, stats.died_by.rejected)
    assert.equal(1, stats.died_by.exhausted)
    assert.equal(2, stats.died)
  end)

  it("times each handler call by the store's clock", function()
    q:push_many { 1, 2, 3 }
    q:work(function(n) store:advance(n) end, { stop_when_empty = true })
    local h = q:stats().handle
    assert.equal(3, h.count)
    assert.near(6, h.sum, 0.001)
    assert.same({ upto = 0.00025, count = 0 }, h.buckets[1])
    for i, upto in ipairs { 1.024, 2.048, 4.096 } do
      assert.same({ upto = upto, count = 1 }, h.buckets[12 + i])
    end
    assert.equal(math.huge, h.buckets[#h.buckets].upto)
  end)

  it("does not time what comes between two calls", function()
    q = store:queue("orders", { decide = function() store:advance(5) end })
    q:push_many { 1, 2 }
    q:work(function() error "no" end, { stop_when_empty = true })
    assert.equal(2, q:stats().handle.count)
    assert.near(0, q:stats().handle.sum, 0.001)
  end)

  it("gives each item of a batch its part of the time", function()
    q:push_many { 1, 2, 3, 4 }
    q:work_batches(function() store:advance(8) end,
                   { batch = 4, stop_when_empty = true })
    local h = q:stats().handle
    assert.equal(4, h.count)
    assert.near(8, h.sum, 0.001)
    assert.equal(4, h.buckets[14].count)
  end)

  it("times handlers by a clock that is never set, when the store's is real",
     function()
    local real = assert(helper.open(helper.location()))
    local orders = real:queue "orders"
    orders:push_many { 1, 2 }
    orders:work(function() end, { stop_when_empty = true })
    local h = orders:stats().handle
    assert.equal(2, h.count)
    assert.is_true(h.sum >= 0 and h.sum < 3600)
  end)
end)
