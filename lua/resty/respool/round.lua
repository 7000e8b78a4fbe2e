-- SPDX-License-Identifier: MIT
--
-- Rounds. A round is one timer of nginx: its light threads are the consumers of
-- a worker, and its first thread supervises them. After ROUND items the next
-- round begins, with fresh memory, and each consumer moves there once its call
-- of work returns. So a worker has one timer, and two for a while.
--
-- When the worker ends it takes no more items, and handlers may go on until the
-- deadline. Then they are killed, the items that they held are released, and
-- the timer is ended with whatever else runs in it, as far as that is safe: see
-- resty/respool/threads.lua. A handler that cannot be killed loses its items.

local core = require "respool.core"
local batch_of = require "respool.consume.batch"
local batch_state = require "respool.consume.batch_state"
local decide = require "respool.consume.decide"
local item = require "respool.consume.item"
local outcome = require "respool.support.outcome"
local threads = require "resty.respool.threads"
local timing = require "respool.support.timing"
local visible = require "respool.support.visible"
local workers = require "respool.consume.workers"

local batches = core.batch
local max, min = math.max, math.min

core.home(debug.getinfo(1, "S").source)

local M = {}

local ROUND, IDLE = 10000, 60 -- items of a round; seconds
local LOOK, SOON = 0.1, 0.01 -- seconds between looks
local RETRY = 1 -- seconds until a consumer that failed tries again
local RELEASE = 0.3 -- seconds that items may take to be released
local LATE = 1 -- seconds after which a timer that was armed does not come

-- `round`: the one in which it works, or nil
---@class respool.consumer
---@field queue respool.queue its own handle, so that its batches are distinct
---@field round respool.round?
---@field thread thread?

-- state: "armed" since `at`, "running", "gone" (nginx gave no timer), or "over"
---@class respool.round
---@field worker respool.worker
---@field state string
---@field at number
---@field items integer delivered in it
---@field beats integer rises while its first thread lives
---@field seen integer? beats when they were looked at last

-- Seconds of a clock that is never set.
local function now()
  return core.mono() / 1e6
end

local function log(worker, ...)
  local text = worker.consumers[1].queue.name .. ": "
  for _, part in ipairs { ... } do text = text .. tostring(part) end
  ngx.log(ngx.ERR, "respool: queue ", visible.clean(text))
end

-- Whether a worker is to end.
---@param worker respool.worker
---@return boolean
function M.is_ending(worker)
  return worker.stopping or ngx.worker.exiting()
end

local is_ending = M.is_ending

