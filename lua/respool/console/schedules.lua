-- SPDX-License-Identifier: MIT
--
-- Schedules in the console: looking, running now, pausing, removing.

local answer = require "respool.console.answer"
local core = require "respool.core"

local M = {}

function M.list(console)
  local all, message, code = console.store:schedules()
  if not all then return answer.fail(message, code) end
  for _, s in ipairs(all) do s.bytes = nil end
  return answer.json { schedules = core.cbor.array(all) }
end

-- An action on the schedule that the path names.
local function on_schedule(verb, told)
  return function(console, r)
    local result, message, code = console.store[verb](console.store, r.name)
    if not result then return answer.fail(message, code) end
    local value = { name = r.name }
    for name, one in pairs(told) do value[name] = one end
    if verb == "run_schedule" then value.id = result end
    return answer.json(value)
  end
end

-- One whose payload a program makes cannot be run here.
function M.run(console, r)
  local all, message, code = console.store:schedules()
  if not all then return answer.fail(message, code) end
  for _, s in ipairs(all) do
    if s.name == r.name and not s.bytes then
      return answer.refuse(409, "FOREIGN", ("the payload of schedule '%s' is "
        .. "made by a program"):format(r.name))
    end
  end
  return on_schedule("run_schedule", {})(console, r)
end

M.pause = on_schedule("pause_schedule", { paused = true })
M.resume = on_schedule("resume_schedule", { paused = false })
M.remove = on_schedule("remove_schedule", { removed = true })

return M
