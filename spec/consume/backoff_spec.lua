-- SPDX-License-Identifier: MIT

local backoff = require "respool.support.backoff"

local function delays(policy, n, chance)
  local t = {}
  for attempt = 1, n do
    t[attempt] = policy:delay(attempt, t[attempt - 1], chance)
  end
  return t
end

-- The least and the most that a policy says to one attempt.
local function range(policy, attempt, previous)
  return policy:delay(attempt, previous, 0),
    policy:delay(attempt, previous, 1 - 2^-53)
end

describe("backoff", function()
  it("constant stays", function()
    assert.same({ 5, 5, 5 }, delays(backoff.constant { delay = 5 }, 3))
  end)

  it("linear adds a step", function()
    local policy = backoff.linear { initial = 1, step = 0.5, max = 2.25 }
    assert.same({ 1, 1.5, 2, 2.25, 2.25 }, delays(policy, 5))
  end)

  it("exponential multiplies by any base", function()
    local policy = backoff.exponential { initial = 1, factor = 2, max = 300 }
    assert.same({ 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300 },
                delays(policy, 11))
    policy = backoff.exponential { initial = 2, factor = 1.5, max = 300 }
    assert.same({ 2, 3, 4.5, 6.75 }, delays(policy, 4))
  end)

  it("polynomial raises the attempt to a power", function()
    local policy = backoff.polynomial { initial = 1, power = 2, max = 20 }
    assert.same({ 1, 4, 9, 16, 20 }, delays(policy, 5))
    policy = backoff.polynomial { initial = 1, power = 0.5 }
    assert.same({ 1, 1.414, 1.732, 2 }, delays(policy, 4))
  end)

  it("fibonacci adds the last two", function()
    local policy = backoff.fibonacci { initial = 0.5, max = 6 }
    assert.same({ 0.5, 0.5, 1, 1.5, 2.5, 4, 6, 6 }, delays(policy, 8))
  end)

  it("list repeats its last delay", function()
    assert.same({ 5, 30, 300, 300 }, delays(backoff.list { 5, 30, 300 }, 4))
  end)

  it("decorrelated lies between initial and thrice the last", function()
    local policy = backoff.decorrelated { initial = 1, max = 20 }
    assert.same({ 1, 3 }, { range(policy, 1) })
    assert.same({ 1, 12 }, { range(policy, 2, 4) })
    assert.same({ 1, 20 }, { range(policy, 2, 19) })
    assert.equal(10.5, policy:delay(2, 20, 0.5))
  end)

  it("rounds to whole milliseconds", function()
    assert.equal(0.123, backoff.constant { delay = 0.1234 }:delay(1))
    assert.equal(1.21, backoff.exponential { factor = 1.1 }:delay(3))
  end)

  it("knows what is left out", function()
    assert.same({ 1, 2, 4 }, delays(backoff.exponential(), 3))
    assert.same({ 1, 2, 3 }, delays(backoff.linear {}, 3))
    assert.equal(3600, backoff.exponential():delay(100))
    assert.equal(7200, backoff.linear { initial = 7200 }:delay(3))
  end)

  it("is told from other values", function()
    local policy = backoff.constant { delay = 1 }
    assert.is_true(backoff.is_policy(policy))
    assert.is_false(backoff.is_policy {})
    assert.is_false(backoff.is_policy "constant")
    assert.equal("respool.backoff.constant", tostring(policy))
  end)
end)

describe("jitter", function()
  local function jittered(jitter, max)
    return backoff.exponential { initial = 8, max = max, jitter = jitter }
  end

  it("none leaves the delay as it is", function()
    assert.same({ 16, 16 }, { range(jittered "none", 2) })
  end)

  it("full takes anything up to the delay", function()
    assert.same({ 0, 16 }, { range(jittered "full", 2) })
    assert.equal(4, jittered "full":delay(2, 0, 0.25))
  end)

  it("equal takes the upper half", function()
    assert.same({ 8, 16 }, { range(jittered "equal", 2) })
    assert.equal(10, jittered "equal":delay(2, 0, 0.25))
  end)

  it("of a share takes so much more or less", function()
    assert.same({ 14.4, 17.6 }, { range(jittered(0.1), 2) })
    assert.equal(16, jittered(0.1):delay(2, 0, 0.5))
    assert.same({ 0, 32 }, { range(jittered(1), 2) })
  end)

  it("comes after the cap and never exceeds it", function()
    assert.same({ 0, 20 }, { range(jittered("full", 20), 100) })
    assert.same({ 10, 20 }, { range(jittered("equal", 20), 100) })
    assert.same({ 15, 20 }, { range(jittered(0.25, 20), 100) })
  end)

  it("is drawn by itself when no chance is given", function()
    local policy, seen, kinds = jittered "full", {}, 0
    for _ = 1, 50 do
      local d = policy:delay(1)
      assert.is_true(d >= 0 and d <= 8)
      if not seen[d] then seen[d], kinds = true, kinds + 1 end
    end
    assert.is_true(kinds > 10)
  end)
end)

