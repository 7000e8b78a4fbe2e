-- SPDX-License-Identifier: MIT
--
-- `respool console` as a process, and requests to it.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local json = require "respool.support.json"
local socket = require "socket"

local M = {}

---@class spec.console
---@field url string
---@field port integer
---@field token string? printed by it
---@field process table
local Console = {}
Console.__index = Console

-- Starts a console of a store on a free port.
function M.start(location, ...)
  local process = cli.start { "console", location, "--listen", "0", ... }
  process:expect "console is at"
  local url, port, token = process:output():match
    "(http://[^\n#]*:(%d+))/#?([^\n]*)"
  return setmetatable({
    process = process, url = url, port = tonumber(port),
    token = token:match "^token=(%w+)$",
  }, Console)
end

-- The answer to a request: status, text, headers by names in lower case.
function Console:raw(method, path, lines, body)
  local s = assert(socket.connect("127.0.0.1", self.port))
  s:settimeout(60)
  local given = table.concat(lines or {}, "\r\n")
  s:send(("%s %s HTTP/1.1\r\n%sConnection: close\r\n%s%s\r\n%s"):format(
    method, path, given:find "Host:" and "" or "Host: localhost\r\n",
    given == "" and "" or given .. "\r\n",
    body and ("Content-Length: %d\r\n"):format(#body) or "", body or ""))
  local text = s:receive "*a"
  s:close()
  local head, rest = text:match "^(.-)\r\n\r\n(.*)$"
  local headers = {}
  for name, value in head:gmatch "\r\n([^:]+): ([^\r]*)" do
    headers[name:lower()] = value
  end
  return tonumber(head:match "^HTTP/1.1 (%d+)"), rest, headers
end

local function valued(status, text)
  local value = json.decode(text)
  return value == nil and text or value, status
end

-- The value that a GET below api/ tells, and the status.
function Console:get(path)
  return valued(self:raw("GET", "/api/" .. path))
end

-- The same of what changes something, as the page does it.
function Console:act(method, path, body)
  local lines = { "X-Respool: 1", "Sec-Fetch-Site: same-origin",
                  "Origin: " .. ("http://localhost") }
  if self.token then
    lines[#lines + 1] = "Authorization: Bearer " .. self.token
  end
  return valued(self:raw(method, "/api/" .. path, lines, body))
end

-- The events, as values, until one is the last.
local function events_until(console, is_last)
  local s = assert(socket.connect("127.0.0.1", console.port))
  s:settimeout(60)
  s:send "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
  local list = {}
  repeat
    local line = assert(s:receive "*l")
    local data = line:match "^data: (.*)$"
    if data then list[#list + 1] = json.decode(data) end
  until data and is_last(list)
  s:close()
  return list
end

-- The first `n` events.
function Console:events(n)
  return events_until(self, function(list) return #list == n end)
end

-- The first event behind the first one that tells of a queue.
function Console:change()
  local list = events_until(self, function(list)
    return #list > 1 and #list[#list].queues > 0
  end)
  return list[#list]
end

-- Waits until what fn() returns is true.
function M.await(what, fn)
  local ends = socket.gettime() + 60
  while not fn() do
    if socket.gettime() > ends then error("not in time: " .. what, 2) end
    socket.sleep(0.02)
  end
end

-- A store with a queue "mails" of five ready items, and six dead letters of
-- two groups.
function M.mails()
  local location = helper.location()
  local store = assert(helper.open(location))
  local q = assert(store:queue "mails")
  for i = 1, 6 do q:push { n = i, to = { "ada", "bob" } } end
  q:work(function(_, item)
    item:dead { group = item.id % 2 == 0 and "even" or "odd",
                error = "refused " .. item.id }
  end, { limit = 6 })
  for i = 7, 11 do q:push { n = i } end
  return location, store, q
end

return M
