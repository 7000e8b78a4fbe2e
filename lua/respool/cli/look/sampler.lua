-- SPDX-License-Identifier: MIT
--
-- The data of respool top: the figures of a store at one moment, how fast
-- they have changed since the moment before, and how fast they did until then.

local core = require "respool.core"
local queue_stats = require "respool.observe.stats"

local M = {}

---@class respool.cli.sample
---@field at number wall clock
---@field store table as store:stats gives it
---@field commits number? a second
---@field queues respool.cli.queue_sample[] by name
---@field groups table[] dead letters: dlq, group, reason, count; most first

---@class respool.cli.queue_sample
---@field name string
---@field stats respool.queue_stats
---@field pushed number? a second; nil until two moments are known
---@field done number?
---@field failed number?
---@field past number[] `done` of the last moments, the newest last

---@class respool.cli.sampler
---@field handle respool.store
local Sampler = {}
Sampler.__index = Sampler

local PAST = 240     -- moments
local SHARE = 0.05   -- of the time, for reading DLQs through
local GROUPS = 100   -- at most
local LASTS = 300    -- seconds: what died in each hour changes with the time

---@param store respool.store
---@return respool.cli.sampler
function M.new(store)
  return setmetatable({
    handle = store, known = {}, groups = {}, groups_at = 0, dlqs = {},
  }, Sampler)
end

local function seconds()
  return core.mono() / 1e6
end


-- Queues.

local function failures(stats)
  return stats.retried + stats.died + stats.crashed
end

-- The rate at which a count rose, per second; nil if it fell, as
-- in a queue that was dropped and made anew.
local function rate(now, before, span)
  if now < before or span <= 0 then return nil end
  return (now - before) / span
end

local function queue_sample(name, stats, known, at)
  local sample = { name = name, stats = stats, past = {} }
  if not known or stats.pushed < known.stats.pushed then return sample end
  local span = at - known.at
  sample.past = known.past
  sample.pushed = rate(stats.pushed, known.stats.pushed, span)
  sample.done = rate(stats.done, known.stats.done, span)
  sample.failed = rate(failures(stats), failures(known.stats), span)
  table.insert(sample.past, sample.done or 0)
  if #sample.past > PAST then table.remove(sample.past, 1) end
  return sample
end

local function by_name(a, b)
  return a.name < b.name
end

local function queues(sampler, all, at)
  local list, known = {}, {}
  for name, stats in pairs(all) do
    local sample = queue_sample(name, stats, sampler.known[name], at)
    list[#list + 1], known[name] = sample, sample
    sample.at = at
  end
  sampler.known = known
  table.sort(list, by_name)
  return list
end


-- Dead letters. Counting them by group reads their DLQ through, so a DLQ is
-- read when its count has changed or some time has passed, and all this takes
-- but a share of the time.

local function most_first(a, b)
  if a.count ~= b.count then return a.count > b.count end
  if a.dlq ~= b.dlq then return a.dlq < b.dlq end
  if a.group ~= b.group then return a.group < b.group end
  return a.reason < b.reason
end

local function read_dlq(sampler, name)
  local dead, known = sampler.handle:dead(name), sampler.dlqs[name]
  local count, message = dead:count()
  if not count then return nil, message end
  if known and known.count == count and seconds() < known.ends then
    return known
  end
  local groups
  groups, message = dead:groups()
  if not groups then return nil, message end
  for _, g in ipairs(groups) do g.dlq = name end
  return { count = count, groups = groups, ends = seconds() + LASTS }
end

local function read_dlqs(sampler)
  local names, message = sampler.handle:dead_letter_queues()
  if not names then return nil, message end
  local dlqs, all = {}, {}
  for _, name in ipairs(names) do
    dlqs[name], message = read_dlq(sampler, name)
    if not dlqs[name] then return nil, message end
    for _, g in ipairs(dlqs[name].groups) do all[#all + 1] = g end
  end
  sampler.dlqs = dlqs
  table.sort(all, most_first)
  for i = #all, GROUPS + 1, -1 do all[i] = nil end
  return all
end

local function groups(sampler, at)
  if at < sampler.groups_at then return sampler.groups end
  local all, message = read_dlqs(sampler)
  if not all then return nil, message end
  local now = seconds()
  sampler.groups, sampler.groups_at = all, now + (now - at) / SHARE
  return all
end

-- The next look counts dead letters by group whatever it takes.
function Sampler:recount()
  self.groups_at = 0
end


-- Looks once more.
---@return respool.cli.sample?, string?
function Sampler:sample()
  local at = seconds()
  local stats, message = self.handle:stats()
  if not stats then return nil, message end
  local all
  all, message = queue_stats.queues(self.handle)
  if not all then return nil, message end
  local dead_letters
  dead_letters, message = groups(self, at)
  if not dead_letters then return nil, message end
  local commits = self.txn
    and rate(stats.last_txn, self.txn, at - self.at) or nil
  self.txn, self.at = stats.last_txn, at
  return {
    at = self.handle:now(), store = stats, commits = commits,
    queues = queues(self, all, at), groups = dead_letters,
  }
end

return M
