-- SPDX-License-Identifier: MIT

local cbor = require "respool.core".cbor
local cjson = require "cjson"
local in_digits = require "spec.helper.cbor"

local encode, decode = cbor.encode, cbor.decode
local array, null = cbor.array, cbor.null
local integers = math.type ~= nil -- or doubles only: 5.1, LuaJIT
local huge, nan = math.huge, 0 / 0

local bytes, hex, written = in_digits.bytes, in_digits.hex, in_digits.written
local read, again = in_digits.read, in_digits.again
local refusal, complaint = in_digits.refusal, in_digits.complaint

local function lines(file)
  return io.lines("spec/data/" .. file)
end

describe("RFC 8949, appendix A", function()
  local examples = {}
  setup(function()
    local text = {}
    for line in lines "cbor_appendix_a.json" do text[#text + 1] = line end
    examples = cjson.decode(table.concat(text, "\n"))
  end)

  -- Examples that the table gives in diagnostic notation only.
  local values = {
    f97c00 = huge, f9fc00 = -huge, fa7f800000 = huge, faff800000 = -huge,
    fb7ff0000000000000 = huge, fbfff0000000000000 = -huge,
    f7 = null,
    c074323031332d30332d32315432303a30343a30305a = "2013-03-21T20:04:00Z",
    c11a514b67b0 = 1363896240, c1fb41d452d9ec200000 = 1363896240.5,
    d74401020304 = "\1\2\3\4", d818456449455446 = "dIETF",
    d82076687474703a2f2f7777772e6578616d706c652e636f6d =
      "http://www.example.com",
    ["40"] = "", ["4401020304"] = "\1\2\3\4",
    a201020304 = { [1] = 2, [3] = 4 }, ["5f42010243030405ff"] = "\1\2\3\4\5",
  }
  local not_numbers = { f97e00 = 1, fa7fc00000 = 1, fb7ff8000000000000 = 1 }

  local range, simple = "integer out of range", "truncated or malformed"
  local refused = {
    ["1bffffffffffffffff"] = range, ["3bffffffffffffffff"] = range,
    c249010000000000000000 = range, c349010000000000000000 = range,
    f0 = simple, f818 = simple, f8ff = simple, -- no values in Lua
  }

  -- Examples that are written otherwise than they were read.
  local rewritten = {
    f7 = "f6", -- undefined is read as null
    ["40"] = "60", ["4401020304"] = "6401020304", -- UTF-8 is text
    -- tags are not kept
    c074323031332d30332d32315432303a30343a30305a =
      "74323031332d30332d32315432303a30343a30305a",
    c11a514b67b0 = "1a514b67b0",
    c1fb41d452d9ec200000 = "fb41d452d9ec200000",
    d74401020304 = "6401020304", d818456449455446 = "656449455446",
    d82076687474703a2f2f7777772e6578616d706c652e636f6d =
      "76687474703a2f2f7777772e6578616d706c652e636f6d",
  }
  if not integers then -- integral doubles are integers
    rewritten.f90000, rewritten.f93c00 = "00", "01"
    rewritten.f97bff, rewritten.fa47c35000 = "19ffe0", "1a000186a0"
    rewritten.f9c400 = "23"
  end
  -- Keys come in the order of the table.
  local shuffled = {
    a201020304 = true, a26161016162820203 = true,
    a56161614161626142616361436164614461656145 = true,
  }

  it("is read", function()
    for _, example in ipairs(examples) do
      local expected, digits = example.decoded, example.hex
      if values[digits] ~= nil then expected = values[digits] end
      if refused[digits] then
        assert.match(refused[digits], refusal(bytes(digits)), 1, true)
      elseif not_numbers[digits] then
        assert.not_equal(read(digits), read(digits))
      else
        assert.same(expected, (read(digits)), digits)
      end
    end
  end)

  it("is written", function()
    for _, example in ipairs(examples) do
      local digits = example.hex
      local expected = rewritten[digits] or digits
      if shuffled[digits] then
        assert.equal(#expected, #written(read(digits)))
        assert.same(read(digits), again(read(digits)))
      elseif example.roundtrip and not refused[digits] then
        assert.equal(expected, written(read(digits)))
      end
    end
  end)

  it("is all there", function() assert.equal(82, #examples) end)
end)

describe("RFC 8949, appendix F", function()
  local count, kind = 0, "nothing"
  for line in lines "cbor_appendix_f.txt" do
    if line:match "^# " then
      kind = line:sub(3)
    elseif line ~= "" then
      count = count + 1
      it("refuses " .. line .. ": " .. kind, function()
        assert.is_string(refusal(bytes(line)))
      end)
    end
  end

  it("is all there", function() assert.equal(94, count) end)
end)

describe("numbers", function()
  it("are as short as they can be", function()
    assert.equal("17", written(23))
    assert.equal("1818", written(24))
    assert.equal("1903e8", written(1000))
    assert.equal("1a000f4240", written(1000000))
    assert.equal("1b000000e8d4a51000", written(1000000000000))
    assert.equal("3903e7", written(-1000))
    assert.equal("f93e00", written(1.5))
    assert.equal("fa3fc00001", written(1.5 + 2 ^ -23))
    assert.equal("fb3ff199999999999a", written(1.1))
    assert.equal("f90001", written(2 ^ -24))
    assert.equal("fa33000000", written(2 ^ -25))
  end)

  it("keep what is special", function()
    assert.equal("f97e00", written(nan))
    assert.equal("f97e00", written(-nan))
    assert.equal("f97c00", written(huge))
    assert.equal("f9fc00", written(-huge))
    assert.equal("f98000", written(-0.0))
    assert.equal(-huge, 1 / again(-0.0))
    assert.not_equal(read "fb7ff0000000000001", read "fb7ff0000000000001")
  end)

  local from_5_3 = integers and it or function() end
  local before_5_3 = integers and function() end or it

  from_5_3("from 5.3 on are integers or floats", function()
    assert.equal("f93c00", written(1.0))
    assert.equal("float", math.type(again(1.0)))
    assert.equal("integer", math.type(again(1)))
    assert.equal("1b7fffffffffffffff", written(math.maxinteger))
    assert.equal("3b7fffffffffffffff", written(math.mininteger))
    assert.equal(math.maxinteger, again(math.maxinteger))
    assert.equal(math.mininteger, again(math.mininteger))
    assert.match("integer out of range", refusal(bytes "1b8000000000000000"))
    assert.match("integer out of range", refusal(bytes "3b8000000000000000"))
  end)

  before_5_3("before 5.3 are integers while doubles can count", function()
    local largest = 2 ^ 53
    assert.equal("01", written(1.0))
    assert.equal("1b0020000000000000", written(largest))
    assert.equal("3b001fffffffffffff", written(-largest))
    assert.equal("fa5a800000", written(2 * largest))
    assert.equal(largest, again(largest))
    assert.equal(-largest, again(-largest))
    assert.match("integer out of range", refusal(bytes "1b0020000000000001"))
    assert.match("integer out of range", refusal(bytes "3b0020000000000000"))
    assert.match("integer out of range", refusal(bytes "3bffffffffffffffff"))
  end)

  it("may be small big numbers", function()
    assert.equal(258, read "c2420102")
    assert.equal(-259, read "c3420102")
    assert.equal(0, read "c240")
    assert.equal(1, read "c24a00000000000000000001")
    assert.equal(258, read "c25f41014102ff")
    assert.match("integer out of range", refusal(bytes "c248ffffffffffffffff"))
    assert.match("big number is not bytes", refusal(bytes "c26101"))
    assert.match("big number is not bytes", refusal(bytes "c201"))
    assert.match("another type", refusal(bytes "c25f6101ff"))
  end)
end)

describe("strings", function()
  it("are text when they are UTF-8, else bytes", function()
    assert.equal("60", written "")
    assert.equal("62c3bc", written "\195\188")
    assert.equal("41ff", written "\255")
    assert.equal("43610062", hex(encode("a\0b")):gsub("^6", "4"))
    assert.equal("42c328", written "\195(")
  end)

  it("know the edges of UTF-8", function()
    local good = { "7f", "c280", "dfbf", "e0a080", "ed9fbf", "ee8080",
                   "efbfbf", "f0908080", "f48fbfbf" }
    local bad = { "80", "c080", "c1bf", "c3", "e08080", "e09fbf", "eda080",
                  "edbfbf", "efbf", "f08080", "f08fbfbf", "f4908080",
                  "f5808080", "f888808080", "ff", "fe" }
    for _, s in ipairs(good) do
      assert.equal("6", written(bytes(s)):sub(1, 1), s)
      assert.equal(bytes(s), again(bytes(s)))
    end
    for _, s in ipairs(bad) do
      assert.equal("4", written(bytes(s)):sub(1, 1), s)
      assert.equal(bytes(s), again(bytes(s)))
      local text = string.char(0x60 + #s / 2) .. bytes(s)
      assert.match("text is not UTF%-8", refusal(text))
    end
  end)

  it("of any length come back", function()
    for _, n in ipairs { 0, 1, 7, 8, 23, 24, 255, 256, 65535, 65536 } do
      local text = ("x"):rep(n)
      assert.equal(text, again(text))
      assert.equal(text .. "\255", again(text .. "\255"))
    end
  end)

  it("are joined from chunks, each of them whole", function()
    assert.equal("abc", read "7f616162626360ff")
    assert.equal("", read "5fff")
    assert.equal(("ab"):rep(10000),
                 decode("\127" .. ("bab"):rep(10000) .. "\255"))
    assert.match("text is not UTF%-8", refusal(bytes "7f61c361bcff"))
    assert.match("another type", refusal(bytes "7f4161ff"))
  end)
end)

describe("other values", function()
  it("are booleans and null", function()
    assert.equal("f4f5f6", written(false) .. written(true) .. written(null))
    assert.is_false((read "f4"))
    assert.equal(null, (read "f6"))
    assert.equal(null, (read "f7"))
  end)

  it("of null are one with cjson's", function()
    assert.equal(cjson.null, null)
    assert.same({ null, 1, null }, again { cjson.null, 1, cjson.null })
  end)

  it("cannot be encoded", function()
    assert.equal("cannot encode nil", complaint(nil))
    assert.equal("cannot encode function", complaint(print))
    assert.equal("cannot encode thread",
                 complaint(coroutine.create(function() end)))
    assert.equal("cannot encode userdata", complaint(io.stdout))
  end)

  it("are misuse when they are missing or no string", function()
    assert.error_matches(encode, "bad argument #1")
    assert.error_matches(decode, "bad argument #1")
    assert.error_matches(function() decode(12) end, "bad argument #1")
    assert.error_matches(function() array "a" end, "bad argument #1")
  end)
end)

describe("tables", function()
  it("with the keys 1..n are arrays, however they came by them", function()
    local backwards, thinned = {}, {}
    for i = 40, 1, -1 do backwards[i] = i end
    for i = 1, 40 do thinned[i] = i end
    for i = 21, 40 do thinned[i] = nil end
    assert.equal("9828", written(backwards):sub(1, 4))
    assert.equal("94", written(thinned):sub(1, 2))
    assert.equal("8101", written { 1 })
    assert.equal("8101", written { [1] = 1 })
  end)

  it("with other keys are maps", function()
    assert.equal("a0", written {})
    assert.equal("a1616101", written { a = 1 })
    assert.equal("a10001", written { [0] = 1 })
    assert.equal("a10201", written { [2] = 1 })
    assert.equal("a1f93e0001", written { [1.5] = 1 })
    assert.equal("a1613101", written { ["1"] = 1 })
  end)

  it("that are mixed or sparse come back as they were", function()
    for _, t in ipairs {
      { 1, 2, x = 3 }, { 1, nil, 3 }, { nil, 2 }, { [1] = 1, [4] = 4 },
      { 1, 2, 3, nil, 5, [1e9] = 0 }, { [-1] = 1, [0] = 2, 3 },
      { 1, [2.5] = 2 }
    } do
      assert.equal("a", written(t):sub(1, 1))
      assert.same(t, again(t))
    end
  end)

  it("tell a number from a string of its digits", function()
    local t = { 1, nil, 3, ["2"] = 2 }
    assert.same(t, again(t))
    assert.error(function() encode(array(t)) end)
  end)

  it("are arrays when marked, even empty", function()
    assert.equal("80", written(array {}))
    assert.equal("80", written(array()))
    assert.equal("80", written(array(nil)))
    assert.equal("8101", written(array { 1 }))
    local t = {}
    assert.equal(t, array(t))
    assert.equal(cbor.array_mt, getmetatable(t))
  end)

  it("keep whether they are arrays", function()
    local s = bytes "84a08081a081 80"
    assert.equal(hex(s), written(decode(s)))
    assert.equal(cbor.array_mt, getmetatable(read "9fff"))
    assert.is_nil(getmetatable(read "bfff"))
    assert.is_nil(getmetatable(read "a10102"))
  end)

  it("that are marked must not have other keys", function()
    local why = "array with keys other than 1..n"
    assert.equal(why, complaint(array { a = 1 }))
    assert.equal(why, complaint(array { [2] = 1 }))
    assert.equal(why .. " at .list[2]",
                 complaint { list = { 1, array { 1, nil, 3 } } })
  end)

  it("are read raw", function()
    local t = setmetatable({ a = 1 }, {
      __index = function() return 2 end, __len = function() return 3 end,
      __pairs = function() return next, { b = 1 } end
    })
    assert.equal("a1616101", written(t))
    assert.equal("a0", written(setmetatable({}, { __index = { 1, 2 } })))
  end)

  it("of any size come back", function()
    for _, n in ipairs { 22, 23, 24, 25, 255, 256, 300 } do
      local map, list = {}, {}
      for i = 1, n do map["key " .. i], list[i] = i, i end
      assert.same(map, again(map))
      assert.same(list, again(list))
      assert.same({ map, list, map }, again { map, list, map })
    end
  end)

  it("may hold a table many times over", function()
    local t = { 1 }
    assert.equal("83810181018101", written { t, t, t })
  end)

  it("may have keys of all kinds", function()
    local t = { [true] = 1, [null] = 2, [1.5] = 3, [-7] = 4, ["\255"] = 5,
                [huge] = 6 }
    assert.same(t, again(t))
    assert.equal("a1820102f5", written { [{ 1, 2 }] = true })
    assert.same({ 1, 2 }, (next(read "a1820102f5")))
  end)

  it("take the last of a key that comes twice", function()
    assert.same({ a = 2 }, (read "a2616101616102"))
    assert.same({ 2 }, (read "a20101f93c0002"))
  end)

  it("have no key that is not a number", function()
    assert.match("key is not a number", refusal(bytes "a1f97e0001"))
    assert.match("key is not a number", refusal(bytes "bfc1f97e0001ff"))
    assert.equal(nan ~= nan, (read "81f97e00")[1] ~= (read "81f97e00")[1])
  end)
end)

describe("any value", function()
  local seed = tonumber(os.getenv "RESPOOL_SEED") or os.time()
  local state = seed % 2147483646 + 1

  local function random(n) -- in 0..n - 1
    state = state * 16807 % 2147483647
    return state % n
  end

  local function integer()
    local v = random(2 ^ 31 - 2) % 2 ^ random(32)
    if integers then v = math.tointeger(v) end
    return random(2) == 0 and v or -v
  end

  local function float()
    local special = { 0.5, -0.0, huge, -huge, 65504.5, 1e300, 5e-324 }
    return special[random(20)] or (random(2 ^ 30) / 2 ^ random(60)) * 1.5
  end

  local function text()
    local s = {}
    for i = 1, random(40) do
      s[i] = random(50) == 0 and "\195\188" or string.char(32 + random(95))
    end
    return table.concat(s)
  end

  local function binary()
    return (text():gsub("..", function() return string.char(random(256)) end))
  end

  local scalars = { integer, float, text, binary,
    function() return random(2) == 0 end, function() return null end }

  local function value(depth)
    local kind = random(depth > 3 and 6 or 9)
    if scalars[kind + 1] then return scalars[kind + 1]() end
    local t, key = kind == 6 and array() or {}, kind == 7 and integer or text
    for i = 1, random(kind == 6 and 12 or 6) do
      t[kind == 6 and i or key()] = value(depth + 1)
    end
    return t
  end

  -- Alike also in what == passes over: 1 and 1.0, 0 and -0, {} and [].
  local function alike(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then
      return a == b and (a ~= 0 or 1 / a == 1 / b) and
        (not integers or math.type(a) == math.type(b))
    end
    if next(a) == nil and getmetatable(a) ~= getmetatable(b) then
      return false
    end
    for k, v in pairs(a) do if not alike(v, b[k]) then return false end end
    for k in pairs(b) do if a[k] == nil then return false end end
    return true
  end

  it("comes back (seed " .. seed .. ")", function()
    for i = 1, 10000 do
      local v = value(0)
      assert.is_true(alike(v, again(v)), "value " .. i)
    end
  end)

  it("that is not alike is told apart", function()
    assert.is_false(alike({ a = { 1 } }, { a = { 2 } }))
    assert.is_false(alike({ 1 }, { 1, 2 }))
    assert.is_false(alike(array(), {}))
    local zero = 0.0
    assert.is_false(alike(zero, -zero))
  end)
end)

describe("a finalizer", function()
  -- Lua 5.1 collects garbage on the way into a new string, after the bytes
  -- have been encoded and before they are copied. What a finalizer encodes
  -- then must not take their place.
  local proxy = rawget(_G, "newproxy")
  local function garbage(finalize)
    if proxy then
      getmetatable(proxy(true)).__gc = finalize
    else
      setmetatable({}, { __gc = finalize })
    end
  end

  it("may encode while another value is encoded", function()
    local other = ("other"):rep(1000)
    local encoding, during, wrong = false, 0, 0
    local function finalize()
      if encoding then during = during + 1 end
      encode(other)
    end
    local rounds = 0 -- when garbage is collected is for the collector to say
    while rounds < 20000 or not integers and during == 0 do
      rounds = rounds + 1
      assert(rounds < 2e6, "no finalizer ran while a value was encoded")
      garbage(finalize)
      local v = { "abc", true, 1.5, 1 }
      encoding = true
      local s = encode(v)
      encoding = false
      if s ~= "\132\99abc\245\249\62\0\1" then wrong = wrong + 1 end
    end
    assert.equal(0, wrong)
  end)
end)
