-- SPDX-License-Identifier: MIT
--
-- The words of a command line before they are parsed: which are the arguments
-- of which command. And RESPOOL_STORE, which stands for STORE where it is left
-- out.

local location = require "respool.support.location"

local M = {}


-- Reading.

local function named(list, name)
  for _, command in ipairs(list) do
    if command._name == name then return command end
  end
end

local function option_of(command, word)
  for _, option in ipairs(command._options) do
    for _, alias in ipairs(option._aliases) do
      if alias == word then return option end
    end
  end
end

---@class respool.cli.words
---@field command table of the parser: the command or its action
---@field given string[] its arguments that are not options
---@field places integer[] where these stand among the words
---@field open table? the option that the next word is the value of

-- Reads the words after `respool`.
---@param parser table
---@param words string[]
---@return respool.cli.words
---@nodiscard
function M.read(parser, words)
  local command, given, places, open, plain = parser, {}, {}, nil, false
  for i, word in ipairs(words) do
    local option = not open and not plain and option_of(command, word)
    local sub = not open and not plain and named(command._commands, word)
    if open then
      open = nil
    elseif option then
      open = option._maxargs > 0 and option or nil
    elseif sub then
      command = sub
    elseif word == "--" and not plain then
      plain = true
    elseif plain or word:sub(1, 1) ~= "-" then
      given[#given + 1], places[#places + 1] = word, i
    end
  end
  return { command = command, given = given, places = places, open = open }
end


-- The store that is left out.

-- How many arguments a command takes.
local function most_of(command)
  local most = 0
  for _, argument in ipairs(command._arguments) do
    most = most + argument._maxargs
  end
  return most
end

local function is_directory_of_store(path)
  local file = io.open(path .. "/data.mdb", "rb")
  return file ~= nil and file:close() ~= nil
end

local function may_be_store(word)
  return location.is_database(word) or word:find("/", 1, true) ~= nil
    or word:find "%.respool$" ~= nil or is_directory_of_store(word)
end

-- The store that RESPOOL_STORE names.
---@return string? path
---@nodiscard
function M.default_store()
  local path = os.getenv "RESPOOL_STORE"
  return path ~= "" and path or nil
end

-- Is STORE left out? It is where no argument is given, and where the first is
-- no store and does not look like the path of one, unless all are given.
---@param read respool.cli.words
---@return boolean
---@nodiscard
function M.leaves_store_out(read)
  local first = read.command._arguments[1]
  if not first or first._name ~= "store" then return false end
  local n = #read.given
  if n == 0 then return true end
  return n < most_of(read.command) and not may_be_store(read.given[1])
end

-- The words with RESPOOL_STORE in the place of a STORE that is left out. Where
-- the value of the last option is missing it would be taken for that.
---@param parser table
---@param words string[]
---@return string[]
---@nodiscard
function M.with_store(parser, words)
  local store = M.default_store()
  local read = store and M.read(parser, words)
  if not read or read.open or not M.leaves_store_out(read) then
    return words
  end
  local whole = {}
  for i = 1, #words + 1 do
    if i == (read.places[1] or #words + 1) then whole[#whole + 1] = store end
    whole[#whole + 1] = words[i]
  end
  return whole
end

return M
