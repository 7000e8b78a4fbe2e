-- SPDX-License-Identifier: MIT
--
-- The command line. Each command is a module of respool.cli.*, with
--
--   summary                 one line, for the list of commands
--   options(command, words) describes it to argparse; `words` are what follows
--                           the command's name, for commands with subcommands
--   run(args, io)           does it; returns the exit status
--
-- The status is 0 when all went well, 1 when something did not, 2 when what
-- was asked for was wrong. What a command writes goes through `io`, which
-- looks like Lua's io: see respool/cli/streams.lua.

local arguments = require "respool.cli.arguments"
local compat = require "respool.support.compat"
local core = require "respool.core"
local streams = require "respool.cli.streams"

local M = {}

-- In the order in which the help lists them.
local COMMANDS = {
  "push", "work", "replay",
  "ls", "peek", "get", "stats", "top", "health", "metrics",
  "dead", "remove", "pause", "resume", "maintain", "check",
  "repair", "compact",
  "export", "import",
  "deliver", "receive",
}
M.COMMANDS = COMMANDS

local FAILED, INTERRUPTED, PIPE = 1, 130, 141

local EPILOG = [[
STORE is the directory of a store. `respool help COMMAND` says more.

Example:
  echo '{"to":"ada@example.org"}' | respool push shop.respool mails]]


-- The parser. It answers --help and --version by itself, and exits.

local function is_command(name)
  for _, other in ipairs(COMMANDS) do
    if other == name then return true end
  end
  return false
end

local function add_command(parser, name)
  local module = require("respool.cli." .. name)
  local command = parser:command(
    name, module.summary:gsub("^%l", string.upper) .. ".")
  command:summary(module.summary)
  return module, command
end

-- All commands, for a list of them, or the one that is meant.
local function add_commands(parser, words)
  if is_command(words[1]) then
    local module, command = add_command(parser, words[1])
    return module.options(command, { compat.unpack(words, 2) })
  end
  for _, name in ipairs(COMMANDS) do add_command(parser, name) end
  parser:command("help", "Show the help of a command.")
    :summary "show the help of a command"
end

local function show_version()
  print("respool " .. core.version)
  os.exit(0)
end

local function new_parser(words)
  local argparse = require "argparse"
  local parser = argparse("respool",
    "A durable queue in a directory: put items in, work on them, look at them.",
    EPILOG)
  parser:command_target "command"
  parser:usage_max_width(80)
  parser:help_max_width(80)
  parser:flag("--version", "Show the version and exit."):action(show_version)
  add_commands(parser, words)
  return parser
end

-- What argparse has to say, in one line.
local function one_line(message)
  local number = message:match "^unknown option '(%-[%d.]+)'"
  if number then
    return ("'%s' is below 0, which nothing here can be"):format(number)
  end
  return (message:gsub("%.?\nDid you mean (.*)%?$", "; did you mean %1?")
    :gsub("\n", " "))
end

-- Ends the command with what is wrong with it and where help is.
local function refuse(words, message)
  arguments.misuse(("%s (see respool %s--help)"):format(
    message, is_command(words[1]) and words[1] .. " " or ""))
end

---@return table args
local function parse(words)
  if #words == 0 then refuse(words, "a command is required") end
  local ok, args = new_parser(words):pparse(words)
  if not ok then refuse(words, one_line(args)) end
  return args
end


-- Running.

-- `respool help push` is `respool push --help`; "--" says nothing here.
local function plain_words(argv)
  if argv[1] == "--" then return { compat.unpack(argv, 2) } end
  if argv[1] ~= "help" then return { compat.unpack(argv) } end
  local words = { compat.unpack(argv, 2) }
  words[#words + 1] = "--help"
  return words
end

local function run(argv, io)
  local args = parse(plain_words(argv))
  return require("respool.cli." .. args.command).run(args, io) or 0
end

-- Whose absence is told by the name of the Debian package.
local PACKAGES = {
  argparse = "lua-argparse", cjson = "lua-cjson", dkjson = "lua-dkjson",
  socket = "lua-socket", mime = "lua-socket",
}

local function missing_module(err)
  local module = tostring(err):match "module '([%w_.]+)' not found:"
  local package = module and PACKAGES[module:match "^[^.]+"]
  return package and ("the Lua module '%s' is missing (Debian package %s)")
    :format(module, package)
end

-- Misuse that the library found is told without our own place.
local function text_of(err)
  local missing = missing_module(err)
  if missing then return missing end
  return arguments.text_of(err)
end

-- The exit status of an error, which is told unless nobody wants to know.
local function fail(io, err)
  if streams.is_closed(err) then return PIPE end
  if compat.is_interrupt(err) then return INTERRUPTED end
  local message, status = text_of(err), FAILED
  if arguments.is_failure(err) then
    message, status = err.message, err.status
  end
  io.stderr:write(("respool: %s\n"):format(message))
  return status
end

local function trace(err)
  if type(err) == "string" and os.getenv "RESPOOL_TRACE" then
    io.stderr:write(debug.traceback(err, 2), "\n")
  end
  return err
end

-- Runs the command line that `argv` is; returns the exit status.
---@param argv string[]
---@return integer
function M.main(argv)
  local io = streams.new()
  local function guarded(f, ...)
    local ok, status = compat.xpcall(f, trace, ...)
    return ok and status or fail(io, status)
  end
  local status = guarded(run, argv, io)
  local closed = guarded(streams.close, io)
  return status ~= 0 and status or closed
end

return M
