-- SPDX-License-Identifier: MIT
--
-- How commands show items and dead letters. For programs a record has the
-- fields that the library gives it, and the stored bytes only where there is no
-- payload. For people it is names and values, then headers and payload.

local compat = require "respool.support.compat"
local figures = require "respool.observe.stats"
local json = require "respool.support.json"
local output = require "respool.cli.base.output"
local visible = require "respool.support.visible"

local M = {}

-- Adds --raw.
function M.add_raw(command)
  command:flag("--raw", "Read payloads as the bytes that are stored.")
end

-- Handles of commands that show records: their JSON is made of the stored
-- bytes.
M.STORED = { codec = "raw" }

-- A command that only looks opens the store so that it cannot do more.
M.LOOK = { read_only = true }

-- Writes a record as JSON, in one line.
---@param io respool.cli.io
---@param record table
---@param args { raw: boolean? }
function M.json(io, record, args)
  io.stdout:write(visible.json(json.record(record, args.raw)), "\n")
end

-- Reports damaged items, which are not shown.
---@param io respool.cli.io
---@param ids integer[]
function M.damaged(io, ids)
  if #ids == 0 then return end
  io.stderr:write(("respool: %s damaged and not shown: %s\n"):format(
    output.count(#ids, "item"), output.ranges(ids)))
end

-- How long ago a moment was.
---@param now number
---@param at number?
---@return string
function M.ago(now, at)
  if not at or at <= 0 then return "-" end
  return output.duration(math.max(now - at, 0))
end

local function moment(now, at)
  if not at then return nil end
  if at > now then
    return ("%s (in %s)"):format(output.time(at), output.duration(at - now))
  end
  return ("%s (%s ago)"):format(output.time(at), M.ago(now, at))
end

local function put(list, name, value)
  if value ~= nil and value ~= 0 then list[#list + 1] = { name, value } end
end

-- The fields that items and dead letters share.
local function common(list, r, now, expires_at)
  put(list, "pushed", moment(now, r.pushed_at))
  put(list, "expires", moment(now, expires_at))
  put(list, "priority", r.priority)
  put(list, "attempts", r.attempts)
  put(list, "deliveries", r.deliveries)
  put(list, "crashes", r.crashes)
  put(list, "replays", r.replays)
  put(list, "version", r.version)
  put(list, "key", r.key)
  put(list, "partition", r.partition)
end

local function part(io, title, text)
  io.stdout:write(title, "\n", text, "\n")
end

local PRETTY = { indent = 2, sorted = true }

local function parts(io, r, o)
  local how = { full = o.full, indent = 2 }
  local function put_body(title, bytes, codec)
    local text, known = json.body(bytes, codec, PRETTY)
    part(io, known and title or title .. " (cannot be decoded)",
         output.cut_lines(text, how))
  end
  local headers = rawget(r, "header_bytes")
  if headers then put_body("headers", headers) end
  put_body("payload", r.bytes, json.codec_of(r, rawget(r, "codec"), o.raw))
  local original = rawget(r, "original")
  if original then
    put_body("original payload", original,
             json.codec_of(r, rawget(r, "original_codec"), o.raw))
  end
  if o.full and r.memo then
    part(io, "memo", output.pretty(r.memo, how))
  end
end

-- The worker that leases an item.
---@param w respool.owner
---@return string
function M.owner(w)
  if not w.name then return ("%d, which is gone"):format(w.number) end
  return output.clean(("%s, pid %d on %s"):format(w.name, w.pid, w.host))
end

-- How far a handler has come.
---@param p respool.progress
---@param now number
---@return string
function M.progress(p, now)
  local said = {}
  if p.done then said[1] = ("%.0f %%"):format(p.done * 100) end
  if p.text then said[#said + 1] = output.clean(p.text) end
  said[#said + 1] = M.ago(now, p.at) .. " ago"
  return table.concat(said, ", ")
end

local DUE = { leased = "lease until", scheduled = "due", retrying = "due" }

-- An item as names and values, then its headers and payload.
---@param io respool.cli.io
---@param item table as queue:get gives it
---@param o { now: number, full: boolean?, raw: boolean? }
function M.item(io, item, o)
  local list = { { "item", ("%d of %s"):format(item.id, item.queue) } }
  put(list, "state", item.state)
  put(list, DUE[item.state] or "", DUE[item.state]
      and moment(o.now, item.visible_at))
  put(list, "worker", item.worker and M.owner(item.worker))
  put(list, "progress", item.progress and M.progress(item.progress, o.now))
  common(list, item, o.now, item.expires_at)
  put(list, "error", item.error)
  output.fields(io, list)
  parts(io, item, o)
end

local function failure(f)
  local group = f.group and f.group ~= "" and f.group .. ": " or ""
  return ("%s  %s%s"):format(output.time(f.at), group, f.error or "-")
end

local function history(io, dead_letter, full)
  if #dead_letter.history == 0 then return end
  io.stdout:write("failures\n")
  for _, f in ipairs(dead_letter.history) do
    local line = output.clean(failure(f))
    io.stdout:write("  ", full and line or output.cut(line, 200), "\n")
    for trace in (full and f.trace or ""):gmatch "[^\n]+" do
      trace = trace:gsub("\t", "  ")
      io.stdout:write("    ", output.clean(trace), "\n")
    end
  end
  if dead_letter.failures > #dead_letter.history then
    io.stdout:write(("  … and %d between them\n"):format(
      dead_letter.failures - #dead_letter.history))
  end
end

-- A dead letter as names and values, then its failures, headers and payload.
---@param io respool.cli.io
---@param dead_letter respool.dead_letter
---@param o { now: number, full: boolean?, raw: boolean? }
function M.dead_letter(io, dead_letter, o)
  local list = {
    { "dead letter", dead_letter.number },
    { "item", dead_letter.queue
      and ("%d of %s"):format(dead_letter.id, dead_letter.queue)
      or "not known" },
    { "reason", dead_letter.reason },
  }
  put(list, "group", dead_letter.group)
  put(list, "error", dead_letter.error)
  put(list, "died", moment(o.now, dead_letter.died_at))
  put(list, "first failed", moment(o.now, dead_letter.first_failed_at))
  put(list, "items", dead_letter.items > 1 and dead_letter.items or nil)
  common(list, dead_letter, o.now)
  output.fields(io, list)
  history(io, dead_letter, o.full)
  parts(io, dead_letter, o)
end


-- Settings.

local huge = math.huge

local SPANS = {
  lease = true, max_lease = true, ttl = true, keep_done = true,
  keep_dead = true,
}

-- A setting as text; nil for a table without entries.
local function setting(name, value)
  if type(value) == "table" then
    return next(value) and output.clean(json.encode(value))
  end
  if value == huge then return "no limit" end
  if SPANS[name] then return output.duration(value) end
  return compat.text(value)
end

-- A setting for people, to whom its own DLQ is the queue's name.
---@param queue string
---@param name string
---@param value any
---@return any
function M.told(queue, name, value)
  if name == "dead_letter" and value == false then return queue end
  return value
end

-- The settings of a queue as fields for people.
---@param queue string
---@param config table
---@return table[]
function M.settings(queue, config)
  local list = {}
  for _, name in ipairs(figures.sorted(config)) do
    local text = setting(name, M.told(queue, name, config[name]))
    if text then list[#list + 1] = { name, text } end
  end
  return list
end

-- The i-th of several items or dead letters: as JSON, or whole, with an empty
-- line before all but the first.
---@param draw fun(io: table, record: table, how: table) M.item, M.dead_letter
function M.one_of(io, i, record, args, now, draw)
  if args.json then return M.json(io, record, args) end
  if i > 1 then io.stdout:write "\n" end
  draw(io, record, { now = now, full = args.full, raw = args.raw })
end

-- The line about the items that a queue still holds after they were moved away;
-- nil where there are none.
---@param length table as queue:length() returns it
---@return string?
function M.staying(length)
  if length.total == 0 then return nil end
  return ("%d items stay: %d ready, %d scheduled, %d retrying, %d leased")
    :format(length.total, length.ready, length.scheduled, length.retrying,
            length.leased)
end

return M
