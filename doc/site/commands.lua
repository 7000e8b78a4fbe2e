-- SPDX-License-Identifier: MIT
--
-- The commands with their help, from which the manual page and the page of the
-- command line are made.

local commands = require "respool.cli.commands"
local parser = require "respool.cli.parser"

local M = {}

-- The command that these words name, as argparse has it.
local function command_of(name, sub)
  local command = parser.new({ name, sub }, function() end)._commands[1]
  if not sub then return command end
  for _, one in ipairs(command._commands) do
    if one._name == sub then return one end
  end
end

local function elements_of(command)
  local list = {}
  local function add(element)
    local label = element:_get_label_lines()[1]
    if label ~= "-h, --help" then
      list[#list + 1] = { label = label, text = element:_get_description() }
    end
  end
  for _, argument in ipairs(command._arguments) do add(argument) end
  for _, option in ipairs(command._options) do add(option) end
  return list
end

-- Paragraphs of the end of a help; an example has its lines.
local function epilog_of(text)
  local list = {}
  for paragraph in (text .. "\n\n"):gmatch "(.-)\n\n+" do
    local example = paragraph:match "^Examples?:\n(.*)$"
    list[#list + 1] = {
      text = example and ("\n" .. example):gsub("\n  ", "\n"):sub(2)
        or paragraph,
      is_example = example ~= nil,
    }
  end
  return list
end

---@class respool.doc.command
---@field words string "dead list"
---@field usage string
---@field text string
---@field elements { label: string, text: string }[]
---@field epilog { text: string, is_example: boolean }[]

local function described(words, command)
  return {
    words = words, usage = (command:get_usage():gsub("^Usage: ", "")),
    text = command._description, elements = elements_of(command),
    epilog = epilog_of(command._epilog),
  }
end

-- Those of a command that has them only once they are named.
local NAMED = { replay = { "list", "show", "cancel", "resume", "forget" } }

-- A command, and its subcommands after it.
---@return respool.doc.command[]
function M.of(name)
  local command = command_of(name)
  local list, subs = { described(name, command) }, {}
  for i, sub in ipairs(command._commands) do subs[i] = sub._name end
  for _, sub in ipairs(NAMED[name] or subs) do
    list[#list + 1] = described(name .. " " .. sub, command_of(name, sub))
  end
  return list
end

-- The page, as Markdown.
---@param prose fun(text: string): string
---@return string
function M.page(prose, code)
  local out = { "# The command line\n", "`respool help` and `man respool` say "
    .. "the same.\n" }
  for _, name in ipairs(commands.NAMES) do
    for _, one in ipairs(M.of(name)) do
      out[#out + 1] = (one.words:find " " and "### respool " or "## respool ")
        .. one.words .. "\n"
      out[#out + 1] = "```\n" .. one.usage .. "\n```\n"
      out[#out + 1] = prose(one.text) .. "\n"
      if one.elements[1] then out[#out + 1] = "| | |\n|---|---|" end
      for _, element in ipairs(one.elements) do
        out[#out + 1] = ("| %s | %s |"):format(code(element.label),
          (prose(element.text):gsub("\n", " ")))
      end
      out[#out + 1] = ""
      for _, paragraph in ipairs(one.epilog) do
        out[#out + 1] = paragraph.is_example
          and "```sh\n" .. paragraph.text .. "\n```\n"
          or prose(paragraph.text) .. "\n"
      end
    end
  end
  return table.concat(out, "\n")
end

return M
