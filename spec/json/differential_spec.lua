-- SPDX-License-Identifier: MIT
--
-- JSON against python3's, on generated texts, most of them nearly right: one
-- process of python tells for each text whether it is JSON, and if so gives
-- its value back in canonical form, which is read here again. Where python is
-- not strict (NaN, lone surrogates), or has no bounds (whole numbers, depth), a
-- few lines of it say no.

local helper = require "spec.helper"
local json = require "respool.support.json"

local N = 3000

local PYTHON = [[
import json, sys

def no(text):
    raise ValueError(text)

def whole(text):
    n = int(text)
    return n if -2**63 <= n < 2**63 else no(text)

def check(v, depth=0):
    if isinstance(v, str):
        v.encode("utf-8")
    elif isinstance(v, float):
        v - v == 0 or no(v)
        return int(v) if v == int(v) and abs(v) <= 2**53 and str(v) != "-0.0" \
            else v
    elif isinstance(v, tuple): # the pairs of an object
        depth < 64 or no(v)
        any("\0" in k for k, x in v) and no(v)
        return {check(k): check(x, depth + 1) for k, x in v}
    elif isinstance(v, list):
        depth < 64 or no(v)
        return [check(x, depth + 1) for x in v]
    return v

# What Lua holds, of the values that are left.
def fit(v):
    if isinstance(v, int):
        -MOST <= v <= MOST or no(v)
    elif isinstance(v, (list, dict)):
        [fit(x) for x in (v if isinstance(v, list) else v.values())]
    return v

for line in open(sys.argv[1], "rb"):
    text = bytes.fromhex(line.decode().strip())
    MOST = 2**63 if sys.argv[2] == "64" else 2**53
    try:
        v = fit(check(json.loads(
            text.decode("utf-8"), parse_int=whole, parse_constant=no,
            object_pairs_hook=tuple)))
        print(json.dumps(v, sort_keys=True, separators=(",", ":")))
    except (ValueError, RecursionError):
        print("-")
]]

-- Texts.

local random = math.random

local function pick(list)
  return list[random(#list)]
end

local CHARS = {
  "a", "Z", " ", "é", "€", "😀", "\\n", '\\"', "\\\\", "\\/", "\\u0041",
  "\\u0000", "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\127", "\1", "\255",
  "\\x", "0", "$", "\194\133", "\\u2028",
}

local function text()
  local parts = {}
  for i = 1, random(0, 4) do
    -- the first ones are right, and come more often
    parts[i] = random(12) > 1 and CHARS[random(12)] or pick(CHARS)
  end
  return '"' .. table.concat(parts) .. '"'
end

local NUMBERS = {
  "0", "-0", "1", "-1", "10", "0.5", "-0.0", "1e3", "1E+2", "2.5e-3", "1e400",
  "9007199254740993", "9223372036854775807", "9223372036854775808",
  "0.1234567890123456789", "5e-324", "1e-400", "01", "1.", ".5", "+1", "1e",
  "1.7976931348623157e308", "123456789012345678901234567890.5", "4.35",
  "9007199254740992.0", "1e22", "1e23", "123456.789e-2",
}

local function number()
  if random(2) == 1 then return pick(NUMBERS) end
  return ("%d.%de%d"):format(random(-99, 99), random(0, 99999),
                             random(-12, 12))
end

local value

local function list(depth, open, member, close)
  local parts = {}
  for i = 1, random(0, 3) do parts[i] = member(depth) end
  return open .. table.concat(parts, pick { ",", " , ", ",\n" }) .. close
end

local function member(depth)
  return pick { '"a"', '"b"', '""', text() } .. pick { ":", " : " }
    .. value(depth + 1)
end

function value(depth)
  local kind = depth > 4 and random(4) or random(6)
  if kind == 1 then return pick { "true", "false", "null", "[]", "{}" } end
  if kind == 2 then return text() end
  if kind <= 4 then return number() end
  if kind == 5 then return list(depth + 1, "[", value, "]") end
  return list(depth + 1, "{", member, "}")
end

-- One byte added, gone, or another.
local function broken(s)
  local at = random(#s)
  local byte = pick {
    ",", "[", "}", '"', "\\", "1", "-", "\0", " ", "\255", ":",
  }
  return s:sub(1, at - 1) .. pick { byte, "", byte .. s:sub(at, at) }
    .. s:sub(at + 1)
end

describe("JSON and python's", function()
  it("are the same for texts right and wrong", function()
    local seed = tonumber(os.getenv "RESPOOL_SEED") or os.time()
    math.randomseed(seed)
    local texts, lines = {}, {}
    for i = 1, N do
      local s = value(0)
      texts[i] = random(3) == 1 and broken(s) or s
      lines[i] = texts[i]:gsub(".", function(c)
        return ("%02x"):format(c:byte())
      end)
    end
    local dir = helper.dir()
    helper.write(dir .. "/texts", table.concat(lines, "\n") .. "\n")
    helper.write(dir .. "/read.py", PYTHON)
    local pipe = io.popen(("python3 %s/read.py %s/texts %s"):format(
      dir, dir, math.type and "64" or "53"))
    local accepted = 0
    for i = 1, N do
      local said = pipe:read "*l"
      local at = ("seed %d, text %d: %s"):format(seed, i, texts[i])
      local ours, why = json.decode(texts[i])
      if said == "-" then
        assert.is_nil(ours, at)
      else
        assert(ours ~= nil, at .. ": " .. tostring(why))
        assert.same(json.decode(said), ours, at)
        assert.same(ours, json.decode(json.encode(ours)), at)
        accepted = accepted + 1
      end
    end
    pipe:close()
    assert.is_true(accepted > N / 4 and accepted < N * 0.95)
  end)
end)
