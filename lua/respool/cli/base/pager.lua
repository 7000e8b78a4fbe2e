-- SPDX-License-Identifier: MIT
--
-- Long listings on a terminal go through a pager.

local files = require "respool.transfer.files"

local M = {}

-- Commands that only read, and may print much.
local PAGED = {
  ls = true, peek = true, get = true, stats = true, history = true,
  metrics = true, ["dead list"] = true, ["dead show"] = true,
  ["dead groups"] = true, ["replay list"] = true, ["replay show"] = true,
  ["schedule list"] = true, ["worker list"] = true,
}

-- less ends at once where all fits on the screen, and shows colours.
local PAGER = 'LESS="${LESS-FRX}" exec sh -c "${PAGER:-less}"'

-- The command line of the pager; nil where none is wanted, or none is there.
local function pager()
  local named = os.getenv "PAGER"
  if named == "" or named == "cat" then return nil end
  local there = named or files.succeeds "command -v less >/dev/null 2>&1"
  return there and PAGER or nil
end

-- Sends what a command writes through a pager, if it is one that lists and a
-- terminal shows it.
---@param args table of the command line
---@param io respool.cli.io
function M.begin(args, io)
  local name = args.command .. (args.action and " " .. args.action or "")
  if not PAGED[name] or not io.stdout:isatty() then return end
  local command = pager()
  if command then io.stdout:pipe(command) end
end

return M
