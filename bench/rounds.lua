-- SPDX-License-Identifier: MIT
-- Interleaved rounds: the subjects run by turns, a process each, in a fresh
-- directory each. A ratio is taken within a round, so that both its sides ran
-- under the same load; then its median is taken.

local M = {}

function M.fail(...)
  io.stderr:write(string.format(...), "\n")
  os.exit(1)
end

-- What a command prints; the program ends when it fails.
function M.capture(command)
  local p = assert(io.popen(command))
  local text = p:read "a"
  if not p:close() then M.fail("failed: %s", command) end
  return text
end

local function sh(...)
  local command = string.format(...)
  if not os.execute(command) then M.fail("failed: %s", command) end
end

-- The lines of a name and a value that a program prints; in a fresh
-- directory, which is gone afterwards.
---@param o { dir: string }
---@param command string
---@return table<string, string>
function M.facts(o, command)
  local dir = o.dir .. "/respool-bench"
  sh('rm -rf "%s" && mkdir -p "%s"', dir, dir)
  local p = assert(io.popen(('%s --dir "%s"'):format(command, dir)))
  local text = p:read "a"
  local ok = p:close()
  sh('rm -rf "%s"', dir)
  if not ok then M.fail("failed: %s", command) end
  local facts = {}
  for name, value in text:gmatch "(%S+) ([^\n]*)\n" do facts[name] = value end
  return facts
end

local function numbers(facts)
  for name, value in pairs(facts) do facts[name] = tonumber(value) end
  if facts.items and facts.wall_ns then
    facts.rate = facts.items / facts.wall_ns * 1e9
    facts.cpu = facts.cpu_ns and facts.cpu_ns / facts.items
  end
  return facts
end

-- Runs every subject once in each of `o.rounds` rounds. A round is a table
-- from the subject's key to what it measured; `rate` is items a second and
-- `cpu` nanoseconds of all threads an item.
---@param o table
---@param subjects { key: string, run: string }[]
---@param more string? arguments for all
---@return table<string, table<string, number>>[]
function M.run(o, subjects, more)
  local rounds = {}
  for r = 1, o.rounds do
    rounds[r] = {}
    for _, s in ipairs(subjects) do
      local command = s.run .. " " .. (s.more or "") .. " " .. (more or "")
      rounds[r][s.key] = numbers(M.facts(o, command))
    end
  end
  return rounds
end

---@param list number[]
---@return number
function M.middle(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local mid = (#sorted + 1) // 2
  if #sorted % 2 == 1 then return sorted[mid] end
  return (sorted[mid] + sorted[mid + 1]) / 2
end

-- The median over the rounds of what `of` makes of each.
---@param rounds table[]
---@param of fun(round: table): number
---@return number
function M.median(rounds, of)
  local list = {}
  for i, round in ipairs(rounds) do list[i] = of(round) end
  return M.middle(list)
end

-- The median of one fact of one subject.
function M.value(rounds, key, fact)
  return M.median(rounds, function(round) return round[key][fact] end)
end

-- The median ratio of one fact of two subjects.
function M.ratio(rounds, key, base, fact)
  return M.median(rounds, function(round)
    return round[key][fact] / round[base][fact]
  end)
end

return M
