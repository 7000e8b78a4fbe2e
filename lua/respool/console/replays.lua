-- SPDX-License-Identifier: MIT
--
-- Named replays that are begun from the console. This process runs them, page
-- by page, beside what else it does; a note keeps their filter and the change
-- of payloads, so that the console can go on with one that was stopped or
-- killed.

local answer = require "respool.console.answer"
local core = require "respool.core"
local dead_of = require "respool.dead"
local filter = require "respool.console.filter"
local json = require "respool.support.json"
local merge_patch = require "respool.support.merge_patch"
local options = require "respool.support.options"
local replay = require "respool.replay.replay"
local timing = require "respool.support.timing"

local cbor = core.cbor

local M = {}

local SLICE = 0.5 -- seconds between looks whether to end


-- Notes.

local KIND = "console "

local function key_of(name)
  return (KIND .. name):sub(1, 255)
end

local function save(store, name, asked)
  return store:transaction(function(tx)
    tx:note(key_of(name), cbor.encode { name = name, asked = asked })
    return true
  end)
end

-- The options of a replay that was begun in the console; nil of another.
local function asked_of(store, name)
  local bytes, message, code = store.handle:note_load(key_of(name))
  if not bytes then return nil, message, code end
  local note = cbor.decode(bytes)
  if note.name == name then return note.asked end
  return nil, "this note is of another name", "NOT_FOUND"
end


-- Running.

-- Waits until the rate allows a page; false when the process is to end.
local function wait(run)
  while true do
    local left = replay.due(run) - run.store:now()
    if timing.is_ending() then return false end
    if left <= 0 then return true end
    timing.pause(math.min(left, SLICE))
  end
end

local function drive(run)
  local more, message, code
  repeat
    more, message, code = replay.step(run, wait)
    if more then timing.pause(0) end
  until not more
  return replay.conclude(run, message, code), message, code
end

-- A run with the options that the library takes.
local function begin(dead, o)
  local kept = options.read(replay.form, o, 1)
  replay.check(kept)
  return replay.begin(dead, dead_of.page, kept)
end

-- Begins a replay and lets it run.
local function start(console, dead, o)
  local run, message, code = begin(dead, o)
  if not run then return answer.fail(message, code) end
  console.state.failures[o.name] = nil
  console.spawn(function()
    local _, failure = drive(run)
    console.state.failures[o.name] = failure
  end)
  local told = answer.json { name = o.name, state = "running" }
  told.status = 202
  return told
end

-- A function that changes payloads as the patch says; nil: there is none.
local function transform_of(patch)
  if patch == nil then return nil end
  return function(payload)
    if payload == nil then error("its payload cannot be decoded", 0) end
    return merge_patch.apply(payload, patch)
  end
end

-- The options of a replay as the library takes them; nil and an answer.
local function options_of(console, o)
  local to, message, code
  if o.to then
    to, message, code = console.store:queue(o.to, { create = false })
    if not to then return nil, answer.fail(message, code) end
  end
  return {
    name = o.name, to = to, group = o.group, rate = o.rate, limit = o.limit,
    where = filter.of(o), dry_run = o.dry_run,
    transform = transform_of(o.change),
  }
end


-- Answers.

local list_of = cbor.array

-- The counts before an error stand beside it.
local function fail(message, code, counts)
  if counts then counts.state, counts.errors = nil, list_of(counts.errors) end
  return answer.fail(message, code, counts)
end

local SAMPLES, SHOWN = 3, 2000 -- dead letters, and bytes of each payload

local function text_of(bytes, codec)
  return (json.body(bytes, codec, { indent = 2, limit = SHOWN }))
end

-- A transform that keeps the first payloads before and after it.
local function sampled(transform, samples)
  return function(payload, dead_letter)
    local after = transform(payload)
    if #samples < SAMPLES then
      samples[#samples + 1] = {
        number = dead_letter.number,
        before = text_of(dead_letter.bytes, dead_letter.codec),
        after = text_of(cbor.encode(after)),
      }
    end
    return after
  end
