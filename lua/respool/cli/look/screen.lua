-- SPDX-License-Identifier: MIT
--
-- What a terminal is sent to show lines: only those that are not there already,
-- in one write. Colours, unless NO_COLOR is set.

local M = {}

local STYLES = { bold = "\27[1m", reverse = "\27[7m" }
if (os.getenv "NO_COLOR" or "") == "" then
  STYLES.red, STYLES.yellow = "\27[31m", "\27[33m"
end

local function styled(line)
  local codes = ""
  for name in (line.style or ""):gmatch "%a+" do
    codes = codes .. (STYLES[name] or "")
  end
  if codes == "" then return line.text end
  return codes .. line.text .. "\27[0m"
end

-- Text that makes the screen show these lines; `drawn` is what it shows.
---@param lines respool.cli.line[]
---@param drawn table<integer, string>
---@return string
function M.changes(lines, drawn)
  local parts = {}
  for i = 1, math.max(#lines, #drawn) do
    local text = lines[i] and styled(lines[i]) or ""
    if text ~= drawn[i] then
      parts[#parts + 1] = ("\27[%d;1H%s\27[K"):format(i, text)
      drawn[i] = text
    end
  end
  return table.concat(parts)
end

return M
