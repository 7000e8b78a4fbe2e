-- SPDX-License-Identifier: MIT
--
-- The commands, each a module with
--
--   summary                 one line, for the list of commands
--   options(command, words) adds its options to argparse; `words` follow the
--                           command's name, for commands with subcommands
--   run(args, io)           runs it; returns the exit status
--
-- The exit status is 0 for success, 1 for a failure, 2 for a wrong command
-- line. Commands read and write through `io`, which has the interface of Lua's
-- io: see respool/cli/base/streams.lua.

local M = {}

-- In the order in which the help lists them.
M.NAMES = {
  "init", "push", "work", "worker", "schedule", "replay",
  "ls", "peek", "get", "result", "history", "stats", "top", "health", "metrics",
  "dead", "item", "remove", "purge", "drop", "pause", "resume", "hold",
  "config", "partitions", "maintain", "check",
  "repair", "compact",
  "export", "import", "move",
  "deliver", "receive", "console",
  "completion",
}

-- Where each lies; false: beside this file, as it knows all others.
local ROOMS = {
  push = "queue", work = "queue", worker = "queue", schedule = "queue",
  peek = "queue", get = "queue", result = "queue", item = "queue",
  remove = "queue",
  purge = "queue", drop = "queue", config = "queue", history = "look",
  pause = "queue", resume = "queue", hold = "queue",
  partitions = "queue",
  dead = "dead", replay = "dead",
  ls = "look", stats = "look", top = "look", health = "look",
  metrics = "look",
  init = "maintenance", maintain = "maintenance", check = "maintenance",
  repair = "maintenance", compact = "maintenance",
  export = "transfer", import = "transfer", move = "transfer",
  deliver = "http", receive = "http", console = "http",
  completion = false,
}

---@param name string?
---@return boolean
function M.is_command(name)
  return ROOMS[name] ~= nil
end

-- The module of a command, loaded when it is asked for.
---@param name string
---@return table
function M.load(name)
  local room = ROOMS[name]
  return require("respool.cli." .. (room and room .. "." or "") .. name)
end

return M
