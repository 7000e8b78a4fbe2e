-- SPDX-License-Identifier: MIT
--
-- Where a request comes from. A page of another site makes the browser of
-- somebody who may reach http.admin send requests there: a form, or a script
-- whose own name it lets the address of this server stand for (DNS rebinding).
-- The first sends no header of its own; the second sends its own name as Host.

local reply = require "resty.respool.reply"

local M = {}

local HEADER = "X-Respool"

local function is_address(name)
  return name:match "^%d+%.%d+%.%d+%.%d+$" or name:match "^%[.*%]$"
end

-- The name in a Host header or an origin, without its port.
local function name_of(host)
  return host:gsub(":%d*$", ""):lower()
end

-- Whether requests may name this server so: by an address, as localhost, by
-- the server_name of nginx or by one of `hosts`.
local function is_own(host, hosts)
  local name = name_of(host)
  if is_address(name) or name == "localhost" then return true end
  if name == (ngx.var.server_name or ""):lower() then return true end
  for _, known in ipairs(hosts) do
    if name == known:lower() then return true end
  end
  return false
end

local function refuse(code, message)
  reply.refuse(403, code, message)
  return false
end

-- Whether the request names this server; else it is refused.
---@param hosts string[]
---@return boolean
function M.check_host(hosts)
  local host = ngx.var.http_host
  if not host or is_own(host, hosts) then return true end
  return refuse("HOST", "the Host is neither an address nor the server_name: "
    .. "it must be in the option 'hosts'")
end

local SITES = { ["same-origin"] = true, none = true }

-- The origin is this server's, as the request or one of `hosts` names it.
local function is_same(origin, hosts)
  local host = origin:match "^%w+://(.*)$"
  if not host then return false end
  for _, known in ipairs(hosts) do
    if name_of(host) == known:lower() then return true end
  end
  return host:lower() == (ngx.var.http_host or ""):lower()
end

-- Whether a request that changes something was meant by who sent it; else it
-- is refused.
---@param hosts string[]
---@return boolean
function M.check_act(hosts)
  local site, origin = ngx.var.http_sec_fetch_site, ngx.var.http_origin
  if site and not SITES[site] or origin and not is_same(origin, hosts) then
    return refuse("ORIGIN", "the request comes from a page of another site")
  elseif not ngx.var.http_x_respool then
    return refuse("HEADER", ("a request that changes something needs the "
      .. "header %s, with any value"):format(HEADER))
  end
  return true
end

return M
