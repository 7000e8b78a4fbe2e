-- SPDX-License-Identifier: MIT
--
-- Deliveries to a destination that is away, or that takes so many a second, on
-- the injected clock: the handler and the loop are those of `respool deliver`,
-- the requests are answered here.

local concurrent = require "respool.consume.concurrent"
local helper = require "spec.helper"
local loop_of = require "respool.support.loop"
local queue_of = require "spec.helper.queue"

local it = helper.checked(it)

local URL = "http://destination.invalid/hook"

-- A handler of respool.http by the store's clock whose requests `answer`
-- answers: with a status and perhaps Retry-After, or with nil and an error.
local function handler(t, answer, url)
  local Client = {}
  Client.__index = Client
  function Client.new() return setmetatable({}, Client) end
  function Client.check() end
  function Client.begin(_, to) return to end
  function Client.wait(_, to)
    local status, more = answer(to.host)
    if not status then return nil, more end
    return { status = status, retry_after = more, text = "" }
  end
  local client, module = "respool.http.client", "respool.http.handler"
  local real, whole = package.loaded[client], package.loaded[module]
  local now = loop_of.now
  package.loaded[client], package.loaded[module] = Client, nil
  loop_of.now = function() return t.store:now() end
  local made = require(module).handler { url = url or URL }
  package.loaded[client], package.loaded[module] = real, whole
  loop_of.now = now
  return made
end

local function deliver(t, answer, concurrency)
  return assert(concurrent.run(t.q, handler(t, answer), {
    poll = function() end, cancel = function() end, until_empty = true,
    concurrency = concurrency or 16, deadline = 10,
  }))
end

describe("deliveries to a destination that is away", function()
  local AWAY = 3 * 3600

  local function run(concurrency, trouble)
    local t = queue_of.new { breaker = true }
    local back, tries, last = t.store:now() + AWAY, 0, nil
    assert(t.q:push_many(helper.range(1000)))
    local counts = deliver(t, function()
      if t.store:now() >= back then
        last = t.store:now()
        return 200
      end
      tries = tries + 1
      return trouble()
    end, concurrency)
    local stats = t.q:stats()
    assert.equal(1000, counts.done)
    assert.equal(0, stats.dead)
    assert.is_true(tries > 100 and tries <= 300, "tries: " .. tries)
    assert.is_true(last - back <= 60, "late: " .. last - back)
    assert.equal("closed", stats.breaker)
    assert.equal(1, stats.opened)
  end

  it("lose none in three hours, and arrive within a minute of its return",
     function()
    run(16, function()
      return nil, { message = "refused", group = "refused" }
    end)
  end)

  it("do so one at a time, too", function()
    run(1, function()
      return nil, { message = "too late", group = "timeout" }
    end)
  end)

  it("do so where a proxy answers for it", function()
    run(64, function() return 502 end)
  end)
end)

describe("deliveries to a destination that takes ten a second", function()
  it("are held by its 429, lose no item and take about as long as they must",
     function()
    local t = queue_of.new()
    local began, window, taken, last, refused = t.store:now(), 0, 0, nil, 0
    assert(t.q:push_many(helper.range(300)))
    deliver(t, function()
      local now = t.store:now()
      if now >= window + 1 then window, taken = now, 0 end
      if taken == 10 then
        refused = refused + 1
        return 429, "1"
      end
      taken, last = taken + 1, now
      return 200
    end)
    local stats = t.q:stats()
    assert.equal(300, stats.done)
    assert.equal(0, stats.dead)
    assert.equal(0, stats.retried)
    assert.is_true(refused <= 30, "refused: " .. refused)
    assert.is_true(last - began >= 28 and last - began <= 32)
  end)

  it("need not be refused where the queue has the rate", function()
    local t = queue_of.new { rate = { items = 10, per = 1 } }
    local began, last = t.store:now(), nil
    assert(t.q:push_many(helper.range(300)))
    deliver(t, function()
      last = t.store:now()
      return 200
    end)
    assert.near(29, last - began, 0.1)
  end)
end)

describe("deliveries to several destinations", function()
  local BOTH = { "http://one.invalid/", "http://two.invalid/" }

  -- Work that was to end when the queue is empty left the item that waited for
  -- the held destination behind, as one that is scheduled for later.
  it("wait for one that is held, also when they end with the queue empty",
     function()
    local t = queue_of.new()
    local began, asked = t.store:now(), { ["one.invalid"] = {},
                                          ["two.invalid"] = {} }
    local deliver_all = handler(t, function(host)
      local at = t.store:now() - began
      table.insert(asked[host], at)
      if host == "two.invalid" and at < 30 then return 429, "30" end
      return 200
    end, BOTH)
    assert(t.q:push "x")
    assert(t.q:push("later", { delay = 3600 }))
    local counts = assert(t.q:work(deliver_all, { stop_when_empty = true }))
    assert.same({ 1, 1, 0 }, { counts.done, counts.snoozed, counts.failed })
    assert.same({ 1, 2 }, { #asked["one.invalid"], #asked["two.invalid"] })
    assert.equal(0, asked["one.invalid"][1])
    assert.is_true(asked["two.invalid"][2] >= 30
                   and asked["two.invalid"][2] < 45)
    assert.equal(1, t.q:stats().scheduled)
  end)
end)
