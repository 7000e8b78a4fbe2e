-- SPDX-License-Identifier: MIT
--
-- Items as they are stored: how a user names one, and what peek, get and
-- each show of it.

local core = require "respool.core"
local codec = require "respool.support.codec"
local fields = require "respool.support.fields"
local options = require "respool.support.options"
local pages = require "respool.support.pages"
local workers = require "respool.observe.workers"

local M = {}

local STATES = { [0] = "ready", "leased", "scheduled", "retrying" }
local NUMBERS = { ready = 0, leased = 1, scheduled = 2, retrying = 3 }

---@alias respool.item_state "ready"|"leased"|"scheduled"|"retrying"

-- An item as peek(), get() and each() show it.
---@class respool.stored_item
---@field id integer
---@field queue string
---@field state "ready"|"leased"|"scheduled"|"retrying"
---@field visible_at number? when it is due, or its lease ends; nil: ready
---@field payload any nil when it cannot be decoded
---@field bytes string the payload as stored
---@field codec string? of the payload; nil: CBOR
---@field headers any
---@field header_bytes string? the headers as stored
---@field original any the payload before a replay's first transform
---@field original_codec string? nil: CBOR
---@field key string?
---@field partition string?
---@field version integer of the payload
---@field priority integer
---@field pushed_at number
---@field expires_at number? nil: never
---@field origin respool.origin where and when it was first pushed
---@field attempts integer
---@field deliveries integer
---@field crashes integer
---@field replays integer
---@field error string? of the last failure
---@field memo string?
---@field worker respool.owner? that leases it; nil: none that is known
---@field progress respool.progress? that its handler has reported
local StoredItem = fields.record("an item", [[
  id queue state visible_at payload bytes codec headers header_bytes original
  original_codec key partition version priority pushed_at expires_at origin
  attempts deliveries crashes replays error memo worker progress
]], function(item)
  return ("respool item %d of %s (%s)"):format(item.id, item.queue, item.state)
end)

-- How far a handler has come with its item.
---@class respool.progress
---@field done number? from 0 to 1; nil: not said
---@field text string?
---@field at number when it was reported

-- Progress as the core reports it; nil: none.
---@return respool.progress?
function M.progress(done, at, text)
  if not at then return nil end
  done = done or 0
  return { done = done >= 0 and done or nil, at = at, text = text }
end

-- A stored item, decoded in place. `bytes` stays: the payload as stored,
-- and all there is when it cannot be decoded.
local function present(queue, item)
  item.progress = M.progress(item.progress, item.progress_at,
                             item.progress_text)
  item.progress_at, item.progress_text = nil, nil
  item.queue, item.state = queue.name, STATES[item.state]
  return setmetatable(codec.present(queue.codec, item), StoredItem)
end

-- Items that the core lists, as a user sees them. If it returned no list, its
-- results are returned as they are.
---@param queue respool.queue
---@param items table[]?
---@param message string?
---@param code string?
---@return respool.stored_item[]?, string?, string?
function M.present(queue, items, message, code)
  if not items then return nil, message, code end
  for _, item in ipairs(items) do present(queue, item) end
  return workers.name_owners(queue.store, items)
end

-- An item is named by its id, or by { key = … }.
---@alias respool.item_name integer|{ key: string }

-- The id or the key that a method was given as the name of an item.
---@param form table names the method, and has the field `key`
---@param name respool.item_name
---@return integer|string
---@nodiscard
function M.named(form, name)
  if type(name) ~= "table" then
    return options.argument(1, form.of, name, options.id)
  end
  local o = options.read(form, name, 1)
  options.need(form, o, "key")
  return o.key
end

-- Up to `limit` further items of a state, or of all, as a walk meets them; the
-- cursor moves.
---@param queue respool.queue
---@param cursor userdata of core.cursor()
---@param state respool.item_state?
---@param limit integer
---@return respool.stored_item[]?, string?, string?
---@nodiscard
function M.page(queue, cursor, state, limit)
  return M.present(queue, queue.handle:browse(cursor, NUMBERS[state or ""],
                                                limit))
end

local EACH = {
  of = "queue:each", state = options.choice(NUMBERS),
  on_damaged = options.callable,
}
local PAGE = 100

-- The walk of queue:each.
---@param queue respool.queue
---@param given { state: respool.item_state?, on_damaged: function? }?
---@return fun(): respool.stored_item?
---@nodiscard
function M.each(queue, given)
  local o = options.read(EACH, given, 1)
  local cursor = core.cursor()
  return pages.each(function()
    local items, message, code = M.present(
      queue, queue.handle:browse(cursor, o.state, PAGE))
    if items and items.damaged and o.on_damaged then
      o.on_damaged(items.damaged)
    end
    return items, message, code
  end)
end

return M
