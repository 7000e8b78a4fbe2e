-- SPDX-License-Identifier: MIT
--
-- JSON in and out, by the classes of RFC 8259's grammar.

local json = require "respool.support.json"
local text_of = require "respool.support.text"
local respool = require "respool"

local cbor, native = respool.cbor, json.native

local INTEGERS = math.type ~= nil

describe("respool.json", function()
  it("is the JSON of the command line", function()
    assert.equal('{"a":[],"n":9007199254740991}', respool.json.encode(
      (respool.json.decode '{"n": 9007199254740991, "a": []}')))
    assert.equal("[\n 1\n]", (respool.json.encode({ 1 }, 1):gsub("\n$", "")))
    assert.is_nil((respool.json.decode "{"))
    assert.matches("byte", select(2, respool.json.decode "{x"))
  end)
end)

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
      assert.is_nil(value)
      assert.matches("^a whole number beyond what Lua holds", why)
    end
  end)

  -- It became infinity, and was written as null.
  it("refuses numbers beyond a double, and says so", function()
    for _, text in ipairs {
      "1e400", "-1e400", '{"a":[1E+0400]}', ("1"):rep(300) .. "e100",
      "1" .. ("0"):rep(309) .. ".0",
    } do
      local value, why = json.decode(text)
      assert.is_nil(value)
      assert.matches("^a number beyond what a double holds at byte %d+$", why)
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

  it("shows a record by its stored bytes, once", function()
    assert.equal('{"history":[],"headers":"x","bytes":{"$base64":"/w=="}}',
                 json.record { bytes = "\255", header_bytes = "\97x",
                               history = {} })
    assert.equal('{"payload":false}', json.record {
      bytes = "\244", payload = "\244" })
    assert.equal('{"payload":{"$base64":"9A=="}}',
                 json.record({ bytes = "\244" }, true))
    assert.equal('{"codec":"rot13","bytes":"a"}',
                 json.record { bytes = "a", codec = "rot13" })
    assert.equal('{"damaged":true,"bytes":{"$base64":"9A=="}}',
                 json.record { bytes = "\244", damaged = true })
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

-- What a text is to be read as, by its CBOR in hex; false: refused.
local function hex(bytes)
  return bytes and (bytes:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

local CLASSES = {
  ["the three literals"] = {
    ["true"] = "f5", ["false"] = "f4", ["null"] = "f6", ["True"] = false,
    ["nul"] = false, ["nulll"] = false, ["undefined"] = false,
  },
  ["white space"] = {
    [" \t\r\n1 \t\r\n"] = "01", ["\f1"] = false, ["\v1"] = false,
    ["\194\1601"] = false, [" "] = false, [""] = false, ["1\0"] = false,
    ["\239\187\1911"] = false, ["// x\n1"] = false, ["/**/1"] = false,
  },
  ["arrays"] = {
    ["[]"] = "80", ["[ ]"] = "80", ["[1]"] = "8101", ["[1,]"] = false,
    ["[,1]"] = false, ["[1 2]"] = false, ["[1"] = false, ["1]"] = false,
    ["[[]"] = false, ["[1}"] = false, ["[]]"] = false, ["[][]"] = false,
  },
  ["objects"] = {
    ["{}"] = "a0", ['{"":0}'] = "a16000", ['{"a":1,"b":2}'] = "a2616101616202",
    ["{1:1}"] = false, ["{a:1}"] = false, ['{"a"}'] = false,
    ['{"a":}'] = false, ['{"a":1,}'] = false, ['{,"a":1}'] = false,
    ['{"a" 1}'] = false, ['{"a":1 "b":2}'] = false, ["{'a':1}"] = false,
    ['{"a":1,"b":2,"a":3}'] = "a2616103616202",
    ['{"a\\u0000":1}'] = false,
  },
  ["strings"] = {
    ['""'] = "60", ['"\\""'] = "6122", ['"\\\\"'] = "615c",
    ['"\\/"'] = "612f", ['"\\b\\f\\n\\r\\t"'] = "65080c0a0d09",
    ['"\\u0041"'] = "6141", ['"\\u00e9"'] = "62c3a9", ['"\\U0041"'] = false,
    ['"\\x41"'] = false, ['"\\u004"'] = false, ['"\\u00g1"'] = false,
    ['"\\a"'] = false, ['"\\"'] = false, ['"a'] = false, ["'a'"] = false,
    ['"\127"'] = "617f", ['"\31"'] = false, ['"\\u0000"'] = "6100",
    ['"a\\u0000b"'] = "63610062", ["\"\0\""] = false,
  },
  ["surrogates"] = {
    ['"\\ud83d\\ude00"'] = "64f09f9880", ['"\\uD83D\\uDE00"'] = "64f09f9880",
    ['"\\ud83d"'] = false, ['"\\ude00"'] = false,
    ['"\\ude00\\ud83d"'] = false, ['"\\ud83d\\ud83d"'] = false,
    ['"\\ud83dx"'] = false, ['"\\ud83d\\n"'] = false,
    ['"\\uffff"'] = "63efbfbf",
  },
  ["UTF-8"] = {
    ['"\195\169"'] = "62c3a9", ['"\240\159\152\128"'] = "64f09f9880",
    ['"\255"'] = false, ['"\192\128"'] = false, ['"\237\160\128"'] = false,
    ['"\244\144\128\128"'] = false, ['"\195"'] = false, ["\195"] = false,
  },
  ["numbers"] = {
    ["0"] = "00", ["-0"] = "00", ["23"] = "17", ["24"] = "1818",
    ["-1"] = "20", ["9007199254740991"] = "1b001fffffffffffff",
    ["1.0"] = "01", ["1e2"] = "1864", ["-1E-0"] = "20", ["0.5"] = "f93800",
    ["-0.0"] = "f98000", ["1e-1"] = "fb3fb999999999999a", ["1e400"] = false,
    ["-1e400"] = false, ["1e-400"] = "00", ["5e-324"] = "fb0000000000000001",
    ["1.7976931348623157e308"] = "fb7fefffffffffffff",
    ["01"] = false, ["+1"] = false, ["1."] = false, [".1"] = false,
    ["1e"] = false, ["0x1"] = false, ["1_0"] = false, ["Infinity"] = false,
    ["NaN"] = false, ["-"] = false, ["1 2"] = false, ["1,2"] = false,
    ["18446744073709551616"] = false,
    [("9"):rep(400)] = false, [("9"):rep(400) .. ".0"] = false,
  },
}

describe("JSON text:", function()
  for class, cases in pairs(CLASSES) do
    it(class, function()
      for text, expected in pairs(cases) do
        local bytes, why = native.to_cbor(text)
        assert.equal(expected, hex(bytes) or false, text)
        if not bytes then assert.is_string(why) end
      end
    end)
  end

  it("is nested 64 deep at most, and has so many values at most", function()
    assert.is_string(native.to_cbor(("["):rep(64) .. ("]"):rep(64)))
    local value, why = native.to_cbor(("["):rep(65) .. ("]"):rep(65))
    assert.same({ nil, "nested deeper than 64 at byte 65" }, { value, why })
    assert.is_nil((native.to_cbor(('{"a":'):rep(65) .. "1" .. ("}"):rep(65))))
    assert.is_nil((native.to_cbor(("["):rep(100000))))
    -- Brackets and commas in strings are none.
    assert.is_string(native.to_cbor('"' .. ("["):rep(70) .. '\\"[,"'))
    value, why = native.to_cbor("[" .. ("0,"):rep(2^22) .. "0]")
    assert.is_nil(value)
    assert.matches("^more than 4,194,304 values at byte %d+$", why)
  end)

  it("tells at which byte it is wrong, and nothing of what it holds", function()
    for text, place in pairs {
      ['{"secret": tru}'] = 14, ["[secret]"] = 7, ['["secret\255"]'] = 8,
      ['"secret'] = 7, ['{"secret":1}}'] = 13,
    } do
      local _, why = native.to_cbor(text)
      assert.matches("at byte " .. place .. "$", why)
      assert.is_nil(why:find "secr", text)
    end
  end)
end)

describe("stored CBOR as JSON", function()
  local function text(bytes, layout)
    return native.from_cbor((bytes:gsub("%x%x", function(two)
      return string.char(tonumber(two, 16))
    end)), layout)
  end

  it("is written as it is stored, whoever stored it", function()
    for bytes, expected in pairs {
      ["a2616202616101"] = '{"b":2,"a":1}', ["1bffffffffffffffff"] =
      "18446744073709551615", ["3bffffffffffffffff"] = "-18446744073709551616",
      ["f7"] = "null", ["f97e00"] = "null", ["f90001"] =
      "5.9604644775390625e-08", ["c11a00000001"] = "1",
      ["c249010000000000000000"] = '{"$base64":"AQAAAAAAAAAA"}',
      ["c2420100"] = "256", ["c3420100"] = "-257",
      ["9f01ff"] = "[1]", ["bf616101ff"] = '{"a":1}',
      ["7f61616162ff"] = '"ab"', ["5f41ff41feff"] = '{"$base64":"//4="}',
      ["4161"] = '"a"', ["a14161f5"] = '{"a":true}',
      ["a301f520f4f6f6"] = '{"1":true,"-1":false,"null":null}',
      ["a180f5"] = '{"$base64:gA==":true}', ["8080"] = nil,
      ["f98000"] = "-0.0", ["fa47c35000"] = "100000",
    } do
      assert.equal(expected, text(bytes), bytes)
    end
  end)

  it("is none where it is malformed, deep, or not UTF-8", function()
    for _, bytes in ipairs {
      "", "ff", "0101", "81", "61ff", "a1", "a101", "1c", "9f", "7f4161ff",
      ("81"):rep(65) .. "00", ("9f"):rep(65) .. ("ff"):rep(65),
    } do
      assert.is_nil(text(bytes), bytes)
      assert.is_nil(text(bytes, { sorted = true }), bytes)
      assert.is_nil(text(bytes, { lossless = true }), bytes)
    end
    assert.is_string(text(("c1"):rep(100000) .. "00")) -- tags nest nothing
  end)

  it("is cut off behind a whole character", function()
    local long = cbor.encode { ("é\n"):rep(100000), "end" }
    for limit = 1, 20 do
      local cut = native.from_cbor(long, { limit = limit })
      assert.is_true(text_of.is_utf8(cut))
      assert.is_true(#cut >= limit - 3 and #cut < 3 * limit + 20)
    end
    assert.is_true(#native.from_cbor(cbor.encode(("\255"):rep(1e6)),
                                     { limit = 300 }) < 1000)
  end)

  it("is lossless, or not written at all", function()
    for bytes, expected in pairs {
      ["f97c00"] = '{"$float":"inf"}', ["f9fc00"] = '{"$float":"-inf"}',
      ["f97e00"] = '{"$float":"nan"}', ["f94200"] = '{"$float":"3"}',
      ["f98000"] = '{"$float":"-0"}', ["f93800"] = "0.5",
      ["4161"] = '{"$base64":"YQ=="}', ["40"] = '{"$base64":""}',
      ["a101f5"] = '{"$map":[[1,true]]}',
      ["a1612401"] = '{"$map":[["$",1]]}',
      ["a1610001"] = '{"$map":[["\\u0000",1]]}',
      ["1b7fffffffffffffff"] = "9223372036854775807",
      ["3b7fffffffffffffff"] = "-9223372036854775808",
    } do
      local written = text(bytes, { lossless = true })
      assert.equal(expected, written, bytes)
      local _, again = native.split('{"v":' .. written .. "}", "v")
      assert.equal(bytes, hex(again))
    end
    for _, bytes in ipairs {
      "1800", "190001", "fa3f000000", "fb3ff0000000000000", "f97e01", "f7",
      "c100", "9fff", "bfff", "7fff", "5fff", "780161", "9800", "b800",
      "1b8000000000000000", "3b8000000000000000", "a2616101616102",
      "a201000100",
    } do
      assert.is_nil(text(bytes, { lossless = true }), bytes)
    end
  end)
end)

describe("native.join", function()
  local encode = cbor.encode

  it("adds members that are CBOR behind those of a map", function()
    assert.equal('{"a":1,"v":[2],"w":"x"}', native.join(
      encode { a = 1 }, "v", encode { 2 }, "n", nil, "w", encode "x"))
    local fields, v = native.split('{"a":1,"v":[2]}', "v")
    assert.equal('{"a":1,"v":[2]}', native.join(fields, "v", v))
  end)

  it("says which member JSON would not give again", function()
    assert.same({ nil, 2 }, { native.join(encode { a = 1 }, "v", encode(1),
                                          "w", "\249\126\1") })
    assert.same({ nil, 1 }, { native.join(encode { a = 1 }, "v", "no CBOR") })
  end)

  it("wants a map", function()
    assert.equal('{"a":1}', native.join(encode {}, "a", encode(1)))
    for _, bytes in ipairs { "\255", encode { 1 } } do
      assert.error_matches(function() native.join(bytes) end, "no map")
      assert.error_matches(function() native.join_plain(bytes) end, "no map")
    end
  end)
end)

describe("the JSON of a record", function()
  local encode = cbor.encode

  -- Made at once, and of parts, as a server makes it that converts in threads.
  local function texts(record, raw)
    return json.record(record, raw),
      json.record(record, raw, native.from_cbor)
  end

  it("has its fields sorted, then headers, original and payload", function()
    local record = {
      id = 7, error = "\127\255", origin = { queue = "q", id = 3 },
      history = { { group = "g", at = 1.5 } },
      header_bytes = encode { h = 1 }, bytes = encode { b = 2, a = 1 },
    }
    local at_once, in_parts = texts(record)
    assert.equal('{"error":{"$base64":"f/8="},'
      .. '"history":[{"at":1.5,"group":"g"}],"id":7,'
      .. '"origin":{"id":3,"queue":"q"},"headers":{"h":1},"payload":'
      .. native.from_cbor(record.bytes) .. "}", at_once)
    assert.equal(at_once, in_parts)
  end)

  it("is the same at once and in parts", function()
    for _, record in ipairs {
      { id = 1, bytes = encode "é\127" }, { bytes = encode(1) }, { id = 1 },
      { id = 1, bytes = "\255" }, { id = 1, bytes = "" },
      { id = 1, bytes = "x", codec = "raw" },
      { id = 1, bytes = "\254", codec = "mine" },
      { id = 1, bytes = encode(1), damaged = true },
      { id = 1, bytes = encode(1), header_bytes = "\255" },
      { id = 1, bytes = encode(1), original = encode(2) },
      { id = 1, bytes = encode(1), original = "2", original_codec = "raw" },
    } do
      for _, raw in ipairs { false, true } do
        local at_once, in_parts = texts(record, raw)
        assert.equal(in_parts, at_once)
        assert.is_table(json.decode(at_once))
      end
    end
  end)
end)
