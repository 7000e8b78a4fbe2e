-- SPDX-License-Identifier: MIT
--
-- The pages of respool top about one queue as a whole: its policy, its course
-- and its partitions; and what can be done with a queue.

local arguments = require "respool.cli.base.arguments"
local chart = require "respool.cli.look.chart"
local core = require "respool.core"
local json = require "respool.support.json"
local output = require "respool.cli.base.output"
local paper = require "respool.cli.look.paper"
local show = require "respool.cli.base.show"

local M = {}

-- What fn(queue) returns, of a queue that exists.
---@param store respool.store
---@param name string
---@param fn fun(queue: respool.queue): any, string?
---@param codec string|respool.codec|nil "raw"
---@return any, string?
function M.with(store, name, fn, codec)
  local queue, message = store:queue(name, {
    create = false, codec = codec or "raw",
  })
  if not queue then return nil, message end
  local result, why = fn(queue)
  queue.handle:close()
  return result, why
end


-- Policy.

-- A setting as it may be typed.
local function typed(value)
  if value == math.huge then return "none" end
  if type(value) == "table" then return json.encode(value) end
  return tostring(value)
end

local function set(store, of, text)
  local ok, queue, message = pcall(store.queue, store, of.queue, {
    create = false, [of.name] = arguments.setting(text),
  })
  if not ok then
    return nil, (arguments.text_of(queue):gsub("^.-store:queue: ", ""))
  end
  if not queue then return nil, message end
  queue.handle:close()
  return ("%s is %s"):format(of.name, text)
end

local SETTINGS = { { title = "SETTING" }, { title = "VALUE", cut = true } }

local function policy_page(name)
  return {
    name = name .. ": policy",
    actions = { E = {
      word = "edit", run = set,
      prompt = function(of)
        return ("%s of %s: "):format(of.name, output.clean(of.queue)), of.value
      end,
    } },
    read = function(look)
      local config, message = M.with(look.store, name, function(queue)
        return queue:config()
      end)
      if not config then return nil, message end
      local rows = {}
      for setting, value in pairs(config) do
        local text = typed(show.told(name, setting, value))
        rows[#rows + 1] = {
          setting, text, key = setting,
          of = { queue = name, name = setting, value = text },
        }
      end
      table.sort(rows, function(a, b) return a.key < b.key end)
      return paper.table(look, SETTINGS, rows)
    end,
  }
end


-- The course of its figures.

local RANGES = {
  { name = "the last hour", seconds = 3600, span = "1m" },
  { name = "the last day", seconds = 86400, span = "1m" },
  { name = "the last month", seconds = 31 * 86400, span = "1h" },
}

local function failures(s)
  return s.retried + s.died + s.crashed
end

local function per_second(n)
  return n > 0 and n < 9.95 and core.decimal(n, n < 0.1 and 3 or 1)
    or output.short(n)
end

local function rate(count)
  return function(s) return count(s) / math.max(s.at - s.since, 1) end
end

local SERIES = {
  { "done/s", rate(function(s) return s.done end), per_second },
  { "failed/s", rate(failures), per_second },
  { "in/s", rate(function(s) return s.pushed end), per_second },
  { "backlog", function(s)
    return s.ready + s.leased + s.scheduled + s.retrying
  end, output.short, lasts = true },
  { "waited, p95", function(s) return s.wait_p95 or 0 end, output.duration },
}

local function chart_page(name, number)
  local range = RANGES[number]
  return {
    name = ("%s: %s"):format(name, range.name),
    views = { c = { word = "other time", open = function()
      return chart_page(name, number % #RANGES + 1)
    end, instead = true } },
    read = function(look)
      local now = look.store:now()
      local from = now - range.seconds
      local samples, message = look.store:trend {
        queue = name, span = range.span, since = from,
      }
      if not samples then return nil, message end
      local rows = {}
      for _, series in ipairs(SERIES) do
        local points = chart.points(samples, from, now, look.columns - 2,
                                    series[2], series.lasts)
        for _, text in ipairs(chart.lines(series[1], points, series[3],
                                          look.ascii)) do
          rows[#rows + 1] = { key = #rows + 1, text = text }
        end
      end
      return rows
    end,
  }
end


-- Partitions.

local PARTITIONS = {
  { title = "PARTITION", cut = true }, { title = "READY", right = true },
  { title = "LEASED", right = true }, { title = "LATER", right = true },
  { title = "HELD FOR", right = true }, { title = "ALLOWED", right = true },
  { title = "BREAKER" }, { title = "WHY", cut = true },
}

local MOST = 200

local function partitions_page(name)
  return {
    name = name .. ": partitions",
    read = function(look)
      local list, message = M.with(look.store, name, function(queue)
        return queue:partitions { order = "size", limit = MOST }
      end)
      if not list then return nil, message end
      local rows, now = {}, look.store:now()
      for i, p in ipairs(list) do
        rows[i] = {
          p.key, output.number(p.ready), output.number(p.leased),
          output.number(p.scheduled),
          p.held_until and output.duration(p.held_until - now),
          p.allowed < math.huge and output.number(p.allowed) or nil,
          p.breaker ~= "closed" and p.breaker:gsub("_", " ") or nil,
          p.held_for, key = p.key, of = p,
          style = p.held_until and "yellow" or nil,
        }
      end
      return paper.table(look, PARTITIONS, rows)
    end,
  }
end


-- The queue.

local function toggle(store, name)
  return M.with(store, name, function(queue)
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
end

local function purge(store, name, text)
  if text ~= name then
    return nil, ("nothing is removed: that is not %s"):format(
      output.clean(name))
  end
  return M.with(store, name, function(queue)
    local n, message = queue:purge()
    return n and output.count(n, "item") .. " removed", message
  end)
end

M.actions = {
  P = {
    word = "pause", run = toggle,
    question = function(name)
      return ("Pause %s, or resume it where it is paused?"):format(
        output.clean(name))
    end,
  },
  U = {
    word = "purge", run = purge,
    prompt = function(name)
      return ("Remove all items of %s that are not leased, for good? Type "
        .. "its name: "):format(output.clean(name))
    end,
  },
}

-- Where small letters lead from a list of queues.
M.views = {
  p = { word = "policy", open = policy_page, of_row = true },
  c = { word = "charts", of_row = true,
        open = function(name) return chart_page(name, 1) end },
  v = { word = "partitions", open = partitions_page, of_row = true },
}

-- The same from a page about one queue.
---@param name string
---@return table<string, respool.cli.page_view>
function M.views_of(name)
  local views = {}
  for key, view in pairs(M.views) do
    views[key] = { word = view.word, open = function()
      return view.open(name)
    end }
  end
  return views
end

return M
