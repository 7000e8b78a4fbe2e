-- SPDX-License-Identifier: MIT
--
-- URLs of requests: http and https (RFC 3986, section 3). `label` is the URL in
-- errors, dead letters and figures; it lacks user, query and fragment, which
-- may be secret.

local M = {}

---@class respool.http.url
---@field text string as it was given
---@field scheme "http"|"https"
---@field host string without brackets; UTF-8
---@field port integer
---@field authority string host and port as the Host header wants them
---@field target string path and query
---@field label string

local PORTS = { http = 80, https = 443 }

local function split_authority(authority)
  local host, port = authority:match "^%[([%x:.]+)%]:?(%d*)$"
  if host then return host, port, "[" .. host .. "]" end
  host, port = authority:match "^([^%[%]:/@%s]+):?(%d*)$"
  return host, port, host
end

local function port_of(scheme, digits)
  local port = digits == "" and PORTS[scheme] or tonumber(digits)
  return port and port >= 1 and port <= 65535 and port or nil
end

local function encoded(text)
  return (text:gsub("[\128-\255]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

local function new(text, scheme, host, shown, port, rest)
  local standard = port == PORTS[scheme]
  local authority = standard and shown or ("%s:%d"):format(shown, port)
  local target = encoded(rest:gsub("#.*", ""))
  if target:sub(1, 1) ~= "/" then target = "/" .. target end
  return {
    text = text, scheme = scheme, host = host:lower(), port = port,
    authority = authority, target = target,
    label = ("%s://%s%s"):format(scheme, authority, target:gsub("%?.*", "")),
  }
end

-- The parts of a URL, or nil and why it is none. Users and passwords in it
-- are refused: give an Authorization header.
---@param text any
---@return respool.http.url?, string?
function M.parse(text)
  if type(text) ~= "string" or text:find "[%c ]" then return nil, "a URL" end
  local scheme, authority, rest = text:match "^(%a+)://([^/?#]*)(.*)$"
  scheme = scheme and scheme:lower()
  if not PORTS[scheme] then return nil, "a URL with http:// or https://" end
  if authority:find("@", 1, true) then
    return nil, "a URL without a user (give an Authorization header instead)"
  end
  local host, digits, shown = split_authority(authority)
  if not host then return nil, "a URL with a host" end
  local port = port_of(scheme, digits)
  if not port then return nil, "a URL with a port from 1 to 65535" end
  return new(text, scheme, host, shown:lower(), port, rest)
end

-- The URL as it is asked for.
---@param url respool.http.url
---@return string
function M.whole(url)
  return ("%s://%s%s"):format(url.scheme, url.authority, url.target)
end

return M
