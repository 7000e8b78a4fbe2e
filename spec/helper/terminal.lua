-- SPDX-License-Identifier: MIT
--
-- The command line in a terminal of 90 columns and 20 rows, with somebody at
-- it: see spec/helper/terminal.py for the steps and for what comes out.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local json = require "respool.support.json"

local quote = cli.quote

local M = {}

---@param words string[] of the command line; `env` by name is added to the
--- environment
---@param steps any[][]
---@return { out: string, status: integer, same: boolean }
function M.session(words, steps)
  local line = {}
  for i, word in ipairs(words) do line[i] = quote(word) end
  local said = helper.sh(([[env LUA_PATH=%s LUA_CPATH=%s LC_ALL=C.UTF-8 \
    TERM=xterm %s \
    /usr/bin/python3 spec/helper/terminal.py 90 20 %s %s \
      bin/respool %s]]):format(
    quote(package.path), quote(package.cpath), words.env or "",
    quote(json.encode(steps)),
    quote(helper.lua()), table.concat(line, " ")))
  local result = assert(json.decode(said))
  if result.failed then
    error(("step %s failed\n%s"):format(json.encode(result.failed),
                                        result.out))
  end
  return result
end

return M
