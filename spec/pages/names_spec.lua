-- SPDX-License-Identifier: MIT
--
-- Names in the pages: commands and their options, functions and methods,
-- options of functions, metrics and error codes. None is one that respool has
-- not. Blocks of Lua say so by running; this looks at all the rest.

local commands = require "respool.cli.commands"
local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local pages = require "spec.helper.pages"
local respool = require "respool"
local testing = require "respool.testing"

-- Of what was, and is told of as such.
local PAST = { ["CHANGELOG.md"] = true }

-- Behind "respool.", and no function of the module: files, modules, what nginx
-- has besides, and functions of the database's schema.
local OTHERS = {
  h = true, so = true, pc = true, rules = true, json = true, core = true,
  testing = true, shared = true, exit = true, v = true,
}

-- Names that stand for a user's own, and of the roles of a database.
local OWN = { mail = true, sms = true }
local ROLES = { respool_push = true, respool_work = true, respool_admin = true }

-- Calls f(text, where) for each piece of code within the text of the pages.
local function each_inline(f)
  for _, path in ipairs(pages.paths()) do
    if not PAST[path] then
      for n, line in ipairs((pages.read(path))) do
        for code in line:gmatch "`([^`]+)`" do
          f(code, ("%s:%d `%s`"):format(path, n, code))
        end
      end
    end
  end
end

-- Calls f(words, where) for each command line of respool in the pages.
local function each_command(f)
  each_inline(function(code, where)
    for words in ("\n" .. code):gmatch "[\n|&;] *respool ([%l][^\n|&;]*)" do
      f(words, where)
    end
  end)
  for _, block in ipairs(pages.blocks("console", "sh", "")) do
    local text = ("\n" .. block.text):gsub("\n%$ ", "\n"):gsub("\\\n>? *", "")
    for words in text:gmatch "[\n|&;{] *respool ([%l][^\n|&;]*)" do
      f(words, block.id .. " respool " .. words)
    end
  end
end

local helps = {}

-- The help of a command, with that of its subcommands.
local function help_of(name)
  if helps[name] then return helps[name] end
  local text = cli.run { "help", name }.out
  for sub in (text:match "\nCommands:\n(.*)" or ""):gmatch "\n? +(%l+)  " do
    text = text .. cli.run { name, sub, "--help" }.out
  end
  helps[name] = text
  return text
end

