-- SPDX-License-Identifier: MIT
--
-- respool config: the settings of a queue, which all processes honour.

local arguments = require "respool.cli.base.arguments"
local figures = require "respool.observe.stats"
local output = require "respool.cli.base.output"
local policy = require "respool.policy"
local queue_of = require "respool.queue"
local show = require "respool.cli.base.show"

local M = { summary = "show or change the settings of a queue" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:argument("settings", "Settings to be changed: max_attempts=10, "
    .. "lease=5m, max_items=none, weights={\"9\":3}."):argname "NAME=VALUE"
    :args "*"
  arguments.add_yes(command)
  output.add_json(command)
  command:epilog [[
VALUE is a number, a duration, a size, a word, true, false, none for no limit,
or JSON. Without --yes nothing is changed: what would be is reported, and the
exit status is 1.

Examples:
  respool config shop.respool mails
  respool config shop.respool mails max_attempts=10 lease=5m --yes]]
end


-- Changing.

local function read_settings(words, stored)
  local o = {}
  for _, word in ipairs(words) do
    local name, text = word:match "^([%w_]+)=(.*)$"
    if not name then
      arguments.misuse(("'%s' is not NAME=VALUE"):format(word))
    elseif stored[name] == nil then
      arguments.misuse(("there is no setting '%s'%s"):format(
        name, arguments.suggestion(name, figures.sorted(stored))))
    end
    o[name] = arguments.setting(text)
  end
  return o
end

local function change(store, queue, args)
  local before = arguments.check(queue.handle:config())
  local o = read_settings(args.settings, policy.told(before))
  local ok, list = pcall(policy.planned, before, o, queue.name)
  if not ok then arguments.misuse(arguments.text_of(list)) end
  if #list == 0 then return end
  arguments.need_yes(args, ("change %s of queue '%s'"):format(
    table.concat(list, ", "), queue.name))
  o.create = false
  arguments.check(queue_of.open(store, queue.name, o, true))
end

function M.run(args, io)
  local changes = #args.settings > 0
  local store = arguments.open(io, args.store,
                               not (changes and args.yes) and show.LOOK or nil)
  local queue = arguments.queue(store, args.queue)
  if changes then change(store, queue, args) end
  local settings = arguments.check(queue:config())
  if args.json then return output.json(io, settings) end
  output.fields(io, show.settings(queue.name, settings))
end

return M
