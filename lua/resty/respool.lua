-- SPDX-License-Identifier: MIT
--
-- respool inside nginx: the same module and the same stores, where what waits
-- yields. See resty/respool/waiting.lua for how, and for what each phase may.
--
--   init_worker_by_lua_block {
--     assert(require("resty.respool").shared "/var/lib/jobs")
--   }
--   exit_worker_by_lua_block { require("resty.respool").exit() }
--
-- Opening and closing wait for the disk in place: open in init_worker_by_lua,
-- close in exit_worker_by_lua.

local closing = require "respool.closing"
local core = require "respool.core"
local waiting = require "resty.respool.waiting"
local compat = require "respool.compat"
local options = require "respool.options"
local respool = require "respool"

core.home(debug.getinfo(1, "S").source)

---@class resty.respool : respool
local M = setmetatable({}, { __index = respool })

local opened = setmetatable({}, { __mode = "k" }) -- stores of this worker
local shared = {} -- by path

-- Nobody else would hear of what goes wrong inside.
local function to_error_log(err)
  ngx.log(ngx.ERR, "respool: ", err.where, ": ", err.message)
end

local OPENS = { init_worker = true, exit_worker = true }

-- Why a store cannot be opened here: nil, message, code. Nothing when it can.
local function why_not()
  local phase = ngx.get_phase()
  if phase == "init" then
    return "a store cannot be opened in init_by_lua: it would not survive the "
      .. "fork of the workers; open it in init_worker_by_lua", "FORKED"
  elseif not OPENS[phase] and not waiting.can_yield() then
    return select(2, waiting.refusal "respool.open")
  end
end

local function with_log(given)
  local o = {}
  for name, value in pairs(given or {}) do o[name] = value end
  if o.clock then
    compat.misuse "respool.open: inside nginx time does not stand still"
  end
  o.on_error = o.on_error or to_error_log
  return o
end

-- Closes the store, letting handlers of other coroutines go on until a
-- deadline.
local function close(store, deadline, pause)
  local can_yield = waiting.can_yield()
  if not can_yield and not OPENS[ngx.get_phase()] then
    return waiting.refusal "store:close"
  end
  if not can_yield then closing.give_up(store) end -- by who cannot go on
  if deadline and can_yield then pause = pause or ngx.sleep end
  return getmetatable(store).close(store, deadline, pause)
end

-- As respool.open; errors that nobody would be told go to nginx's error log
-- unless there is an `on_error`.
---@param path string
---@param given respool.open_options?
---@return respool.store?, string?, string?
function M.open(path, given)
  local message, code = why_not()
  if message then return nil, message, code end
  local store
  store, message, code = respool.open(path, with_log(given))
  if not store then return nil, message, code end
  store.close = close
  opened[store] = true
  return store
end

local function is_closed(store)
  return store.closing or store.handle:closed()
end

-- The worker's own store of this path, opened by the first who asks for it,
-- with the options given then.
---@param path string
---@param given respool.open_options?
---@return respool.store?, string?, string?
function M.shared(path, given)
  options.argument(1, "respool.shared", path, options.string)
  local store = shared[path]
  if store and not is_closed(store) then return store end
  local message, code
  store, message, code = M.open(path, given)
  if not store then return nil, message, code end
  shared[path] = store
  return store
end

-- The kind of an option `store`: a path, or a store that is open.
---@param value any
function M.store_kind(value)
  if type(value) == "string" or options.store(value) then return value end
  return nil, "a path or a store"
end

-- The store of options: what `store` names, a path opened as shared() does.
---@param o { store: string|respool.store, open: respool.open_options? }
---@return respool.store?, string?, string?
function M.store_of(o)
  if type(o.store) ~= "string" then return o.store end
  return M.shared(o.store, o.open)
end

-- Closes all stores of this worker: buffers are flushed, leases released.
-- For exit_worker_by_lua. What goes wrong is logged.
function M.exit()
  for store in pairs(opened) do
    local ok, message = store:close()
    if not ok then
      ngx.log(ngx.ERR, "respool: store ", store.path, ": ", message)
    end
  end
end

-- Work on files has no ticket: where it may be done, it is done in place, and
-- the event loop stands. Before there are requests, and after them, nobody
-- waits for it.
local function in_place(name)
  M[name] = function(...)
    local phase = ngx.get_phase()
    if phase ~= "init" and not OPENS[phase] and not waiting.can_yield() then
      return waiting.refusal("respool." .. name)
    end
    return respool[name](...)
  end
end

for _, name in ipairs { "compact", "repair", "dump", "restore", "file_writer",
                        "file_reader" } do
  in_place(name)
end

-- Workers are nginx's: see resty/respool/worker.lua.
function M.work_processes()
  compat.misuse "respool.work_processes: use resty.respool.worker inside nginx"
end

return M
