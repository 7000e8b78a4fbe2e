-- SPDX-License-Identifier: MIT
-- CBOR against lua-cjson on the same tables of five fields, both ways, by
-- turns. Prints how many times as fast CBOR is, as medians of the turns.

local cjson = require "cjson"
local cbor = require("respool").cbor

local TURNS, EVENTS = 15, 10000

local function event(n)
  return {
    id = n, kind = "order.paid", customer = "c-" .. n % 977,
    amount = n % 9973 / 100, paid = n % 3 == 0,
  }
end

local function all(list, f)
  local out = {}
  for i = 1, #list do out[i] = f(list[i]) end
  return out
end

-- CPU seconds of `f` over a list.
local function timed(list, f)
  collectgarbage()
  local cpu = os.clock()
  for i = 1, #list do f(list[i]) end
  return os.clock() - cpu
end

local function median_ratio(cbor_list, cbor_f, json_list, json_f)
  local ratios = {}
  for i = 1, TURNS do
    local mine = timed(cbor_list, cbor_f)
    ratios[i] = timed(json_list, json_f) / mine
  end
  table.sort(ratios)
  return ratios[(TURNS + 1) / 2]
end

local events = {}
for i = 1, EVENTS do events[i] = event(i) end
print(("encode_ratio %.3f"):format(median_ratio(events, cbor.encode, events,
                                                cjson.encode)))
print(("decode_ratio %.3f"):format(median_ratio(
  all(events, cbor.encode), cbor.decode,
  all(events, cjson.encode), cjson.decode)))
