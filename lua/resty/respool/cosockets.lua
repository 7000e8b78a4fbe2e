-- SPDX-License-Identifier: MIT
--
-- Requests within nginx: over cosockets, which wait without blocking, and
-- nginx's own pools of them; each request is a light thread. Host names need a
-- `resolver`, https needs `lua_ssl_trusted_certificate`. For what the
-- functions mean, see respool/http/client.lua.

local client_of = require "respool.http.client"
local compat = require "respool.support.compat"
local timing = require "respool.support.timing"

local IDLE, IDLE_MOST = 55, 64 -- seconds and connections, of one pool
local LINES_MOST = 200         -- of an answer's heads
local TEXT_MOST = 65536        -- of an answer's text

local Client = {}
Client.__index = Client

local NGINX = {
  ca_file = "lua_ssl_trusted_certificate", cert_file = "a proxy of nginx",
  key_file = "a proxy of nginx", min_tls = "lua_ssl_protocols",
  proxy = "a proxy of nginx", allow = "a resolver", deny = "a resolver",
}

-- A client, of the options of respool.http.
client_of.set_maker(function(o)
  for name, directive in pairs(NGINX) do
    if o[name] ~= nil then
      compat.misuse(("respool.http: option '%s' is not for nginx: use %s")
        :format(name, directive))
    end
  end
  if o.redirects > 0 then
    compat.misuse "respool.http: no redirect is followed within nginx"
  end
  return setmetatable({ o = o }, Client)
end)

-- Raises when a URL cannot be asked here.
---@param url respool.http.url
function Client.check(_, url)
  if url.host:find "[\128-\255]" then
    compat.misuse "respool.http: within nginx a host is written in ASCII"
  end
end

function Client.date(_, text)
  return ngx.parse_http_time(text)
end


-- Connections.

local function connect(client, url, fresh)
  local socket = ngx.socket.tcp()
  local o = client.o
  socket:settimeouts(o.connect_timeout * 1000, o.timeout * 1000,
                     o.timeout * 1000)
  local host = url.host:find ":" and "[" .. url.host .. "]" or url.host
  local ok, why = socket:connect(host, url.port, {
    pool = url.scheme .. "://" .. url.authority, -- tells hosts apart
  })
  if not ok then return nil, why end
  local reused = socket:getreusedtimes() > 0
  if reused and fresh then
    socket:close()
    return connect(client, url, fresh)
  end
  if url.scheme == "https" and not reused then
    ok, why = socket:sslhandshake(nil, url.host, true)
    if not ok then return nil, "TLS: " .. tostring(why) end
  end
  return socket, reused
end


-- Answers. A function that fails returns nil and the reason.

-- Reads a head: its status and fields. 1xx only announce it.
local function read_head(socket)
  local status, fields
  for _ = 1, LINES_MOST do
    local line, why = socket:receive "*l"
    if not line then return nil, why, status == nil end
    if not status then
      status, fields = tonumber(line:match "^HTTP/1%.%d (%d%d%d)"), {}
      if not status or status == 101 then return nil, "malformed" end
    elseif line ~= "" then
      local name, value = line:match "^([^:%s]+)%s*:%s*(.-)%s*$"
      if name then fields[name:lower()] = value end
    elseif status >= 200 then
      return { status = status, fields = fields }
    else
      status = nil
    end
  end
  return nil, "malformed"
end

