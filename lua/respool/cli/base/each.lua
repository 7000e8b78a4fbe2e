-- SPDX-License-Identifier: MIT
--
-- An action on each of several things; a failure does not stop the others.

local output = require "respool.cli.base.output"

local M = {}

-- Calls act(one) for each, and reports failures and how many were `done`, such
-- as "removed". Returns the exit status.
---@param io respool.cli.io
---@param all any[]
---@param done string
---@param act fun(one: any): any, string?
---@return integer
function M.run(io, all, done, act)
  local n = 0
  for _, one in ipairs(all) do
    local ok, message = act(one)
    if ok then
      n = n + 1
    else
      io.stderr:write("respool: ", output.clean(message), "\n")
    end
  end
  if n > 0 then io.stdout:write(("%d %s\n"):format(n, done)) end
  return n == #all and 0 or 1
end

return M
