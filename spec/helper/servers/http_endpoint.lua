-- SPDX-License-Identifier: MIT
--
-- A receiver that answers as the path of a request says: a process of its
-- own, which knows nothing of respool. The path is a list of actions, such as
-- /503~7,202: the first for the first request of an item, the last for all
-- that follow; what a collector has behind them, /v1/traces, is none. Under
-- /each/ it is the first request of all items that counts.
-- It notes what it gets.
--
--   202            any status, with a text
--   503~7          with Retry-After: 7; ~date is a minute and a half ahead
--   302            with a Location
--   hang           no answer
--   late           202 after a third of a second
--   tardy          202 after so long that nobody waits for it
--   gate           202 once the gate is opened
--   meet~8         202 once eight such requests have come, and so on
--   close          the connection is closed without an answer
--   junk           something that is not HTTP
--   chunked        202 in chunks, byte by byte
--   long           202 with a header beyond what a sender reads
--   fat            202 with a text beyond what a sender reads
--   bye            202, and the connection ends, as it says
--   leave          202, and the connection ends, although it does not say so
--   hints          103 before 202
--   bare           202 whose text ends with the connection

local helper = require "spec.helper"

local M = {}

local SERVER = [=[
local cjson, socket = require "cjson", require "socket"
local listener = assert(socket.bind("127.0.0.1", tonumber(arg[1]) or 0))
listener:settimeout(0)
print(("http://%s:%d/"):format(listener:getsockname()))
io.stdout:flush()
local clients, seen, later, met, n = {}, {}, {}, {}, 0

local function head(status, fields)
  return ("HTTP/1.1 %s Some Reason\r\n%s\r\n"):format(status, fields or "")
end

local function plain(status, fields, text)
  return head(status, ("%sContent-Length: %d\r\n"):format(fields or "", #text))
    .. text
end

local actions = {
  hang = function() end,
  late = function() return plain(202, "", "late"), false, 0.33 end,
  tardy = function() return plain(202, "", "tardy"), false, 3600 end,
  gate = function() return plain(202, "", "gate"), false, math.huge end,
  close = function() return "", true end,
  junk = function() return "220 smtp.example.org\r\n\r\n", true end,
  chunked = function()
    return head(202, "Transfer-Encoding: chunked\r\n")
      .. "2;x=y\r\nok\r\n0\r\nTrailer: 1\r\n\r\n"
  end,
  long = function()
    return plain(202, ("X: %s\r\n"):format(("x"):rep(100)):rep(1000), "")
  end,
  fat = function() return plain(202, "", ("x"):rep(100000)) end,
  bye = function() return plain(202, "Connection: close\r\n", "bye"), true end,
  leave = function() return plain(202, "", ""), true end,
  hints = function() return head(103) .. plain(202, "", "") end,
  bare = function() return head(202) .. "bare", true end,
}

local function retry_after(value)
  if value == "date" then
    local locale = os.setlocale(nil, "time")
    os.setlocale("C", "time")
    value = os.date("!%a, %d %b %Y %H:%M:%S GMT", os.time() + 90)
    os.setlocale(locale, "time")
  end
  return ("Retry-After: %s\r\n"):format(value)
end

-- Bytes, whether the connection ends, how long it takes, and how many are to
-- meet before.
local function answer(request)
  local key, id = request.path, request.headers["idempotency-key"]
  if not key:find "^/each/" then key = key .. " " .. (id or "") end
  seen[key] = (seen[key] or 0) + 1
  local list = {}
  for action in key:gsub(" .*", ""):gsub("^/each", ""):gmatch "[^/,?]+" do
    list[#list + 1] = action
  end
  if list[#list - 1] == "v1" then list[#list], list[#list - 1] = nil end
  local action = list[math.min(seen[key], #list)]
  if actions[action] then return actions[action]() end
  local crowd = tonumber(action:match "^meet~(%d+)$")
  if crowd then return plain(202, "", "met"), false, math.huge, crowd end
  local status, after = action:match "^(%d+)~?(.*)$"
  local fields = after ~= "" and retry_after(after) or ""
  if status:match "^3" then
    fields = fields .. "Location: http://127.0.0.1:9/else?token=1\r\n"
  end
  return plain(status, fields, "said\tthe endpoint")
end

local function parse(bytes)
  local top, rest = bytes:match "^(.-\r\n)\r\n(.*)$"
  if not top then return nil end
  local method, path = top:match "^(%S+) (%S+)"
  local headers = {}
  for name, value in top:gmatch "\n([^:\n]+): *([^\r\n]*)" do
    headers[name:lower()] = value
  end
  local length = tonumber(headers["content-length"]) or 0
  if #rest < length then return nil end
  return { method = method, path = path, headers = headers,
           body = rest:sub(1, length) }, rest:sub(length + 1)
end

local function drop(client)
  clients[client] = nil
  client:close()
end

local function send(client, bytes, ends)
  client:settimeout(60)
  client:send(bytes)
  client:settimeout(0)
  if ends then drop(client) end
end

-- When all have come, each is answered.
local function meet(entry, crowd)
  met[#met + 1] = entry
  if #met < crowd then return end
  for _, one in ipairs(met) do one[3] = 0 end
  met = {}
end

local function is_due(entry)
  if entry[3] < math.huge then return entry[3] <= socket.gettime() end
  local gate = not entry.meets and io.open "gate"
  if gate then gate:close() end
  return gate
end

local function read(client)
  local data, err, part = client:receive(65536)
  local c = clients[client]
  c.bytes = c.bytes .. (data or part)
  local request, rest = parse(c.bytes)
  if request then
    c.bytes, request.connection = rest, c.number
    print(cjson.encode(request))
    io.stdout:flush()
    local bytes, ends, wait, crowd = answer(request)
    if wait then
      local entry = { client, bytes, socket.gettime() + wait, meets = crowd }
      later[#later + 1] = entry
      if crowd then meet(entry, crowd) end
    elseif bytes then
      return send(client, bytes, ends)
    end
  end
  if err == "closed" then drop(client) end
end

while true do
  local sockets = { listener }
  for client in pairs(clients) do sockets[#sockets + 1] = client end
  for _, s in ipairs((socket.select(sockets, nil, 0.02))) do
    if s == listener then
      local client = s:accept()
      n = n + 1
      client:settimeout(0)
      client:setoption("tcp-nodelay", true)
      clients[client] = { bytes = "", number = n }
    elseif clients[s] then
      read(s)
    end
  end
  for i = #later, 1, -1 do
    if is_due(later[i]) then
      send(later[i][1], later[i][2])
      table.remove(later, i)
    end
  end
end
]=]

local Endpoint = {}
Endpoint.__index = Endpoint

-- Starts one; it is ended after the spec.
function M.start()
  local process = helper.spawn(SERVER)
  process:expect "\n"
  return setmetatable({
    process = process, base = process:output():match "^(http://[^\n]*)/",
  }, Endpoint)
end

-- The URL that is answered by these actions.
function Endpoint:url(actions)
  return self.base .. "/" .. actions
end

-- Lets the requests of the action `gate` be answered, and those that come.
function Endpoint:open_gate()
  helper.write(self.process.dir .. "/gate", "")
end

-- The requests it got: { method, path, headers, body, connection }, in order.
function Endpoint:requests()
  local cjson, list = require "cjson", {}
  for line in self.process:output():gmatch "([^\n]+)\n" do
    if line:sub(1, 1) == "{" then list[#list + 1] = cjson.decode(line) end
  end
  return list
end

-- The paths that were asked for, in order, without the slash.
function Endpoint:paths()
  local paths = {}
  for i, request in ipairs(self:requests()) do
    paths[i] = request.path:sub(2)
  end
  return paths
end

return M
