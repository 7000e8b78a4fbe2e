-- SPDX-License-Identifier: MIT
--
-- The pages of respool top, but for the queues (dashboard.lua): what each
-- reads from the store, where Enter leads, and what can be done with a row.
-- Pages write as the other commands do.

local dead_views = require "respool.cli.look.dead_views"
local item_views = require "respool.cli.look.item_views"
local output = require "respool.cli.base.output"
local paper = require "respool.cli.look.paper"
local queue_views = require "respool.cli.look.queue_views"
local show = require "respool.cli.base.show"
local stats = require "respool.cli.look.stats"

local M = {}

-- A page: `read` is called at each look, of a `still` page at the first alone.
---@class respool.cli.page
---@field name string
---@field read fun(look: respool.cli.look): respool.cli.row[]?, string? head or
--- why it cannot be read
---@field enter (fun(of: any): respool.cli.page)?
---@field views table<string, respool.cli.page_view>? by key, a small letter
---@field actions table<string, respool.cli.page_action>? by key, a capital
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

---@class respool.cli.page_view
---@field word string for the last line
---@field open fun(of: any): respool.cli.page
---@field of_row boolean? whether it is about the row under the cursor
---@field instead boolean? in the place of the page it is opened from

-- An action has a question, or asks for a text; what `prepare` returns, to
-- which the terminal is given back, is the text as well.
---@class respool.cli.page_action
---@field word string what it does, for the last line
---@field question (fun(of: any): string)?
---@field prompt (fun(of: any): string, string?)? with what stands there already
---@field prepare (fun(store: respool.store, of: any): string?, string?)?
---@field run fun(store: respool.store, of: any, text: string?): any, string?
--- nil and why not; or what was done, as a text

---@class respool.cli.look
---@field store respool.store
---@field columns integer of the screen
---@field ascii boolean?
---@field queues respool.cli.queue_sample[]
---@field groups table[] dead letters by group, as the sampler counts them


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
  enter = function(of) return item_views.of_queue(of.queue, "leased") end,
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


-- Schedules.

local SCHEDULES = {
  { title = "NAME", cut = true }, { title = "CRON" }, { title = "TIMEZONE" },
  { title = "QUEUE", cut = true }, { title = "NEXT", right = true },
  { title = "LAST", right = true }, { title = "FIRED", right = true },
  { title = "MISSED", right = true },
}

local function schedule_action(word, question, run)
  return {
    word = word,
    question = function(s) return question:format(output.clean(s.name)) end,
    run = function(store, s)
      local result, message = run(store, s)
      return result and ("%s: %s"):format(output.clean(s.name), result), message
    end,
  }
end

-- Whether a schedule ticks; it may have changed since it was shown.
local function toggle_schedule(store, s)
  local ok, message
  if s.paused then
    ok, message = store:resume_schedule(s.name)
  else
    ok, message = store:pause_schedule(s.name)
  end
  return ok and (s.paused and "resumed" or "paused"), message
end

local function run_schedule(store, s)
  if not s.bytes then return nil, "its payload is made by a program" end
  local id, message = store:run_schedule(s.name)
  return id and ("item %d is pushed"):format(id), message
end

local schedules_page = {
  name = "schedules",
  actions = {
    R = schedule_action("run now", "Push an item of %s now?", run_schedule),
    P = schedule_action("pause", "Pause %s, or resume it where it is paused?",
                        toggle_schedule),
    X = schedule_action("remove", "Remove the schedule %s?",
      function(store, s)
        local ok, message = store:remove_schedule(s.name)
        return ok and "removed", message
      end),
  },
  read = function(look)
    local schedules, message = look.store:schedules()
    if not schedules then return nil, message end
    local rows, now = {}, look.store:now()
    for i, s in ipairs(schedules) do
      rows[i] = {
        s.name, s.cron, s.timezone, s.queue, s.paused and "paused"
          or s.next_at and "in " .. output.duration(s.next_at - now),
        s.last_at and show.ago(now, s.last_at) .. " ago",
        output.number(s.fired), output.number(s.missed_ticks),
        key = s.name, of = s, style = s.paused and "yellow" or nil,
      }
    end
    return paper.table(look, SCHEDULES, rows)
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
  name = "queues", enter = item_views.of_queue, views = queue_views.views,
  actions = queue_views.actions,
}

-- The tabs, in their order.
---@type respool.cli.page[]
M.tabs = {
  M.queues, workers_page, item_views.of_state "scheduled",
  item_views.of_state "retrying", dead_views.groups, schedules_page,
  replays_page, store_page,
}

return M
