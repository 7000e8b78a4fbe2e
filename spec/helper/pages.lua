-- SPDX-License-Identifier: MIT
--
-- The Markdown pages: their blocks of code, links and headings. Blocks are run
-- as they stand, each alone in a fresh directory, with the tree's modules and
-- its command, and with nothing else:
--
-- lua      `--> text` beside or below a print is what it prints
-- console  `$ command` (`> ` goes on with it), and what it prints
-- sh       exits with 0
--
-- In what is printed `…` stands for anything. Ports of the loopback are given
-- free ones, as others may run at the same time.

local helper = require "spec.helper"

local M = {}

local TREE = helper.sh "pwd"

-- The pages, by path.
function M.paths()
  local list = { "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
                 "SECURITY.md" }
  local found = helper.sh "find doc contrib -name '*.md' | LC_ALL=C sort"
  for path in found:gmatch "[^\n]+" do list[#list + 1] = path end
  return list
end

---@class respool.spec.block
---@field page string
---@field line integer of its first line
---@field lang string
---@field text string
---@field id string "PAGE:LINE"

-- The lines of a page outside its blocks, and the blocks.
---@return string[] lines, respool.spec.block[] blocks
function M.read(path)
  local lines, blocks, open = {}, {}, nil
  local n = 0
  for line in (helper.read(path) .. "\n"):gmatch "(.-)\n" do
    n = n + 1
    local lang = line:match "^%s*```(.*)$"
    if lang and not open then
      open = { page = path, line = n + 1, lang = lang, lines = {},
               id = ("%s:%d"):format(path, n + 1) }
    elseif lang then
      open.text = table.concat(open.lines, "\n") .. "\n"
      blocks[#blocks + 1], open = open, nil
    elseif open then
      table.insert(open.lines, line)
    end
    lines[n] = (lang or open) and "" or line
  end
  assert(not open, path .. ": a block has no end")
  return lines, blocks
end

-- The blocks of all pages in one of these languages.
---@return respool.spec.block[]
function M.blocks(...)
  local wanted, list = {}, {}
  for _, lang in ipairs { ... } do wanted[lang] = true end
  for _, path in ipairs(M.paths()) do
    for _, block in ipairs((select(2, M.read(path)))) do
      if wanted[block.lang] then list[#list + 1] = block end
    end
  end
  return list
end


-- Anchors and links.

-- The anchor that GitHub gives a heading.
local function anchor_of(heading)
  local text = heading:gsub("%[(.-)%]%b()", "%1"):gsub("`", "")
  return (text:lower():gsub("[^%w%-_ \128-\255]", ""):gsub(" ", "-"))
end

-- The anchors of a page, as a set.
function M.anchors(path)
  local set = {}
  for _, line in ipairs((M.read(path))) do
    local heading = line:match "^#+ (.*)$"
    if heading then set[anchor_of(heading)] = true end
  end
  return set
end

-- The targets of the links and pictures of a page, with their lines.
---@return { target: string, line: integer }[]
function M.links(path)
  local list = {}
  for n, line in ipairs((M.read(path))) do
    local text = line:gsub("`[^`]*`", "")
    for target in text:gmatch "%]%(([^)]*)%)" do
      list[#list + 1] = { target = target, line = n }
    end
    for target in text:gmatch '%f[%w]src="([^"]*)"' do
      list[#list + 1] = { target = target, line = n }
    end
    for target in text:gmatch '%f[%w]srcset="([^"]*)"' do
      list[#list + 1] = { target = target, line = n }
    end
    for target in text:gmatch '%f[%w]href="([^"]*)"' do
      list[#list + 1] = { target = target, line = n }
    end
  end
  return list
end


-- Running.

local function quote(word)
  return "'" .. word:gsub("'", [['\'']]) .. "'"
end

M.free_port = require "spec.helper.servers.free_port"

-- A text with other ports behind the address of the loopback: those given, and
-- free ones.
local function with_ports(text, ports)
  return (text:gsub("(127%.0%.0%.1[^%d\n]-)(%d%d%d%d+)", function(before, port)
    ports[port] = ports[port] or M.free_port()
    return before .. ports[port]
  end))
end

-- The lines that a Lua block says it prints.
local function printed_by_lua(text)
  local list = {}
  for said in text:gmatch "%-%-> ?([^\n]*)" do list[#list + 1] = said end
  return list
end

-- A shell script of a transcript that prints it again.
local function script_of(text)
  local script, command = { "exec 2>&1" }, nil
  local function add()
    if not command then return end
    local said = "$ " .. command:gsub("\n", "\n> ")
    script[#script + 1] = "printf '%s\\n' " .. quote(said)
    script[#script + 1] = command
    command = nil
  end
  for line in text:gmatch "[^\n]+" do
    local first, more = line:match "^%$ (.*)$", line:match "^> (.*)$"
    if first then
      add()
      command = first
    elseif more and command then
      command = command .. "\n" .. more
    else
      add()
    end
  end
  add()
  return table.concat(script, "\n") .. "\n"
end

local PREPARE = {
  lua = function(block) return "main.lua", block.text end,
  sh = function(block) return "main.sh", "set -e\n" .. block.text end,
  console = function(block) return "main.sh", script_of(block.text) end,
}

local RUN = [[
cd "$1" && mkdir work && cd work || exit
file=$(ls ../main.*)
case $file in
  *.lua) timeout 300 "$LUA" "$file" ;;
  *) timeout 300 bash "$file" ;;
esac >../out 2>../err </dev/null
echo $? >../status
]]

---@class respool.spec.ran
---@field status integer
---@field out string
---@field err string

-- Runs blocks, four at a time; returns by id how each went. `env` is more of
-- the environment, "NAME=value ...", `ports` are those that stand for others.
---@param blocks respool.spec.block[]
---@param given { env: string?, ports: table<string, string>? }?
---@return table<string, respool.spec.ran>
function M.run(blocks, given)
  local o = given or {}
  local dir, list = helper.dir(), {}
  helper.write(dir .. "/run", RUN)
  helper.sh(([[mkdir %s/bin && printf '#!/bin/sh\nexec %s %s/bin/respool "$@"\n'
    >%s/bin/respool && chmod +x %s/bin/respool]]):gsub("%%s", {})
    :gsub("\n", " "):format(dir, helper.lua(), TREE, dir, dir))
  for i, block in ipairs(blocks) do
    local place = ("%s/%d"):format(dir, i)
    helper.sh("mkdir " .. place)
    local ports = {}
    for port, other in pairs(o.ports or {}) do ports[port] = other end
    block.text = with_ports(block.text, ports)
    local name, text = PREPARE[block.lang](block)
    helper.write(place .. "/" .. name, text)
    list[i] = place
  end
  helper.write(dir .. "/list", table.concat(list, "\n") .. "\n")
  helper.sh(([[env -u RESPOOL_STORE PATH=%s/bin:"$PATH" LUA_PATH=%s \
    LUA_CPATH=%s LUA=%s %s xargs -P 4 -n 1 sh %s/run <%s/list]]):format(dir,
    quote(package.path), quote(package.cpath), helper.lua(), o.env or "", dir,
    dir))
  local results = {}
  for i, block in ipairs(blocks) do
    results[block.id] = {
      status = tonumber(helper.read(list[i] .. "/status")),
      out = helper.read(list[i] .. "/out"),
      err = helper.read(list[i] .. "/err"),
    }
  end
  return results
end

-- Whether a text is what a page says, in which `…` is anything; the width of
-- its spaces does not count.
local function fits(said, text)
  local pattern = said:gsub("[ \t]+", " "):gsub("%p", "%%%0")
    :gsub("…", ".-")
  return text:gsub("[ \t]+", " "):match("^" .. pattern .. "$") ~= nil
end

-- The output that a block should have, and whether it had that.
---@param block respool.spec.block
---@param ran respool.spec.ran
---@return string expected, boolean fits
function M.expected(block, ran)
  if block.lang == "sh" then return ran.out, true end
  local said = block.text
  if block.lang == "lua" then
    local lines = printed_by_lua(block.text)
    said = table.concat(lines, "\n") .. (lines[1] and "\n" or "")
  end
  return said, fits(said, ran.out)
end

return M