describe("a delay", function()
  local policies = {
    backoff.linear { step = 1e9, max = 1e9 },
    backoff.exponential { factor = 1.01, max = 86400, jitter = "full" },
    backoff.exponential { factor = 1e300, max = 86400, jitter = "equal" },
    backoff.polynomial { power = 100, max = 86400, jitter = 0.5 },
    backoff.fibonacci { max = 9007199254740, jitter = "equal" },
    backoff.list { 0, 3, 2 },
    backoff.decorrelated { max = 86400 },
  }

  for _, policy in ipairs(policies) do
    it(tostring(policy) .. " never leaves 0..max", function()
      local most = (policy.max or 3000) / 1000
      local last = 0
      for attempt = 1, 10000 do
        last = policy:delay(attempt, last)
        assert(last >= 0 and last <= most, attempt)
      end
      last = policy:delay(1e300, last)
      assert(last >= 0 and last <= most)
    end)
  end

  it("is asked for by whole attempts from 1", function()
    local policy = backoff.constant { delay = 1 }
    for _, bad in ipairs { 0, -1, 1.5, 1 / 0, 0 / 0, "1", false } do
      assert.error_matches(function() policy:delay(bad) end,
        "policy:delay: 'attempt' must be a whole number from 1", 1, true)
    end
    assert.error_matches(function() policy:delay(1, -1) end, "'previous'")
    assert.error_matches(function() policy:delay(1, 0, 1) end, "'chance'")
  end)
end)

describe("a bad policy", function()
  local function raises(message, kind, options)
    assert.error_matches(function() backoff[kind](options) end,
                         ("backoff.%s: %s"):format(kind, message), 1, true)
  end

  it("names an unknown option", function()
    raises("unknown option 'base'", "exponential", { base = 2 })
    raises("unknown option 'max'", "constant", { delay = 1, max = 2 })
    raises("unknown option 'jitter'", "decorrelated", { jitter = "full" })
    raises("unknown option 'initial'", "list", { 5, initial = 1 })
    raises("unknown option '1'", "constant", { 5 })
    raises("unknown option '3'", "list", { 5, [3] = 30 })
  end)

  it("names an option of a wrong type", function()
    raises("expected a table of options, got number", "constant", 5)
    raises("'delay' must be a number, got nil", "constant")
    raises("'delay' must be seconds or a time", "constant",
           { delay = "5" })
    raises("'factor' must be a number, got boolean", "exponential",
           { factor = true })
    raises("delay 2 must be seconds or a time", "list", { 5, "x" })
  end)

  it("names an option out of range", function()
    raises("'factor' must be at least 1", "exponential", { factor = 0.5 })
    raises("'initial' is negative", "linear", { initial = -1 })
    raises("'step' is not finite", "linear", { step = 0 / 0 })
    raises("'max' is not finite", "fibonacci", { max = 1 / 0 })
    raises("'power' is not finite", "polynomial", { power = -1 / 0 })
    raises("'max' is too long", "exponential", { max = 1e300 })
    raises("'max' is less than 'initial'", "decorrelated",
           { initial = 5, max = 4 })
    raises("'list' must hold 1 to 64 delays", "list", {})
    raises("delay 1 is negative", "list", { -5 })
  end)

  it("is refused when its list is too long", function()
    local list = {}
    for i = 1, 64 do list[i] = i end
    assert.equal(64, backoff.list(list):delay(1000))
    list[65] = 65
    raises("'list' must hold 1 to 64 delays", "list", list)
  end)

  it("is refused when its jitter is none of the known", function()
    for _, bad in ipairs { "some", -0.1, 1.1, 0 / 0, true } do
      raises("'jitter' must be", "constant", { delay = 1, jitter = bad })
    end
  end)

  it("is blamed on whoever made it", function()
    local ok, message = pcall(function() backoff.linear { max = -1 } end)
    assert.is_false(ok)
    assert.matches("^%S*backoff_spec%.lua:%d+: backoff%.linear", message)
  end)
end)
