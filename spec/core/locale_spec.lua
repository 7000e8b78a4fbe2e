-- SPDX-License-Identifier: MIT
--
-- Numbers that are written or read do not depend on the locale. An archive had
-- 0,25 in it, which no reader understands, once the queue was empty. The whole
-- suite runs under such a locale, too; here is what would be wrong silently.

local core = require "respool.core"
local helper = require "spec.helper"
local json = require "respool.support.json"
local respool = require "respool"

local LOCALE = "de_DE.UTF-8" -- in LOCPATH, see spec/run

describe("The sources", function()
  it("format and read fractions by core.decimal alone", function()
    local files = helper.sh "find core lua -name '*.lua' -o -name '*.c'"
    for path in files:gmatch "%S+" do
      local text = helper.read(path):gsub("%%f%[", "") -- a frontier
      if path ~= "core/base/decimal.c" then
        for _, pattern in ipairs {
          "%%[-+0]*%d*%.?[%d*]*[eEgG]", "%%%d*%.[1-9*]+f", "strtod%(",
          "atof%(",
        } do
          assert.is_nil(text:match(pattern), path)
        end
      end
    end
  end)
end)

if not os.getenv "LOCPATH" then return end -- not run by spec/run

describe("Under a locale with a decimal comma", function()
  local before

  setup(function()
    before = os.setlocale(nil)
    assert(os.setlocale(LOCALE))
  end)

  teardown(function() os.setlocale(before) end)

  it("the locale is what it should be", function()
    if not rawget(_G, "jit") then -- whose numbers know no locale
      assert.equal("0,25", ("%.2f"):format(0.25))
    end
  end)

  it("numbers become text and back", function()
    for text, n in pairs {
      ["0.25"] = 0.25, ["-1.5"] = -1.5, ["1e+300"] = 1e300, ["3"] = 3.0,
      ["0.1"] = 0.1, ["1.5e-07"] = 1.5e-7,
      ["0.3333333333333333"] = 1 / 3, ["123456.789"] = 123456.789,
    } do
      assert.equal(text, core.decimal(n))
      assert.equal(n, core.number(text))
    end
    assert.equal("2.5", core.decimal(2.46, 1))
    assert.is_nil(core.number "0,25")
    assert.is_nil(core.number "inf")
  end)

  it("JSON has a point", function()
    assert.equal("[0.25,1e+300]", json.encode { 0.25, 1e300 })
    assert.same({ 0.25, 1e-7 }, json.decode "[0.25,1e-7]")
    assert.is_nil((json.decode "[0,25.5.5]"))
  end)

  for _, form in ipairs { "json", "cbor" } do
    it("an export that removes can be imported: " .. form, function()
      local q = helper.store():queue "orders"
      q:push({ price = 0.25, rate = 1e300 }, { delay = 0 })
      local w = assert(respool.file_writer(helper.dir(), {
        store = q.store, form = form,
      }))
      assert.equal(1, respool.export {
        queue = q, writer = w, remove = true }.removed)
      local to = helper.store():queue "in"
      local r = assert(respool.file_reader(w.files))
      assert.equal(1, respool.import { to = to, reader = r }.pushed)
      assert.same({ price = 0.25, rate = 1e300 }, to:peek()[1].payload)
      assert.is_nil(helper.read(w.files[1]):find("0,25", 1, true))
    end)
  end

  it("metrics have points", function()
    local q = helper.store():queue "orders"
    q:push(1)
    q.store:advance(0.25)
    q:work(function() end, { stop_when_empty = true })
    for _, format in ipairs { "prometheus", "openmetrics" } do
      local text = q.store:metrics { format = format }
      assert.matches('le="0%.%d+"', text)
      assert.is_nil(text:find "%d,%d")
    end
  end)

  it("lengths of time, and sizes, are read", function()
    local q = helper.store():queue("orders", { lease = "1.5s" })
    assert.equal(1.5, q:config().lease)
    assert.equal(1536, require "respool.support.options".size "1.5KiB")
    q:push(1, { delay = "0.5s" })
    assert.equal(1, q:length().scheduled)
    local arguments = require "respool.cli.base.arguments"
    assert.equal(1.5, arguments.duration "1.5")
    assert.equal(90, arguments.duration "1.5m")
    assert.equal(1536, arguments.size "1.5K")
    assert.equal(0.5, arguments.positive "0.5")
    assert.equal(0.5, arguments.moment "@0.5")
    assert.equal(0.25, arguments.moment "1970-01-01T00:00:00.25Z")
    for _, name in ipairs { "duration", "size", "positive", "moment" } do
      assert.is_nil((arguments[name] "1,5"))
    end
  end)

  it("what is shown and logged has points", function()
    local output = require "respool.cli.base.output"
    assert.equal("1.5 KiB", output.bytes(1536))
    assert.equal("4.2s", output.duration(4.2))
    assert.error_matches(function() core.cbor.encode { [1.5] = print } end,
                         "%[1%.5%]")
    assert.error_matches(function()
      helper.store():queue("q", { max_items = 1.5 })
    end, "got 1%.5")
    local policy = require "respool.policy"
    local store = helper.store()
    local q = store:queue("orders", { lease = 30 })
    local old = q.handle:config()
    local new = store:queue("orders", { lease = 0.25 }).handle:config()
    assert.same({ "lease 30 -> 0.25" }, policy.changes(old, new))
  end)

  it("a number stands for its text as a merge's key", function()
    local merge = require "respool.produce.merge"
    assert.equal("0.25", merge.key({
      key = function(payload) return payload.n end }, { n = 0.25 }))
  end)

  it("headers that are numbers are sent with points", function()
    local headers = require "respool.http.options".headers
    assert.same({ ["x-rate"] = "0.25" }, headers { ["X-Rate"] = 0.25 })
  end)
end)
