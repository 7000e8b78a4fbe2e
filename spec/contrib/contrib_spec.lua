-- SPDX-License-Identifier: MIT
--
-- Alerts and dashboard: Prometheus itself reads them, and they name metrics
-- that a store writes.

local helper = require "spec.helper"
local respool = require "respool"

local DASHBOARD = "contrib/grafana/respool.json"
local RULES = "contrib/prometheus/respool.rules.yml"

-- Metrics that are on no panel: of little worth beside their neighbours.
local LEFT_OUT = {
  respool_map_bytes = true, respool_flushes_total = true,
  respool_history_items = true, respool_buffered_bytes = true,
}

local function written()
  local store = assert(respool.open(":memory:"))
  local queue = assert(store:queue("orders", { max_items = 10 }))
  queue:push "x"
  store:queue("mails", { buffer = {} }):push "y"
  queue:take():dead()
  local text = assert(store:metrics())
  local names = {}
  for name in text:gmatch "# TYPE (%S+)" do names[name] = true end
  store:close()
  -- in memory there is no disk
  names.respool_disk_available_bytes = true
  return names
end

-- The metrics that a text names.
local function named(text)
  local names = {}
  for name in text:gmatch "respool_[%l_]+" do
    names[name:gsub("_bucket$", "")] = true
  end
  return names
end

local function missing(from, there)
  local list = {}
  for name in pairs(there) do
    if not from[name] then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

describe("contrib's", function()
  it("alerts are rules that Prometheus reads", function()
    local said = helper.sh("promtool check rules " .. RULES .. " 2>&1")
    assert.matches("SUCCESS: %d+ rules found", said)
    assert.same({}, missing(written(), named(helper.read(RULES))))
  end)

  it("alerts fire on bad figures and only on those", function()
    local said =
      helper.sh "promtool test rules spec/contrib/rules_test.yml 2>&1"
    assert.matches("SUCCESS", said)
    assert.is_nil(said:match "FAILED", said)
    local tests = helper.read "spec/contrib/rules_test.yml"
    for alert in helper.read(RULES):gmatch "alert: (%w+)" do
      assert.truthy(tests:find("name: " .. alert .. "\n", 1, true), alert)
      assert.truthy(tests:find("name: " .. alert .. " is silent\n", 1, true),
                    alert)
    end
  end)

  it("dashboard is what its program writes", function()
    assert.equal(helper.read(DASHBOARD),
                 helper.sh "lua5.4 contrib/grafana/dashboard.lua" .. "\n")
  end)

  it("dashboard shows every metric worth it, and no other", function()
    local there, used = written(), named(helper.read(DASHBOARD))
    for name in pairs(LEFT_OUT) do
      assert.is_true(there[name] and not used[name], name)
      there[name] = nil
    end
    assert.same({}, missing(there, used))
    assert.same({}, missing(used, there))
  end)

  it("dashboard asks what Prometheus understands", function()
    local rules = { "groups:", "  - name: dashboard", "    rules:" }
    for expr in helper.read(DASHBOARD):gmatch '"expr": "(.-)",\n' do
      expr = expr:gsub('\\"', '"'):gsub("%$__rate_interval", "5m")
      rules[#rules + 1] = "      - record: panel" .. #rules
      rules[#rules + 1] = "        expr: '" .. expr .. "'"
    end
    assert.is_true(#rules > 40)
    local path = os.tmpname()
    helper.write(path, table.concat(rules, "\n") .. "\n")
    local said = helper.sh("promtool check rules " .. path .. " 2>&1")
    os.remove(path)
    assert.is_nil(said:match "FAILED", said)
    assert.is_nil(said:match "error", said)
  end)
end)