end

-- Counts what a replay would move, with others between the pages, and as fast
-- as it goes; with the first payloads before and after they are changed.
local function preview(dead, o)
  local samples = list_of {}
  o.rate = nil
  o.transform = o.transform and sampled(o.transform, samples)
  local run, message, code = begin(dead, o)
  local counts
  if run then counts, message, code = drive(run) end
  if message then return answer.fail(message, code) end
  counts.errors, counts.samples = list_of(counts.errors), samples
  return answer.json(counts)
end

-- Moves while the request waits.
local function replay_now(dead, o)
  local counts, message, code, so_far = dead:replay(o)
  if not counts then return fail(message, code, so_far) end
  counts.errors = list_of(counts.errors)
  return answer.json(counts)
end

local function refuse_running(store, name)
  local stored = store:replay(name)
  if stored and stored.state == "running" then
    return answer.fail(("named replay '%s' is running"):format(name), "LOCKED")
  end
end

-- The parameters, with the change of payloads that the body encodes as a JSON
-- merge patch; nil and an answer.
local function asked_by(console, r)
  local asked = { dlq = r.name }
  for name, value in pairs(r.o) do asked[name] = value end
  if r.body == "" then return asked end
  local bytes, why = console.to_cbor(r.body)
  if not bytes then
    return nil, answer.refuse(400, "JSON", "the body cannot be read as JSON: "
      .. why)
  end
  asked.change = cbor.decode(bytes)
  if merge_patch.is_object(asked.change) then return asked end
  return nil, answer.refuse(400, "JSON", "the body is no JSON object")
end

-- Begins a replay with a name, or performs one without.
function M.replay(console, r)
  local asked, refusal = asked_by(console, r)
  if not asked then return refusal end
  local o
  o, refusal = options_of(console, asked)
  if not o then return refusal end
  local dead = console.store:dead(r.name)
  if o.dry_run then return preview(dead, o) end
  if not o.name then return replay_now(dead, o) end
  refusal = refuse_running(console.store, o.name)
  if refusal then return refusal end
  local ok, message, code = save(console.store, o.name, asked)
  if not ok then return answer.fail(message, code) end
  return start(console, dead, o)
end

-- Goes on with a replay of the console's.
function M.resume(console, r)
  local asked, message, code = asked_of(console.store, r.name)
  if not asked and code == "NOT_FOUND" then
    return answer.refuse(409, "FOREIGN", ("named replay '%s' was not begun "
      .. "in the console: who began it knows its filter"):format(r.name))
  elseif not asked then
    return answer.fail(message, code)
  end
  local refusal = refuse_running(console.store, r.name)
  if refusal then return refusal end
  local o
  o, refusal = options_of(console, asked)
  if not o then return refusal end
  return start(console, console.store:dead(asked.dlq), o)
end

function M.cancel(console, r)
  local ok, message, code = console.store:cancel_replay(r.name)
  if not ok then return answer.fail(message, code) end
  return answer.json { name = r.name, state = "cancelled" }
end

function M.forget(console, r)
  local refusal = refuse_running(console.store, r.name)
  if refusal then return refusal end
  local ok, message, code = console.store:remove_replay(r.name)
  if not ok then return answer.fail(message, code) end
  ok, message, code = console.store.handle:note_remove(key_of(r.name))
  if not ok and code ~= "NOT_FOUND" then return answer.fail(message, code) end
  console.state.failures[r.name] = nil
  return answer.json { name = r.name, removed = true }
end

-- The named replays, with what went wrong with those of this process and how
-- those of the console are filtered.
---@return table[]?, string?, string?
function M.all(console)
  local replays, message, code = console.store:replays()
  if not replays then return nil, message, code end
  for _, one in ipairs(replays) do
    one.failure = console.state.failures[one.name]
    one.asked = asked_of(console.store, one.name)
  end
  return list_of(replays)
end

function M.list(console)
  local replays, message, code = M.all(console)
  if not replays then return answer.fail(message, code) end
  return answer.json { replays = replays }
end

return M
