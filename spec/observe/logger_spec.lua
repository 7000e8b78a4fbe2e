-- SPDX-License-Identifier: MIT
--
-- What a store says that was given no log.

local core = require "respool.core"
local helper = require "spec.helper"
local line_limit = require "respool.support.line_limit"
local logger = require "respool.observe.logger"

-- All that follows in a spec comes at the same moment.
local function stop_the_clock()
  local mono, now = core.mono, core.mono()
  core.mono = function() return now end
  finally(function() core.mono = mono end)
end

local function collect()
  local lines = {}
  return lines, logger.new(function(level, line)
    table.insert(lines, { level, line })
  end)
end

describe("the default log", function()
  it("is one line for each warning and error, with its fields", function()
    local lines, log = collect()
    log("warn", "a handler failed", { queue = "q", id = 5, error = "no way" })
    log("error", "broken", {})
    log("info", "store closed", {})
    log("debug", "maintained", {})
    assert.same({
      { "warn", 'respool: warn: a handler failed error="no way" id=5 queue=q' },
      { "error", "respool: error: broken" },
    }, lines)
  end)

  it("spells control characters", function()
    local lines, log = collect()
    log("warn", "a\nb", { error = "x\27[31m\r\ny\0" })
    assert.equal([[respool: warn: a\nb error=x\x1b[31m\r\ny\x00]],
                 lines[1][2])
  end)

  it("cuts what is long", function()
    local lines, log = collect()
    log("warn", "long", { error = ("x"):rep(5000) })
    assert.is_true(#lines[1][2] < 400)
  end)

  it("is limited in rate", function()
    stop_the_clock()
    local lines, log = collect()
    for i = 1, 500 do log("warn", "line", { i = i }) end
    assert.equal(20, #lines)
  end)

  it("counts lines over the limit, and reports them when its span is over",
     function()
    local limit, reported = line_limit.new(2, math.huge), {}
    local function report(n) table.insert(reported, n) end
    local admitted = {}
    for i = 1, 5 do admitted[i] = line_limit.admits(limit, report) end
    assert.same({ true, true, false, false, false }, admitted)
    assert.same({}, reported)
    line_limit.restart(limit, report)
    assert.same({ 3 }, reported)
    assert.is_true(line_limit.admits(limit, report))
  end)

  it("reports at the end what it left out", function()
    stop_the_clock()
    local lines, log = collect()
    for i = 1, 25 do log("warn", "line", { i = i }) end
    log("info", "store closed", {})
    assert.same({ "warn", "respool: warn: 5 lines were left out" }, lines[21])
  end)

  local CODE = [[
    local o = load("return " .. arg[1])()
    local store = assert(require "respool".open(":memory:", o))
    local q = assert(store:queue("q", { max_attempts = 1 }))
    q:push "secret"
    q:work(function() error("no\27", 0) end, { stop_when_empty = true })
  ]]
  local CODE_51 = CODE:gsub("load%(", "(loadstring or load)(")

  local function said(options)
    local process = helper.spawn(CODE_51, options)
    assert.equal(0, process:wait())
    return process:output()
  end

  it("tells of failed handlers on stderr, unless there is a log", function()
    local line = "respool: warn: a handler failed attempt=1 "
      .. "error=no\\x1b id=1 queue=q\n"
    assert.equal(line, said "nil")
    assert.equal("", said "{ log = false }")
    assert.equal("", said "{ log = function() end }")
  end)

  it("tells of a stored policy that is changed", function()
    local seen = {}
    local store = helper.store { log = function(level, message, fields)
      table.insert(seen, { level, message, fields.changes })
    end }
    assert(store:queue("q", { max_items = 10 }))
    assert(store:queue("q", { max_items = 10 }))
    assert(store:queue "q")
    assert.same({}, seen)
    assert(store:queue("q", { max_items = 20, ttl = "1m" }))
    assert.same({ { "warn", "the stored policy of a queue was changed",
                    "max_items 10 -> 20, ttl inf -> 60" } }, seen)
  end)

  it("does not warn when a queue without a policy is given one", function()
    local levels = {}
    local store = helper.store { log = function(level, message)
      if message:find "policy" then table.insert(levels, level) end
    end }
    assert(store:queue "q")
    assert(store:queue("q", { max_attempts = 3 }))
    assert(store:queue("q", { max_attempts = 4 }))
    assert(store:queue("other", { dead_letter = "q" }))
    assert(store:queue("other", { lease = 20 }))
    assert.same({ "info", "warn", "info" }, levels)
  end)
end)
