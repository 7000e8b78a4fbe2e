-- SPDX-License-Identifier: MIT
--
-- An HTTP/1.1 server (RFC 9112) on luasocket. Each connection is a task, so
-- that a slow client delays no other. Requests are answered by
--
--   admit(request)     before the body is read: nothing, or an answer
--   answer(request)    an answer
--
-- in that task. An answer is a status, perhaps a text with its type, perhaps
-- headers. A text that comes piece by piece ends with the connection, and so
-- does the connection after the answer to a malformed request.

local compat = require "respool.support.compat"
local headers_of = require "respool.http.headers"
local json = require "respool.support.json"
local loop_of = require "respool.support.loop"
local reader_of = require "respool.server.reader"
local sockets = require "respool.server.sockets"

local now = loop_of.now

local M = {}

---@class respool.server.request
---@field method string
---@field path string without query
---@field query string behind the first '?'
---@field headers table<string, string> by names in lower case
---@field body string

---@class respool.server.reply
---@field status integer
---@field text string? "" when there is none
---@field write (fun(send: fun(text: string): boolean?))? sends the text
---@field type string? of the text; JSON
---@field headers table<string, string|number>?

---@class respool.server_options
---@field host string
---@field port integer 0: any that is free
---@field admit fun(request: respool.server.request): respool.server.reply?
---@field answer fun(request: respool.server.request): respool.server.reply
---@field round fun(): boolean called after each round of requests; true when
--- there is more to do at once
---@field on_error fun(err: any) called with unexpected errors
---@field max_head integer bytes
---@field max_body integer bytes
---@field max_connections integer
---@field timeout number seconds for a request to come, and for its answer to go
---@field idle number seconds that a connection may be kept between requests

---@class respool.server
---@field o respool.server_options
---@field loop respool.loop
---@field url string
---@field connections integer
---@field active integer requests that are read or answered
---@field refused integer answers of 4xx and 5xx so far
---@field stopping boolean
local Server = {}
Server.__index = Server

local BACKLOG = 1024
local REFUSING_MOST = 64  -- connections at a time that are refused in words
local LINGER, LINGER_MOST = 2, 2^26 -- seconds and bytes, read after an error
local PAUSE = 0.1         -- seconds, after accept() failed

M.MOST_CONNECTIONS = sockets.MOST - REFUSING_MOST - 60

local REASONS = {
  [200] = "OK", [201] = "Created", [202] = "Accepted",
  [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden",
  [404] = "Not Found", [405] = "Method Not Allowed",
  [408] = "Request Timeout", [409] = "Conflict", [413] = "Content Too Large",
  [415] = "Unsupported Media Type", [417] = "Expectation Failed",
  [422] = "Unprocessable Content",
  [429] = "Too Many Requests",
  [431] = "Request Header Fields Too Large", [500] = "Internal Server Error",
  [501] = "Not Implemented", [503] = "Service Unavailable",
  [505] = "HTTP Version Not Supported",
}


-- Answers.

local DAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep",
                 "Oct", "Nov", "Dec" }

-- An HTTP date (RFC 9110, 5.6.7): its names are English in every locale.
local function http_date(at)
  local t = os.date("!*t", at)
  return ("%s, %02d %s %d %02d:%02d:%02d GMT"):format(DAYS[t.wday], t.day,
    MONTHS[t.month], t.year, t.hour, t.min, t.sec)
end

