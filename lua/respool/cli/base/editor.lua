-- SPDX-License-Identifier: MIT
--
-- A text in the editor of whoever sits at the terminal: VISUAL, EDITOR, or vi.

local M = {}

local function command()
  for _, name in ipairs { "VISUAL", "EDITOR" } do
    local value = os.getenv(name)
    if value and value ~= "" then return value end
  end
  return "vi"
end

local function read(path)
  local file, message = io.open(path, "rb")
  if not file then return nil, message end
  local text = file:read "*a"
  file:close()
  return text
end

local function write(path, text)
  local file, message = io.open(path, "wb")
  if not file then return nil, message end
  local ok, why = file:write(text)
  file:close()
  return ok, why
end

local function run(path)
  local ok = os.execute(("%s '%s'"):format(command(), path))
  return ok == true or ok == 0 -- 5.1 tells the status
end

-- The text as it was left; nil and why when the editor failed, or nothing was
-- changed. Meanwhile it lies in a file that nobody else can read.
---@param text string
---@return string?, string?
function M.edit(text)
  local path = os.tmpname() -- made, for its owner alone
  local changed, message = write(path, text .. "\n")
  if changed then
    changed, message = nil, "the editor failed"
    if run(path) then changed, message = read(path) end
  end
  os.remove(path)
  if changed and changed:gsub("%s+$", "") == text then
    return nil, "nothing was changed"
  end
  return changed, message
end

return M
