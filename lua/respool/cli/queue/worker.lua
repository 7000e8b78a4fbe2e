-- SPDX-License-Identifier: MIT
--
-- respool worker: who works on the queues of a store, and requests to stop.

local actions = require "respool.cli.base.actions"
local arguments = require "respool.cli.base.arguments"
local each = require "respool.cli.base.each"
local output = require "respool.cli.base.output"
local show = require "respool.cli.base.show"

local M = { summary = "list workers, or ask them to stop" }


-- The actions.

local function list_options(command)
  arguments.add_store(command)
  output.add_json(command)
  command:epilog "Example:\n  respool worker list shop.respool"
end

-- The last progress that was reported of the items that a worker holds.
local function progress_of(worker, now)
  local last
  for _, lease in ipairs(worker.leases) do
    local p = lease.progress
    if p and not (last and last.at > p.at) then last = p end
  end
  return last and ("item %d: %s"):format(last.id, show.progress(last, now))
end

local function list(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local rows, now, any = {}, store:now(), false
  for _, w in ipairs(arguments.check(store:workers())) do
    if args.json then output.json(io, w) end
    local progress = progress_of(w, now)
    any = any or progress ~= nil
    rows[#rows + 1] = {
      output.number(w.number), w.name, w.queue, w.state, w.host,
      ("%d"):format(w.pid), show.ago(now, w.started_at),
      show.ago(now, w.seen_at), output.number(w.leased),
      progress or "",
    }
  end
  if args.json then return end
  if #rows == 0 then return io.stdout:write "no workers\n" and nil end
  local columns = {
    { title = "NUMBER", right = true }, { title = "NAME" },
    { title = "QUEUE" }, { title = "STATE" }, { title = "HOST" },
    { title = "PID", right = true }, { title = "SINCE", right = true },
    { title = "SEEN", right = true }, { title = "LEASED", right = true },
  }
  if any then columns[#columns + 1] = { title = "PROGRESS", cut = true } end
  output.table(io, columns, rows)
end

local function stop_options(command)
  arguments.add_store(command)
  command:argument("numbers", "Numbers of the workers."):argname "NUMBER"
    :args "+":convert(arguments.whole(1))
  command:epilog "Example:\n  respool worker stop shop.respool 3"
end

local function stop(args, io)
  local store = arguments.open(io, args.store)
  return each.run(io, args.numbers, "asked to stop", function(number)
    return store:stop_worker(number)
  end)
end


-- The command.

local ACTIONS = {
  { "list", "list workers, with what they have in hand", list_options, list },
  { "stop", "ask workers to stop after the item in hand", stop_options, stop },
}

function M.options(command)
  command:epilog [[
Between two batches a worker checks about once a second whether it has been
asked to stop. A worker that is "gone" has died; its leases end as soon as
another worker on the same machine or `respool maintain` notices.

Example:
  respool worker list shop.respool]]
  actions.add(command, ACTIONS)
end

function M.run(args, io)
  return actions.run(ACTIONS, args, io)
end

return M
