-- SPDX-License-Identifier: MIT
--
-- Shared by specs: a fresh store on a manual clock, other processes, and
-- the cleaning up after each spec. Specs of behaviour get a store's location
-- from here and know nothing of its contents.
--
-- RESPOOL_SEED repeats the random choices of a failed run.

local assert = require "luassert"
local busted = require "busted"
local respool = require "respool"
local schemas = require "spec.helper.schemas"

local M = {}

M.seed = tonumber(os.getenv "RESPOOL_SEED") or os.time() % 1000000

local made = { stores = {}, dirs = {}, processes = {} }


-- Running commands.

local function quote(word)
  return "'" .. tostring(word):gsub("'", [['\'']]) .. "'"
end

-- The output of a shell command, without the last newline.
function M.sh(command)
  local pipe = assert(io.popen(command))
  local said = pipe:read "*a"
  pipe:close()
  return (said:gsub("\n$", ""))
end

-- Sleeps. Fractions are spelt with a point, whatever the locale is.
function M.pause(seconds)
  local ms = math.floor(seconds * 1000)
  assert(os.execute(("sleep %d.%03d"):format(math.floor(ms / 1000), ms % 1000)))
end

local interpreter

-- The command of the interpreter that runs this spec.
function M.lua()
  interpreter = interpreter or M.sh "readlink /proc/$PPID/exe"
  return interpreter
end

function M.write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  file:close()
end

function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end


-- Places and stores.

-- A fresh directory, removed after the spec.
function M.dir()
  local dir = M.sh 'mktemp -d "${TMPDIR:-/tmp}/respool-spec.XXXXXX"'
  assert(dir ~= "", "no temporary directory")
  table.insert(made.dirs, dir)
  return dir
end

-- The engine under test: "lmdb", or "postgres" with the URL of a database.
M.engine = os.getenv "RESPOOL_SPEC_ENGINE" or "lmdb"

-- Where a store may be made.
function M.location()
  if M.engine == "postgres" then return schemas.take() end
  return M.dir() .. "/store"
end

-- A store to be closed after the spec, which also gets what open() returns
-- on failure.
function M.open(location, options)
  local o = { log = false }
  for name, value in pairs(options or {}) do o[name] = value end
  local store, message, code = respool.open(location, o)
  if store then table.insert(made.stores, store) end
  return store, message, code
end

-- A fresh store on a manual clock, its chances seeded.
function M.store(options)
  local all = { clock = "manual", seed = M.seed }
  for name, value in pairs(options or {}) do all[name] = value end
  return assert(M.open(M.location(), all))
end

-- Bounds of health() for specs that say what is healthy, however slow the disk
-- or busy the machine is.
M.UNTIMED = {
  write_seconds = { degraded = 60, unhealthy = 60 },
  read_seconds = { degraded = 60, unhealthy = 60 },
}

-- This helper with stores that keep nothing in a journal: for specs of what
-- lies in LMDB.
function M.without_journal()
  local plain = setmetatable({}, { __index = M })
  local function with(options)
    local all = { journal = false }
    for name, value in pairs(options or {}) do all[name] = value end
    return all
  end
  function plain.open(location, options)
    return M.open(location, with(options))
  end
  function plain.store(options) return M.store(with(options)) end
  return plain
end

-- busted's `it`, for specs after which the stores that are still open find
-- nothing wrong with themselves.
function M.checked(it)
  return function(title, body)
    it(title, function()
      body()
      for _, store in ipairs(made.stores) do
        if not store.handle:closed() then
          assert.same({}, store:check())
        end
      end
    end)
  end
end


-- Specs of queues that are needed again and again.

-- refuses(of, f, wrong): specs that f { option = value } raises for every wrong
-- value, naming function and option.
function M.refuses(it)
  return function(of, f, wrong)
    for option, values in pairs(wrong) do
      for _, value in ipairs(values) do
        it(("refuses %s = %s"):format(option, tostring(value)), function()
          assert.error_matches(function() f { [option] = value } end,
                               of .. ": option '" .. option .. "' must be ")
        end)
      end
    end
    it("refuses an option it does not know", function()
      assert.error_matches(function() f { snyc = 1 } end,
                           of .. ": unknown option 'snyc'")
    end)
    it("refuses options that are no table", function()
      assert.error_matches(function() f "fast" end, "table of options expected")
    end)
  end
