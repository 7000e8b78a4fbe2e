-- SPDX-License-Identifier: MIT
--
-- Requests of HTTP/1.1 (RFC 9112), as the server reads them, strictly: a head,
-- and a body by its length or in chunks. Bytes read beyond a request are kept
-- for the next one.
--
-- A function that fails returns nil and why: "closed", "timeout", "too large",
-- "malformed", or what the socket says.

local headers_of = require "respool.http.headers"
local loop_of = require "respool.support.loop"

local M = {}

---@class respool.server.reader
---@field connection respool.server.connection
---@field buffer string
---@field at integer where in the buffer begins what is not used yet
---@field turn integer bytes read since others had their turn
local Reader = {}
Reader.__index = Reader

local TURN = 65536        -- bytes that are read before others have their turn
local LINE_MOST = 1024    -- of a line between chunks
local TRAILER_MOST = 8192
local FRAMES_MOST = 65536 -- bytes between chunks, and as many times a body's:
local FRAMES_RATE = 8

---@param connection respool.server.connection
---@return respool.server.reader
function M.new(connection)
  return setmetatable({ connection = connection, buffer = "", at = 1,
                        turn = 0 }, Reader)
end

-- Reads more into the buffer.
function Reader:more(till)
  local bytes, why = self.connection:read(till)
  if not bytes then return nil, why end
  self.buffer, self.at = self.buffer:sub(self.at) .. bytes, 1
  self.turn = self.turn + #bytes
  if self.turn >= TURN then
    self.turn = 0
    loop_of.current():sleep(loop_of.now())
  end
  return true
end

function Reader:is_empty()
  return self.at > #self.buffer
end

-- Waits for the first byte of a request; empty lines in front are skipped.
---@param till number
---@return boolean
function Reader:await(till)
  repeat
    self.at = self.buffer:find("[^\r\n]", self.at) or #self.buffer + 1
    if not self:is_empty() then return true end
  until not self:more(till)
  return false
end


-- Heads.

-- The head of the next request without the empty line that ends it.
---@param till number
---@param most integer bytes
---@return string?, string?
function Reader:head(till, most)
  local from = self.at
  while true do
    local _, stop = self.buffer:find("\n\r?\n", from)
    local size = (stop or #self.buffer) - self.at + 1
    if size > most then return nil, "too large" end
    if stop then
      local head = self.buffer:sub(self.at, stop):gsub("\r?\n\r?\n$", "")
      self.at = stop + 1
      return head
    end
    from = math.max(size - 2, 1) -- where the buffer begins after more()
    local ok, why = self:more(till)
    if not ok then return nil, why end
  end
end

local function add_field(fields, line)
  local name, value = line:match "^([^:]+):[ \t]*(.-)[ \t]*$"
  if not headers_of.is_name(name) or not headers_of.is_value(value) then
    return nil
  end
  name = name:lower()
  if name == "host" and fields.host then return nil end
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
  local parts, got = {}, 0
  while true do
    local part = self.buffer:sub(self.at, self.at + n - got - 1)
    self.at = self.at + #part
    parts[#parts + 1], got = part, got + #part
    if got == n then return table.concat(parts) end
    local ok, why = self:more(till)
    if not ok then return nil, why end
  end
end

-- A line, without its end.
local function line(reader, till, most)
  while true do
    local stop = reader.buffer:find("\n", reader.at, true)
    local size = (stop or #reader.buffer) - reader.at + 1
    if size > most then return nil, "malformed" end
    if stop then
      local text = reader.buffer:sub(reader.at, stop):match "^(.*)\r\n$"
      reader.at = stop + 1
      return text, not text and "malformed" or nil
    end
    local ok, why = reader:more(till)
    if not ok then return nil, why end
  end
end

-- Reads up to the empty line behind the last chunk.
local function skip_trailer(reader, till)
  local size = 0
  repeat
    local text, why = line(reader, till, LINE_MOST)
    if not text then return nil, why end
    size = size + #text
    if size > TRAILER_MOST then return nil, "malformed" end
  until text == ""
  return true
end

-- The size of the next chunk, and the bytes of its line.
local function chunk_size(reader, till)
  local text, why = line(reader, till, LINE_MOST)
  if not text then return nil, why end
  local digits = text:match "^(%x+)[ \t]*$" or text:match "^(%x+)[ \t]*;"
  if not digits or #digits > 12 then return nil, "malformed" end
  return tonumber(digits, 16), #text
end

local function chunk(reader, size, till)
  local bytes, why = reader:exactly(size + 2, till)
  if not bytes then return nil, why end
  if bytes:sub(-2) ~= "\r\n" then return nil, "malformed" end
  return bytes:sub(1, -3)
end

-- A body in chunks, of `most` bytes at most. The lines between the chunks are
-- bounded too.
---@param till number
---@param most integer
---@return string?, string?
function Reader:chunks(till, most)
  local parts, got, frames = {}, 0, 0
  while true do
    local size, more = chunk_size(self, till)
    if not size then return nil, more end
    if size == 0 then break end
    got, frames = got + size, frames + more + 4
    if got > most then return nil, "too large" end
    if frames > FRAMES_MOST + FRAMES_RATE * got then return nil, "malformed" end
    parts[#parts + 1], more = chunk(self, size, till)
    if more then return nil, more end
  end
  local ok, why = skip_trailer(self, till)
  if not ok then return nil, why end
  return table.concat(parts)
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
