-- SPDX-License-Identifier: MIT
--
-- What the functions of resty/respool/http.lua and admin.lua share: answers in
-- JSON, and the stores and queues they are about.

local compat = require "respool.support.compat"
local core = require "respool.core"
local json = require "respool.support.json"
local options = require "respool.support.options"
local resty = require "resty.respool"

local M = {}


-- Answers.

-- Answers are not cached, and their type is not guessed.
local function begin(status, kind)
  ngx.status = status
  ngx.header.content_type = kind
  ngx.header["Cache-Control"] = "no-store"
  ngx.header["X-Content-Type-Options"] = "nosniff"
end

-- A text as the whole body. Of the answer to a HEAD nginx sends the headers.
function M.send(status, kind, text)
  begin(status, kind)
  ngx.header["Content-Length"] = #text
  ngx.print(text)
end

function M.answer(status, value)
  M.send(status, "application/json", json.encode(value) .. "\n")
end

local PIECE = 2^18 -- bytes, more of which are sent as they come

-- A list of JSON texts under a name, page after page, until an empty one.
---@param name string
---@param next_page fun(): string[]?, string?, string?
function M.list(name, next_page)
  local parts, size, sent = { ('{"%s":['):format(name) }, 0, false
  local page, message, code = next_page()
  if not page then return M.fail(message, code) end
  while page and #page > 0 do
    for _, text in ipairs(page) do
      parts[#parts + 1] = text
      parts[#parts + 1] = ","
      size = size + #text
    end
    page, message, code = next_page()
    if size > PIECE and page and #page > 0 then
      if not sent then begin(200, "application/json") end
      ngx.print(parts)
      if not ngx.flush(true) then return end
      parts, size, sent = {}, 0, true
    end
  end
  if not page and not sent then return M.fail(message, code) end
  if not page then return ngx.exit(ngx.ERROR) end -- the text has no end
  if parts[#parts] == "," then parts[#parts] = nil end
  parts[#parts + 1] = "]}\n"
  local text = table.concat(parts)
  if sent then return ngx.print(text) end
  M.send(200, "application/json", text)
end

-- Messages are text, whatever names they hold.
local function text_of(message)
  if json.is_text(message) then return message end
  return (message:gsub("[\128-\255]", function(c)
    return ("\\x%02x"):format(c:byte())
  end))
end

-- An answer that is an error, perhaps with more about it.
---@param beside table?
function M.refuse(status, code, message, beside)
  local told = {}
  for name, value in pairs(beside or {}) do told[name] = value end
  told.error, told.message = code, text_of(message)
  M.answer(status, told)
end

local STATUS = { TOO_LARGE = 413, NOT_FOUND = 404, EXISTS = 409 }

-- A full queue asks to come back, once consumers have made room; so does a
-- store that cannot take anything.
local function status_of(code)
  if code == "FULL" or code == "TIMEOUT" then
    return core.error_of_store() and 503 or 429
  end
  return STATUS[code] or 503
end

-- Answers for the verb that failed last.
---@param beside table?
function M.fail(message, code, beside)
  local status = status_of(code)
  if status == 429 or status == 503 then ngx.header["Retry-After"] = 1 end
  M.refuse(status, code, message, beside)
end

-- A store, or a queue of it, that cannot be opened.
function M.unavailable(message, code)
  ngx.header["Retry-After"] = 1
  M.refuse(503, code, message)
end

-- The method, where HEAD is a GET.
function M.method()
  local method = ngx.req.get_method()
  return method == "HEAD" and "GET" or method
end

---@param allowed string[]
function M.refuse_method(allowed)
  local names = table.concat(allowed, ", "):gsub("GET", "GET, HEAD")
  ngx.header["Allow"] = names
  M.refuse(405, "METHOD", "use " .. names)
end

function M.allows(method)
  if M.method() == method then return true end
  M.refuse_method { method }
  return false
end


-- Stores and queues, opened by the first request that needs them.

-- Raises when an option is missing.
function M.need(form, o, ...)
  for _, name in ipairs { ... } do
    if o[name] == nil then
      compat.misuse(("%s: option '%s' is missing"):format(form.of, name))
    end
  end
end

-- A value of options as text, the same for the same. What functions do is
-- not seen.
local function key_of(value)
  local kind = type(value)
  if kind == "string" then return ("%q"):format(value) end
  if kind == "number" then return core.decimal(value) end
  if kind == "boolean" then return tostring(value) end
  if kind ~= "table" then return kind end
  local parts = {}
  for k, v in pairs(value) do
    parts[#parts + 1] = ("[%s]=%s"):format(key_of(k), key_of(v))
  end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

local queues = setmetatable({}, { __mode = "k" }) -- by store and options

-- The queue that options name. To open it is a commit, so it is done once for
-- the same options. These hold no functions that matter to a push.
---@param o { store: any, queue: string, options: table }
---@return respool.queue?, string?, string?
function M.open_queue(o)
  local store, message, code = resty.store_of(o)
  if not store then return nil, message, code end
  local known, key = queues[store] or {}, o.queue .. "\0" .. key_of(o.options)
  queues[store] = known
  if not known[key] then
    known[key], message, code = store:queue(o.queue, o.options)
  end
  return known[key], message, code
end

-- Forgets a queue's handle: it was dropped from the store.
---@param queue respool.queue
function M.forget(queue)
  local known = queues[queue.store]
  for key, kept in pairs(known) do
    if kept == queue then known[key] = nil end
  end
end

M.of_store = { of = "http", store = resty.store_kind, open = options.table }

-- Opens what a GET is about; nil when the request has been answered.
function M.begin(form, given)
  local o = options.read(form, given, 1)
  M.need(form, o, "store")
  local store, message, code = resty.store_of(o)
  if not store then return M.unavailable(message, code) end
  return store, o
end

return M
