-- SPDX-License-Identifier: MIT
--
-- respool inside nginx: the same module and the same stores. Calls that would
-- block yield the light thread instead; resty/respool/waiting.lua says how, and
-- which phase may call what.
--
--   init_worker_by_lua_block {
--     assert(require("resty.respool").shared "/var/lib/jobs")
--   }
--   exit_worker_by_lua_block { require("resty.respool").exit() }
--
-- Opening and closing wait for the disk in place: open in init_worker_by_lua,
-- close in exit_worker_by_lua.

local closing = require "respool.observe.closing"
local core = require "respool.core"
local location = require "respool.support.location"
local waiting = require "resty.respool.waiting"
local compat = require "respool.support.compat"
local logger = require "respool.observe.logger"
local stats = require "respool.observe.stats"
local options = require "respool.support.options"
local respool = require "respool"

require "resty.respool.cosockets" -- by which respool.http sends
require "resty.respool.values" -- by which long payloads are decoded

core.home(debug.getinfo(1, "S").source)

---@class resty.respool : respool
local M = setmetatable({}, { __index = respool })

local opened = setmetatable({}, { __mode = "k" }) -- stores of this worker
local shared = {} -- by path

-- Warnings and errors go to the error log.
local function to_error_log(level, line)
  ngx.log(level == "error" and ngx.ERR or ngx.WARN, line)
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
  if given ~= nil and type(given) ~= "table" then
    options.bad_argument(2, "respool.open", "table of options", given)
  end
  local o = {}
  for name, value in pairs(given or {}) do o[name] = value end
  if o.clock then
    compat.misuse "respool.open: inside nginx time does not stand still"
  end
  if o.log == nil then o.log = logger.new(to_error_log) end
  return o
end

-- Closes the store, letting handlers of other coroutines go on until a
-- deadline. Before and after there are requests it waits in place.
local function close(store, deadline, pause)
  local close_store = getmetatable(store).close
  if waiting.can_yield() then
    if deadline then pause = pause or ngx.sleep end
    return close_store(store, deadline, pause)
  elseif not OPENS[ngx.get_phase()] then
    return waiting.refusal "store:close"
  end
  closing.give_up(store) -- by who cannot go on
  return waiting.in_place(math.huge, close_store, store, deadline, pause)
end

-- A store that cannot be asked here is not unhealthy.
local function health(store, given)
  if not waiting.can_yield() and ngx.get_phase() ~= "exit_worker" then
    return waiting.refusal "store:health"
  end
  return getmetatable(store).health(store, given)
end

-- As respool.open; without a `log` warnings and errors go to nginx's error
-- log.
---@param path string
---@param given respool.open_options?
---@return respool.store?, string?, string?
function M.open(path, given)
  local message, code = why_not()
  if message then return nil, message, code end
  local store
  store, message, code = respool.open(path, with_log(given))
  if not store then return nil, message, code end
  store.close, store.health = close, health
  opened[store] = true
  return store
end

local function is_closed(store)
  return store.closing or store.handle:closed()
end

-- The worker's own store of this path, opened by the first call, with its
-- options.
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

---@class respool.store_of
---@field store string|respool.store a path is opened as shared() does
---@field open respool.open_options? of a path

-- The store that options name.
---@param o respool.store_of
---@return respool.store?, string?, string?
function M.store_of(o)
  if type(o.store) ~= "string" then return o.store end
  return M.shared(o.store, o.open)
end


-- The end of the process.

local FLUSH, LEASES = 5, 0.5 -- seconds

local EXIT = { of = "respool.exit", deadline = options.seconds }

local function buffered(store)
  local n = 0
  for _, of in pairs(stats.buffers(store)) do n = n + of.items end
  return n
end

-- For how long it is worth to keep the process: leases run out without it.
local function patience(store, deadline)
  return buffered(store) > 0 and deadline or math.min(deadline, LEASES)
end

local function close_at_exit(store, deadline)
  local close_store = getmetatable(store).close
  if not OPENS[ngx.get_phase()] then return store:close() end
  return waiting.in_place(patience(store, deadline), close_store, store)
end

-- The losses of a store that could not be closed in order, or nothing.
local function losses(left)
  local text = ""
  if left and left.buffered > 0 then
    text = ("; buffered items lost: %d"):format(left.buffered)
  end
  if left and left.batches > 0 then
    text = ("%s; batches not released, whose leases run out by themselves: %d")
      :format(text, left.batches)
  end
  return text
end

-- Closes all stores of this worker: leases are released, buffers flushed. For
-- exit_worker_by_lua. Errors are logged, with the losses. Where the
-- disk is slow, or another process holds the writer lock, it waits for
-- `deadline` seconds (5) if buffers hold something, else for half a second at
-- most: then the process may go, and leases run out by themselves.
---@param given { deadline: respool.seconds? }?
function M.exit(given)
  local deadline = options.read(EXIT, given, 1).deadline or FLUSH
  for store in pairs(opened) do
    local ok, message, _, left = close_at_exit(store, deadline)
    if not ok then
      ngx.log(ngx.ERR, "respool: store ", location.shown(store.path),
          ": ", message,
              losses(left))
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

for _, name in ipairs { "compact", "repair", "export", "import", "file_writer",
                        "file_reader" } do
  in_place(name)
end

-- Raises: workers are nginx's, see resty.respool.worker.
function M.work_processes()
  compat.misuse "respool.work_processes: use resty.respool.worker inside nginx"
end

return M
