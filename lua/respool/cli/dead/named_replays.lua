-- SPDX-License-Identifier: MIT
--
-- Named replays. The store keeps the progress of a named replay and who runs
-- it. A note keeps its options, so that its name is enough to resume it.

local arguments = require "respool.cli.base.arguments"
local location = require "respool.support.location"
local notes = require "respool.cli.base.notes"
local output = require "respool.cli.base.output"
local core = require "respool.core"

local check = arguments.check

local M = {}

local KIND = "replay"


-- Beginning and ending.

local function fail(name, what, ...)
  arguments.fail(("named replay '%s' "):format(name) .. what:format(...))
end

local function missing(store, name)
  local names = {}
  for i, replay in ipairs(check(store:replays())) do names[i] = replay.name end
  arguments.fail(("there is no named replay '%s' in '%s'%s"):format(
    name, location.shown(store.path), arguments.suggestion(name, names)))
end

-- The stored progress of a named replay; nil when there is none.
local function load(store, name)
  local replay, message, code = store:replay(name)
  if not replay and code ~= "NOT_FOUND" then arguments.fail(message) end
  return replay
end

local function is_finished(replay)
  return replay ~= nil and replay.state == "finished"
end

local function moved_by(replay)
  return replay and not is_finished(replay) and replay.moved or 0
end

-- How many dead letters a named replay has moved in the round that is not
-- finished; 0 when there is no such replay.
---@param store respool.store
---@param name string
---@return integer
function M.moved(store, name)
  return moved_by(load(store, name))
end

-- The options that a named replay keeps. All but `limit` and `rate`, which may
-- change from run to run, distinguish it from another one.
local ASKED = { "dlq", "script", "where", "group", "since", "upto", "to",
                "limit", "rate", "raw" }
local FREE = { limit = true, rate = true }

local function differs(a, b)
  for _, name in ipairs(ASKED) do
    if not FREE[name] and a[name] ~= b[name] then return true end
  end
  return false
end

local function check_idle(name, replay)
  if not replay or replay.state ~= "running" then return end
  fail(name, replay.pid and "is run by process %d" or "is run elsewhere",
       replay.pid)
end

local function check_same(name, replay, note, asked)
  if replay and not is_finished(replay)
     and (not note or differs(note, asked)) then
    fail(name, "is not finished and has other options: resume or forget it")
  end
end

local function save(store, name, asked)
  local note = {}
  for _, field in ipairs(ASKED) do note[field] = asked[field] end
  notes.save(store, KIND, name, note)
end

-- Notes the options of a replay that begins. Returns how many dead letters it
-- has moved so far.
---@param store respool.store
---@param name string
---@param asked table
---@return integer
function M.begin(store, name, asked)
  local replay, note = load(store, name), notes.get(store, KIND, name)
  check_idle(name, replay)
  check_same(name, replay, note, asked)
  save(store, name, asked)
  return moved_by(replay)
end

-- The options of a named replay, and how many dead letters it has moved so far.
---@param store respool.store
---@param name string
---@return table, integer
function M.resume(store, name)
  local replay, note = load(store, name), notes.get(store, KIND, name)
  if not replay and not note then missing(store, name) end
  if not note then
    fail(name, "was begun by a program, which alone knows its filter")
  elseif is_finished(replay) then
    fail(name, "has finished")
  end
  check_idle(name, replay)
  save(store, name, note)
  return note, moved_by(replay)
end


-- The commands.

local function complete(store, replay)
  replay.asked = notes.get(store, KIND, replay.name)
  return replay
end

local function source(replay)
  return (replay.history and "history of " or "") .. replay.dlq
end

-- How far it has come.
local function place(replay)
  if not replay.history then
    return ("dead letter %d of those up to %d"):format(replay.cursor,
                                                       replay.upto)
  elseif replay.upto == 0 then
    return "at the beginning"
  end
  return ("item %d, done %s"):format(replay.cursor,
                                     output.time(replay.upto / 1000))
end

local function target(replay)
  if replay.to ~= "" then return replay.to end
  return replay.history and replay.dlq or "each dead letter's own queue"
end

local COLUMNS = {
  { title = "NAME" }, { title = "FROM" }, { title = "TO" }, { title = "STATE" },
  { title = "SEEN", right = true }, { title = "MOVED", right = true },
  { title = "SKIPPED", right = true }, { title = "FAILED", right = true },
  { title = "UPDATED" },
}

function M.list(args, io)
  local store = arguments.open(io, args.store)
  local replays, rows = check(store:replays()), {}
  for i, r in ipairs(replays) do
    complete(store, r)
    rows[i] = { r.name, source(r), r.to, r.state, r.seen, r.moved, r.skipped,
                r.failed, output.time(r.updated_at) }
  end
  if args.json then return output.json(io, core.cbor.array(replays)) end
  output.first_rows(io, COLUMNS, rows, "named replays", false)
end

local function asked_rows(rows, asked)
  for _, name in ipairs { "script", "where", "group", "since", "upto", "limit",
                          "rate", "raw" } do
    local value = asked and asked[name]
    if name == "since" or name == "upto" then
      value = value and output.time(value)
      name = name == "upto" and "until" or name
    end
    if value then rows[#rows + 1] = { name, value } end
  end
end

function M.show(args, io)
  local store = arguments.open(io, args.store)
  local replay = load(store, args.name) or missing(store, args.name)
  complete(store, replay)
  if args.json then return output.json(io, replay) end
  local rows = {
    { "name", replay.name }, { "from", source(replay) },
    { "to", target(replay) },
    { "state", replay.state .. (replay.pid
      and (" (process %d)"):format(replay.pid) or "") },
    { "seen", replay.seen }, { "moved", replay.moved },
    { "skipped", replay.skipped }, { "failed", replay.failed },
    { "place", place(replay) },
    { "started", output.time(replay.started_at) },
    { "updated", output.time(replay.updated_at) },
  }
  asked_rows(rows, replay.asked)
  output.fields(io, rows)
end

-- Stops a named replay that is running; it can be resumed later.
function M.cancel(args, io)
  local store = arguments.open(io, args.store)
  local replay = load(store, args.name) or missing(store, args.name)
  if replay.state ~= "running" then fail(args.name, "is not running") end
  check(store:cancel_replay(args.name))
  io.stdout:write(("named replay '%s' is cancelled; %s goes on with it\n")
    :format(output.clean(args.name), notes.get(store, KIND, args.name)
      and "`respool replay resume`" or "the program that began it"))
end

-- Removes the stored progress of a named replay.
function M.forget(args, io)
  local store = arguments.open(io, args.store)
  local replay = load(store, args.name)
  check_idle(args.name, replay)
  local had = notes.remove(store, KIND, args.name)
  local ok, message, code = store:remove_replay(args.name)
  if not ok and code ~= "NOT_FOUND" then arguments.fail(message) end
  if not had and not ok then missing(store, args.name) end
  local rest = replay and replay.history and "the finished items stay"
    or "dead letters that it has not moved stay"
  io.stdout:write(("named replay '%s' is forgotten; %s\n"):format(
    output.clean(args.name), rest))
end

return M
