-- SPDX-License-Identifier: MIT
--
-- respool.work_processes and worker scripts: real processes, killed and
-- stopped.

local helper = require "spec.helper"
local respool = require "respool"
local script = require "respool.worker_script"

local dir, store, q

-- The program of the parent; `%s` are options as well as store and script.
local PARENT = [[
  io.stdout:setvbuf "no"
  local respool = require "respool"
  local counts, message, code = respool.work_processes {
    store = arg[1] .. "/store", script = arg[1] .. "/worker.lua",
    on_exit = function(exit)
      print("exit of", exit.worker, exit.how, exit.message)
    end, %s
  }
  if not counts then print(message, code) os.exit(3) end
  local words = { "restarts " .. counts.restarts }
  for how, n in pairs(counts.exits) do
    words[#words + 1] = how .. ": " .. n
  end
  table.sort(words)
  print("over", table.concat(words, ", "))
]]

-- The beginning of worker scripts: note() appends a line to dir/log.
local SCRIPT = [[
  local dir = %q
  local function note(...)
    local file = assert(io.open(dir .. "/log", "a"))
    file:write(table.concat({ ... }, " "), "\n")
    file:close()
  end
  local function pid()
    return io.open "/proc/self/stat":read "*n"
  end
  local function exists(name)
    local file = io.open(dir .. "/" .. name)
    return file and file:close()
  end
  local function nap(seconds)
    local ms = math.floor(seconds * 1000)
    os.execute(("sleep %%d.%%03d"):format(math.floor(ms / 1000), ms %% 1000))
  end
]]

local function write_script(code)
  helper.write(dir .. "/worker.lua", SCRIPT:format(dir) .. code)
end

local function begin(options)
  return helper.spawn(PARENT:format(options or ""), dir)
end

-- The lines of the log, waited for until there are so many.
local function log(n)
  helper.sh(([[cd %s; for i in $(seq 6000); do
    [ "$(cat log 2>/dev/null | wc -l)" -ge %d ] && break; sleep 0.01
    done]]):format(dir, n or 0))
  local lines = {}
  for line in io.lines(dir .. "/log") do lines[#lines + 1] = line end
  return lines
end

local function signal(process, name)
  helper.sh(("kill -%s %d"):format(name, process.pid))
end

-- Waits for the end of the parent, as long as it ends.
local function finish(process)
  process:expect "over"
  assert.equal(0, process:wait())
end

-- Waits until it is so, but not for ever.
local function wait_for(is_so)
  for _ = 1, 3000 do
    if is_so() then return end
    helper.sh "sleep 0.02"
  end
  error "this has not come to be"
end

-- A dead letter for each child, as /proc has them: Z is a zombie.
local function states_of_children(pid)
  return (helper.sh(([[
    for child in $(cat /proc/%d/task/%d/children); do
      sed 's/.*) \(.\).*/\1/' /proc/$child/stat
    done]]):format(pid, pid)):gsub("%s", ""))
end

local function touch(name)
  helper.write(dir .. "/" .. name, "")
end

before_each(function()
  dir = helper.dir()
  store = assert(helper.open(dir .. "/store"))
  q = assert(store:queue("orders", {
    retry = respool.backoff.constant { delay = 0 },
  }))
end)

describe("respool.work_processes", function()
  it("works until its workers come to their end", function()
    local list = {}
    for i = 1, 500 do list[i] = i end
    q:push_many(list)
    write_script [[
      return { queue = "orders", handle = function(n) note(n) end }
    ]]
    local process = begin "workers = 3, work = { stop_when_empty = true }"
    finish(process)
    assert.matches("over\texit 0: 3, restarts 0", process:output())
    assert.equal(500, #log())
    assert.equal(500, q:stats().done)
    assert.equal(0, q:stats().crashed)
  end)

  -- The item of the one that is killed comes when its lease has run out; that
  -- of the other is renewed after a third of it.
  it("replaces a worker that is killed; nothing is lost", function()
    q = assert(store:queue("orders", { lease = 6 }))
    q:push_many { 1, 2, 3, 4 }
    write_script [[
      return { queue = "orders", handle = function(n)
        note(n, pid())
        while not exists "go" do nap(0.01) end
      end }
    ]]
    local process = begin "workers = 2, work = { batch = 1 }"
    local victim = log(2)[1]:match "%d+$"
    helper.sh("kill -9 " .. victim)
    process:expect "signal 9"
    log(3)
    assert.matches("^[RSD][RSD]$", states_of_children(process.pid))
    touch "go"
    wait_for(function() return q:stats().done == 4 end)
    signal(process, "TERM")
    finish(process)
    assert.matches("over\texit 0: 2, restarts 1, signal 9: 1",
                   process:output())
    assert.equal(1, q:stats().crashed)
  end)

  it("stops on SIGTERM: the item in hand is finished, others released",
     function()
    q:push_many { 1, 2, 3, 4, 5, 6 }
    write_script [[
      return { queue = "orders", handle = function(n, item)
        note("begin", n)
        while not item:stopping() do nap(0.01) end
        note("end", n)
      end }
    ]]
    local process = begin "workers = 2, work = { batch = 3 }"
    log(2)
    signal(process, "TERM")
    finish(process)
    assert.matches("over\texit 0: 2, restarts 0", process:output())
    assert.equal(4, #log())
    assert.same({ 2, 4, 0 },
                { q:stats().done, q:length().ready, q:length().leased })
    assert.equal(0, q:get(3).attempts)
  end)

  it("stops on SIGINT while nothing is to be done", function()
    write_script [[ note "loaded" return { queue = "orders", handle = print } ]]
    local process = begin "workers = 2"
    log(2)
    signal(process, "INT")
    finish(process)
    assert.matches("over\texit 0: 2, restarts 0", process:output())
  end)

  it("kills what has not ended at the deadline", function()
    q:push(1)
    write_script [[
      return { queue = "orders", handle = function()
        note "begin"
        while true do nap(0.01) end
      end }
    ]]
    local process = begin "workers = 1, deadline = 0.2"
    log(1)
    signal(process, "TERM")
    finish(process)
    assert.matches("over\trestarts 0, signal 9: 1", process:output())
  end)

  -- Sending all it had took a worker beyond its deadline.
  it("gives the tracer of a worker half of the deadline, none at an end",
     function()
    q:push(1)
    write_script [[
      return { queue = "orders", handle = function(_, item)
        note "begin"
        while exists "wait" and not item:stopping() do nap(0.01) end
      end }
    ]]
    local function tracer(words)
      return ([[ workers = 1, deadline = 600, work = { stop_when_empty = %s },
        tracer = function()
          local function none() end
          return { start = none, finish = none, close = function(...)
            local file = assert(io.open(%q .. "/log", "a"))
            file:write(tostring((...)), "\n")
            file:close()
          end }
        end ]]):format(words, dir)
    end
    finish(begin(tracer "true"))
    assert.same({ "begin", "nil" }, log(2))
    helper.write(dir .. "/wait", "")
    q:push(2)
    local process = begin(tracer "false")
    log(3)
    signal(process, "TERM")
    finish(process)
    assert.equal(300, tonumber(log(4)[4]))
  end)

  it("kills at once on a second signal", function()
    q:push(1)
    write_script [[
      return { queue = "orders", handle = function(_, item)
        note "begin"
        while not item:stopping() do nap(0.01) end
        note "stopping"
        while true do nap(0.01) end
      end }
    ]]
    local process = begin "workers = 1, deadline = 600"
    log(1)
    signal(process, "TERM")
    log(2)
    signal(process, "TERM")
    finish(process)
    assert.matches("over\trestarts 0, signal 9: 1", process:output())
  end)

  it("leaves no worker behind when it is killed itself", function()
    q:push_many { 1, 2 }
    write_script [[
      return { queue = "orders", handle = function(_, item)
        note "begin"
        while not item:stopping() do nap(0.01) end
        note "end"
      end }
    ]]
    local process = begin "workers = 1, work = { batch = 2 }"
    log(1)
    process:kill()
    assert.same({ "begin", "end" }, log(2))
    wait_for(function() return q:length().leased == 0 end)
    assert.same({ 1, 1 }, { q:stats().done, q:length().ready })
  end)

  it("pauses longer and longer for a worker that keeps on dying", function()
    q:push_many { 1, 2, 3 }
    write_script [[
      return { queue = "orders", options = { max_crashes = 1 },
               handle = function(n) note(n) os.exit(7) end }
    ]]
    local process = begin "workers = 1, work = { batch = 1 }"
    log(3)
    signal(process, "TERM")
    finish(process)
    local restarts = process:output():match "restarts (%d+)"
    assert.is_true(tonumber(restarts) >= 2)
    assert.matches("exit 7: ", process:output())
  end)

  it("does not replace anything when told so", function()
    q:push(1)
    write_script [[
      return { queue = "orders", handle = function() os.exit(7) end }
    ]]
    local process = begin "workers = 1, restart = false"
    finish(process)
    assert.matches("over\texit 7: 1, restarts 0", process:output())
  end)

  it("tells what ended a worker", function()
    q:push(1)
    write_script [[ return { queue = "orders", handle = function() end } ]]
    local process = begin "workers = 1, restart = false"
    wait_for(function() return q:stats().done == 1 end)
    assert(store:drop_queue "orders")
    finish(process)
    assert.matches('exit of\t1\texit 1\t.*orders', process:output())
  end)

  it("replays in the background, in one of the workers", function()
    q:push_many { 1, 2 }
    q:work(function() return respool.dead() end, { limit = 2 })
    write_script [[
      return { queue = "orders", handle = function(n) note(n) end,
               replay = { interval = 60 } }
    ]]
    local process = begin "workers = 2"
    assert.equal(2, #log(2))
    signal(process, "TERM")
    finish(process)
    assert.equal(2, q:stats().done)
  end)

  it("leaves the stores of its own process alone", function()
    q:push_many { 1, 2 }
    write_script [[ return { queue = "orders", handle = function() end } ]]
    local process = helper.spawn([[
      local respool = require "respool"
      local store = assert(respool.open(arg[1] .. "/store"))
      local q = store:queue "orders"
      local batch = q:take()
      assert(respool.work_processes {
        store = store.path, script = arg[1] .. "/worker.lua", workers = 2,
        work = { timeout = 0.2 },
      })
      batch:done()
      assert(batch:settle())
      print(q:stats().done)
      assert(store:close())
    ]], dir)
    assert.equal(0, process:wait())
    assert.equal("2\n", process:output())
  end)

  -- The dead were to be replaced by whom the error had ended: it waited for
  -- that for ever, and heeded no signal.
  it("kills its workers when a function of the caller's raises", function()
    write_script [[ note(pid()) return { queue = "orders", handle = print } ]]
    local process = helper.spawn([[
      local respool = require "respool"
      local function alive(n)
        local file = io.open(arg[1] .. "/go")
        if n == 2 and file then error("oops", 0) end
      end
      print(pcall(respool.work_processes, {
        store = arg[1] .. "/store", script = arg[1] .. "/worker.lua",
        workers = 2, on_tick = alive,
      }))
    ]], dir)
    local pids = log(2)
    touch "go"
    process:expect "false\toops"
    assert.equal(0, process:wait())
    for _, pid in ipairs(pids) do
      assert.equal("", helper.sh(("ls -d /proc/%s 2>&-"):format(pid)))
    end
  end)

  it("does so when on_exit raises", function()
    write_script [[ note(pid()) return { queue = "orders", handle = print } ]]
    local process = helper.spawn([[
      local respool = require "respool"
      print(pcall(respool.work_processes, {
        store = arg[1] .. "/store", script = arg[1] .. "/worker.lua",
        workers = 2, on_exit = function(exit) error(exit.how, 0) end,
      }))
    ]], dir)
    local pids = log(2)
    helper.sh("kill -9 " .. pids[1])
    process:expect "false\tsignal 9"
    assert.equal(0, process:wait())
    assert.equal("", helper.sh(("ls -d /proc/%s 2>&-"):format(pids[2])))
  end)

  it("raises what is wrong with its options or its script", function()
    local function refuses(o, pattern)
      o.store = o.store or dir .. "/store"
      o.script = o.script or dir .. "/worker.lua"
      assert.error_matches(function() respool.work_processes(o) end, pattern)
    end
    write_script [[ return { queue = "orders", handle = print, handler = 1 } ]]
    refuses({ store = ":memory:" }, "'store' must be a path that several")
    refuses({ workers = 0 }, "'workers' must be")
    refuses({ deadline = -1 }, "'deadline' must be")
    refuses({ processes = 2 }, "unknown option 'processes'")
    refuses({ work = { batches = 2 } }, "unknown option 'batches'")
    refuses({ workers = 1 }, "unknown option 'handler'")
    refuses({ workers = 1, script = dir .. "/none" }, "cannot open")
    write_script [[ return { queue = "orders", handle = print } ]]
    refuses({ workers = 1, open = { synch = 1 } }, "unknown option 'synch'")
    assert.error_matches(function()
      respool.work_processes { store = dir }
    end, "option 'script' is missing")
  end)

  it("answers a store that cannot be opened as open() does", function()
    write_script [[ return { queue = "orders", handle = print } ]]
    helper.write(dir .. "/file", "")
    local counts, message, code = respool.work_processes {
      store = dir .. "/file", script = dir .. "/worker.lua", workers = 2,
    }
    assert.is_nil(counts)
    assert.matches("file", message)
    assert.equal("IO", code)
  end)

  it("refuses to run within nginx", function()
    local before = rawget(_G, "ngx")
    rawset(_G, "ngx", {})
    local ok, message = pcall(respool.work_processes, {})
    rawset(_G, "ngx", before)
    assert.is_false(ok)
    assert.matches("not within nginx", message)
  end)
end)

describe("a worker script", function()
  it("tells queue, options, handler and replay", function()
    write_script [[ return { queue = "orders", handle = print,
                    options = { max_attempts = 7 }, dead_letter = "grave",
                    replay = { rate = 5 } } ]]
    local loaded = script.load(dir .. "/worker.lua")
    local opened = script.open(store, loaded)
    assert.same({ "orders", 7, "grave", 5 }, {
      opened.name, opened:config().max_attempts, opened.dead.dlq,
      loaded.replay.rate,
    })
    assert.is_nil(loaded.options.dead_letter)
  end)

  it("is refused when something is wrong with it", function()
    local wrong = {
      ["return 5"] = "a worker script returns a table, not number",
      ["return { queue = 'q' }"] = "field 'handle' is missing",
      ["return { handle = print }"] = "field 'queue' is missing",
      ["return { queue = '', handle = print }"] = "'queue' must be",
      ["return { queue = 'q', handle = 5 }"] = "'handle' must be",
      ["return { queue = 'q', handle = print, also = 1 }"] =
        "unknown option 'also'",
      ["return { queue = 'q', handle = print, decide = print,"
        .. " options = { decide = print } }"] = "'decide' is given twice",
      ["return {"] = "worker script: ",
      ["error 'oops'"] = "oops",
    }
    for code, pattern in pairs(wrong) do
      write_script(code)
      assert.error_matches(function() script.load(dir .. "/worker.lua") end,
                           pattern)
    end
  end)
end)
