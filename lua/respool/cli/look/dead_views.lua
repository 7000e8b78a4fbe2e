-- SPDX-License-Identifier: MIT
--
-- The pages of respool top that show dead letters: by group, the newest of a
-- group, and one whole.

local chart = require "respool.cli.look.chart"
local output = require "respool.cli.base.output"
local paper = require "respool.cli.look.paper"
local show = require "respool.cli.base.show"

local M = {}

local MOST = 200      -- dead letters of a group that a page shows
local REPLAYED = 1000 -- dead letters of a group at a time

local function dead_letter_page(of)
  return paper.page(("dead letter %d"):format(of.number), function(look, io)
    local dead = look.store:dead(of.dlq, { codec = "raw" })
    local letter, message = dead:get(of.number)
    if not letter then return nil, message end
    show.dead_letter(io, letter, { now = look.store:now(), full = true })
    return true
  end)
end

local function dead_letter_action(word, verb, act)
  return {
    word = word,
    question = function(of)
      return ("%s dead letter %d of %s?"):format(verb, of.number,
                                                 output.clean(of.dlq))
    end,
    run = function(store, of)
      local ok, message = act(store:dead(of.dlq), of.number)
      return ok and ("dead letter %d: %s"):format(of.number, word), message
    end,
  }
end

local DEAD = {
  { title = "NUMBER", right = true }, { title = "QUEUE", cut = true },
  { title = "DIED", right = true }, { title = "ATTEMPTS", right = true },
  { title = "PAYLOAD", cut = true }, { title = "ERROR", cut = true },
}

local function is_of(letter, g)
  return (letter.group or "") == g.group and letter.reason == g.reason
end

-- The newest dead letters of a group.
local function letters_of(store, g)
  local list, after = {}, nil
  local dead = store:dead(g.dlq, { codec = "raw" })
  repeat
    local page, message = dead:list {
      order = "newest", limit = MOST, after = after,
      group = g.group ~= "" and g.group or nil,
    }
    if not page then return nil, message end
    for _, letter in ipairs(page) do
      if is_of(letter, g) and #list < MOST then list[#list + 1] = letter end
    end
    after = page[1] and page[#page].number
  until #page == 0 or #list >= MOST -- one of large ones ends early
  return list
end

local function group_page(g)
  return {
    name = g.group ~= "" and g.group or g.reason, enter = dead_letter_page,
    actions = {
      R = dead_letter_action("replay", "Replay", function(dead, number)
        return dead:retry(number)
      end),
      X = dead_letter_action("remove", "Remove", function(dead, number)
        return dead:remove(number)
      end),
    },
    read = function(look)
      local list, message = letters_of(look.store, g)
      if not list then return nil, message end
      local rows, now = {}, look.store:now()
      for i, d in ipairs(list) do
        rows[i] = {
          output.number(d.number), d.queue, show.ago(now, d.died_at) .. " ago",
          d.attempts, output.line(d, {}), d.error and output.clean(d.error),
          key = d.number, of = { number = d.number, dlq = g.dlq },
        }
      end
      return paper.table(look, DEAD, rows)
    end,
  }
end

local function group_name(g)
  return output.clean(g.group ~= "" and g.group or g.reason)
end

local function group_where(g)
  return function(letter) return is_of(letter, g) end
end

local GROUPS = {
  { title = "DEAD", right = true }, { title = "DLQ", cut = true },
  { title = "REASON" }, { title = "GROUP", cut = true },
  { title = "NEWEST", right = true }, { title = "LAST 24 HOURS" },
}

M.groups = {
  name = "dead", enter = group_page,
  actions = {
    R = {
      word = "replay",
      question = function(g)
        return ("Replay up to %s of the %s dead letters of %s?"):format(
          output.number(REPLAYED), output.number(g.count), group_name(g))
      end,
      run = function(store, g)
        local counts, message = store:dead(g.dlq):replay {
          group = g.group ~= "" and g.group or nil, where = group_where(g),
          limit = REPLAYED,
        }
        return counts and ("%s replayed, %s failed"):format(
          output.number(counts.moved), output.number(counts.failed)), message
      end,
    },
    X = {
      word = "remove",
      question = function(g)
        return ("Remove all %s dead letters of %s, for good?"):format(
          output.number(g.count), group_name(g))
      end,
      run = function(store, g)
        local n, message = store:dead(g.dlq):purge {
          group = g.group ~= "" and g.group or nil, where = group_where(g),
        }
        return n and output.number(n) .. " removed", message
      end,
    },
  },
  read = function(look)
    local rows, now = {}, look.store:now()
    for i, g in ipairs(look.groups) do
      rows[i] = {
        output.number(g.count), g.dlq, g.reason, g.group,
        g.last_died_at and show.ago(now, g.last_died_at) .. " ago",
        chart.sparkline(g.hours, #g.hours, look.ascii), of = g,
        key = table.concat({ g.dlq, g.reason, g.group }, "\0"),
      }
    end
    return paper.table(look, GROUPS, rows)
  end,
}

return M
