-- SPDX-License-Identifier: MIT
--
-- The annotations of the Lua modules, as lua-language-server knows them, with
-- the comments before them:
--
--   model.files[path]      { functions by "VAR.name", their order, requires }
--   model.types[name]      a class with its fields, or an alias

local M = {}

---@class respool.doc.field
---@field name string
---@field type string
---@field text string

---@class respool.doc.entry
---@field name string
---@field args string
---@field text string the comment before it
---@field params respool.doc.field[]
---@field returns string[] as they are annotated
---@field type string? of a value
---@field body string
---@field path string

-- The end of a type that begins at `i`: types may hold brackets, unions and
-- the results of functions.
local function end_of_type(text, i)
  local start = text:match("^%s*()", i)
  local at = text:match("^fun()%(", start) or text:match('^[%w_."-]*()', start)
  at = text:match("^%b()()", at) or text:match("^%b{}()", at)
    or text:match("^%b<>()", at) or at
  at = text:match("^[%[%]?]*()", at)
  local results = text:find("^fun%(", start) and text:match("^:%s*()", at)
  while results do
    at = end_of_type(text, results)
    results = text:match("^,%s*()[%l]", at)
  end
  local more = text:match("^%s*|%s*()", at)
  return more and end_of_type(text, more) or at
end

-- A type and the words behind it.
---@return string, string
function M.split(text)
  local at = end_of_type(text, 1)
  return text:sub(1, at - 1), (text:sub(at):gsub("^%s+", ""))
end

-- Adds what an annotation says to what is being read.
local function annotate(block, model, kind, text)
  if kind == "class" or kind == "alias" then
    local name, rest = text:match "^([%w_.]+)%s*(.*)$"
    block.type = {
      name = name, kind = kind, fields = {}, path = block.path,
      text = table.concat(block.text, "\n"),
      parents = kind == "class" and rest:gsub("^:%s*", "") or "",
      is = kind == "alias" and rest or nil,
    }
    model.types[name], block.text = block.type, {}
  elseif kind == "field" and not text:find "^private " then
    local name, rest = text:match "^(%S+)%s+(.*)$"
    local of, words = M.split(rest)
    table.insert(block.type.fields, { name = name, type = of, text = words })
  elseif kind == "param" then
    local name, rest = text:match "^(%S+)%s+(.*)$"
    local of, words = M.split(rest)
    table.insert(block.params, { name = name, type = of, text = words })
  elseif kind == "return" then
    table.insert(block.returns, text)
  elseif kind == "type" then
    block.value = text
  end
end

local function new_block(path)
  return { path = path, text = {}, params = {}, returns = {} }
end

-- The lines of a block, with each annotation in one line.
local function read_block(model, path, lines)
  local block, kind, text = new_block(path), nil, nil
  local function flush()
    if kind then annotate(block, model, kind, text) end
    kind, text = nil, nil
  end
  for _, line in ipairs(lines) do
    local next_kind, rest = line:match "^%-%-%-@(%l+)%s*(.*)$"
    local more = line:match "^%-%-%-%s*(.*)$"
    if next_kind then
      flush()
      kind, text = next_kind, rest
    elseif more and kind then
      text = text .. " " .. more
    else
      flush()
      table.insert(block.text, (line:gsub("^%-%- ?", "")))
    end
  end
  flush()
  return block
end

local function entry_of(block, name, args)
  local class = block.type
  return {
    name = name, args = args, path = block.path, params = block.params,
    returns = block.returns, type = block.value or class and class.name,
    body = "", text = class and class.text or table.concat(block.text, "\n"),
  }
end

-- Keeps the function or value that a line of code begins, if it does.
local function keep(file, block, line)
  local var, name, args = line:match "^function ([%w_]+)[.:]([%w_]+)(%b())"
  if not var then
    var, name = line:match "^(M)%.([%w_]+) = "
    if not (block.params[1] or block.returns[1] or block.value or block.type)
    then
      var = nil
    end
  end
  if not var then return nil end
  local entry = entry_of(block, name, args)
  file.functions[var .. "." .. name] = entry
  table.insert(file.order, var .. "." .. name)
  return entry
end

local function read_file(model, path)
  local file = { functions = {}, order = {}, requires = {}, path = path }
  local pending, open = {}, nil
  for line in io.lines(path) do
    if line:find "^%-%-" then
      table.insert(pending, line)
    else
      local var, module = line:match '^local ([%w_]+) = require "([%w_.]+)"'
      if var then file.requires[var] = module end
      local block = read_block(model, path, pending)
      pending = {}
      if line ~= "" then open = keep(file, block, line) or open end
      if open then open.body = open.body .. line .. "\n" end
      if line == "end" then open = nil end
      table.insert(file, line)
    end
  end
  model.files[path] = file
end

local function path_of(module)
  local path = "lua/" .. module:gsub("%.", "/")
  local file = io.open(path .. ".lua")
  if file then file:close() end
  return file and path .. ".lua" or path .. "/init.lua"
end
M.path_of = path_of

-- Reads all modules.
function M.read()
  local model = { files = {}, types = {} }
  local list = io.popen(
    "find lua/respool lua/resty -name '*.lua' | LC_ALL=C sort")
  for path in list:lines() do read_file(model, path) end
  list:close()
  return model
end

-- The functions that a module has: its own, and those of others that it gives
-- names, such as M.open = store.open.
---@return respool.doc.entry[]
function M.exports(model, module)
  local file, list = model.files[path_of(module)], {}
  for _, name in ipairs(file.order) do
    if name:find "^M%." then table.insert(list, file.functions[name]) end
  end
  local text = "\n" .. table.concat(file, "\n")
  for names, values in text:gmatch "\n(M%.[%w_., ]-) = ([%w_., ]+)" do
    local value = values:gmatch "([%w_]+)%.([%w_]+)"
    for name in names:gmatch "M%.([%w_]+)" do
      local var, of = value()
      local from = var and file.requires[var]
      local there = from and model.files[path_of(from)]
      local entry = there and there.functions["M." .. of]
      if entry then
        list[#list + 1] = setmetatable({ name = name }, { __index = entry })
      end
    end
  end
  return list
end

-- The methods of a class, by the variable that holds it.
---@return respool.doc.entry[]
function M.methods(model, path, var)
  local file, list = model.files[path], {}
  for _, name in ipairs(file.order) do
    local of, method = name:match "^([%w_]+)%.(.*)$"
    if of == var and not method:find "^__" then
      table.insert(list, file.functions[name])
    end
  end
  return list
end

return M
