-- SPDX-License-Identifier: MIT
--
-- Signatures of requests, HMAC-SHA256 by luaossl, with any number of secrets
-- at a time, so that one can follow another:
--
--   standard   Standard Webhooks: webhook-id, webhook-timestamp and
--              webhook-signature, "v1," and base64 of the HMAC of id, time and
--              body with full stops between. A secret "whsec_..." is base64.
--   respool    Respool-Timestamp and Respool-Signature, "v1=" and hex of the
--              HMAC of time and body; the id is not signed.
--
-- Standard Webhooks signs no headers. Respool-Headers names those that are
-- signed as well, and Respool-Headers-Signature signs them in the same manner:
-- "v1," and base64 of the HMAC of id, time and a line "name:value" for each.

local compat = require "respool.support.compat"
local json = require "respool.support.json"

local M = {}

M.SKEW = 300 -- seconds that a signature may be old, or ahead

M.schemes = { standard = "standard", respool = "respool" }

-- Digests by OpenSSL, loaded when first used.
local function hmac()
  local ok, module = pcall(require, "openssl.hmac")
  if ok then return module end
  compat.misuse("a signature needs luaossl (Debian: lua-luaossl), "
    .. "which cannot be loaded")
end

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- The key of a secret; nil when it is "whsec_" without base64 behind it.
---@param secret string
---@return string?
function M.key(secret)
  local encoded = secret:match "^whsec_(.*)$"
  if not encoded then return secret end
  local padded = encoded:gsub("=+$", "")
  padded = padded .. ("="):rep(-#padded % 4)
  return padded ~= "" and json.native.from_base64(padded) or nil
end

-- The keys of secrets, one or a list; raises when one is none, or when
-- signatures cannot be made here.
---@param secrets string[]
---@return string[]
function M.keys(secrets)
  hmac()
  local keys = {}
  for i, secret in ipairs(secrets) do
    keys[i] = M.key(secret)
    if not keys[i] then
      compat.misuse "a secret begins with whsec_ and is not base64 behind it"
    end
  end
  return keys
end

local function digest(key, ...)
  return hmac().new(key, "sha256"):final(table.concat({ ... }, "."))
end

local function in_hex(bytes)
  return "v1=" .. hex(bytes)
end

local function in_base64(bytes)
  return "v1," .. json.native.base64(bytes)
end

-- The signatures of a text in parts by each key.
local function signatures(form, keys, ...)
  local list = {}
  for i, key in ipairs(keys) do list[i] = form(digest(key, ...)) end
  return table.concat(list, " ")
end

-- The signed text of headers. A header that is not there has no value.
local function lines_of(names, headers)
  local lines = {}
  for i, name in ipairs(names) do
    lines[i] = ("%s:%s\n"):format(name, headers[name] or "")
  end
  return table.concat(lines)
end

-- The headers that sign a body under an id, and with the scheme "standard"
-- those headers of `headers` that `names` has.
---@param scheme "standard"|"respool"
---@param keys string[]
---@param id string
---@param body string
---@param headers table<string, string> by names in lower case
---@param names string[]
---@return table<string, string>
function M.headers(scheme, keys, id, body, headers, names)
  local time = ("%d"):format(os.time())
  if scheme == "respool" then
    return { ["respool-timestamp"] = time,
             ["respool-signature"] = signatures(in_hex, keys, time, body) }
  end
  local signed = {}
  for _, name in ipairs(names) do
    if headers[name] then signed[#signed + 1] = name end
  end
  return {
    ["webhook-id"] = id, ["webhook-timestamp"] = time,
    ["webhook-signature"] = signatures(in_base64, keys, id, time, body),
    ["respool-headers"] = signed[1] and table.concat(signed, " "),
    ["respool-headers-signature"] = signed[1] and signatures(
      in_base64, keys, id, time, lines_of(signed, headers)),
  }
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

local function any_of(given, keys, form, ...)
  local found = false
  for one in given:gmatch "%S+" do
    for _, key in ipairs(keys) do
      found = M.equal(one, form(digest(key, ...))) or found
    end
  end
  return found
end

-- The names of the headers that are signed as well; nil: none, or the signature
-- is another's.
local function signed_headers(keys, id, time, headers)
  local names, covered = {}, {}
  for name in (headers["respool-headers"] or ""):gmatch "%S+" do
    names[#names + 1], covered[name] = name, true
  end
  local given = headers["respool-headers-signature"] or ""
  return any_of(given, keys, in_base64, id, time, lines_of(names, headers))
    and covered or nil
end

-- The identity of a signed request: its id, or its signature where the scheme
-- does not sign the id; and a set of the names of the headers that are signed,
-- if any are. Nil when it is not signed, or too old.
---@param scheme "standard"|"respool"
---@param keys string[]
---@param headers table<string, string>
---@param body string
---@return string?, table<string, true>?
function M.verify(scheme, keys, headers, body)
  local prefix = scheme == "standard" and "webhook-" or "respool-"
  local id, time = headers["webhook-id"], headers[prefix .. "timestamp"] or ""
  local given = headers[prefix .. "signature"] or ""
  local seconds = tonumber(time:match "^%d+$")
  if not seconds or math.abs(os.time() - seconds) > M.SKEW then return nil end
  if scheme == "respool" then
    return any_of(given, keys, in_hex, time, body)
      and hex(digest(keys[1], time, body)) or nil
  end
  if not id or id == "" or not any_of(given, keys, in_base64, id, time, body)
  then
    return nil
  end
  return id, signed_headers(keys, id, time, headers)
end

return M