describe("The pages", function()
  it("name commands and options that there are", function()
    local wrong, n = {}, 0
    each_command(function(words, where)
      local name = words:match "^[%l-]+"
      n = n + 1
      if name == "version" or name == "help" then return end
      if not commands.is_command(name) then
        wrong[#wrong + 1] = where
        return
      end
      for option in words:gmatch "%f[%-]%-%-[%l-]+" do
        if not help_of(name):find(option, 1, true) then
          wrong[#wrong + 1] = where .. ": " .. option
        end
      end
    end)
    assert.same({}, wrong)
    assert.is_true(n > 80)
  end)

  it("name options of commands that some command has", function()
    local wrong, all = {}, {}
    for _, name in ipairs(commands.NAMES) do all[#all + 1] = help_of(name) end
    local text = table.concat(all)
    each_inline(function(code, where)
      local option = code:match "^(%-%-[%l-]+)"
      if option and not text:find(option, 1, true) then
        wrong[#wrong + 1] = where
      end
    end)
    assert.same({}, wrong)
  end)

  local store = testing.store()
  local queue = store:queue "q"
  queue:push(1)
  local batch = queue:take()
  local tx = assert(store:begin())
  local named = {
    store = store, queue = queue, mails = queue, clicks = queue,
    dead = queue.dead, history = queue.history, batch = batch,
    item = batch:item(1), tx = tx,
  }

  it("name functions and methods that there are", function()
    local wrong, n = {}, 0
    local function check(of, name, where)
      n = n + 1
      local ok, value = pcall(function() return of[name] end)
      if not ok or value == nil then wrong[#wrong + 1] = where end
    end
    each_inline(function(code, where)
      local text = " " .. code
      for name in text:gmatch "[^%w_./:-]respool%.([%l_]+)" do
        if not OTHERS[name] then check(respool, name, where) end
      end
      for name in text:gmatch "[^%w_./:-]testing%.([%l_]+)" do
        check(testing, name, where)
      end
      for word, name in text:gmatch "%f[%a](%l+):([%l_]+)" do
        if named[word] then check(named[word], name, where) end
      end
    end)
    assert.same({}, wrong)
    assert.is_true(n > 60)
  end)

  -- The names of fields in the annotations.
  local known = {}
  local fields = helper.sh("grep -rhoE -e '---@field (private )?[a-z_]+' "
    .. "-e '[{,] [a-z_]+: ' -e '[{,] [a-z_]+[?]: ' lua include/respool.h")
  for line in fields:gmatch "[^\n]+" do
    known[line:match "([%l_]+)[?]?:? ?$"] = true
  end

  it("list options that there are", function()
    local wrong, n = {}, 0
    for _, path in ipairs(pages.paths()) do
      local is_table, lists = false, false
      for i, line in ipairs((pages.read(path))) do
        local first = line:match "^| ?(.-) ?|"
        if first and not is_table then
          lists = first == "option" or first:find "^`respool%.open"
            or first:find "^`store:queue"
        end
        is_table = first ~= nil
        if first and lists then
          for name in first:gmatch "`([%l_]+)`" do
            n = n + 1
            if not known[name] then
              wrong[#wrong + 1] = ("%s:%d %s"):format(path, i, name)
            end
          end
        end
      end
    end
    assert.same({}, wrong)
    assert.is_true(n > 60)
  end)

  it("name options of functions that there are", function()
    local wrong, n = {}, 0
    each_inline(function(code, where)
      for call in code:gmatch "[%l_]+ ?%(?%b{}" do
        for name in call:gmatch "[{,] *([%l_]+) *=" do
          n = n + 1
          if not known[name] and not OWN[name] then
            wrong[#wrong + 1] = where .. ": " .. name
          end
        end
      end
    end)
    assert.same({}, wrong)
    assert.is_true(n > 10)
  end)

  it("name metrics that there are", function()
    local source = helper.read "lua/respool/observe/metrics.lua"
    local header = helper.read "include/respool.h"
    local wrong, n = {}, 0
    each_inline(function(code, where)
      for name in code:gmatch "%f[%w_](respool_[%l_]+)%f[^%l_]" do
        n = n + 1
        if not ROLES[name] and not header:find(name, 1, true)
           and not source:find(name, 1, true) then
          wrong[#wrong + 1] = where
        end
      end
    end)
    assert.same({}, wrong)
    assert.is_true(n > 5)
  end)

  it("say of each error code what to do", function()
    local anchors = pages.anchors "doc/guide/troubleshooting.md"
    for name in helper.read "include/respool.h":gmatch
      "\n  X%(([%u_]+), %-%d+, " do
      assert.is_true(anchors[name:lower()], name)
    end
  end)

  it("say which versions open the present formats", function()
    local page = helper.read "doc/guide/upgrading.md"
    for _, of in ipairs {
      { "core/lmdb/env/create.h", "FORMAT_VERSION (%d+)", "a store" },
      { "core/postgres/env/schema.h", "SCHEMA_FORMAT (%d+)", "a schema" },
      { "lua/respool/transfer/format.lua", "FORMAT = (%d+)", "an archive" },
    } do
      local row = ("| %s of format %s"):format(of[3],
        helper.read(of[1]):match(of[2]))
      assert.truthy(page:find(row, 1, true), row)
    end
    assert.truthy(page:find("respool " .. respool._VERSION:match "%d+%.%d+"
                            .. " |", 1, true))
  end)

  it("name the reasons of dead letters that there are", function()
    local page = helper.read "doc/guide/dead-letters.md"
    local reasons = helper.read "include/respool.h":match
      "#define RESPOOL_REASONS(.-)\n\n"
    for name in reasons:gmatch '"(%l+)"' do
      assert.truthy(name == "other" or page:find("`" .. name .. "`", 1, true),
                    name)
    end
  end)
end)