local function head_of(reply, text, keep)
  local lines = {
    ("HTTP/1.1 %d %s"):format(reply.status, REASONS[reply.status]),
    "Date: " .. http_date(os.time()),
    "Content-Type: " .. (reply.type or "application/json"),
    keep and "Connection: keep-alive" or "Connection: close",
  }
  if text then
    lines[#lines + 1] = ("Content-Length: %d"):format(#text)
  end
  for name, value in pairs(reply.headers or {}) do
    lines[#lines + 1] = ("%s: %s"):format(name, value)
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function send(server, connection, reply, keep, is_head)
  if reply.status >= 400 then server.refused = server.refused + 1 end
  local text = reply.text or ""
  local bytes = head_of(reply, text, keep) .. (is_head and "" or text)
  return connection:send(bytes, now() + server.o.timeout)
end

-- Sends an answer that comes piece by piece.
local function send_pieces(server, connection, reply, is_head)
  local function send_piece(text)
    return connection:send(text, now() + server.o.timeout)
  end
  if send_piece(head_of(reply, nil, false)) and not is_head then
    reply.write(send_piece)
  end
end

-- A connection closed with bytes unread resets, and the answer is lost with
-- them: so some are read first.
local function linger(connection)
  local till, got = now() + LINGER, 0
  connection:finish()
  while got < LINGER_MOST do
    local bytes = connection:read(till)
    if not bytes then return end
    got = got + #bytes
  end
end

---@param status integer
---@param text string of the error, without anything from a payload
---@param headers table?
---@return respool.server.reply
function M.error(status, text, headers)
  return { status = status, text = json.encode { error = text } .. "\n",
           headers = headers }
end


-- Requests. A function that reads one returns nil and the reply when it cannot
-- be read, nil alone when the client is gone.

local function trouble(why)
  if why == "timeout" then return M.error(408, "the request took too long") end
  if why == "malformed" then return M.error(400, "malformed request") end
end

local function first_line(first)
  local method, target, major, minor =
    first:match "^(%S+) (%S+) HTTP/(%d)%.(%d)$"
  if not headers_of.is_name(method) then
    return nil, M.error(400, "malformed request")
  end
  if major ~= "1" then
    return nil, M.error(505, "only HTTP/1.1 is spoken here")
  end
  target = target:gsub("^%a+://[^/]*", "")
  return { method = method, minor = minor, path = target:match "^[^?#]*",
           query = target:match "%?(.*)$" or "" }
end

local function check_fields(request, fields)
  if request.minor ~= "0" and not fields.host then
    return nil, M.error(400, "the header Host is missing")
  end
  local length, why = reader_of.length(fields)
  if length == false then
    return nil, why == "unknown coding"
      and M.error(501, "the only transfer coding known is chunked")
      or M.error(400, "malformed request")
  end
  request.headers, request.length = fields, length or 0
  return request
end

local function read_head(server, reader, till)
  local head, why = reader:head(till, server.o.max_head)
  if why == "too large" then
    return nil, M.error(431, "the header is too large")
  elseif not head then
    return nil, trouble(why)
  end
  local first, fields = reader_of.parse(head)
  if not first then return nil, trouble(fields) end
  local request, reply = first_line(first)
  if not request then return nil, reply end
  return check_fields(request, fields)
end

-- Sends 100 Continue to a client that waits for it.
local function encourage(reader, request, till)
  local expected = request.headers.expect
  if not expected or request.minor == "0" then return true end
  if expected:lower() ~= "100-continue" then
    return nil, M.error(417, "nothing but 100-continue can be expected")
  end
  if request.length == 0 or not reader:is_empty() then return true end
  local sent = reader.connection:send("HTTP/1.1 100 Continue\r\n\r\n", till)
  return sent
end

local function read_body(server, reader, request, till)
  local most, body, why = server.o.max_body, nil, "too large"
  if request.length == "chunked" then
    body, why = reader:chunks(till, most)
  elseif request.length <= most then
    body, why = reader:exactly(request.length, till)
  end
  request.body = body
  if body then return true end
  if why == "too large" then
    return nil, M.error(413, ("a body may have %d bytes"):format(most))
  end
  return nil, trouble(why)
end

local function is_too_large(server, request)
  return request.length ~= "chunked" and request.length > server.o.max_body
end

local function read_rest(server, reader, request, till)
  local reply = server.o.admit(request)
  if reply then return nil, reply end
  if not is_too_large(server, request) then
    local ok, refusal = encourage(reader, request, till)
    if not ok then return nil, refusal end
  end
  return read_body(server, reader, request, till)
end

local function is_to_stay(server, request)
  if server.stopping then return false end
  local option = (request.headers.connection or ""):lower()
  if request.minor == "0" then return option:find "keep%-alive" ~= nil end
  return not option:find "close"
end

-- Reads a request and answers it. True when another may follow.
local function serve_one(server, reader)
  local till = now() + server.o.timeout
  local request, reply = read_head(server, reader, till)
  local whole = request and true
  if request then whole, reply = read_rest(server, reader, request, till) end
  if whole then
    reply = server.o.answer(request)
  elseif not reply then
    return false
  elseif request and request.length == 0 then
    whole = true -- there was no body to be read
  end
  local keep = whole and is_to_stay(server, request)
  local is_head = request and request.method == "HEAD"
  if reply.write then
    send_pieces(server, reader.connection, reply, is_head)
    return false
  end
  local sent = send(server, reader.connection, reply, keep, is_head)
  if sent and not whole then linger(reader.connection) end
  return sent and keep
end

local function serve(server, connection)
  local reader = reader_of.new(connection)
  local wait = server.o.timeout
  while (not reader:is_empty() or not server.stopping)
        and reader:await(now() + wait) do
    server.active = server.active + 1
    local ok, more = compat.task_pcall(serve_one, server, reader)
    server.active = server.active - 1
    if not ok then server.o.on_error(more) end
    if not ok or not more then break end
    wait = server.o.idle
  end
end


-- Connections.

local function attend(server, connection)
  server.connections = server.connections + 1
  serve(server, connection)
  connection:close()
  server.connections = server.connections - 1
end

-- Says that there are too many.
local function refuse(server, connection)
  server.refusing = server.refusing + 1
  local reply = M.error(503, "too many connections", { ["Retry-After"] = 1 })
  if send(server, connection, reply, false) then linger(connection) end
  connection:close()
  server.refusing = server.refusing - 1
end

local function accept(server)
  while server.refusing < REFUSING_MOST do
    local socket, why = server.listener:accept()
    if not socket then
      if why ~= "timeout" then server.deaf_till = now() + PAUSE end
      return
    end
    local is_full = server.connections >= server.o.max_connections
    server.loop:spawn(is_full and refuse or attend, server,
                      sockets.wrap(socket))
  end
end

local function can_hear(server)
  return server.listener and server.refusing < REFUSING_MOST
    and now() >= server.deaf_till
end


-- The server.

-- Listens. Nil and why when it cannot.
---@param o respool.server_options
---@return respool.server?, string?
function M.listen(o)
  local listener, why = sockets.luasocket().bind(o.host, o.port, BACKLOG)
  if not listener then return nil, why end
  listener:settimeout(0)
  local address, port = listener:getsockname()
  local host = address:find ":" and "[" .. address .. "]" or address
  return setmetatable({
    o = o, loop = loop_of.new(sockets.poll), listener = listener,
    address = address,
    url = ("http://%s:%d"):format(host, port), connections = 0, active = 0,
    refused = 0, refusing = 0, deaf_till = 0, stopping = false, more = false,
  }, Server)
end

-- Whether it can be reached from this machine only.
---@return boolean
function Server:is_local()
  return self.address:find "^127%." ~= nil or self.address == "::1"
end

-- Serves for up to `seconds`.
---@param seconds number
function Server:step(seconds)
  self.loop.listener = can_hear(self) and self.listener or nil
  self.loop:step(self.more and 0 or seconds)
  if self.loop.heard then accept(self) end
  self.more = self.o.round()
end

-- Accepts the connections that wait already, and no others; each ends after the
-- request that is under way.
function Server:stop()
  self:step(0)
  self.stopping = true
  if self.listener then self.listener:close() end
  self.listener = nil
end

return M
