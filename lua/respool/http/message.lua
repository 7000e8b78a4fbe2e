-- SPDX-License-Identifier: MIT
--
-- Messages of HTTP/1.1 (RFC 9112), as both sides read them: a head, strictly,
-- and a body by its length, in chunks, or until the end. What is read beyond
-- a message is kept for the next.
--
-- A function that fails returns nil and why: "closed", "timeout", "too large",
-- "malformed", or what the socket says.

local M = {}

---@class respool.http.reader
---@field connection table see respool/http/sockets.lua
---@field buffer string read and not used yet
local Reader = {}
Reader.__index = Reader

local LINE_MOST = 1024    -- of a line between chunks
local TRAILER_MOST = 8192

---@param connection table
---@return respool.http.reader
function M.reader(connection)
  return setmetatable({ connection = connection, buffer = "" }, Reader)
end

-- Reads more into the buffer.
function Reader:more(till)
  local bytes, message = self.connection:read(till)
  if not bytes then return nil, message end
  self.buffer = self.buffer .. bytes
  return true
end

-- Takes the first `n` bytes out of the buffer.
local function shift(reader, n)
  local bytes = reader.buffer:sub(1, n)
  reader.buffer = reader.buffer:sub(n + 1)
  return bytes
end


-- Heads.

-- The head of the next message without the empty line that ends it.
---@param till number
---@param most integer bytes
---@return string?, string?
function Reader:head(till, most)
  local from = 1
  while true do
    local _, stop = self.buffer:find("\n\r?\n", from)
    if (stop or #self.buffer) > most then return nil, "too large" end
    if stop then return (shift(self, stop):gsub("\r?\n\r?\n$", "")) end
    from = math.max(#self.buffer - 2, 1)
    local ok, message = self:more(till)
    if not ok then return nil, message end
  end
end

local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$"

-- Whether a text may be a field's name.
---@param name any
---@return boolean
function M.is_token(name)
  return type(name) == "string" and name:find(TOKEN) ~= nil
end

-- Whether a text may be a field's value: nothing in it ends the line.
---@param value any
---@return boolean
function M.is_value(value)
  return type(value) == "string" and not value:find "[%z\1-\8\10-\31\127]"
end

local function add_field(fields, line)
  local name, value = line:match "^([^:]+):[ \t]*(.-)[ \t]*$"
  if not M.is_token(name) or not M.is_value(value) then return nil end
  name = name:lower()
  fields[name] = fields[name] and fields[name] .. ", " .. value or value
  return true
end

-- The first line of a head and its fields, names in lower case, values of one
-- name joined by commas. Lines end in CR LF.
---@param head string
---@return string? first, table<string, string>|string
function M.parse(head)
  local fields, first = {}, nil
  for line, stop in (head .. "\r\n"):gmatch "([^\n]-)(\r?\n)" do
    if stop ~= "\r\n" or line:find("\r", 1, true)
       or first and not add_field(fields, line) then
      return nil, "malformed"
    end
    first = first or line
  end
  return first, fields
end


-- Bodies.

-- Exactly `n` bytes.
---@param n integer
---@param till number
---@return string?, string?
function Reader:exactly(n, till)
  local parts, got = { self.buffer }, #self.buffer
  while got < n do
    local bytes, message = self.connection:read(till)
    if not bytes then
      self.buffer = ""
      return nil, message
    end
    parts[#parts + 1], got = bytes, got + #bytes
  end
  self.buffer = table.concat(parts)
  return shift(self, n)
end

-- A line, without its end.
local function line(reader, till, most)
  while true do
    local stop = reader.buffer:find("\n", 1, true)
    if stop and stop <= most then
      local text = shift(reader, stop):match "^(.*)\r\n$"
      return text, not text and "malformed" or nil
    end
    if #reader.buffer > most then return nil, "malformed" end
    local ok, message = reader:more(till)
    if not ok then return nil, message end
  end
end

-- Reads up to the empty line behind the last chunk.
local function skip_trailer(reader, till)
  local size = 0
  repeat
    local text, message = line(reader, till, LINE_MOST)
    if not text then return nil, message end
    size = size + #text
    if size > TRAILER_MOST then return nil, "malformed" end
  until text == ""
  return true
end

local function chunk_size(reader, till)
  local text, message = line(reader, till, LINE_MOST)
  if not text then return nil, message end
  local digits = text:match "^(%x+)[ \t]*$" or text:match "^(%x+)[ \t]*;"
  if not digits or #digits > 12 then return nil, "malformed" end
  return tonumber(digits, 16)
end

local function chunk(reader, size, till)
  local bytes, message = reader:exactly(size, till)
  if not bytes then return nil, message end
  local stop
  stop, message = reader:exactly(2, till)
  if not stop then return nil, message end
  if stop ~= "\r\n" then return nil, "malformed" end
  return bytes
end

-- A body in chunks, of `most` bytes at most.
---@param till number
---@param most integer
---@return string?, string?
function Reader:chunks(till, most)
  local parts, got = {}, 0
  while true do
    local size, message = chunk_size(self, till)
    if not size then return nil, message end
    if size == 0 then break end
    got = got + size
    if got > most then return nil, "too large" end
    parts[#parts + 1], message = chunk(self, size, till)
    if message then return nil, message end
  end
  local ok, message = skip_trailer(self, till)
  if not ok then return nil, message end
  return table.concat(parts)
end

-- All that comes until the other side ends, of `most` bytes at most.
---@param till number
---@param most integer
---@return string?, string?
function Reader:rest(till, most)
  while #self.buffer <= most do
    local ok, message = self:more(till)
    if message == "closed" then return shift(self, #self.buffer) end
    if not ok then return nil, message end
  end
  return nil, "too large"
end

-- How long the body is that the fields announce: a number, "chunked", or nil
-- when they say nothing; false and why when what they say cannot be.
---@param fields table<string, string>
---@return integer|"chunked"|false|nil, string?
function M.length(fields)
  local coding, length = fields["transfer-encoding"], fields["content-length"]
  if coding and length then return false, "malformed" end
  if coding and coding:lower() == "chunked" then return "chunked" end
  if coding then return false, "unknown coding" end
  if not length then return nil end
  if not length:find "^%d+$" or #length > 15 then return false, "malformed" end
  return tonumber(length)
end

return M
