-- SPDX-License-Identifier: MIT
-- A receiver of webhooks with bad days, for the demo: one process, one select
-- loop, HTTP/1.1, a request a connection. What it does to an event depends on
-- the event and on how often it was seen before, on nothing else, so every
-- run is the same:
--
--   most             202
--   some             503, the first time or the first two
--   some             202, but later than any sender waits, the first time
--   some             500, the first four times
--   some             422 for good: "action" or "sender" is missing
--   one kind         410 for good: the event has a new name
--
--   lua examples/endpoint.lua [PORT]
--
-- prints its URL. GET /counts tells what it has seen. It ends when a client
-- that asked for /hold goes away, or when it is interrupted.

local json = require "respool.support.json"
local socket = require "socket"

local LATE = 1 -- seconds: longer than the sender waits

local reasons = {
  [200] = "OK", [202] = "Accepted", [400] = "Bad Request",
  [404] = "Not Found", [410] = "Gone", [422] = "Unprocessable Content",
  [500] = "Internal Server Error", [503] = "Service Unavailable",
}

local seen = {} -- event id -> times seen, accepted or not
local accepted = {} -- event id -> times accepted
local counts = { requests = 0, accepted = 0, again = 0, answers = {} }


-- ---- what to say -----------------------------------------------------------

-- What can never be accepted as it is: status and text, or nothing.
local function reject(event, payload)
  if event == "repository_vulnerability_alert" then
    return 410, "this event is now called dependabot_alert"
  end
  for _, field in ipairs { "action", "sender" } do
    if payload[field] == nil then
      return 422, ('"%s" is missing'):format(field)
    end
  end
end

-- What would be accepted at another time: status and text.
local function refuse(id, time)
  if id % 60 == 0 and time <= 4 then
    return 500, "the database is down"
  end
  if id % 8 == 3 and time <= (id % 16 == 3 and 2 or 1) then
    return 503, "too much to do"
  end
end

local function accept(id)
  accepted[id] = (accepted[id] or 0) + 1
  local name = accepted[id] == 1 and "accepted" or "again"
  counts[name] = counts[name] + 1
  return 202, "thank you"
end

-- Status and text of the answer, and how long it takes.
local function receive_event(event, id, payload)
  seen[id] = (seen[id] or 0) + 1
  local status, text = reject(event, payload)
  if not status then status, text = refuse(id, seen[id]) end
  if not status then status, text = accept(id) end
  local late = id % 40 == 7 and seen[id] == 1
  return status, text, late and LATE or 0
end

local function post(request)
  local event = request.headers["x-github-event"]
  local id = tonumber(request.headers["idempotency-key"])
  local payload = json.decode(request.body)
  if not (event and id and payload ~= nil) then return 400, "not an event" end
  return receive_event(event, id, payload)
end

local function answer(request)
  if request.method == "POST" then return post(request) end
  if request.path == "/counts" then return 200, json.encode(counts) end
  return 404, "nothing here"
end


-- ---- HTTP ------------------------------------------------------------------

-- The request in the bytes received so far, or nil when more must come.
local function parse(bytes)
  local head, body = bytes:match "^(.-\r\n)\r\n(.*)$"
  if not head then return nil end
  local method, path = head:match "^(%u+) (%S+) HTTP/1%.%d\r\n"
  local headers = {}
  for name, value in head:gmatch "\n([%w-]+):%s*([^\r\n]*)" do
    headers[name:lower()] = value
  end
  if #body < (tonumber(headers["content-length"]) or 0) then return nil end
  return { method = method, path = path, headers = headers, body = body }
end

local function format(status, text)
  local lines = {
    ("HTTP/1.1 %d %s"):format(status, reasons[status]),
    "Content-Type: text/plain", "Content-Length: " .. #text,
    "Connection: close",
  }
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. text
end


-- ---- connections -----------------------------------------------------------

local Server = {}
Server.__index = Server

local function new_server(port)
  local listener = assert(socket.bind("127.0.0.1", port))
  listener:settimeout(0)
  return setmetatable({
    listener = listener,
    clients = {}, -- socket -> bytes received
    late = {},    -- { at, client, bytes }: answers still to be sent
  }, Server)
end

function Server:url()
  local host, port = self.listener:getsockname()
  return ("http://%s:%d/"):format(host, port)
end

function Server:drop(client)
  self.clients[client] = nil
  client:close()
end

function Server:reply(client, bytes)
  client:settimeout(1)
  client:send(bytes) -- a sender that gave up does not hear it
  self:drop(client)
end

function Server:serve(client, request)
  local status, text, wait = answer(request)
  local bytes = format(status, text)
  if request.method == "POST" then
    local key = tostring(status)
    counts.requests = counts.requests + 1
    counts.answers[key] = (counts.answers[key] or 0) + 1
  end
  if (wait or 0) == 0 then return self:reply(client, bytes) end
  self.clients[client] = nil -- read no further
  table.insert(self.late, {
    at = socket.gettime() + wait, client = client, bytes = bytes,
  })
end

-- Takes what a client has sent. True when the one that held us is gone: maybe
-- before we have read that it does.
function Server:read(client)
  local data, err, part = client:receive(65536)
  self.clients[client] = self.clients[client] .. (data or part)
  local request = parse(self.clients[client])
  if request and request.path == "/hold" then self.holder = client end
  if err == "closed" then
    self:drop(client)
    return client == self.holder
  end
  if request and client ~= self.holder then self:serve(client, request) end
  return false
end

function Server:greet()
  local client = self.listener:accept()
  if client then
    client:settimeout(0)
    self.clients[client] = ""
  end
end

-- Sends the late answers whose time has come.
function Server:send_late()
  local now = socket.gettime()
  for i = #self.late, 1, -1 do
    local l = self.late[i]
    if l.at <= now then
      table.remove(self.late, i)
      self:reply(l.client, l.bytes)
    end
  end
end

function Server:readable()
  local sockets = { self.listener }
  for client in pairs(self.clients) do sockets[#sockets + 1] = client end
  return (socket.select(sockets, nil, 0.05))
end

function Server:run()
  while true do
    for _, s in ipairs(self:readable()) do
      if s == self.listener then
        self:greet()
      elseif self:read(s) then
        return
      end
    end
    self:send_late()
  end
end

local server = new_server(tonumber(arg[1]) or 0)
print(server:url())
io.stdout:flush()
local ok, err = pcall(server.run, server)
if not ok and not tostring(err):find "interrupted!" then error(err, 0) end
