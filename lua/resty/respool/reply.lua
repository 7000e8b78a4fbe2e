-- SPDX-License-Identifier: MIT
--
-- What the functions of resty/respool/http.lua and admin.lua share: answers in
-- JSON, and the stores and queues they are about.

local cjson = require "cjson"
local compat = require "respool.compat"
local options = require "respool.options"
local resty = require "resty.respool"

local M = {}


-- Answers.

local STATUS = {
  FULL = 429, TIMEOUT = 429, BUSY = 429, TOO_LARGE = 413, NOT_FOUND = 404,
  EXISTS = 409,
}

function M.answer(status, value)
  ngx.status = status
  ngx.header.content_type = "application/json"
  ngx.say(cjson.encode(value))
end

function M.refuse(status, code, message)
  M.answer(status, { error = code, message = message })
end

-- What a verb could not do. A full queue asks to come back; so does a store
-- that cannot take anything.
function M.fail(message, code)
  local status = STATUS[code] or 503
  if status == 429 or status == 503 then ngx.header["Retry-After"] = 1 end
  M.refuse(status, code, message)
end

function M.allows(method)
  if ngx.req.get_method() == method then return true end
  ngx.header["Allow"] = method
  M.refuse(405, "METHOD", "use " .. method)
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

local queues = setmetatable({}, { __mode = "k" }) -- by store and handle

-- What tells two handles of one queue apart; the policy is the queue's.
local function handle_of(o)
  local given = o.options or {}
  local of = type(given.codec) == "table" and given.codec.name or given.codec
  return ("%s\0%s\0%s"):format(o.queue, of or "", given.version or "")
end

-- The queue that options name. To open it is a commit, so it is done once.
---@param o { store: any, queue: string, options: table? }
---@return respool.queue?, string?, string?
function M.open_queue(o)
  local store, message, code = resty.store_of(o)
  if not store then return nil, message, code end
  local known, handle = queues[store] or {}, handle_of(o)
  queues[store] = known
  if not known[handle] then
    known[handle], message, code = store:queue(o.queue, o.options)
  end
  return known[handle], message, code
end

M.of_store = { of = "http", store = resty.store_kind, open = options.table }

-- Opens what a GET is about; nil when the request has been answered.
function M.begin(form, given)
  local o = options.read(form, given, 1)
  M.need(form, o, "store")
  local store, message, code = resty.store_of(o)
  if not store then return M.fail(message, code) end
  return store, o
end

return M
