-- SPDX-License-Identifier: MIT
--
-- CBOR as specs write it: in hexadecimal digits.

local cbor = require "respool.core".cbor

local M = {}

function M.bytes(digits)
  digits = digits:gsub("%s", "")
  return (digits:gsub("%x%x", function(b)
    return string.char(tonumber(b, 16))
  end))
end

function M.hex(s)
  return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

function M.written(v) return M.hex(cbor.encode(v)) end
function M.read(digits) return cbor.decode(M.bytes(digits)) end
function M.again(v) return cbor.decode(cbor.encode(v)) end

-- What decoding has against the bytes, when it is a plain failure.
function M.refusal(s)
  local v, message, code = cbor.decode(s)
  if v == nil and code == "CORRUPT" then return message end
end

-- What encoding has against the value, without the place in a file.
function M.complaint(v)
  local ok, message = pcall(cbor.encode, v)
  return not ok and message:gsub("^[^:]+:%d+: ", "") or nil
end

return M