end

-- 1 to n, as payloads.
function M.range(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

-- Pushes bytes without the name of a codec, which stand for CBOR.
function M.push_bytes(queue, bytes)
  return assert(queue.handle:push(bytes))
end

-- The payloads of a batch, of the items or dead letters of a list, or of a
-- queue.
function M.payloads(of)
  local list = {}
  if of.settle then
    for i = 1, #of do list[i] = of:item(i).payload end
  elseif of.each then
    for item in of:each() do list[#list + 1] = item.payload end
  else
    for i, item in ipairs(of) do list[i] = item.payload end
  end
  return list
end

-- The groups of a DLQ, most first, without times: { group, reason, count }.
function M.groups(dlq)
  local list = {}
  for i, g in ipairs(assert(dlq:groups())) do
    list[i] = { group = g.group, reason = g.reason, count = g.count }
  end
  return list
end

-- Why the dead letters of a DLQ died, by their payloads.
function M.reasons(dlq)
  local list = {}
  for dead_letter in dlq:each() do list[dead_letter.payload] =
    dead_letter.reason end
  return list
end

-- The code of a call that failed.
function M.code(...)
  return (select(3, ...))
end


-- Other processes.

local Process = {}
Process.__index = Process

-- Runs Lua code in another process, with the same modules; `...` is its arg.
function M.spawn(code, ...)
  local dir = M.dir()
  M.write(dir .. "/main.lua", code)
  local words = { "exec", quote(M.lua()), quote(dir .. "/main.lua") }
  for i = 1, select("#", ...) do
    words[#words + 1] = quote((select(i, ...)))
  end
  M.write(dir .. "/run", table.concat(words, " "))
  local pid = M.sh(([[cd %s && {
    { LUA_PATH=%s LUA_CPATH=%s sh run >out 2>&1 </dev/null & echo $!
      wait $!; echo $? >status.new; mv status.new status
    } >pid 2>/dev/null </dev/null & }
    until [ -s pid ]; do sleep 0.002; done; cat pid]]):format(
    quote(dir), quote(package.path), quote(package.cpath)))
  local process = setmetatable({ dir = dir, pid = tonumber(pid) }, Process)
  table.insert(made.processes, process)
  return process
end

-- Kills it and waits until it is gone.
function Process:kill(signal)
  os.execute(("kill -%s %d 2>/dev/null"):format(signal or "KILL", self.pid))
  return self:wait()
end

-- Waits for its end, five minutes at most; returns its exit status, 128 + n
-- after signal n.
function Process:wait()
  self.status = self.status or tonumber(M.sh(
    ([[cd %s; for i in $(seq 60000); do [ -e status ] && break; sleep 0.005
      done; cat status 2>/dev/null]]):format(quote(self.dir))))
  if not self.status then
    os.execute(("kill -KILL %d 2>/dev/null"):format(self.pid))
    error("the process has not ended, but said: " .. self:output(), 2)
  end
  return self.status
end

-- Its output so far.
function Process:output()
  return M.read(self.dir .. "/out")
end

-- Waits until it has printed this text, at most so many seconds.
function Process:expect(text, seconds)
  local seen = M.sh(([[cd %s; for i in $(seq %d); do
    grep -qsF -- %s out && echo yes && break
    [ -e status ] && ! grep -qsF -- %s out && break; sleep 0.01; done]]):format(
    quote(self.dir), (seconds or 60) * 100, quote(text), quote(text)))
  assert(seen:match "yes", "the process has not said: " .. text ..
    "\nbut: " .. self:output())
end


-- After each spec.

local function clean()
  for _, process in ipairs(made.processes) do
    if not process.status then process:kill() end
  end
  for _, store in ipairs(made.stores) do store:close() end
  for _, dir in ipairs(made.dirs) do os.execute("rm -rf " .. quote(dir)) end
  made = { stores = {}, dirs = {}, processes = {} }
  schemas.give_back()
end

busted.subscribe({ "test", "end" }, function(_, _, status)
  if status ~= "success" and status ~= "pending" and next(made.stores) then
    io.stderr:write(("\nRESPOOL_SEED=%d\n"):format(M.seed))
  end
  clean()
  return nil, true -- the others' turn
end)

return M
