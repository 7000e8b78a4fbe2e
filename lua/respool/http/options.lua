-- SPDX-License-Identifier: MIT
--
-- The options of respool.http, checked: URLs are taken apart, names of headers
-- are in lower case.

local answer_of = require "respool.http.answer"
local body_of = require "respool.http.body"
local headers_of = require "respool.http.headers"
local options = require "respool.support.options"
local sign = require "respool.http.sign"
local url_of = require "respool.http.url"

local M = {}

local function text(value)
  if type(value) == "string" and value ~= "" then return value end
  return nil, "a string that is not empty"
end

local function header_value(value)
  if headers_of.is_value(value) then return value end
  return nil, "a header's value"
end

-- A readable file in PEM format.
local function pem_file(value)
  local file = type(value) == "string" and io.open(value, "rb")
  local bytes = file and file:read "*a"
  if file then file:close() end
  if bytes and bytes:find("-----BEGIN", 1, true) then return value end
  return nil, "a file in PEM format that can be read"
end

local EXPECTED_SECRET = "a string that is not empty, or a list of them"

local function secrets(value)
  if type(value) == "string" then value = { value } end
  if type(value) ~= "table" or #value == 0 then value = { false } end
  for _, secret in ipairs(value) do
    if not text(secret) then return nil, EXPECTED_SECRET end
  end
  return sign.keys(value)
end

local function networks(value)
  if type(value) == "string" then value = { value } end
  if type(value) == "table" and #value > 0 then return value end
  return nil, 'a list of networks such as "10.0.0.0/8" and "private"'
end

local function success(value)
  local known = answer_of.statuses(value)
  if known then return known end
  return nil, 'statuses such as "200-299,409"'
end

local EXPECTED_URL = "a URL, a list of URLs or a function"

---@param list any[]
---@return respool.http.url[]?, string?
function M.urls(list)
  local urls = {}
  for i, value in ipairs(list) do
    local url, expected = url_of.parse(value)
    if not url then return nil, expected end
    urls[i] = url
  end
  if #urls == 0 then return nil, EXPECTED_URL end
  return urls
end

local function url(value)
  if type(value) == "function" then return value end
  if type(value) == "string" then value = { value } end
  if type(value) ~= "table" then return nil, EXPECTED_URL end
  return M.urls(value)
end

local function body(value)
  if type(value) == "function" then
    return function(payload, item) return value(payload, item) end
  end
  if body_of[value] then return body_of[value] end
  return nil, '"auto", "json", "raw", "cbor" or a function'
end

-- Headers by names in lower case; nil when one cannot be sent. Length and
-- host are ours.
---@param headers table
---@return table<string, string>?
function M.headers(headers)
  local kept, all = headers_of.sendable(headers)
  for _, name in ipairs { "host", "content-length", "transfer-encoding" } do
    all = all and not kept[name]
  end
  return all and kept or nil
end

local function headers(value)
  if type(value) == "function" then return value end
  local kept = type(value) == "table" and M.headers(value)
  if kept then return kept end
  return nil, "a function, or a table of headers but Host, Content-Length "
    .. "and Transfer-Encoding"
end

local function names(value)
  local list = {}
  for i, name in ipairs(type(value) == "table" and value or { false }) do
    if not headers_of.is_name(name) then
      return nil, "a list of names of headers"
    end
    list[i] = name:lower()
  end
  return list
end

local MODES = { all = "all", any = "any", first = "first" }
local METHODS = { POST = "POST", PUT = "PUT", PATCH = "PATCH" }

M.form = {
  of = "respool.http", url = url, mode = options.choice(MODES), body = body,
  content_type = header_value, headers = headers, pass = names,
  method = options.choice(METHODS), success = success,
  secret = secrets, signature = options.choice(sign.schemes),
  connect_timeout = options.positive_seconds,
  timeout = options.positive_seconds, max_retry_after = options.seconds,
  per_url = options.whole(1, 2^31), redirects = options.whole(0, 20),
  ca_file = pem_file, cert_file = pem_file, key_file = pem_file,
  min_tls = options.choice { ["1.2"] = "1.2", ["1.3"] = "1.3" },
  proxy = options.string, allow = networks, deny = networks,
  on_request = options.callable,
}

M.defaults = {
  mode = "all", body = body_of.auto, connect_timeout = 5, timeout = 30,
  max_retry_after = 3600, pass = {}, headers = {}, method = "POST",
  success = answer_of.statuses "200-299", signature = "standard",
  redirects = 0,
}

return M
