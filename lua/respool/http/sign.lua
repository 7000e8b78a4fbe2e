-- SPDX-License-Identifier: MIT
--
-- Signatures of requests: HMAC-SHA256 (RFC 2104, FIPS 180-4) by luaossl, over
-- the time of the request, a full stop and the body, in lower case hex.

local compat = require "respool.support.compat"

local M = {}

-- Digests by OpenSSL, loaded when first used.
local function hmac()
  local ok, module = pcall(require, "openssl.hmac")
  if ok then return module end
  compat.misuse("a signature needs luaossl (Debian: lua-luaossl), "
    .. "which cannot be loaded")
end

-- Raises when signatures cannot be made here.
function M.check()
  hmac()
end

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- The signature of a body sent at `timestamp`.
---@param secret string
---@param timestamp string seconds since 1970, as in the header
---@param body string
---@return string
function M.hmac(secret, timestamp, body)
  return hex(hmac().new(secret, "sha256"):final(timestamp .. "." .. body))
end

-- Whether two strings are the same, in a time that does not tell where they
-- differ.
---@param a string
---@param b string
---@return boolean
function M.equal(a, b)
  if #a ~= #b then return false end
  local differ = 0
  for i = 1, #a do
    if a:byte(i) ~= b:byte(i) then differ = differ + 1 end
  end
  return differ == 0
end

return M
