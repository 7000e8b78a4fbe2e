-- SPDX-License-Identifier: MIT
--
-- respool completion: scripts by which a shell completes command lines. The
-- scripts ask `respool completion words` what may stand for the last word, so
-- that there is one list of commands and options; queues and DLQs are those of
-- the store on the line.

local arguments = require "respool.cli.base.arguments"
local commands = require "respool.cli.commands"
local compat = require "respool.support.compat"
local parser_of = require "respool.cli.parser"
local store_of = require "respool.store"
local words_of = require "respool.cli.words"

local M = { summary = "complete command lines in a shell" }

function M.options(command)
  command:argument("shell", "bash, zsh or fish; or words, which lists what may "
    .. "stand for the last WORD."):argname "SHELL"
    :choices { "bash", "zsh", "fish", "words" }
  command:argument("words", "The words of a command line so far.")
    :argname "WORD":args "*"
  command:epilog [[
Examples:
  eval "$(respool completion bash)"                  # in ~/.bashrc
  eval "$(respool completion zsh)"                   # in ~/.zshrc
  respool completion fish | source                   # in config.fish]]
end

-- Where nothing is found, the word may be a file. `make install` writes them
-- to files, where zsh calls its own as the function _respool.
local SCRIPTS = {
  bash = [=[
_respool() {
  local word IFS=$'\n'
  COMPREPLY=()
  for word in $(respool completion words -- \
      "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null); do
    COMPREPLY+=("$(printf %q "$word")")
  done
}
complete -o default -F _respool respool
]=],
  zsh = [=[
#compdef respool
_respool() {
  local -a found
  found=("${(@f)$(respool completion words -- \
    "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n $found ]]; then compadd -a found; else _files; fi
}
if [[ $funcstack[1] == _respool ]]
then _respool
else compdef _respool respool
fi
]=],
  fish = [=[
complete -c respool -a '(respool completion words -- \
  (commandline -opc)[2..] (commandline -ct | string collect -a) 2>/dev/null)'
]=],
}


-- The words that may follow.

local NAMES = {
  QUEUE = function(store) return store:queues() end,
  DLQ = function(store) return store:dead_letter_queues() end,
}

-- The names of what a store has, by the name that the help gives an argument.
local function names(kind, path)
  local find = NAMES[kind]
  if not find or not path then return {} end
  local store = store_of.open(path, {
    create = false, read_only = true, log = false,
  })
  local list = store and find(store) or {}
  if store then store:close() end
  return list
end

local function values(element, path)
  if not element then return {} end
  if element._choices then return element._choices end
  return names(element:_get_argname(1), path)
end

local function options(command)
  local list = {}
  for _, option in ipairs(command._options) do
    list[#list + 1] = option._aliases[#option._aliases]
  end
  return list
end

local function names_of(list)
  local found = {}
  for i, command in ipairs(list) do found[i] = command._name end
  return found
end

local function argument_at(command, n)
  local list = command._arguments
  local last = list[#list]
  return list[n] or last and last._maxargs > 1 and last or nil
end

local function candidates(words)
  if #words <= 1 then return commands.NAMES end
  local parser = parser_of.new(words, function() end)
  if not commands.is_command(words[1]) then return {} end
  local before = { compat.unpack(words, 1, #words - 1) }
  local read = words_of.read(parser, before)
  if words_of.default_store() and words_of.leaves_store_out(read) then
    table.insert(read.given, 1, words_of.default_store())
  end
  local command, given = read.command, read.given
  if read.open then return values(read.open, given[1]) end
  if words[#words]:sub(1, 1) == "-" then return options(command) end
  if #command._commands > 0 then return names_of(command._commands) end
  return values(argument_at(command, #given + 1), given[1])
end

function M.run(args, io)
  if args.shell ~= "words" then
    if args.words[1] then arguments.misuse "SHELL is all that is given" end
    io.stdout:write(SCRIPTS[args.shell])
    return 0
  end
  local last = args.words[#args.words] or ""
  for _, word in ipairs(candidates(args.words)) do
    if word:sub(1, #last) == last and not word:find "[%c]" then
      io.stdout:write(word, "\n")
    end
  end
  return 0
end

return M
