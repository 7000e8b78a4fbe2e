-- SPDX-License-Identifier: MIT
--
-- The command line: run to its end, within this process or as one of its own,
-- or left running. Words are passed as they are, whatever is in them.

local assert = require "luassert"
local helper = require "spec.helper"
local json = require "respool.support.json"
local process = require "respool.core".process

local load = loadstring or load -- luacheck: ignore

local M = {}

local function quote(word)
  return "'" .. tostring(word):gsub("'", [['\'']]) .. "'"
end
M.quote = quote

local LAUNCHER = helper.sh "pwd" .. "/bin/respool"

local function line_of(words)
  local line = { quote(helper.lua()), quote(LAUNCHER) }
  for i, word in ipairs(words) do line[i + 2] = quote(word) end
  return table.concat(line, " ")
end

M.line_of = line_of

---@class respool.spec.run
---@field status integer
---@field pager string? by which it would show its output
---@field out string
---@field err string

-- Runs `respool WORDS...` to its end, as a process; `input` is what it reads.
-- The words may hold { input =, cwd =, env = "NAME=value ..." } by name.
---@return respool.spec.run
function M.process(words)
  local dir = helper.dir()
  helper.write(dir .. "/in", words.input or "")
  local status = helper.sh(([[cd %s && env LUA_PATH=%s LUA_CPATH=%s %s \
    timeout 300 %s <%s/in >%s/out 2>%s/err; echo $?]]):format(
    quote(words.cwd or "."), quote(package.path), quote(package.cpath),
    words.env or "", line_of(words), dir, dir, dir))
  return {
    status = tonumber(status), out = helper.read(dir .. "/out"),
    err = helper.read(dir .. "/err"),
  }
end

-- A writer that keeps what is written: see respool/cli/base/streams.lua.
local Writer = {}
Writer.__index = Writer

function Writer:write(...)
  for _, text in ipairs { ... } do
    self[#self + 1] = tostring(text)
  end
  return self
end

function Writer.flush() end

function Writer:pipe(command)
  self.pager = command
end

function Writer.finish() end

function Writer:isatty()
  return self.columns ~= nil
end

function Writer:size()
  return self.columns or 80, 24
end

local function writer(columns)
  return setmetatable({ columns = columns }, Writer)
end

-- Calls the command line from where bin/respool does, as errors see it.
local launch = load([[
  local status = require "respool.cli.main".main(...)
  return status
]], "@bin/respool")

-- The same within this process, which is faster. The command reads and
-- writes through an io of its own; { columns = n } makes its stdout a
-- terminal. Workers write past it.
---@return respool.spec.run
function M.run(words)
  if words.env or words.cwd or words[1] == "work" then
    return M.process(words)
  end
  local input = assert(io.tmpfile())
  input:write(words.input or "")
  input:seek "set"
  local streams = setmetatable({
    stdin = input, stdout = writer(words.columns), stderr = writer(),
    stores = {},
  }, { __index = io })
  local argv, stdin = {}, io.stdin
  for i, word in ipairs(words) do argv[i] = tostring(word) end
  rawset(io, "stdin", input)
  local status = launch(argv, streams)
  rawset(io, "stdin", stdin)
  process.unwatch()
  input:close()
  return {
    status = status, out = table.concat(streams.stdout),
    err = table.concat(streams.stderr), pager = streams.stdout.pager,
  }
end

-- Runs by run() until it ends with 0: a store is not healthy while the machine
-- stands still for a tenth of a second.
---@param run fun(): respool.spec.run
---@return respool.spec.run
function M.until_healthy(run)
  local ends = os.time() + 60
  while true do
    local result = run()
    if result.status == 0 or os.time() > ends then return result end
  end
end

-- The values that a run has printed, one JSON text a line.
function M.values(run)
  assert.equal("", run.err)
  assert.equal(0, run.status)
  local list = {}
  for line in run.out:gmatch "[^\n]+" do
    list[#list + 1] = assert(json.decode(line))
  end
  return list
end

-- That a run printed nothing, and said in one line why.
function M.assert_refused(run, status, pattern)
  assert.equal(status, run.status)
  assert.equal("", run.out)
  assert.matches("^respool: [^\n]*\n$", run.err)
  assert.matches(pattern, run.err)
end

-- Starts `respool WORDS...`, to be killed, expected to say something, or
-- waited for: see helper.spawn. `input` is a file it reads, /dev/null if none.
---@return table process
function M.start(words)
  return helper.spawn([[
    local words = {}
    for i = 1, #arg do words[i] = arg[i] end
    arg = words
    arg[0] = table.remove(words, 1)
    dofile(arg[0])
  ]], LAUNCHER, (table.unpack or unpack)(words)) -- luacheck: ignore
end

return M