-- The consumers at work in a round.
local function crew(round)
  local list = {}
  for _, consumer in ipairs(round.worker.consumers) do
    if consumer.round == round then list[#list + 1] = consumer end
  end
  return list
end

local function is_open(consumer)
  return not consumer.queue.handle:closed()
end

local function any_open(worker)
  for _, consumer in ipairs(worker.consumers) do
    if is_open(consumer) then return true end
  end
  return false
end

-- A pause of the first thread.
local function pause(round, seconds)
  ngx.sleep(seconds)
  round.beats = round.beats + 1
end


-- Consumers.

-- How many items a consumer handles before it looks whether the round is over:
-- so many that another call of work costs nothing beside them.
local function share(worker)
  return max(100, math.ceil(ROUND / #worker.consumers))
end

local function sit_out(worker)
  local ends = now() + RETRY
  while now() < ends and not is_ending(worker) do ngx.sleep(LOOK) end
end

-- The store's hooks report errors of the work.
local function work(consumer, round)
  local worker = round.worker
  local ok, counts = pcall(consumer.queue.work, consumer.queue, worker.handle,
                           { batch = worker.batch, limit = share(worker),
                             timeout = IDLE })
  if ok and counts then
    round.items = round.items + counts.items
    return
  end
  if not ok then log(worker, tostring(counts)) end
  sit_out(worker)
end

local function serve(consumer, round)
  local worker = round.worker
  while worker.round == round and is_open(consumer)
        and not is_ending(worker) do
    work(consumer, round)
    if worker.row.stopping then worker:stop() end
  end
  consumer.round, consumer.thread = nil, nil
end

-- Starts the consumers that are idle.
local function man(round)
  for _, consumer in ipairs(round.worker.consumers) do
    if not consumer.round and is_open(consumer) then
      consumer.round = round
      local thread = ngx.thread.spawn(serve, consumer, round)
      if consumer.round then consumer.thread = thread end
    end
  end
end


-- Consumers whose thread did not return, and their batches.

-- A store that closes does not wait for its loop any more.
local function forget(consumer)
  if consumer.thread then
    consumer.queue.store.serving[consumer.thread] = nil
  end
  consumer.round, consumer.thread = nil, nil
end

-- The open batches of consumers.
local function held(consumers)
  local list, queues = {}, {}
  for _, consumer in ipairs(consumers) do queues[consumer.queue] = true end
  local any = consumers[1]
  for batch in pairs(any and any.queue.store.batches or {}) do
    if queues[batch_state.queue(batch)] and not batches.closed(batch) then
      list[#list + 1] = batch
    end
  end
  return list
end

local function close(batch, open)
  open[batch] = true
  local ok, message = batch:close()
  if not ok and open[batch] then
    ngx.log(ngx.ERR, "respool: ", visible.clean(message))
  end
  open[batch] = nil
end

-- Settles what is marked in batches and releases the rest: all at once, to
-- share commits. Items that were not in time are left to their lease.
local function release(round, list)
  local open, n, ends = {}, 0, now() + RELEASE
  for _, batch in ipairs(list) do ngx.thread.spawn(close, batch, open) end
  while next(open) and now() < ends do pause(round, SOON) end
  for batch in pairs(open) do
    open[batch], n = nil, n + 1
    batch_of.shut(batch)
  end
  if n > 0 then
    log(round.worker, "batches not released in time, whose leases run out by "
        .. "themselves: ", n)
  end
end


-- The item that a consumer was handling when its thread ended.
local function fail_in_hand(batch, why)
  local i = batch_state.of(batch).handled + 1
  if i <= #batch and batches.kind(batch, i) == outcome.NONE then
    decide.fail(batch_state.queue(batch), item.new(batch, i), why)
  end
end

-- Frees consumers whose threads did not return: the items in hand failed, the
-- others are released.
local function recover(round, consumers, why)
  log(round.worker, why)
  local list = held(consumers)
  for _, consumer in ipairs(consumers) do forget(consumer) end
  for _, batch in ipairs(list) do
    local ok, message = pcall(fail_in_hand, batch, why)
    if not ok then log(round.worker, message) end
  end
  release(round, list)
end

local ABORTED = "the handler's light thread was aborted, as it is when a "
  .. "coroutine of coroutine.wrap raises an error: see the error log"

-- No pcall catches such an error in ngx_lua.
local function recover_aborted(round)
  local aborted = {}
  for _, consumer in ipairs(crew(round)) do
    if coroutine.status(consumer.thread) == "zombie" then
      ngx.thread.wait(consumer.thread)
      aborted[#aborted + 1] = consumer
    end
  end
  if #aborted > 0 then recover(round, aborted, ABORTED) end
end


-- The end of a worker.

local function stop(consumers)
  for _, consumer in ipairs(consumers) do consumer.queue:stop() end
end

-- Kills handlers; returns how many have to go on.
local function kill(consumers)
  local alive = 0
  for _, consumer in ipairs(consumers) do
    if threads.kill(consumer.thread) then
      forget(consumer)
    else
      alive = alive + 1
    end
  end
  return alive
end

local function take_back(round)
  local consumers = crew(round)
  if #consumers == 0 then return end
  local list = held(consumers)
  local alive = kill(consumers)
  log(round.worker, "handlers still running at the deadline: ", #consumers)
  if alive > 0 then
    log(round.worker, "handlers that wait in a coroutine of their own, cannot "
        .. "be killed, and go on without their items: ", alive)
  end
  release(round, list)
end

-- Ends the timer with the light threads that handlers have left in it. Where
-- that is not safe they are left alone, once no consumer is at work.
local function leave(round, ends)
  while not threads.can_end_timer() do
    if #crew(round) == 0 and now() >= ends then return end
    pause(round, LOOK)
  end
  round.state = "over"
  threads.end_timer()
end

local function wind_up(round)
  local worker = round.worker
  worker.ends = worker.ends or now() + worker.deadline
  stop(crew(round))
  while #crew(round) > 0 and now() < worker.ends do
    pause(round, max(min(SOON, worker.ends - now()), 0.001))
    recover_aborted(round)
  end
  take_back(round)
  -- At the exit nothing is waited for: others see that the process is gone.
  if not ngx.worker.exiting() then workers.finish(worker.row) end
  leave(round, worker.ends)
end


-- A round.

local function is_over(round)
  local worker = round.worker
  if #crew(round) > 0 then return false end
  return worker.round ~= round or not any_open(worker)
end

-- Begins the next round when this one has had its items; two run at most.
local function make_way(round)
  local worker = round.worker
  if round.items < ROUND or worker.before then return end
  worker.before = round
  M.begin(worker)
  timing.wake()
end

local function supervise(round)
  local worker = round.worker
  repeat
    if worker.round == round then
      man(round)
      make_way(round)
    end
    pause(round, LOOK)
    recover_aborted(round)
  until is_ending(worker) or is_over(round)
end

-- The function of the timer. Premature: nginx ends the process, or drops its
-- timers for another reason; look_after then begins another round.
local function run(premature, round)
  local worker = round.worker
  if worker.round ~= round or round.state ~= "armed" then return end
  if premature or is_ending(worker) then
    round.state = "gone"
    return
  end
  round.state = "running"
  threads.guard()
  supervise(round)
  if is_ending(worker) then wind_up(round) end
  round.state = "over"
  if worker.before == round then worker.before = nil end
end

-- Begins a round.
---@param worker respool.worker
function M.begin(worker)
  local round = {
    worker = worker, items = 0, beats = 0, at = now(), state = "armed",
  }
  worker.round = round
  local ok, message = ngx.timer.at(0, run, round)
  if not ok then round.state = "gone" end
  if not ok and message ~= worker.said then log(worker, message) end
  worker.said = message
end


-- Looking after rounds.

local ENDED = "the handler ended its timer, with all light threads in it"

-- A handler has ended the timer: it had thrown away ngx.ctx, and with it the
-- guard. Nobody knows which one, so all items in hand failed.
local function recover_all(round)
  round.state = "over"
  recover(round, crew(round), ENDED)
end

-- Between two looks the first thread of a running round raises `beats`, or the
-- timer was ended.
local function look(round)
  if round.state ~= "running" then return end
  if round.seen == round.beats then recover_all(round) end
  round.seen = round.beats
end

local function is_missing(round)
  return round.state == "gone" or round.state == "over"
    or round.state == "armed" and now() - round.at > LATE
end

-- Begins another round where a handler ended this one, or where its timer was
-- refused or never came, as happens when nginx has no connection left for it.
---@param worker respool.worker
function M.look_after(worker)
  local before = worker.before
  if before then look(before) end
  if before and before.state == "over" then worker.before = nil end
  look(worker.round)
  if is_missing(worker.round) and not is_ending(worker)
     and any_open(worker) then
    M.begin(worker)
  end
end

return M
