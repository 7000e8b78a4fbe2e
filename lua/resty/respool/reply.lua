-- SPDX-License-Identifier: MIT
--
-- Answers in JSON, and the stores and queues they are about, for the functions
-- of resty/respool/http.lua and admin.lua.

local answers = require "respool.console.answer"
local compat = require "respool.support.compat"
local core = require "respool.core"
local json = require "resty.respool.json"
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

-- A body whose text is in pieces.
---@param pieces string[]
function M.send_pieces(status, kind, pieces)
  local size = 0
  for _, piece in ipairs(pieces) do size = size + #piece end
  begin(status, kind)
  ngx.header["Content-Length"] = size
  ngx.print(pieces)
end

local SORTED = { sorted = true }

function M.answer(status, value)
  local text = json.from_cbor(core.cbor.encode(value), SORTED)
  M.send(status, "application/json", text .. "\n")
end

local PIECE = 2^18 -- bytes, more of which are sent as they come

-- A list of JSON texts, as its pieces come.
local function send_list(answer)
  local parts, size, sent, next_piece = {}, 0, false, answers.pieces(answer)
  while true do
    local text, message, code = next_piece()
    if message and not sent then return M.fail(message, code) end
    if message then return ngx.exit(ngx.ERROR) end -- the text has no end
    if not text then break end
    parts[#parts + 1], size = text, size + #text
    if size > PIECE then
      if not sent then begin(200, "application/json") end
      ngx.print(parts)
      if not ngx.flush(true) then return end
      parts, size, sent = {}, 0, true
    end
  end
  if sent then return ngx.print(parts) end
  M.send(200, "application/json", table.concat(parts))
end

-- Events, until the client is gone.
local function send_events(answer)
  begin(200, "text/event-stream")
  ngx.header["X-Accel-Buffering"] = "no" -- of a proxy in front
  if ngx.req.get_method() == "HEAD" then return end
  answer.events(function(text)
    ngx.print(text)
    return ngx.flush(true)
  end)
end

-- Sends an answer of respool/console/answer.lua.
---@param answer respool.console.answer
function M.give(answer)
  if answer.list then return send_list(answer) end
  for name, value in pairs(answer.headers or {}) do
    ngx.header[name] = value
  end
  if answer.events then return send_events(answer) end
  if answer.text then return M.send(answer.status, answer.type, answer.text) end
  M.answer(answer.status, answer.value)
end

-- An answer that is an error, perhaps with more about it.
---@param beside table?
function M.refuse(status, code, message, beside)
  M.give(answers.refuse(status, code, message, beside))
end

-- Answers for the verb that failed last.
---@param beside table?
function M.fail(message, code, beside)
  M.give(answers.fail(message, code, beside))
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

-- A value of options as text, the same for the same. All functions are the
-- same.
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
