-- SPDX-License-Identifier: MIT
--
-- The command line: runs a command, and turns its errors into a line on stderr
-- and an exit status. See respool/cli/commands.lua.

local arguments = require "respool.cli.base.arguments"
local commands = require "respool.cli.commands"
local compat = require "respool.support.compat"
local core = require "respool.core"
local output = require "respool.cli.base.output"
local pager = require "respool.cli.base.pager"
local parser = require "respool.cli.parser"
local streams = require "respool.cli.base.streams"

local M = {}

local FAILED, INTERRUPTED, PIPE = 1, 130, 141

-- `respool help push` is `respool push --help`, `respool version` is
-- `respool --version`; a leading "--" has no effect.
local function plain_words(argv)
  local words = { compat.unpack(argv, argv[1] == "--" and 2 or 1) }
  if words[1] == "version" and #words == 1 then return { "--version" } end
  if words[1] == "help" then
    table.remove(words, 1)
    words[#words + 1] = "--help"
  end
  return words
end

local function run(argv, io)
  local args, text = parser.parse(plain_words(argv))
  if not args then
    io.stdout:write(text, "\n")
    return 0
  end
  pager.begin(args, io)
  return commands.load(args.command).run(args, io) or 0
end

-- The Debian packages of modules that may be missing.
local PACKAGES = {
  argparse = "lua-argparse",
  socket = "lua-socket", mime = "lua-socket",
}

local function missing_module(err)
  local module = tostring(err):match "module '([%w_.]+)' not found:"
  local package = module and PACKAGES[module:match "^[^.]+"]
  return package and ("the Lua module '%s' is missing (Debian package %s)")
    :format(module, package)
end

-- The message of an error, without the place in our own code.
local function text_of(err)
  local missing = missing_module(err)
  if missing then return missing end
  return arguments.text_of(err)
end

-- Writes what an error says; returns the exit status.
local function fail(io, err)
  if streams.is_closed(err) then return PIPE end
  if compat.is_interrupt(err) then return INTERRUPTED end
  local message, status = text_of(err), FAILED
  if arguments.is_failure(err) then
    message, status = err.message, err.status
  end
  io.stderr:write("respool: ", message:gsub("[^\n]+", output.clean), "\n")
  return status
end

local function trace(io, err)
  if type(err) == "string" and os.getenv "RESPOOL_TRACE" then
    io.stderr:write(debug.traceback(err, 2), "\n")
  end
  return err
end

-- Runs a command line; returns the exit status.
---@param argv string[]
---@param io respool.cli.io? its streams; the process's own
---@return integer
function M.main(argv, io)
  if not io then core.tell_waits() end
  io = io or streams.new()
  local function guarded(f, ...)
    local ok, status = compat.xpcall(f, function(err) return trace(io, err) end,
                                     ...)
    return ok and status or fail(io, status)
  end
  local status = guarded(run, argv, io)
  local closed = guarded(streams.close, io)
  return status ~= 0 and status or closed
end

return M