local function read_chunks(socket)
  local parts, got = {}, 0
  while got <= TEXT_MOST do
    local size = tonumber((socket:receive "*l" or ""):match "^%x+", 16)
    if not size then break end
    local text = size == 0 or size <= TEXT_MOST and socket:receive(size)
    local line = text and socket:receive "*l"
    if size == 0 then return table.concat(parts), line == "" end
    if not line then break end
    parts[#parts + 1], got = text, got + size
  end
  return table.concat(parts), false
end

-- The text behind a head, and whether it came whole.
local function read_text(socket, head)
  local fields, status = head.fields, head.status
  local length = tonumber(fields["content-length"])
  if status == 204 or status == 304 or length == 0 then return "", true end
  if (fields["transfer-encoding"] or ""):lower() == "chunked" then
    return read_chunks(socket)
  elseif not length and status <= 299 then
    return "", false -- the status is what counts
  end
  local text, _, part = socket:receive(math.min(length or TEXT_MOST,
                                                TEXT_MOST))
  return text or part or "", text ~= nil and #text == length
end

local function head_of(url, message)
  local lines = {
    ("%s %s HTTP/1.1"):format(message.method, url.target),
    "Host: " .. url.authority, ("Content-Length: %d"):format(#message.body),
  }
  for _, line in ipairs(message.lines) do lines[#lines + 1] = line end
  for _, line in ipairs(message.own) do lines[#lines + 1] = line end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

-- Third result: whether the host may have closed an idle connection before it
-- saw the request.
local function exchange(socket, url, message)
  local sent = socket:send { head_of(url, message), message.body }
  local head, why, unheard = read_head(socket)
  if not head then return nil, why, unheard and why ~= "timeout" end
  local text, whole = read_text(socket, head)
  local stays = not (head.fields.connection or ""):lower():find "close"
  if sent and whole and stays then
    socket:setkeepalive(IDLE * 1000, IDLE_MOST)
  else
    socket:close()
  end
  return { status = head.status, text = text, location = head.fields.location,
           retry_after = head.fields["retry-after"],
           content_type = head.fields["content-type"] }
end


-- Requests.

local SAID = {
  timeout = "no answer within %s s",
  closed = "the connection was closed without an answer",
  malformed = "the answer is not HTTP/1.1",
  ["connection refused"] = "connection refused",
}

local function trouble(client, why)
  local group = why == "connection refused" and "refused"
    or SAID[why] and why or why:match "^(TLS):" or "IO"
  return { message = (SAID[why] or why):format(compat.text(client.o.timeout)),
           group = group }
end

local function ask(client, url, message, fresh)
  local socket, reused = connect(client, url, fresh)
  if not socket then
    local problem = trouble(client, reused)
    if problem.group == "timeout" then
      problem.message = ("no connection within %s s"):format(
        compat.text(client.o.connect_timeout))
    elseif problem.message:find "resolve" then
      problem.group = "resolve"
    end
    return nil, problem
  end
  local answer, why, unheard = exchange(socket, url, message)
  if answer then return answer end
  socket:close()
  if reused and unheard then return ask(client, url, message, true) end
  return nil, trouble(client, why)
end

function Client:begin(url, message)
  return ngx.thread.spawn(ask, self, url, message)
end

-- Runs fn(...) for up to so many seconds, then ends it.
local function run_for(seconds, fn, ...)
  local runs = ngx.thread.spawn(fn, ...)
  local sleeps = ngx.thread.spawn(function() ngx.sleep(seconds) end)
  ngx.thread.wait(runs, sleeps)
  ngx.thread.kill(runs)
  ngx.thread.kill(sleeps)
end

-- Begins a request that nobody waits for: a request of nginx would not end
-- before the light threads that it has begun. It has an end, whatever becomes
-- of its timer: nginx runs none beyond lua_max_running_timers, and says so in
-- its log alone.
function Client:begin_apart(url, message)
  local limit = self.o.connect_timeout + self.o.timeout
  local pending = { ends = timing.deadline(limit) }
  local function fetch()
    pending.answer, pending.trouble = ask(self, url, message)
    pending.over = true
  end
  local ok, why = ngx.timer.at(0, function() run_for(limit, fetch) end)
  if not ok then
    pending.over, pending.trouble = true, { message = why, group = "IO" }
  end
  return pending
end

-- As of respool/http/client.lua.
function Client:look(pending, seconds)
  if seconds and seconds > 0 and not pending.over then timing.pause(seconds) end
  if pending.over then return pending.answer or false, pending.trouble end
  if timing.left(pending.ends) > 0 then return nil end
  return false, trouble(self, "timeout")
end

-- Its answer is not wanted any more.
function Client.give_up() end

function Client.wait(_, pending)
  local ok, answer, problem = ngx.thread.wait(pending)
  if not ok then error(answer, 0) end
  return answer, problem
end
