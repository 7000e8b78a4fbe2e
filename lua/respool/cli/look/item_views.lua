-- SPDX-License-Identifier: MIT
--
-- The pages of respool top that show items: of a queue, of all queues in a
-- state, and one whole; and what can be done with an item.

local codec = require "respool.support.codec"
local core = require "respool.core"
local editor = require "respool.cli.base.editor"
local items = require "respool.observe.items"
local json = require "respool.support.json"
local output = require "respool.cli.base.output"
local paper = require "respool.cli.look.paper"
local queue_views = require "respool.cli.look.queue_views"
local show = require "respool.cli.base.show"

local with_queue = queue_views.with

local M = {}

local MOST = 200  -- items of a queue that a page shows
local ALL = 500   -- of all queues

local function item_page(of)
  return paper.page(("item %d"):format(of.id), function(look, io)
    return with_queue(look.store, of.queue, function(queue)
      local item, message = queue:get(of.id)
      if not item then return nil, message end
      show.item(io, item, { now = look.store:now(), full = true })
      return true
    end)
  end)
end


-- Acting.

local function item_action(word, verb, done)
  return {
    word = word,
    question = function(of)
      return ("%s item %d of %s?"):format(verb, of.id, output.clean(of.queue))
    end,
    run = function(store, of)
      return with_queue(store, of.queue, function(queue)
        local ok, message = done(queue, of.id)
        return ok and ("item %d: %s"):format(of.id, word), message
      end)
    end,
  }
end

local function move(store, of, name)
  local to, message = store:queue(name, { create = false })
  if not to then return nil, message end
  local id, why = with_queue(store, of.queue, function(queue)
    return queue:move(of.id, to)
  end)
  to.handle:close()
  return id and ("it is item %d of %s"):format(id, output.clean(name)), why
end

-- The JSON of a payload, as somebody has edited it, as CBOR; nil and why not.
local function edited(store, of)
  local item, message = with_queue(store, of.queue, function(queue)
    return queue:get(of.id)
  end)
  if not item then return nil, message end
  local text, known = json.body(item.bytes,
    json.codec_of(item, rawget(item, "codec")), { indent = 2 })
  if not known then return nil, "the payload is no JSON, but bytes" end
  local changed, why = editor.edit(text)
  if not changed then return nil, why end
  local bytes
  bytes, why = json.to_cbor(changed)
  return bytes, why and "the text cannot be read as JSON: " .. why
end

local function save(store, of, bytes)
  return with_queue(store, of.queue, function(queue)
    local ok, message = queue:edit(of.id, bytes)
    return ok and ("item %d: edited"):format(of.id), message
  end, codec.encoded_as "cbor")
end

local ACTIONS = {
  R = item_action("run now", "Run now", function(queue, id)
    return queue:run_now(id)
  end),
  K = item_action("kill", "Kill, making it a dead letter:",
                  function(queue, id) return queue:kill(id) end),
  X = item_action("cancel", "Cancel and remove", function(queue, id)
    return queue:cancel(id)
  end),
  E = {
    word = "edit", prepare = edited, run = save,
    question = function(of)
      return ("Give item %d of %s the payload as edited?"):format(
        of.id, output.clean(of.queue))
    end,
  },
  M = {
    word = "move", run = move,
    prompt = function(of)
      return ("Move item %d of %s to the queue: "):format(
        of.id, output.clean(of.queue))
    end,
  },
}


-- Listing.

local ITEMS = {
  { title = "ITEM", right = true }, { title = "QUEUE", cut = true },
  { title = "STATE" }, { title = "DUE", right = true },
  { title = "ATTEMPTS", right = true },
  { title = "PAYLOAD", cut = true }, { title = "ERROR", cut = true },
}

local function item_row(item, now)
  local due = item.visible_at and item.visible_at > now
    and "in " .. output.duration(item.visible_at - now) or nil
  return {
    output.number(item.id), item.queue, item.state, due, item.attempts,
    output.line(item, {}), item.error and output.clean(item.error),
    key = ("%s %d"):format(item.queue, item.id),
    of = { id = item.id, queue = item.queue },
    due = item.visible_at or 0,
  }
end

-- Adds the first items of a queue.
local function add_items(rows, store, name, state)
  return with_queue(store, name, function(queue)
    local cursor, now, left = core.cursor(), store:now(), MOST
    repeat -- a page of large items ends early
      local page, message = items.page(queue, cursor, state, left)
      if not page then return nil, message end
      for _, item in ipairs(page) do rows[#rows + 1] = item_row(item, now) end
      left = left - #page
    until #page == 0 or left == 0
    return true
  end)
end

-- The items of a queue, of one state or all.
---@param name string
---@param state string?
---@return respool.cli.page
function M.of_queue(name, state)
  return {
    name = name, enter = item_page, actions = ACTIONS,
    views = queue_views.views_of(name),
    read = function(look)
      local rows = {}
      local ok, message = add_items(rows, look.store, name, state)
      if not ok then return nil, message end
      return paper.table(look, ITEMS, rows)
    end,
  }
end

local function sooner(a, b)
  if a.due ~= b.due then return a.due < b.due end
  return a.key < b.key
end

-- The items of all queues in a state, those that are due first on top.
---@param state string
---@return respool.cli.page
function M.of_state(state)
  return {
    name = state, enter = item_page, actions = ACTIONS,
    read = function(look)
      local rows = {}
      for _, q in ipairs(look.queues) do
        if q.stats[state] > 0 and #rows < ALL then
          local ok, message = add_items(rows, look.store, q.name, state)
          if not ok then return nil, message end
        end
      end
      table.sort(rows, sooner)
      return paper.table(look, ITEMS, rows)
    end,
  }
end

return M
