-- SPDX-License-Identifier: MIT
--
-- Commands of several actions, such as `respool dead list` and `respool dead
-- show`.

local M = {}

---@class respool.cli.action
---@field [1] string name
---@field [2] string what it does, as the list of actions has it
---@field [3] fun(command: table) adds its options
---@field [4] fun(args: table, io: table): integer? runs it; the exit code

-- Adds a command's actions to it.
---@param command table
---@param actions respool.cli.action[]
function M.add(command, actions)
  command:command_target "action"
  for _, action in ipairs(actions) do
    local sub = command:command(action[1], action[2]:gsub("^%l", string.upper)
      .. ".")
    sub:summary(action[2])
    action[3](sub)
  end
end

-- Runs the action that was named.
---@param actions respool.cli.action[]
---@return integer? exit_code
function M.run(actions, args, io)
  for _, action in ipairs(actions) do
    if action[1] == args.action then return action[4](args, io) end
  end
end

return M
