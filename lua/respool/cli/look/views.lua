-- SPDX-License-Identifier: MIT
--
-- The pages of respool top, but for the queues (dashboard.lua): what each
-- reads from the store, where Enter leads, and what can be done with a row.
-- Pages write as the other commands do.

local core = require "respool.core"
local dead_views = require "respool.cli.look.dead_views"
local items = require "respool.observe.items"
local output = require "respool.cli.base.output"
local paper = require "respool.cli.look.paper"
local show = require "respool.cli.base.show"
local stats = require "respool.cli.look.stats"

local M = {}

-- A page: `read` is called at each look, of a `still` page at the first alone.
---@class respool.cli.page
---@field name string
---@field read fun(look: respool.cli.look): respool.cli.row[]?, string? head or
--- why it cannot be read
---@field enter (fun(of: any): respool.cli.page)?
---@field actions table<string, respool.cli.page_action>? by key
---@field still boolean?
---@field rows respool.cli.row[]? as they were read last
---@field head string?
---@field at string|integer|nil key of the row under the cursor
---@field index integer? its place
---@field first integer? the row on top of the screen

---@class respool.cli.row
---@field key string|integer
---@field text string
---@field of any what it shows
---@field style string?

---@class respool.cli.page_action
---@field word string what it does, for the last line
---@field question fun(of: any): string
---@field run fun(store: respool.store, of: any): any, string? nil and why not;
--- or what was done, as a text

---@class respool.cli.look
---@field store respool.store
---@field columns integer of the screen
---@field groups table[] dead letters by group, as the sampler counts them

local MOST = 200  -- items of a queue that a page shows
local ALL = 500   -- of all queues


-- Reading.

-- What fn(queue) returns, of a queue that exists.
local function with_queue(store, name, fn)
  local queue, message = store:queue(name, { create = false, codec = "raw" })
  if not queue then return nil, message end
  local result, why = fn(queue)
  queue.handle:close()
  return result, why
end


-- Items.

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

local ITEM_ACTIONS = {
  R = item_action("run now", "Run now", function(queue, id)
    return queue:run_now(id)
  end),
  K = item_action("kill", "Kill, making it a dead letter:",
                  function(queue, id) return queue:kill(id) end),
  X = item_action("cancel", "Cancel and remove", function(queue, id)
    return queue:cancel(id)
  end),
}

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
local function queue_page(name, state)
  return {
    name = name, enter = item_page, actions = ITEM_ACTIONS,
    read = function(look)
      local rows = {}
      local ok, message = add_items(rows, look.store, name, state)
      if not ok then return nil, message end
      return paper.table(look, ITEMS, rows)
    end,
  }
end
M.queue = queue_page

local function sooner(a, b)
  if a.due ~= b.due then return a.due < b.due end
  return a.key < b.key
end

-- The items of all queues in a state, those that are due first on top.
local function state_page(state)
  return {
    name = state, enter = item_page, actions = ITEM_ACTIONS,
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


-- Workers.

local WORKERS = {
  { title = "WORKER", right = true }, { title = "NAME", cut = true },
  { title = "QUEUE", cut = true }, { title = "STATE" },
  { title = "HOST", cut = true }, { title = "PID", right = true },
  { title = "SINCE", right = true }, { title = "SEEN", right = true },
  { title = "LEASED", right = true },
}

local STYLES = { gone = "red", stopping = "yellow" }

local workers_page = {
  name = "at work",
  enter = function(of) return queue_page(of.queue, "leased") end,
  actions = { S = {
    word = "stop",
    question = function(of)
      return ("Ask worker %d (%s) to stop?"):format(of.number,
                                                    output.clean(of.name))
    end,
    run = function(store, of)
      local ok, message = store:stop_worker(of.number)
      return ok and ("worker %d was asked to stop"):format(of.number), message
    end,
  } },
  read = function(look)
    local workers, message = look.store:workers()
    if not workers then return nil, message end
    local rows, now = {}, look.store:now()
    for i, w in ipairs(workers) do
      rows[i] = {
        output.number(w.number), w.name, w.queue, w.state, w.host,
        ("%d"):format(w.pid), show.ago(now, w.started_at),
        show.ago(now, w.seen_at), output.number(w.leased),
        key = w.number, of = w, style = STYLES[w.state],
      }
    end
    return paper.table(look, WORKERS, rows)
  end,
}


-- Replays, and the store.

local REPLAYS = {
  { title = "NAME", cut = true }, { title = "FROM", cut = true },
  { title = "TO", cut = true }, { title = "STATE" },
  { title = "SEEN", right = true }, { title = "MOVED", right = true },
  { title = "SKIPPED", right = true }, { title = "FAILED", right = true },
  { title = "UPDATED", right = true },
}

local replays_page = {
  name = "replays",
  actions = { S = {
    word = "stop",
    question = function(of)
      return ("Stop replay %s?"):format(output.clean(of.name))
    end,
    run = function(store, of)
      local ok, message = store:cancel_replay(of.name)
      return ok and "the replay was asked to stop", message
    end,
  } },
  read = function(look)
    local replays, message = look.store:replays()
    if not replays then return nil, message end
    local rows, now = {}, look.store:now()
    for i, r in ipairs(replays) do
      rows[i] = {
        r.name, r.dlq, r.to, r.state, output.number(r.seen),
        output.number(r.moved), output.number(r.skipped),
        output.number(r.failed), show.ago(now, r.updated_at) .. " ago",
        key = r.name, of = r,
        style = r.state == "interrupted" and "yellow" or nil,
      }
    end
    return paper.table(look, REPLAYS, rows)
  end,
}

local store_page = paper.page("store", function(look, io)
  local s, message = look.store:stats()
  if not s then return nil, message end
  output.fields(io, stats.store_fields(s))
  return true
end)
store_page.still = nil

-- The queues are drawn by dashboard.lua; their rows are its own.
M.queues = {
  name = "queues",
  enter = function(name) return queue_page(name) end,
  actions = { P = {
    word = "pause",
    question = function(name)
      return ("Pause %s, or resume it where it is paused?"):format(
        output.clean(name))
    end,
    run = function(store, name)
      return with_queue(store, name, function(queue)
        local s, message = queue:stats()
        if not s then return nil, message end
        local ok
        if s.paused then
          ok, message = queue:resume()
        else
          ok, message = queue:pause()
        end
        return ok and ("%s is %s"):format(output.clean(name),
          s.paused and "resumed" or "paused"), message
      end)
    end,
  } },
}

-- The tabs, in their order.
---@type respool.cli.page[]
M.tabs = {
  M.queues, workers_page, state_page "scheduled", state_page "retrying",
  dead_views.groups, replays_page, store_page,
}

return M
