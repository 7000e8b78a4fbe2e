-- SPDX-License-Identifier: MIT
--
-- Archive files: their names, and the programs that compress them.
--
--   orders-20260131T120000.000Z-4711-1.jsonl.zst
--
-- A name says where the records come from, when the file was begun, by which
-- process, and which of its files it is. While a file is written it is called
-- NAME.part; it gets its name when all of it is on disk. A killed
-- process leaves a .part, which nobody reads.

local archive = require "respool.transfer.format"
local compat = require "respool.support.compat"
local core = require "respool.core"

local M = {}

M.PART = ".part"

---@class respool.program
---@field name string
---@field package string Debian package
---@field suffix string
---@field magic string the first bytes of what it writes
M.programs = {
  gzip = {
    name = "gzip", package = "gzip", suffix = ".gz", magic = "\31\139",
  },
  zstd = {
    name = "zstd", package = "zstd", suffix = ".zst", magic = "\40\181\47\253",
  },
}


-- Running programs.

-- A word for the shell.
---@param word string
---@return string
function M.quote(word)
  return "'" .. word:gsub("'", [['\'']]) .. "'"
end

-- Whether a command succeeds, in the words of every Lua.
---@param command string
---@return boolean
function M.succeeds(command)
  local result = os.execute(command)
  return result == true or result == 0
end

-- true, or nil and why when the program is not installed.
---@param program respool.program
---@return true?, string?, string?
function M.find(program)
  if M.succeeds(("command -v %s >/dev/null 2>&1"):format(program.name)) then
    return true
  end
  return nil, ("the program '%s' is missing (Debian package %s)"):format(
    program.name, program.package), "NOT_FOUND"
end

-- The command that reads all that was compressed into a file.
---@param program respool.program
---@param path string
---@return string
function M.reading(program, path)
  return ("%s -dc <%s >/dev/null 2>&1"):format(program.name, M.quote(path))
end


-- Names.

local files = 0 -- that this process has named

-- A name without the characters that a file's must not have.
local function safe(name)
  return (name:sub(1, 80):gsub("[^%w._-]", "_"):gsub("^%.", "_"))
end

local function time_in_name(now)
  local ms = math.floor(now * 1000 + 0.5)
  return os.date("!%Y%m%dT%H%M%S", math.floor(ms / 1000))
    .. (".%03dZ"):format(ms % 1000)
end

-- A name that no file of this process has had.
---@param source string
---@param now number
---@param suffix string
---@return string
function M.name(source, now, suffix)
  files = files + 1
  return ("%s-%s-%d-%d%s"):format(
    safe(source), time_in_name(now), core.file.pid(), files, suffix)
end

-- Whether a file of this name is a whole archive, by the rules above.
---@param name string
---@return boolean
function M.is_archive(name)
  for _, form in pairs(archive.forms) do
    for _, packed in ipairs { "", ".gz", ".zst" } do
      local suffix = form.suffix .. packed
      if #name > #suffix and name:sub(-#suffix) == suffix
         and name:sub(1, 1) ~= "." then
        return true
      end
    end
  end
  return false
end

-- The archives in a directory, in the order of their names, without what is
-- not a file, such as a pipe, which would be waited for; second, the
-- leftovers of processes that were killed, and files that are being written.
---@param directory string
---@return string[]?, string[]|string, string?
function M.list(directory)
  local names, message, code = core.file.list(directory)
  if not names then return nil, message, code end
  local archives, parts = {}, {}
  table.sort(names)
  for _, name in ipairs(names) do
    local path = directory .. "/" .. name
    if M.is_archive(name) then
      if core.file.kind(path) == "file" then table.insert(archives, path) end
    elseif name:sub(-#M.PART) == M.PART and M.is_archive(name:sub(1, -6)) then
      table.insert(parts, path)
    end
  end
  return archives, parts
end


-- Text streams that report errors as the rest of the library does.

-- nil, message, code of what Lua's io answers.
---@return nil, string, string
function M.failure(verb, path, message, number)
  local why = tostring(message):gsub("^.*: ", "")
  return nil, ("cannot %s %s: %s"):format(verb, path, why),
    number == 28 and "NOSPACE" or number == 2 and "NOT_FOUND" or "IO"
end

-- The first option that is a program: { gzip = true } or { zstd = true }.
---@return respool.program?
function M.chosen(of, o)
  if o.gzip and o.zstd then
    compat.misuse(of .. ": options 'gzip' and 'zstd' exclude each other")
  end
  return o.gzip and M.programs.gzip or o.zstd and M.programs.zstd or nil
end

return M
