-- SPDX-License-Identifier: MIT
--
-- Requests by libcurl: begun, waited for. In a task of a loop others run
-- meanwhile, elsewhere it blocks. A host may have another way: in nginx
-- requests are cosockets, see resty/respool/cosockets.lua.

local compat = require "respool.support.compat"
local loop_of = require "respool.support.loop"
local url_of = require "respool.http.url"

local M = {}

local SLICE = 0.2 -- a blocking wait lets Ctrl-C through so often

---@class respool.http.message
---@field method string
---@field lines string[] of the header
---@field own string[] the user's, perhaps secret: for this host only
---@field body string

---@class respool.http.answer
---@field status integer
---@field text string the beginning of the body
---@field location string? where a redirect leads to
---@field retry_after string?
---@field content_type string?

---@class respool.http.trouble
---@field message string
---@field group string "timeout", "refused", "closed", "resolve", "TLS",
--- "malformed", "denied", "proxy" or "IO"

---@class respool.http.client
local Client = {}
Client.__index = Client

local function load()
  local ok, curl = pcall(require, "respool.curl")
  if ok then return curl end
  compat.misuse("HTTP needs the module respool.curl, which cannot be loaded: "
    .. "apt-get install libcurl4-openssl-dev, then make")
end

-- The poll of a loop whose tasks deliver.
---@param loop respool.loop
---@param seconds number
function M.poll(loop, seconds)
  for _, request in ipairs(load().poll(seconds)) do loop:happen(request) end
end

-- Cancels the requests that tasks of a loop wait for.
---@param loop respool.loop
function M.cancel_all(loop)
  for event in pairs(loop.asked) do
    if type(event) == "userdata" then event:cancel() end
  end
end

-- Lets this process have so many connections, if it may.
---@param n integer
function M.allow_files(n)
  load().files(n)
end

local make -- a client of the host's

-- Gives a host its way to send requests.
---@param fn fun(o: table): respool.http.client
function M.set_maker(fn)
  make = fn
end

---@param o table options of respool.http
---@return respool.http.client
function M.new(o)
  if make then return make(o) end
  local curl = load()
  local ok, common = pcall(curl.client, {
    connect_timeout = o.connect_timeout, timeout = o.timeout,
    ca_file = o.ca_file, cert_file = o.cert_file, key_file = o.key_file,
    min_tls = o.min_tls, proxy = o.proxy, allow = o.allow, deny = o.deny,
  })
  if not ok then compat.misuse("respool.http: " .. tostring(common)) end
  return setmetatable({
    curl = curl, common = common, redirects = o.redirects,
  }, Client)
end

-- Raises when a URL cannot be asked here.
function Client.check() end

-- Seconds since 1970 of a date as HTTP has them, or nil.
---@param text string
---@return number?
function Client:date(text)
  return self.curl.date(text)
end

local function begin(client, url, message, lines)
  return client.curl.begin(client.common, message.method, url_of.whole(url),
                           lines, message.body)
end

-- The lines as libcurl wants them: one without a value ends in a semicolon; a
-- name with a colon alone keeps libcurl from sending a header of its own.
local function lines_of(message)
  local lines, typed = { "Expect:" }, false
  for _, list in ipairs { message.lines, message.own } do
    for _, line in ipairs(list) do
      lines[#lines + 1] = (line:gsub(": *$", ";"))
      typed = typed or line:find "^Content%-Type:" ~= nil
    end
  end
  if not typed then lines[#lines + 1] = "Content-Type:" end
  return lines
end

-- Begins a request; wait() returns its answer.
---@param url respool.http.url
---@param message respool.http.message
---@return table
function Client:begin(url, message)
  return {
    url = url, message = message, left = self.redirects,
    request = begin(self, url, message, lines_of(message)),
  }
end

-- The same of a request that look() tells the answer of.
Client.begin_apart = Client.begin

-- Ends a request whose answer is not wanted any more.
---@param pending table
function Client.give_up(_, pending)
  pending.request:cancel()
end

local function wait(client, request)
  local loop = loop_of.current()
  while not request:over() do
    if loop then loop:await(request) else client.curl.poll(SLICE) end
  end
  return request:result()
end

local function answer_of(status, text, more)
  return { status = status, text = text, location = more.location,
           retry_after = more["retry-after"],
           content_type = more["content-type"] }
end

-- The answer to a request, once there is one: nil while there is none, false
-- and the trouble where there will be none. Waits for up to `seconds`; without,
-- somebody else polls. Redirects are not followed.
---@param pending table
---@param seconds number?
---@return respool.http.answer|false|nil, respool.http.trouble?
function Client:look(pending, seconds)
  local request = pending.request
  if seconds and not request:over() then self.curl.poll(seconds) end
  if not request:over() then return nil end
  local status, text, more = request:result()
  if status then return answer_of(status, text, more) end
  return false, { message = text, group = more }
end

local REDIRECTS = { [301] = true, [302] = true, [307] = true, [308] = true }

-- Follows a redirect with the same request, to another host without the user's
-- headers. False when the location is not a URL.
local function follow(client, pending, location)
  local url, message = url_of.parse(location), pending.message
  if not url then return false end
  local same = url.scheme == pending.url.scheme
    and url.authority == pending.url.authority
  if not same then
    message = { method = message.method, lines = message.lines, own = {},
                body = message.body }
  end
  pending.url, pending.message = url, message
  pending.left = pending.left - 1
  pending.request = begin(client, url, message, lines_of(message))
  return true
end

-- Waits for the answer to a request.
---@param pending table
---@return respool.http.answer?, respool.http.trouble?
function Client:wait(pending)
  while true do
    local status, text, more = wait(self, pending.request)
    if not status then return nil, { message = text, group = more } end
    local goes_on = REDIRECTS[status] and pending.left > 0 and more.location
      and follow(self, pending, more.location)
    if not goes_on then
      return answer_of(status, text, more)
    end
  end
end

return M
