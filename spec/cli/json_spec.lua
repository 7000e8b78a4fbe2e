-- SPDX-License-Identifier: MIT
--
-- respool.json: JSON in and out.

local json = require "respool.support.json"
local respool = require "respool"

local INTEGERS = math.type ~= nil

describe("json.decode", function()
  it("reads back what json.encode wrote", function()
    for _, text in ipairs {
      '{"a":[],"b":{},"c":[1,2.5,[]],"d":null,"e":true}', '"é\\n"', "0.1",
      "-9007199254740991", "1e+300", '{"":false}', "[[],{}]",
      "0.12345678901234568", '"12345678901234567890 []"',
    } do
      assert.equal(text, json.encode((json.decode(text))))
    end
  end)

  it("makes whole numbers integers", function()
    if not INTEGERS then return end
    assert.equal("integer", math.type(json.decode "[1]"[1]))
    assert.equal("integer", math.type(json.decode "[1e3,[]]"[1]))
    assert.equal("float", math.type(json.decode "[1.5]"[1]))
    assert.equal(math.maxinteger, json.decode "9223372036854775807")
  end)

  it("refuses whole numbers that Lua cannot hold", function()
    assert.is_nil((json.decode "[9223372036854775808]"))
    assert.is_nil((json.decode '{"a":"x\\"", "b":99999999999999999999}'))
    assert.equal(1, json.decode '["99999999999999999999", 1]'[2])
    assert.equal(1e20, json.decode '[1e20, 0.10000000000000000001]'[1])
  end)

  it("reads every whole number that Lua holds, and no other", function()
    local least = INTEGERS and "-9223372036854775808" or "-9007199254740992"
    local beyond = INTEGERS and "-9223372036854775809" or "-9007199254740993"
    assert.equal(INTEGERS and math.mininteger or -2^53, json.decode(least))
    assert.equal(least, json.encode(json.decode("[" .. least .. "]")[1]))
    for _, text in ipairs { beyond, beyond:sub(2), ("9"):rep(400) } do
      local value, why = json.decode(text)
      assert.same({ nil, "a whole number beyond what Lua holds" },
                  { value, why })
    end
  end)

  -- It became infinity, and was written as null.
  it("refuses numbers beyond a double, and says so", function()
    for _, text in ipairs {
      "1e400", "-1e400", '{"a":[1E+0400]}', ("1"):rep(300) .. "e100",
      "1" .. ("0"):rep(309) .. ".0",
    } do
      local value, why = json.decode(text)
      assert.same({ nil, "a number beyond what a double holds" },
                  { value, why })
    end
    assert.equal(1e308, json.decode "1e308")
    assert.equal(0, json.decode "1e-400")
  end)

  it("knows the numbers of RFC 8259 only", function()
    for _, text in ipairs {
      "1.", "1.e3", "-.5", ".5", "+1", "01", "-01", "1e", "1e+", "-", "--1",
      "1.5.2", "1e1.5", "0x10", "1_0", "NaN", "Infinity", "-Infinity", "nan",
    } do
      for _, form in ipairs { "%s", "[%s]", '{"a":1, "b":%s}', '["1.5",%s]' } do
        local value, why = json.decode(form:format(text))
        assert.is_nil(value, text)
        assert.is_string(why)
      end
    end
    for text, value in pairs {
      ["-0"] = 0, ["0e1"] = 0, ["1E05"] = 100000, ["-1.5e-1"] = -0.15,
      ["0.0"] = 0, ["10"] = 10,
    } do
      assert.equal(value, (json.decode(text)))
    end
    local words = '"1. -.5 01 1e400 \\" 1.e3 99999999999999999999"'
    assert.equal(words, json.encode((json.decode(words))))
  end)

  it("refuses control characters, and halves of surrogate pairs", function()
    for _, text in ipairs {
      '"a\nb"', '"a\tb"', '["x", "\r"]', '"\0"', "[1]\0junk", "[1]\f", "\v1",
      '{"a\n":1}', '"\127\1"', '"\\ud800"', '"\\ud800x"', '"\\udc00"',
      '"\\ud800\\u0041"',
    } do
      assert.is_nil((json.decode(text)), text)
    end
    assert.equal("a\nb\127\0😀",
                 (json.decode '"a\\nb\127\\u0000\\ud83d\\ude00"'))
    assert.same({ a = { 1, 2 } }, json.decode '\t{\n"a":\r\n[1 ,\t2]}\n')
  end)

  it("takes the last of a name that comes twice", function()
    assert.same({ a = 2 }, json.decode '{"a":1,"a":2}')
    assert.same({ a = respool.array {} }, json.decode '{"a":1,"a":[]}')
  end)

  it("refuses what is no JSON, and shows nothing of it", function()
    for _, text in ipairs {
      "", "{secret}", '{"secret":}', "[1,]", "NaN", "0x10", "[1] secret",
      '"\255secret"', '"\237\160\128"', "[[]", ("["):rep(100) .. ("]"):rep(100),
    } do
      local value, why = json.decode(text)
      assert.is_nil(value)
      assert.is_string(why)
      assert.is_nil(why:find "secret")
    end
  end)

  it("marks empty arrays", function()
    assert.equal(respool.array_mt, getmetatable(json.decode "[]"))
    assert.is_nil(getmetatable(json.decode "{}"))
  end)
end)

describe("json.encode", function()
  it("says what JSON does not know in its own words", function()
    assert.equal('{"$base64":"//4="}', json.encode "\255\254")
    assert.equal("[null,null]", json.encode { 0 / 0, 1 / 0 })
    assert.equal('{"1":"a","3":"b"}', json.encode { [1] = "a", [3] = "b" })
    assert.equal('"\\u0000\\u001b\\"\\\\"', json.encode '\0\27"\\')
  end)

  it("keeps keys apart that are not UTF-8", function()
    assert.equal('{"/w==":2,"$base64:/w==":1}',
                 json.encode { ["\255"] = 1, ["/w=="] = 2 })
  end)

  it("shows a record without what is stored twice", function()
    assert.equal('{"bytes":{"$base64":"/w=="},"history":[]}', json.encode(
      json.record { bytes = "\255", header_bytes = "x", history = {} }))
    assert.equal('{"payload":false}', json.encode(
      json.record { bytes = "\244", payload = false }))
  end)

  it("writes numbers that read back as the same", function()
    for _, n in ipairs { 0.1, 1 / 3, 2^53, -0.5, 1e-300, 123456789012345 } do
      assert.equal(n, tonumber(json.encode(n)))
    end
  end)

  it("indents if asked to", function()
    assert.equal('{\n  "a": [\n    1\n  ],\n  "b": {}\n}',
                 json.encode({ b = {}, a = { 1 } }, 2))
  end)
end)
