-- SPDX-License-Identifier: MIT
--
-- CBOR that is refused: values that cannot be encoded, and bad bytes.

local cbor = require "respool.core".cbor
local in_digits = require "spec.helper.cbor"

local encode, decode = cbor.encode, cbor.decode
local array, null = cbor.array, cbor.null

local bytes, read, again = in_digits.bytes, in_digits.read, in_digits.again
local refusal, complaint = in_digits.refusal, in_digits.complaint

local function nested(depth, innermost, key)
  local v = innermost
  for _ = 1, depth do v = { [key] = v } end
  return v
end

describe("the way to what cannot be encoded", function()
  it("is named", function()
    local t = { items = { 1, {}, { callback = print } } }
    assert.equal("cannot encode function at .items[3].callback",
                 complaint(t))
    assert.equal("cannot encode thread at [1]",
                 complaint { coroutine.create(function() end) })
    assert.equal("cannot encode function at [-1][1.5][boolean]",
                 complaint { [-1] = { [1.5] = { [true] = print } } })
  end)

  it("leads into keys", function()
    assert.equal("cannot encode function at .a[key]",
                 complaint { a = { [print] = 1 } })
    assert.equal("cannot encode function at [key].b",
                 complaint { [{ b = print }] = 1 })
    assert.equal("cannot encode function at [table].b",
                 complaint { [{}] = { b = print } })
  end)

  it("is one short line whatever the keys are", function()
    assert.equal('cannot encode function at ["a b"]["x?y"]["???"]',
      complaint { ["a b"] = { ["x\ny"] = { ["\1\200\0"] = print } } })
    local long = ("\195\188"):rep(50)
    assert.equal('cannot encode function at ["' .. long:sub(1, 40) .. '..."]',
                 complaint { [long] = print })
    local odd = ("a"):rep(39) .. "\195\188"
    assert.equal('cannot encode function at ["' .. odd:sub(1, 39) .. '..."]',
                 complaint { [odd] = print })
    local deep = complaint(nested(60, print, "some_name_of_a_key"))
    assert.match("^cannot encode function at .some_name_of_a_key%.some", deep)
    assert.match("_key%.%.%.$", deep)
    assert.is_true(#deep < 240)
  end)

  it("is closed by a cycle", function()
    local t = { a = {} }
    t.a.b = t
    assert.equal("cycle at .a.b", complaint(t))
    local list = {}
    list[1] = list
    assert.equal("cycle at [1]", complaint(list))
    local key = {}
    key[key] = 1
    assert.equal("cycle at [key]", complaint(key))
  end)

  it("never shows a value, and does no harm", function()
    local t = { secret = "hunter2", list = { "hunter2", print } }
    assert.equal("cannot encode function at .list[2]", complaint(t))
    t.list[2] = nil
    assert.same(t, again(t))
  end)
end)

describe("nesting", function()
  it("is 64 deep and no deeper when encoded", function()
    for _, key in ipairs { 1, "a" } do
      local t = nested(64, 1, key)
      assert.same(t, again(t))
      assert.match("^nested deeper than 64 at ",
                   complaint(nested(65, 1, key)))
    end
  end)

  it("is 64 deep and no deeper when decoded", function()
    for open, close in pairs {
      ["\129"] = "", ["\159"] = "\255", ["\161\0"] = "", ["\191\0"] = "\255"
    } do
      local s = open:rep(64) .. "\0" .. close:rep(64)
      assert.equal("table", type(decode(s)))
      s = open:rep(65) .. "\0" .. close:rep(65)
      assert.match("nested deeper than 64", refusal(s))
    end
    assert.match("nested deeper than 64",
                 refusal(("\161"):rep(65) .. ("\0"):rep(66)))
  end)

  it("does not count tags", function()
    assert.equal(1, decode(("\198"):rep(100000) .. "\1"))
    assert.is_string(refusal(("\198"):rep(100000)))
  end)
end)

describe("bad bytes", function()
  local rich = { "\191" }
  for _, v in ipairs {
    "id", 123, "name", "order", "price", 12.5, "big", 2 ^ 40, "off", false,
    "tags", { "a", "b" }, "blob", ("\255"):rep(30), "none", null,
    "list", { { 1, 2.25, 1e300 }, {}, array {} }, 7, ("text "):rep(10),
    -70000, { [2.5] = { deep = { {} } } }
  } do
    rich[#rich + 1] = encode(v)
  end
  rich = table.concat(rich) .. bytes [[
    7f 61 61 ff  5f 41 00 40 ff  9f 01 ff  bf 01 02 ff
    c2 49 00 00 00 02 03 04 05 06 07  d8 20 f7  ff ]]

  it("are none in the sample", function()
    assert.equal("table", type(decode(rich)))
  end)

  it("are cut off anywhere", function()
    for n = 0, #rich - 1 do
      assert.match("at byte %d+$", refusal(rich:sub(1, n)))
    end
  end)

  it("may have any bit wrong", function()
    local good = 0
    for at = 1, #rich do
      local byte = rich:byte(at)
      for bit = 0, 7 do
        local flip = byte % 2 ^ (bit + 1) >= 2 ^ bit and -2 ^ bit or 2 ^ bit
        local s = rich:sub(1, at - 1) .. string.char(byte + flip)
        local v = decode(s .. rich:sub(at + 1))
        if v == nil then
          assert.is_string(refusal(s .. rich:sub(at + 1)))
        else
          good = good + 1
        end
      end
    end
    assert.is_true(good > 0 and good < 8 * #rich)
  end)

  it("are more bytes than a value", function()
    assert.equal("more bytes than one value at byte 1", refusal "\0\0")
    assert.match("more bytes than one value", refusal(rich .. "\255"))
  end)

  it("are named with their place", function()
    assert.equal("truncated or malformed CBOR at byte 0", refusal "")
    assert.equal("truncated or malformed CBOR at byte 2",
                 refusal(bytes "82011c"))
    assert.match("^break outside an open length at byte ", refusal "\255")
  end)

  it("announce what is not there, and get no memory for it", function()
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    for _, s in ipairs {
      "9bffffffffffffffff", "9b7fffffffffffffff", "9b0000000100000000",
      "9a7fffffff", "bbffffffffffffffff", "bb8000000000000000 00",
      "bb7fffffffffffffff", "ba7fffffff", "5bffffffffffffffff",
      "5b7fffffffffffffff 00", "7bffffffffffffffff", "7b7fffffffffffffff 00",
      "7a7fffffff 00", "5f5b7fffffffffffffff", "dbffffffffffffffff"
    } do
      assert.is_string(refusal(bytes(s)))
    end
    local used = collectgarbage "count" - before
    collectgarbage "restart"
    assert.is_true(used < 100, used .. " KiB")
  end)

  it("cannot announce the same bytes at each level", function()
    local s = ("\154\0\0\255\0"):rep(13000)
    collectgarbage()
    local before = collectgarbage "count"
    assert.match("more items announced than there are bytes", refusal(s))
    assert.is_true(collectgarbage "count" - before < 40 * #s / 1024)
    assert.match("more items announced", refusal(bytes "82 82 00"))
    assert.match("more items announced", refusal(bytes "83 00 81 00"))
    assert.same({ { 0 }, 0 }, (read "82 81 00 00"))
  end)
end)
