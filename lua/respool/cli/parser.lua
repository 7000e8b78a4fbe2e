-- SPDX-License-Identifier: MIT
--
-- The parser of the command line: argparse, with a shorter usage, help that
-- goes where the command writes, and mistakes reported in one line.

local arguments = require "respool.cli.base.arguments"
local commands = require "respool.cli.commands"
local compat = require "respool.support.compat"
local core = require "respool.core"
local words_of = require "respool.cli.words"

local M = {}

local EPILOG = [[
STORE is the directory of a store, or the URL of a database. Where the variable
RESPOOL_STORE is set, STORE may be left out. `respool help COMMAND` shows the
options of a command.

Example:
  echo '{"to":"ada@example.org"}' | respool push shop.respool mails]]


-- Where argparse does otherwise.

-- "-n N, --limit N" in one line.
local function label_in_one_line(option)
  local lines = getmetatable(option).__index._get_label_lines(option)
  for i, line in ipairs(lines) do lines[i] = line:gsub("^ +", "") end
  return { table.concat(lines, " ") }
end

-- An argument under the name that the usage gives it.
local function label_of_argument(argument)
  return { (argument:_get_usage():match "%u[%u-]*") or argument._name }
end

-- Says which option or argument has a wrong value.
local function name_in_errors(element, name)
  local convert = element._convert
  if type(convert) ~= "function" then return end
  element._convert = function(text)
    local value, why = convert(text)
    if value ~= nil then return value end
    return nil, why and ("%s: %s"):format(name, why)
  end
end

local function usage_of(parser)
  local parts = { "Usage:", parser:_get_fullname(), "[OPTION]..." }
  for _, argument in ipairs(parser._arguments) do
    parts[#parts + 1] = argument:_get_usage()
  end
  if #parser._commands > 0 then parts[#parts + 1] = "COMMAND ..." end
  return table.concat(parts, " ")
end

-- Gives a parser and its commands a help that answer() writes.
local function finish(parser, answer)
  parser:add_help { action = function() answer(parser:get_help()) end }
  parser:usage(usage_of(parser))
  for _, option in ipairs(parser._options) do
    option._get_label_lines = label_in_one_line
    name_in_errors(option, option._aliases[#option._aliases])
  end
  for _, argument in ipairs(parser._arguments) do
    argument._get_label_lines = label_of_argument
    name_in_errors(argument, label_of_argument(argument)[1])
  end
  for _, command in ipairs(parser._commands) do finish(command, answer) end
end

-- The argument that is missing, under the name that the usage gives it.
local function name_missing(parser, words, message)
  local name = message:match "^missing argument '(.*)'$"
  if not name then return message end
  for _, word in ipairs(words) do
    for _, command in ipairs(parser._commands) do
      if command._name == word then parser = command end
    end
  end
  for _, argument in ipairs(parser._arguments) do
    if argument._name == name then name = label_of_argument(argument)[1] end
  end
  return ("missing argument %s"):format(name)
end

-- A message of argparse in one line.
local function one_line(message)
  local number = message:match "^unknown option '(%-[%d.]+)'"
  if number then
    return ("'%s' is below 0, which no option or argument may be"):format(
      number)
  end
  return (message:gsub("%.?\nDid you mean (.*)%?$", "; did you mean %1?")
    :gsub("\n", " "))
end


-- Commands.

-- Adds a command by its module; it has no options yet.
local function add_command(parser, name)
  local module = commands.load(name)
  local command = parser:command(
    name, module.summary:gsub("^%l", string.upper) .. ".")
  command:summary(module.summary)
  return module, command
end

-- Adds the command that is asked for, or all of them for a list.
local function add_commands(parser, words)
  if commands.is_command(words[1]) then
    local module, command = add_command(parser, words[1])
    return module.options(command, { compat.unpack(words, 2) })
  end
  for _, name in ipairs(commands.NAMES) do add_command(parser, name) end
  parser:command("help", "Show the help of a command.")
    :summary "show the help of a command"
end

-- A parser for the command line that begins with `words`. `answer` is called
-- with the text that --help or --version asks for.
---@param words string[]
---@param answer fun(text: string)
---@return table
function M.new(words, answer)
  local parser = require "argparse" ("respool",
    "A durable queue in a directory: put items in, work on them, look at them.",
    EPILOG)
  parser:command_target "command"
  parser:help_max_width(80)
  parser:flag("-V --version", "Show the version and exit.")
    :action(function() answer("respool " .. core.version) end)
  add_commands(parser, words)
  finish(parser, answer)
  return parser
end

-- Ends the command with the mistake in it, and a pointer to the help of the
-- command, or action of it, that the words name.
local function refuse(parser, words, message)
  local command = words_of.read(parser, words).command
  arguments.misuse(("%s (see %s --help)"):format(
    message, command:_get_fullname()))
end

-- The arguments of a command line; nil and a text when it asks for a text,
-- such as help. A command line with mistakes ends the command.
---@param words string[]
---@return table?, string?
function M.parse(words)
  local said
  local parser = M.new(words, function(text)
    said = text
    error "answered" -- argparse would go on
  end)
  if #words == 0 then refuse(parser, words, "a command is required") end
  local ran, ok, args = pcall(parser.pparse, parser,
                               words_of.with_store(parser, words))
  if said then return nil, said end
  if not ran then error(ok, 0) end
  if not ok then
    refuse(parser, words, one_line(name_missing(parser, words, args)))
  end
  return args
end

return M
