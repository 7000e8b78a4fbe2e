-- SPDX-License-Identifier: MIT
--
-- Worker scripts: a Lua file that returns a table which says what is to be done
-- with the items of a queue. The same file serves every way to run it.

local compat = require "respool.support.compat"
local options = require "respool.support.options"
local policy = require "respool.policy"

local M = {}

-- The table that the Lua file of a worker returns.
---@class respool.worker_script
---@field queue string the queue to be worked on; made if missing
---@field handle respool.handler called for each item with its payload and the
--- item; its result is the outcome
---@field options respool.queue_options? of the queue
---@field decide respool.decide? the option of the queue, here for short
---@field dead_letter string|function? the option of the queue, here for short
---@field schedules table<string, respool.schedule_options>? schedules by name;
--- they push to the script's queue if they name none
---@field replay respool.replay_options? options of `respool replay` with this
--- script

local FORM = {
  queue = options.name,
  options = options.table,
  handle = options.callable,
  decide = policy.form.decide,
  dead_letter = policy.form.dead_letter,
  replay = options.table,
  schedules = options.table,
}

local NEEDED = { "queue", "handle" }

local function check_needed(path, worker, needed)
  for _, name in ipairs(needed) do
    if not worker[name] then
      compat.misuse(("%s: field '%s' is missing"):format(path, name))
    end
  end
end

local function check_twice(path, worker)
  for _, name in ipairs { "decide", "dead_letter" } do
    if worker[name] and worker.options and worker.options[name] then
      compat.misuse(("%s: '%s' is given twice"):format(path, name))
    end
  end
end

local function check_schedules(path, schedules)
  for name, given in pairs(schedules) do
    if not options.name(name) or type(given) ~= "table" then
      compat.misuse(("%s: 'schedules' must be tables by name"):format(path))
    end
  end
end

-- Lets the script require modules that lie beside it.
local function add_folder(path)
  local folder = path:match "^(.*)/[^/]*$" or "."
  local places = ("%s/?.lua;%s/?/init.lua;"):format(folder, folder)
  if package.path:sub(1, #places) ~= places then
    package.path = places .. package.path
  end
end

-- Runs the file and checks its result. Raises what is wrong with it.
---@param path string
---@param needed string[]? fields it must have; queue and handle
---@return respool.worker_script
function M.load(path, needed)
  local chunk, message = loadfile(path)
  if not chunk then compat.misuse("worker script: " .. message) end
  add_folder(path)
  local given = chunk()
  if type(given) ~= "table" then
    compat.misuse(("%s: a worker script returns a table, not %s"):format(
      path, type(given)))
  end
  local form = setmetatable({ of = path }, { __index = FORM })
  local worker = options.read(form, given, 1)
  check_needed(path, worker, needed or NEEDED)
  check_twice(path, worker)
  check_schedules(path, worker.schedules or {})
  return worker
end

-- Makes the schedules of a script, which push to its queue if they name none.
local function make_schedules(store, queue, schedules)
  for name, given in pairs(schedules) do
    local o = { queue = queue }
    for option, value in pairs(given) do o[option] = value end
    local ok, message, code = store:schedule(name, o)
    if not ok then return nil, message, code end
  end
  return queue
end

-- Opens the queue that a worker script is for, and makes its schedules.
---@param store respool.store
---@param worker respool.worker_script
---@return respool.queue?, string?, string?
function M.open(store, worker)
  local o = {}
  for name, value in pairs(worker.options or {}) do o[name] = value end
  o.decide = worker.decide or o.decide
  o.dead_letter = worker.dead_letter or o.dead_letter
  local queue, message, code = store:queue(worker.queue, o)
  if not queue then return nil, message, code end
  return make_schedules(store, queue, worker.schedules or {})
end

return M
