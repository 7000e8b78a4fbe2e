-- SPDX-License-Identifier: MIT
--
-- https by LuaSec: the certificate must be signed by one that is trusted and
-- be for the host that was asked for (RFC 6125, section 6.4).

local compat = require "respool.support.compat"

local M = {}

local CA_PATH = "/etc/ssl/certs" -- where Debian keeps what is trusted
local ALT_NAMES = "2.5.29.17" -- subjectAltName

-- Raises when there is no LuaSec.
function M.check()
  if not pcall(require, "ssl") then
    compat.misuse("https needs LuaSec (Debian: lua-sec), "
      .. "which cannot be loaded")
  end
end

local function params(cafile)
  return {
    mode = "client", protocol = "any", verify = "peer",
    options = { "all", "no_sslv2", "no_sslv3", "no_tlsv1", "no_tlsv1_1" },
    cafile = cafile, capath = not cafile and CA_PATH or nil,
  }
end

-- A wildcard is the whole of the first label, of three at least.
local function matches(pattern, host)
  pattern = pattern:lower()
  if pattern == host then return true end
  local rest = pattern:match "^%*(%.[^*]+%.[^*]+)$"
  return rest ~= nil and host:match "^[^.]+(%..*)$" == rest
end

local function any(list, host)
  for _, name in ipairs(list or {}) do
    if matches(name, host) then return true end
  end
  return false
end

local function is_for(certificate, host)
  local names = (certificate:extensions() or {})[ALT_NAMES] or {}
  return any(names.dNSName, host) or any(names.iPAddress, host)
end

local function handshake(secure, wait, till)
  while true do
    local ok, message = secure:dohandshake()
    if ok then return true end
    local kind = message == "wantread" and "read"
      or message == "wantwrite" and "write"
    if not kind then return nil, message end
    ok, message = wait(secure, kind, till)
    if not ok then return nil, message end
  end
end

-- Makes a connected socket a secure one. `wait` waits as Loop:wait does.
---@param socket table
---@param host string
---@param cafile string?
---@param wait function
---@param till number
---@return table?, string?
function M.wrap(socket, host, cafile, wait, till)
  local secure, message = require "ssl".wrap(socket, params(cafile))
  if not secure then return nil, "TLS: " .. tostring(message) end
  secure:settimeout(0)
  if not host:find "^[%d.]+$" and not host:find ":" then secure:sni(host) end
  local ok
  ok, message = handshake(secure, wait, till)
  if ok and not is_for(secure:getpeercertificate(), host) then
    ok, message = nil, "the certificate is not for this host"
  end
  if ok then return secure end
  secure:close()
  return nil, message == "timeout" and message or "TLS: " .. message
end

return M
