-- SPDX-License-Identifier: MIT
--
-- Text for terminals and logs: what steers them is spelt.

local helper = require "spec.helper"
local json = require "respool.support.json"
local visible = require "respool.support.visible"

describe("text made visible", function()
  it("has no control characters, C1 neither", function()
    for text, shown in pairs {
      ["a\nb\tc\rd"] = "a\\nb\\tc\\rd",
      ["\27[31m\127\0"] = "\\x1b[31m\\x7f\\x00",
      ["\194\155 31m"] = "\\u009b 31m", ["\155"] = "\\x9b",
      ["gr\195\188n\255"] = "gr\\xc3\\xbcn\\xff", ["grün …"] = "grün …",
    } do
      assert.equal(shown, visible.clean(text))
    end
  end)

  -- A name could be written so that it looks like another one.
  it("turns no direction of writing", function()
    for text, shown in pairs {
      ["\226\128\174txt.exe"] = "\\u202etxt.exe",
      ["\226\129\166a\226\129\169"] = "\\u2066a\\u2069",
      ["\216\156\226\128\143\226\128\168"] = "\\u061c\\u200f\\u2028",
      ["שלום"] = "שלום", ["\226\128\166"] = "\226\128\166",
    } do
      assert.equal(shown, visible.clean(text))
    end
  end)

  it("stays the same JSON", function()
    assert.equal('{"a":"\\u009b\\u202e\\u007f\\n"}', visible.json(
      json.encode { a = "\194\155\226\128\174\127\n" }))
  end)
end)

describe("the log of a store", function()
  it("shows what handlers raise in one line, as it is", function()
    local store = helper.store { log = false }
    local path = store.path
    store:close()
    local dir = helper.dir()
    helper.write(dir .. "/main.lua", [[
      local store = assert(require "respool".open(arg[1]))
      local q = assert(store:queue("a\27b", { max_attempts = 2 }))
      q:push(1)
      q:work(function() error("x\n[alert] \194\155 \226\128\174", 0) end,
             { limit = 1 })
    ]])
    local said = helper.sh(("%s %s/main.lua '%s' 2>&1"):format(
      helper.lua(), dir, path))
    assert.matches('error="x\\n[alert] \\u009b \\u202e"', said, 1, true)
    assert.matches("queue=a\\x1bb", said, 1, true)
    assert.is_nil(said:find "[%c\194\226]")
  end)
end)
