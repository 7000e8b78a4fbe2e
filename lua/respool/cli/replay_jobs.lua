-- SPDX-License-Identifier: MIT
--
-- Replays by name: the store keeps how far a job has come, a note keeps what
-- it was asked to do, so that it can be gone on with by its name alone, and
-- which process is at it.

local arguments = require "respool.cli.arguments"
local notes = require "respool.cli.notes"
local output = require "respool.cli.output"
local core = require "respool.core"

local check = arguments.check

local M = {}

local KIND = "replay"


-- Who runs a job: a process id that is no other's later.

-- When a process began, by the system's ticks; nil when it is gone.
local function start_of(pid)
  local file = io.open(("/proc/%s/stat"):format(pid))
  if not file then return nil end
  local text = file:read "*a" or "" -- it may end at any time
  file:close()
  local n = 2
  for field in (text:match "^.*%)%s+(.*)$" or ""):gmatch "%S+" do
    n = n + 1
    if n == 22 then return field end
  end
end

local function own_pid()
  local file = assert(io.open "/proc/self/stat")
  local pid = file:read "*n"
  file:close()
  return math.floor(pid)
end

-- The process that runs the job of this note; nil when none does.
local function runner(note)
  if note and note.pid and start_of(note.pid) == note.start then
    return note.pid
  end
end


-- Beginning and ending.

local function job_of(store, name)
  local job, message, code = store:job(name)
  if not job and code ~= "NOT_FOUND" then arguments.fail(message) end
  return job
end

-- How many dead letters the job has moved, in the round that is not finished.
local function moved_by(job)
  return job and job.state ~= "finished" and job.moved or 0
end

-- The same of a job by its name, which need not exist.
---@param store respool.store
---@param name string
---@return integer
function M.moved(store, name)
  return moved_by(job_of(store, name))
end

-- What a job is asked. What differs makes it another one, but for `limit` and
-- `rate`: those given last hold.
local ASKED = { "dlq", "script", "where", "group", "since", "upto", "to",
                "limit", "rate", "raw" }
local FREE = { limit = true, rate = true }

local function differs(a, b)
  for _, name in ipairs(ASKED) do
    if not FREE[name] and a[name] ~= b[name] then return true end
  end
  return false
end

local function check_free(name, note)
  local pid = runner(note)
  if pid then
    arguments.fail(("job '%s' is being run by process %d"):format(name, pid))
  end
end

local function check_same(name, job, note, asked)
  if job and job.state ~= "finished" and (not note or differs(note, asked)) then
    arguments.fail(("job '%s' is not finished, and was asked for something "
      .. "else: resume it or cancel it"):format(name))
  end
end

local function save(store, name, asked)
  local note = { pid = own_pid() }
  note.start = start_of(note.pid)
  for _, field in ipairs(ASKED) do note[field] = asked[field] end
  notes.save(store, KIND, name, note)
end

-- Notes that this process runs the job, as asked. How many dead letters it has
-- moved so far.
---@param store respool.store
---@param name string
---@param asked table
---@return integer
function M.begin(store, name, asked)
  local job, note = job_of(store, name), notes.get(store, KIND, name)
  check_free(name, note)
  check_same(name, job, note, asked)
  save(store, name, asked)
  return moved_by(job)
end

-- What a job was asked, and how many dead letters it has moved so far; noted
-- as run by this process from now on.
---@param store respool.store
---@param name string
---@return table, integer
function M.resume(store, name)
  local job, note = job_of(store, name), notes.get(store, KIND, name)
  if not job and not note then
    arguments.fail(("there is no named replay '%s'"):format(name))
  elseif not note then
    arguments.fail(("job '%s' was begun by a program: only that knows its "
      .. "filter"):format(name))
  elseif job and job.state == "finished" then
    arguments.fail(("job '%s' has finished"):format(name))
  end
  check_free(name, note)
  save(store, name, note)
  return note, moved_by(job)
end

-- Whether somebody has cancelled the job.
---@param store respool.store
---@param name string
---@return boolean
function M.is_cancelled(store, name)
  return notes.get(store, KIND, name) == nil
end

-- Marks a job as stopped that was interrupted.
---@param store respool.store
---@param name string
function M.mark_stopped(store, name)
  local job = store.handle:replay_load(name)
  if not job then return end
  job.state = 1
  check(store.handle:replay_save(job))
end

-- Forgets a job.
---@param store respool.store
---@param name string
---@return boolean whether there was one
function M.forget(store, name)
  local had = notes.remove(store, KIND, name)
  local ok, message, code = store:remove_job(name)
  if not ok and code ~= "NOT_FOUND" then arguments.fail(message) end
  return had or ok == true
end


-- The commands.

-- A job that claims to run, but nobody runs it, was cut off.
local function state(job, note)
  if job.state == "running" and note and not runner(note) then
    return "interrupted"
  end
  return job.state
end

local function row_of(store, job)
  local note = notes.get(store, KIND, job.name)
  job.state, job.asked = state(job, note), note
  job.pid = runner(note)
  if note then
    note.pid, note.start = nil, nil
  end
  return job
end

function M.list(args, io)
  local store = arguments.open(io, args.store)
  local jobs, rows = check(store:jobs()), {}
  for i, job in ipairs(jobs) do
    row_of(store, job)
    rows[i] = { job.name, job.dlq, job.to, job.state, job.seen, job.moved,
                job.skipped, job.failed, output.time(job.updated_at) }
  end
  if args.json then return output.json(io, core.cbor.array(jobs)) end
  output.table(io, {
    { title = "JOB" }, { title = "DLQ" }, { title = "TO" },
    { title = "STATE" }, { title = "SEEN", right = true },
    { title = "MOVED", right = true }, { title = "SKIPPED", right = true },
    { title = "FAILED", right = true }, { title = "UPDATED" },
  }, rows)
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
  local job = row_of(store, (check(store:job(args.job))))
  if args.json then return output.json(io, job) end
  local rows = {
    { "job", job.name }, { "dlq", job.dlq },
    { "to", job.to ~= "" and job.to or "each dead letter's own queue" },
    { "state", job.state .. (job.pid and (" (process %d)"):format(job.pid)
      or "") },
    { "seen", job.seen }, { "moved", job.moved }, { "skipped", job.skipped },
    { "failed", job.failed },
    { "place",
      ("dead letter %d of those up to %d"):format(job.cursor, job.upto) },
    { "started", output.time(job.started_at) },
    { "updated", output.time(job.updated_at) },
  }
  asked_rows(rows, job.asked)
  output.fields(io, rows)
end

local PATIENCE = 5 -- seconds for a running job to notice

function M.cancel(args, io)
  local store = arguments.open(io, args.store)
  local pid = runner(notes.get(store, KIND, args.job))
  local start = pid and start_of(pid)
  if not M.forget(store, args.job) then
    arguments.fail(("there is no named replay '%s'"):format(args.job))
  end
  local ends = core.mono() / 1e6 + PATIENCE
  while pid and start_of(pid) == start and core.mono() / 1e6 < ends do
    core.process.nap(0.05)
  end
  M.forget(store, args.job)
  io.stdout:write(("job '%s' is cancelled; dead letters that it has not moved "
    .. "stay\n"):format(output.clean(args.job)))
end

return M
