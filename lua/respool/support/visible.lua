-- SPDX-License-Identifier: MIT
--
-- Names, errors and payloads may hold any bytes. Here text is made of them that
-- a terminal and a log show as it is, in one line: control characters are
-- spelt (C1 too), and so are those that turn the direction of writing, by
-- which a name could look like another.

local text_of = require "respool.support.text"

local M = {}

local NAMED = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function spell(c)
  return NAMED[c] or ("\\x%02x"):format(c:byte())
end

-- The characters beyond ASCII that are spelt, in UTF-8.
local BEYOND = {
  "\194[\128-\159]",     -- C1 controls
  "\216\156",            -- the Arabic letter mark
  "\226\128[\142\143]",  -- marks of direction
  "\226\128[\168-\174]", -- separators of lines; embeddings and overrides
  "\226\129[\166-\169]", -- isolates
}

-- The number of a character of two or three bytes.
local function code_of(c)
  local a, b, d = c:byte(1, 3)
  if not d then return a % 32 * 64 + b % 64 end
  return (a % 16 * 64 + b % 64) * 64 + d % 64
end

local function spell_beyond(c)
  return ("\\u%04x"):format(code_of(c))
end

-- Whether a byte is there with which one of them may begin; plain searches are
-- many times as fast as a set.
local function may_have_beyond(s)
  return s:find("\194", 1, true) or s:find("\216", 1, true)
    or s:find("\226", 1, true)
end

local function without_beyond(s)
  if not may_have_beyond(s) then return s end
  for _, pattern in ipairs(BEYOND) do s = s:gsub(pattern, spell_beyond) end
  return s
end

-- A string in one line that is shown as it is.
---@param s string
---@return string
function M.clean(s)
  if not text_of.is_utf8(s) then s = s:gsub("[\128-\255]", spell) end
  return (without_beyond(s):gsub("[%z\1-\31\127]", spell))
end

-- A JSON text that is shown as it is, and means what it did: the JSON of
-- respool.json has no control characters of ASCII.
---@param text string
---@return string
function M.json(text)
  return without_beyond(text)
end

return M
