-- SPDX-License-Identifier: MIT
--
-- Where a request comes from. A page of another site makes the browser of
-- somebody who may reach this server send requests there: a form, or a script
-- whose own name it lets the address of this server stand for (DNS rebinding).
-- The first sends no header of its own; the second sends its own name as Host.

local answer = require "respool.console.answer"
local sign = require "respool.http.sign"

local M = {}

local HEADER = "X-Respool"

local function is_address(name)
  return name:match "^%d+%.%d+%.%d+%.%d+$" or name:match "^%[.*%]$"
end

-- The name in a Host header or an origin, without its port.
local function name_of(host)
  return host:gsub(":%d*$", ""):lower()
end

local function is_known(name, hosts)
  for _, known in ipairs(hosts) do
    if name == known:lower() then return true end
  end
  return false
end

-- Refuses a request that names another server: this one is named by an
-- address, as localhost, or by a name that the console has.
---@param request respool.console.request
---@param console respool.console
---@return respool.console.answer?
function M.check_host(request, console)
  local host = request.headers.host
  local name = host and name_of(host)
  if not name or is_address(name) or name == "localhost"
     or is_known(name, console.hosts)
     or name == (console.server_name or ""):lower() then
    return nil
  end
  return answer.refuse(403, "HOST", "the Host is neither an address nor a name "
    .. "of this server: it must be in the option 'hosts'")
end

local SITES = { ["same-origin"] = true, none = true }

-- The origin is this server's, as the request or one of `hosts` names it.
local function is_same(origin, request, hosts)
  local host = origin:match "^%w+://(.*)$"
  if not host then return false end
  return is_known(name_of(host), hosts)
    or host:lower() == (request.headers.host or ""):lower()
end

-- Refuses a request that is no GET and was not meant by who sent it.
---@param request respool.console.request
---@param console respool.console
---@return respool.console.answer?
function M.check_meant(request, console)
  local site, origin = request.headers["sec-fetch-site"], request.headers.origin
  if site and not SITES[site]
     or origin and not is_same(origin, request, console.hosts) then
    return answer.refuse(403, "ORIGIN",
      "the request comes from a page of another site")
  elseif not request.headers["x-respool"] then
    return answer.refuse(403, "HEADER", ("a request that changes something "
      .. "needs the header %s, with any value"):format(HEADER))
  end
end

-- Refuses a request without the token.
---@param request respool.console.request
---@param token string
---@return respool.console.answer?
function M.check_token(request, token)
  local given = (request.headers.authorization or ""):match "^Bearer (.+)$"
  if given and sign.equal(given, token) then return nil end
  return answer.refuse(401, "TOKEN", "the token is missing or wrong", nil,
                       { ["WWW-Authenticate"] = "Bearer" })
end

return M
