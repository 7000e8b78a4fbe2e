-- SPDX-License-Identifier: MIT
--
-- The page on JSON has the fields that the commands write, and no others.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"

local SECTIONS = {} -- by heading: fields, true for those always there

local function read_page()
  local section
  for line in (helper.read "doc/guide/json.md" .. "\n"):gmatch "(.-)\n" do
    local heading = line:match "^## (.*)$"
    if heading then
      section = {}
      SECTIONS[heading] = section
    end
    for name, mark in (section and line:match "^| (`.-) |" or "")
      :gmatch "`([%w_]+)(%??)`" do
      section[name] = mark == ""
    end
  end
end

-- Fields of both.
local function with(base, more, without)
  local all = {}
  for _, fields in ipairs { SECTIONS[base], SECTIONS[more] } do
    for name, always in pairs(fields) do all[name] = always end
  end
  for _, name in ipairs(without or {}) do all[name] = nil end
  return all
end

-- The fields of a value are those of the page.
local function assert_told(fields, value)
  for name in pairs(value) do
    assert.is_not_nil(fields[name], "not on the page: " .. name)
  end
  for name, always in pairs(fields) do
    if always then assert.is_not_nil(value[name], "not told: " .. name) end
  end
end

-- A store with an example of each; its path.
local function filled()
  local path = helper.location()
  local store = assert(helper.open(path))
  local q = store:queue("mails", { max_attempts = 2, keep_done = 3600,
    max_items = 100, rate = { items = 1000 }, breaker = true })
  q:push({ n = 1 }, { key = "k", headers = { a = 1 }, partition = "t",
                      ttl = 1000 })
  q:push({ n = 2 }, { delay = 50 })
  q:push_many { { n = 3 }, { n = 4 } }
  q:work(function(payload, item)
    if payload.n == 3 then error { message = "no", group = "g" } end
    if payload.n == 4 then item:dead { error = "never", group = "h" } end
  end, { limit = 3 })
  q:push({ n = 5 }, { partition = "t" })
  store:schedule("nightly", { cron = "@daily", queue = q, payload = 1 })
  q.dead:replay { name = "again", limit = 1, dry_run = false,
                  where = function() return false end }
  return path, store
end

local function told(...)
  return cli.values(cli.run { ... })
end

describe("The page on JSON", function()
  read_page()

  it("has the fields of queues, stores and partitions", function()
    local path = filled()
    assert_told(SECTIONS.Queue, told("ls", path, "--json")[1])
    local fields = with("Queue", "Queue, whole")
    assert_told(fields, told("stats", path, "mails", "--json")[1])
    local all = told("stats", path, "--json")[1]
    fields.queue, fields.policy, fields.workers = nil, nil, nil
    assert_told(fields, all.queues.mails)
    assert_told(SECTIONS.Store, all.store)
    assert_told(SECTIONS.Partition,
                told("partitions", path, "mails", "--json")[1])
  end)

  it("has the fields of items and dead letters", function()
    local path = filled()
    for _, command in ipairs { "ls", "peek", "history" } do
      for _, item in ipairs(told(command, path, "mails", "--json")) do
        assert_told(SECTIONS.Item, item)
      end
    end
    assert_told(SECTIONS.Item, told("get", path, "mails", "3", "--json")[1])
    local dead = with("Item", "Dead letter", { "state" })
    assert_told(dead, told("dead", "list", path, "mails", "--json")[1])
    assert_told(dead, told("dead", "show", path, "mails", "1", "--json")[1])
    assert_told(SECTIONS.Group, told("dead", "groups", path, "--json")[1])
  end)

  it("has the fields of workers, schedules and replays", function()
    local path, store = filled()
    store:queue("work"):push_many { 1, 2 }
    local worker
    store:queue("work"):work(function(_, item)
      item:progress(0.5, "half")
      worker = told("worker", "list", path, "--json")[1]
      item:done()
    end, { limit = 1 })
    assert_told(SECTIONS.Worker, worker)
    assert.equal(1, #worker.leases)
    assert_told(SECTIONS.Schedule, told("schedule", "list", path, "--json")[1])
    assert_told(SECTIONS["Named replay"],
                told("replay", "show", path, "again", "--json")[1])
  end)
end)
