-- SPDX-License-Identifier: MIT
--
-- Answers of the console, as values: a server sends them in its own way.
--
--   { status =, value = }                  JSON
--   { status =, type =, text =, headers = }
--   { list =, next_page =, rest = }        JSON texts under a name, by pages
--   { events = function(send) }            server-sent events, until send fails

local core = require "respool.core"
local json = require "respool.support.json"
local texts = require "respool.support.text"

local M = {}

---@class respool.console.answer
---@field status integer?
---@field value any
---@field text string?
---@field type string? of the text
---@field headers table<string, string|number>?
---@field list string?
---@field next_page (fun(): string[]?, string?, string?)?
---@field rest (fun(): table)? more members of the object that holds the list
---@field events fun(send: fun(text: string): any)?

---@param value any
---@return respool.console.answer
function M.json(value)
  return { status = 200, value = value }
end

-- A text of JSON.
---@param text string
---@return respool.console.answer
function M.text(text)
  return { status = 200, type = "application/json", text = text .. "\n" }
end

-- Messages are text, whatever names they hold.
local function text_of(message)
  if texts.is_utf8(message) then return message end
  return (message:gsub("[\128-\255]", function(c)
    return ("\\x%02x"):format(c:byte())
  end))
end

-- An answer that is an error, perhaps with more about it.
---@param status integer
---@param code string
---@param message string
---@param beside table?
---@param headers table?
---@return respool.console.answer
function M.refuse(status, code, message, beside, headers)
  local told = {}
  for name, value in pairs(beside or {}) do told[name] = value end
  told.error, told.message = code, text_of(message)
  return { status = status, value = told, headers = headers }
end

local STATUS = { TOO_LARGE = 413, NOT_FOUND = 404, EXISTS = 409, BUSY = 409,
                 LOCKED = 409 }

-- A full queue asks to come back, once consumers have made room; so does a
-- store that cannot take anything.
local function status_of(code)
  if code == "FULL" or code == "TIMEOUT" then
    return core.error_of_store() and 503 or 429
  end
  return STATUS[code] or 503
end

-- The answer to the verb that failed last.
---@param message string
---@param code string
---@param beside table?
---@return respool.console.answer
function M.fail(message, code, beside)
  local status = status_of(code)
  local again = status == 429 or status == 503
  return M.refuse(status, code, message, beside,
                  again and { ["Retry-After"] = 1 } or nil)
end

-- The same after a verb that returned nothing.
---@return respool.console.answer?
function M.failed(result, message, code)
  if result == nil then return M.fail(message, code) end
end

local function none()
  return {}
end

---@param name string
---@param next_page fun(): string[]?, string?, string? texts; an empty page ends
---@param rest (fun(): table)? called at the end
---@return respool.console.answer
function M.list(name, next_page, rest)
  return { list = name, next_page = next_page, rest = rest or none }
end

-- The text behind the last element of a list.
local function ending(answer)
  local text = json.encode(answer.rest())
  return text == "{}" and "]}\n" or "]," .. text:sub(2) .. "\n"
end

-- A function that returns the next piece of a list's text; nil at the end, with
-- message and code when an error was the end.
---@param answer respool.console.answer
---@return fun(): string?, string?, string?
function M.pieces(answer)
  local before, over = ('{"%s":['):format(answer.list), false
  return function()
    if over then return nil end
    local page, message, code = answer.next_page()
    over = not page or #page == 0
    if not page then return nil, message, code end
    if over and before == "," then return ending(answer) end
    if over then return before .. ending(answer) end
    local text = before .. table.concat(page, ",")
    before = ","
    return text
  end
end

return M
