-- SPDX-License-Identifier: MIT
--
-- Requests: one POST and its answer, over a connection that is used again. A
-- redirect is not followed; it is an answer like any other.

local core = require "respool.core"
local loop_of = require "respool.http.loop"
local message = require "respool.http.message"
local sockets = require "respool.http.sockets"

local now = loop_of.now

local M = {}

local HEAD_MOST = 65536
local TEXT_MOST = 65536 -- of an answer's body; a longer one ends the connection

---@class respool.http.answer
---@field status integer
---@field headers table<string, string> by names in lower case
---@field text string the beginning of the body

---@class respool.http.trouble
---@field message string
---@field group "timeout"|"refused"|"closed"|"resolve"|"TLS"|"malformed"|"IO"

---@class respool.http.client
local Client = {}
Client.__index = Client

---@param o { connect_timeout: number, timeout: number, ca_file: string? }
---@return respool.http.client
function M.new(o)
  return setmetatable({
    pool = sockets.pool { cafile = o.ca_file },
    connect_timeout = o.connect_timeout, timeout = o.timeout,
  }, Client)
end

-- Raises when a URL cannot be asked here.
---@param url respool.http.url
function Client:check(url)
  self.pool:check(url)
end

function Client:close()
  self.pool:close()
end

local GROUPS = {
  timeout = "timeout", closed = "closed", malformed = "malformed",
  ["too large"] = "malformed", ["connection refused"] = "refused",
}

local function trouble(why, said)
  local group = GROUPS[why] or why:match "^(resolve):" or why:match "^(TLS):"
  return { message = said or why, group = group or "IO" }
end


-- Answers.

local function read_head(reader, till)
  local head, why = reader:head(till, HEAD_MOST)
  if not head then return nil, why end
  local first, fields = message.parse(head)
  local minor, status = (first or ""):match "^HTTP/1%.(%d) (%d%d%d)%f[%s%z]"
  if not minor then return nil, "malformed" end
  return { status = tonumber(status), headers = fields, minor = minor }
end

-- The head of the answer proper: those of 1xx only announce it.
local function read_answer(reader, till)
  while true do
    local answer, why = read_head(reader, till)
    if not answer then return nil, why end
    if answer.status >= 200 then return answer end
    if answer.status == 101 then return nil, "malformed" end
  end
end

-- Reads the body. True when the connection can be used again: the status is
-- what counts, so a body that does not come to its end is no failure.
local function read_text(reader, answer, till)
  local length = message.length(answer.headers)
  if answer.status == 204 or answer.status == 304 then length = 0 end
  if not length then
    answer.text = length == nil and reader:rest(till, TEXT_MOST) or ""
    return false
  elseif length == "chunked" then
    answer.text = reader:chunks(till, TEXT_MOST)
  elseif length <= TEXT_MOST then
    answer.text = reader:exactly(length, till)
  end
  local whole = answer.text ~= nil and reader.buffer == ""
  answer.text = answer.text or ""
  return whole
end

local function stays_open(answer)
  local option = (answer.headers.connection or ""):lower()
  if answer.minor == "0" then return option:find "keep%-alive" ~= nil end
  return not option:find "close"
end


-- Requests.

-- Sends the request and reads the answer. Third, whether the other side may
-- have dropped an idle connection before it saw the request.
local function exchange(connection, bytes, till)
  local reader = message.reader(connection)
  local sent, why = connection:send(bytes, till)
  if not sent and why == "timeout" then return nil, why end
  local answer -- which may come although not all was sent
  answer, why = read_answer(reader, till)
  if not answer then
    local unheard = why ~= "timeout" and reader.buffer == ""
    return nil, why, unheard
  end
  local whole = read_text(reader, answer, till)
  if sent and whole and stays_open(answer) then
    connection:keep()
  else
    connection:close()
  end
  return answer
end

local function connect(client, url, fresh)
  local till = now() + client.connect_timeout
  local connection, why = client.pool:connect(url, till, fresh)
  if connection then return connection end
  return nil, trouble(why, why == "timeout"
    and ("no connection within %s s"):format(
      core.decimal(client.connect_timeout)))
end

local function ask(client, url, bytes, fresh)
  local connection, problem = connect(client, url, fresh)
  if not connection then return nil, problem end
  local reused = connection.reused
  local answer, why, unheard = exchange(connection, bytes,
                                        now() + client.timeout)
  if answer then return answer end
  connection:close()
  if reused and unheard then return ask(client, url, bytes, true) end
  local said = why == "timeout"
    and ("no answer within %s s"):format(core.decimal(client.timeout))
    or why == "closed" and "the connection was closed without an answer"
    or why == "malformed" and "the answer is not HTTP/1.1"
    or why == "too large" and ("the answer's header is longer than %d bytes")
      :format(HEAD_MOST)
  return nil, trouble(why, said)
end

-- Posts a body. `lines` are the header's lines but for Host and
-- Content-Length.
---@param url respool.http.url
---@param lines string[]
---@param body string
---@return respool.http.answer?, respool.http.trouble?
function Client:post(url, lines, body)
  local head = {
    ("POST %s HTTP/1.1"):format(url.target), "Host: " .. url.authority,
    ("Content-Length: %d"):format(#body),
  }
  for _, line in ipairs(lines) do head[#head + 1] = line end
  local bytes = table.concat(head, "\r\n") .. "\r\n\r\n" .. body
  return ask(self, url, bytes, false)
end

return M
