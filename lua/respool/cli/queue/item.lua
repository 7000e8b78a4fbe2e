-- SPDX-License-Identifier: MIT
--
-- respool item: changes of items, by their ids or keys.

local actions = require "respool.cli.base.actions"
local arguments = require "respool.cli.base.arguments"
local each = require "respool.cli.base.each"

local M = { summary = "run now, kill, cancel, move or edit items" }


-- Which items.

local function queue_options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
end

local function items_options(command)
  queue_options(command)
  command:argument("ids", "Ids of the items."):argname "ID"
    :args "*":convert(arguments.whole(1))
  command:option("--key", "The item with this key; may be repeated.")
    :argname "KEY":count "*":convert(arguments.key)
end

local function names_of(args)
  local all = args.ids
  for _, key in ipairs(args.key) do all[#all + 1] = { key = key } end
  if #all == 0 then
    arguments.misuse "which items? give their IDs, or --key"
  end
  return all
end

local function on_each(done, act)
  return function(args, io)
    local names = names_of(args)
    local store = arguments.open(io, args.store)
    local queue = arguments.queue(store, args.queue)
    local to = args.to and arguments.queue(store, args.to)
    if to and to.name == queue.name then
      arguments.misuse("the items are in queue '" .. to.name .. "'")
    end
    return each.run(io, names, done, function(name)
      return act(queue, name, args, to)
    end)
  end
end


-- The actions.

local function run_options(command)
  items_options(command)
  command:epilog [[
Scheduled and retrying items are due at once; ready ones stay as they are.

Example:
  respool item run shop.respool mails 42 43]]
end

local function kill_options(command)
  items_options(command)
  command:option("--error", "What the dead letters say. (default: the error "
    .. "of the last failure)"):argname "TEXT"
  command:epilog [[
The items become dead letters of the queue with the reason "killed". A replay
brings them back.

Example:
  respool item kill shop.respool mails 42 --error "wrong address"]]
end

local function cancel_options(command)
  items_options(command)
  command:epilog [[
The items are removed, also those that are leased: their handlers see that they
were cancelled, and what these say of them is refused.

Example:
  respool item cancel shop.respool mails 42]]
end

local function move_options(command)
  items_options(command)
  command:option("--to", "The queue that they go to.")
    :argname "QUEUE":convert(arguments.own_name):count(1)
  command:epilog [[
Origin, priority, key, headers, times and attempts stay; the id is a new one.

Example:
  respool item move shop.respool mails 42 --to urgent]]
end

local function edit_options(command)
  queue_options(command)
  command:argument("payload", "The new payload, as JSON."):argname "JSON"
  command:mutex(
    command:option("--id", "The item with this id."):argname "ID"
      :convert(arguments.whole(1)),
    command:option("--key", "The item with this key."):argname "KEY"
      :convert(arguments.key))
  command:flag("--raw", "Store the text as it is.")
  command:epilog [[
The item keeps its id, its place and all else.

Example:
  respool item edit shop.respool mails '{"to":"ada"}' --id 42]]
end

local function edit(args, io)
  local name = args.id or args.key and { key = args.key }
  if not name then arguments.misuse "which item? give --id or --key" end
  local payload = arguments.payload(args.payload, args.raw)
  local store = arguments.open(io, args.store)
  local queue = arguments.queue(store, args.queue,
                                args.raw and { codec = "raw" } or nil)
  return each.run(io, { name }, "edited", function(one)
    return queue:edit(one, payload)
  end)
end


-- The command.

local ACTIONS = {
  { "run", "make scheduled and retrying items due now", run_options,
    on_each("due now", function(queue, name) return queue:run_now(name) end) },
  { "kill", "make dead letters of items", kill_options,
    on_each("killed", function(queue, name, args)
      return queue:kill(name, { error = args.error })
    end) },
  { "cancel", "remove items, also while they are worked on", cancel_options,
    on_each("cancelled", function(queue, name)
      return queue:cancel(name)
    end) },
  { "move", "move items to another queue", move_options,
    on_each("moved", function(queue, name, _, to)
      return queue:move(name, to)
    end) },
  { "edit", "give an item another payload", edit_options, edit },
}

function M.options(command)
  command:epilog [[
Items that are leased are only cancelled; all else leaves them as they are,
changes the others, and the exit status is 1.

Example:
  respool item run shop.respool mails 42]]
  actions.add(command, ACTIONS)
end

function M.run(args, io)
  return actions.run(ACTIONS, args, io)
end

return M
