-- SPDX-License-Identifier: MIT
--
-- respool repair.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local json = require "respool.support.json"

-- A store with three items; its path.
local function filled()
  local path = helper.location()
  local store = assert(helper.open(path, { journal = false }))
  for i = 1, 3 do assert(store:queue("mails"):push("dead letter " .. i)) end
  assert(store:close())
  return path
end

-- Changes a byte of every copy of a text in the file.
local function damage(path, text)
  local file = path .. "/data.mdb"
  helper.write(file, (helper.read(file):gsub(text, text:upper())))
end

describe("respool repair", function()
  it("makes a new store, and says what is in it", function()
    local to = helper.location()
    local r = cli.run { "repair", filled(), to }
    assert.same({ 0, "" }, { r.status, r.err })
    assert.matches("items +3", r.out)
    local store = assert(helper.open(to))
    assert.equal("dead letter 2", store:queue("mails"):get(2).payload)
  end)

  it("lists what was set aside, and ends with 1", function()
    local from = filled()
    damage(from, "dead letter 2")
    local r = cli.run { "repair", from, helper.location() }
    assert.equal(1, r.status)
    assert.matches("set aside: 1 item of queue 'mails' from id 2", r.out)
  end)

  it("writes JSON", function()
    local r = cli.run { "repair", filled(), helper.location(), "--json" }
    local done = assert(json.decode(r.out))
    assert.same({ 1, 3, 0 }, { done.queues, done.items, #done.findings })
  end)

  it("does not write over anything", function()
    local from, to = filled(), filled()
    local r = cli.run { "repair", from, to }
    assert.equal(1, r.status)
    assert.matches("is not empty", r.err)
    assert.equal(3, assert(helper.open(to)):queue("mails"):length().total)
  end)

  it("leaves a store alone that is open", function()
    local from = filled()
    local store = assert(helper.open(from))
    local r = cli.run { "repair", from, helper.location() }
    assert.matches("is open", r.err)
    store:close()
  end)

  it("refuses what is no directory", function()
    assert.equal(2, cli.run({ "repair", ":memory:", "x" }).status)
    assert.equal(1, cli.run({ "repair", helper.dir(),
                              helper.location() }).status)
  end)
end)
