-- SPDX-License-Identifier: MIT
--
-- respool top in a terminal: see terminal.lua.

local helper = require "spec.helper"
local terminal = require "spec.helper.terminal"

local M = {}

-- The first row of queues, under the cursor.
M.FIRST = "\27[6;1H\27[7m"

-- A store with two queues, closed; its path.
function M.filled()
  local path = helper.location()
  local store = assert(helper.open(path))
  local mails = store:queue("mails", { max_attempts = 1 })
  mails:push_many { 1, 2, 3 }
  local batch = mails:take()
  batch:retry { error = "no", group = "refused" }
  batch:settle()
  store:queue("orders"):push_many { 1, 2, 3, 4, 5 }
  store:close()
  return path
end

-- A session of respool top with these words behind it.
function M.session(words, steps)
  local all = { "top", (table.unpack or unpack)(words) }
  all.env = words.env
  return terminal.session(all, steps)
end

-- Whether the screen that was there before is back, and the terminal's modes.
function M.given_back(result)
  local _, entered = result.out:gsub("\27%[%?1049h", "")
  local _, left = result.out:gsub("\27%[%?1049l", "")
  return result.same and entered == left and entered > 0
    and result.out:find("\27[?25h", 1, true) ~= nil
end

return M
