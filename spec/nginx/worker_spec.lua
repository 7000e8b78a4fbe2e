-- SPDX-License-Identifier: MIT
--
-- Consumers in a real nginx, and the end of its worker processes: whatever a
-- handler is at, the process neither crashes nor stays, and no consumer is
-- lost with its handler.

if jit then return end -- nginx has its own: to ask it once is enough

local helper = require "spec.helper"
local nginx = require "spec.helper.servers.nginx"
local store_in = require "spec.helper.servers.nginx_store"

local counts = store_in.counts

-- One consumer on "orders", with a queue "clicks" that buffers.
local CONF = [[
  init_by_lua_block { EXIT = ngx.exit }
  init_worker_by_lua_block {
    local respool = require "resty.respool"
    local store = assert(respool.shared "${store}")
    package.loaded.store = store
    package.loaded.orders = assert(store:queue("orders", { lease = 2,
      max_attempts = 2, retry = respool.backoff.constant { delay = 0 } }))
    package.loaded.clicks = assert(store:queue("clicks", {
      buffer = { interval = 0.05 } }))
    package.loaded.worker = assert(require("resty.respool.worker").start {
      store = store, queue = "orders", handle = function(n, item)
        ngx.log(ngx.WARN, "begun ", n) %s
        ngx.log(ngx.WARN, "handled ", n)
      end, %s })
  }
  exit_worker_by_lua_block { require("resty.respool").exit(%s) }
]]

local SERVER = [[
  location = /push { content_by_lua_block {
    ngx.print((assert(require"orders":push(1)))) } }
  location = /click { return 204; log_by_lua_block {
    require"clicks":push(1) } }
  location = /timers { content_by_lua_block {
    ngx.print(ngx.timer.running_count()) } }
  location = /later { content_by_lua_block {
    ngx.timer.at(0, function() ngx.log(ngx.WARN, "another timer") end) } }
  location = /stop { content_by_lua_block {
    local worker = require "worker"
    worker:stop()
    while worker:running() > 0 do ngx.sleep(0.01) end
    ngx.print "stopped"
  } }
]]

local function start(handle, more, o)
  o = o or {}
  o.http = CONF:format(handle, more or "deadline = 0.2", o.exit or "")
  o.server = SERVER .. (o.server or "")
  return nginx.start(o)
end

local function push_numbers(n, count)
  n:look(function(store)
    local list = {}
    for i = 1, count do list[i] = i end
    assert(store:queue("orders"):push_many(list))
  end)
end

local function await_log(n, text)
  n:await_log(text)
end

local function await_done(n, count)
  n:await("all are done", function()
    return counts(n).done >= count
  end)
end

local function begin(n)
  n:request "/push"
  await_log(n, "begun 1")
end

local function is_gone(pid)
  local state = helper.sh(("cut -d' ' -f3 /proc/%d/stat 2>&1"):format(pid))
  return #state ~= 1 or state == "Z"
end

-- Reloads; the old worker goes, by far sooner than what takes 600 s. Between
-- the two, fn is called.
local function reload(n, fn)
  local old = n:workers()[1]
  n:signal "HUP"
  if fn then fn() end
  n:await("the old worker is gone", function() return is_gone(old) end)
end

-- Calls fn while another process holds the writer lock.
local function while_locked(n, fn)
  local lock = assert(io.popen(("exec %s/spec/writer %s %s/go"):format(
    os.getenv "RESPOOL_BUILD", n.store, n.dir)))
  assert.equal("held", lock:read())
  fn()
  helper.write(n.dir .. "/go", "")
  lock:close()
end

local function dead_letter_of(n)
  return n:look(function(store)
    return store:queue("orders").dead:oldest()
  end)
end

-- A process that crashed is told of by the master.
local function no_crash(n)
  assert.is_nil(n:log():find("exited on signal", 1, true))
end


-- ngx_lua knows a coroutine that waits only by the light thread that resumed
-- it: killing this, and even ending the whole timer, left the wait to resume
-- what was freed.
describe("a handler that waits in a coroutine", function()
  local WAITS = [[coroutine.wrap(function()
    while not io.open "${dir}/on" do ngx.sleep(0.01) end end)()]]
  local LOST = "go on without their items: 1"

  local function let_go_on(n)
    await_log(n, LOST)
    helper.write(n.dir .. "/on", "")
  end

  it("is not killed: it loses its items, and nothing crashes", function()
    local n = start(WAITS)
    begin(n)
    local answer = nginx.beside(("curl -s http://127.0.0.1:%d/stop"):format(
      n.port))
    await_log(n, LOST)
    n:await("it is released", function() return counts(n).ready == 1 end)
    let_go_on(n)
    assert.equal("stopped", answer())
    assert.is_truthy(n:log():find("handled 1", 1, true))
    assert.equal("2", (n:request "/push"))
    assert.equal(0, counts(n).done)
    no_crash(n)
  end)

  it("lets the old worker end after a reload", function()
    local n = start(("coroutine.wrap(function() %s end)()"):format(WAITS))
    begin(n)
    reload(n, function() let_go_on(n) end)
    no_crash(n)
  end)

  it("does not keep the others of its worker from being killed", function()
    local n = start(("if n == 1 then %s else ngx.sleep(600) end"):format(WAITS),
                    "deadline = 0.2, concurrency = 2, batch = 1")
    push_numbers(n, 2)
    await_log(n, "begun 1")
    await_log(n, "begun 2")
    reload(n, function() let_go_on(n) end)
    no_crash(n)
  end)
end)


describe("a light thread of a handler", function()
  it("ends with the process when it was left behind", function()
    local n = start [[ngx.thread.spawn(function() ngx.sleep(600) end)]]
    n:request "/push"
    await_done(n, 1)
    reload(n)
    no_crash(n)
  end)

  it("ends with the handler that waits for it", function()
    local n = start [[
      ngx.thread.wait(ngx.thread.spawn(function() ngx.sleep(600) end))]]
    begin(n)
    reload(n)
    no_crash(n)
  end)
end)


describe("a handler that ends its light thread", function()
  local function other_two_are_handled(n)
    push_numbers(n, 3)
    await_done(n, 2)
    n:await("a dead letter", function() return dead_letter_of(n) end)
    assert.equal(0, counts(n).leased)
    return dead_letter_of(n).error
  end

  it("fails its item, by ngx.exit", function()
    local n = start [[if n == 1 then ngx.exit(200) end]]
    assert.is_truthy(other_two_are_handled(n):find("ngx.exit would end", 1,
                                                   true))
  end)

  it("fails its item, by an ngx.exit that was taken before", function()
    local n = start [[if n == 1 then EXIT(200) end]]
    assert.is_truthy(other_two_are_handled(n):find("ngx.exit would end", 1,
                                                   true))
  end)

  it("is found out when it hides from the guard", function()
    local n = start [[if n == 1 then ngx.ctx = {} ngx.exit(200) end]]
    assert.is_truthy(other_two_are_handled(n):find("ended its timer", 1, true))
    assert.equal("stopped", (n:request "/stop"))
  end)

  it("is found out when its timer was one of two", function()
    local n = start([[
      if n == 1 then ngx.sleep(0.05) ngx.ctx = {} ngx.exit(200) end]],
      "concurrency = 2, batch = 1")
    other_two_are_handled(n)
  end)

  -- ngx_lua passes an error in a coroutine of coroutine.wrap by every pcall.
  it("is found out when a wrapped coroutine raises", function()
    local n = start [[if n == 1 then
      pcall(coroutine.wrap(function() error "boom" end)) end]]
    assert.is_truthy(other_two_are_handled(n):find("aborted", 1, true))
  end)

  it("leaves ngx.exit to everybody else", function()
    local n = start("", nil, { server = [[
      location = /exit { content_by_lua_block { ngx.exit(403) } }
      location = /timer { content_by_lua_block {
        ngx.timer.at(0, function()
          ngx.log(ngx.WARN, "it ends")
          ngx.exit(200)
          ngx.log(ngx.WARN, "it goes on")
        end) } } ]] })
    assert.equal(403, (select(2, n:request "/exit")))
    n:request "/timer"
    await_log(n, "it ends")
    assert.is_nil(n:log():find("it goes on", 1, true))
  end)
end)


describe("many consumers", function()
  local function await_timers(n)
    n:await("a timer beside the bell's", function()
      return n:request "/timers" == "2"
    end)
  end

  it("take a connection and a running timer, beside the bell's", function()
    local n = start("ngx.sleep(0.01)", "concurrency = 300, batch = 1",
                    { connections = 64 })
    push_numbers(n, 600)
    await_done(n, 600)
    await_timers(n)
    n:request "/later"
    await_log(n, "another timer")
    assert.is_nil(n:log():find("[alert]", 1, true))
  end)

  it("go over to another timer after so many items", function()
    local n = nginx.start { http = [[
      init_worker_by_lua_block {
        local threads, n = {}, 0
        assert(require("resty.respool.worker").start {
          store = "${store}", queue = "orders", concurrency = 2, batch = 500,
          handle = function()
            local thread = coroutine.running()
            if not threads[thread] then n, threads[thread] = n + 1, true end
          end })
        package.loaded.threads = function() return n end
      } ]], server = SERVER .. [[
      location = /threads { content_by_lua_block {
        ngx.print(require"threads"()) } } ]] }
    await_timers(n)
    local pushed = 0
    n:await("other threads in one timer", function()
      push_numbers(n, 5000)
      pushed = pushed + 5000
      await_done(n, pushed)
      return tonumber((n:request "/threads")) > 2
        and n:request "/timers" == "2"
    end)
  end)
end)


describe("the consumers of a process", function()
  it("are one worker of the store, which is asked to stop", function()
    local n = start("", "concurrency = 3, name = 'front'")
    local function workers()
      return n:look(function(store) return store:workers() end)
    end
    push_numbers(n, 10)
    await_done(n, 10)
    local all = workers()
    assert.same({ 1, "front", "running" },
                { #all, all[1].name, all[1].state })
    n:look(function(store) return store:stop_worker(all[1].number) end)
    n:await("it has stopped", function() return #workers() == 0 end)
    assert.equal("11", (n:request "/push"))
    assert.equal(10, counts(n).done)
    no_crash(n)
  end)
end)


describe("an old worker", function()
  it("goes while another process holds the writer lock", function()
    local n = start "ngx.sleep(600)"
    begin(n)
    while_locked(n, function() reload(n) end)
    assert.is_truthy(n:log():find("leases run out by themselves", 1, true))
    n:await("its lease has run out", function()
      return counts(n).crashed > 0
    end)
    no_crash(n)
  end)

  it("says how many buffered items it could not write", function()
    local n = start("", nil, { exit = "{ deadline = 0.3 }" })
    while_locked(n, function()
      n:request "/click"
      n:request "/click"
      reload(n)
    end)
    await_log(n, "buffered items lost: 2")
    no_crash(n)
  end)

  it("writes what it has buffered when it can", function()
    local n = start("", nil, { exit = "{ deadline = 300 }" })
    local old
    while_locked(n, function()
      n:request "/click"
      old = n:workers()[1]
      n:signal "HUP"
      n:await("a new worker", function()
        return n:workers()[1] ~= old or #n:workers() > 1
      end)
    end)
    n:await("the old worker is gone", function() return is_gone(old) end)
    assert.equal(1, counts(n, "clicks").pushed)
  end)

  it("counts its deadline by a clock that nobody sets", function()
    local n = start "ngx.now = function() return 0 end ngx.sleep(600)"
    begin(n)
    reload(n)
  end)

  -- `code` says that it is waiting when all is made that it needs.
  local function ends(what, code)
    it("is not kept by " .. what, function()
      local n = start("", nil, { server = ([[
        location = /wait { content_by_lua_block {
          local function waiting() ngx.log(ngx.WARN, "waiting") end
          %s
        } } ]]):format(code) })
      local answer = nginx.beside(
        ("curl -s -m 120 http://127.0.0.1:%d/wait"):format(n.port))
      await_log(n, "waiting")
      reload(n)
      assert.equal("through", answer())
    end)
  end

  ends("a take that waits", [[
    waiting()
    local batch = assert(require"clicks":take { timeout = math.huge })
    ngx.print(#batch == 0 and "through")]])

  ends("a push that waits for room", [[
    local small = assert(require"store":queue("small", {
      max_items = 1, overflow = "wait" }))
    small:push(1)
    waiting()
    ngx.print(select(3, small:push(2)) == "TIMEOUT" and "through")]])

  ends("work", [[
    waiting()
    local counts = assert(require"clicks":work(function() end))
    ngx.print(counts.items == 0 and "through")]])

  ends("a replay at a rate", [[
    local q = assert(require"store":queue "slow")
    q:push_many { 1, 2, 3 }
    q:work(function(_, item) item:dead() end, { limit = 3 })
    waiting()
    local counts = assert(q.dead:replay { rate = 0.01 })
    ngx.print(counts.state == "stopped" and "through")]])
end)


describe("a phase that cannot wait", function()
  local function said(n, path)
    n:request(path)
    n:await("an answer", function() return n:log():find("said: ", 1, true) end)
    return n:log():match "said: ([^\n]*)"
  end

  local function in_log(call, before)
    return start("", nil, { server = ([[
      location = /before { content_by_lua_block { %s } }
      location = /log { return 204; log_by_lua_block {
        local function say(ok, message, code)
          ngx.log(ngx.WARN, "said: ", tostring(ok), " ", code, " ", message)
        end
        say(%s)
      } } ]]):format(before or "", call) })
  end

  it("is told so by health, not that the store is ill", function()
    local n = in_log "require'store':health()"
    assert.is_truthy(said(n, "/log"):find "^nil PHASE store:health has to wait")
  end)

  it("is told what has to wait in words of the API", function()
    local n = in_log "require'orders'.dead:retry(1)"
    assert.is_truthy(said(n,
      "/log"):find "^nil PHASE moving dead letters has to")
  end)

  it("is told FULL by a full buffer that only a flush would help", function()
    local n = in_log([[(function()
      for _ = 1, 3 do
        local ok, message, code = FULL:push "12345678"
        if not ok then return ok, message, code end
      end
    end)()]], [[
      FULL = assert(require"store":queue("full", { overflow = "drop_oldest",
        max_items = 5, buffer = { interval = 60, max_buffered_bytes = 10 } }))
    ]])
    n:request "/before"
    while_locked(n, function() -- no flush makes room in between
      assert.is_truthy(said(n, "/log"):find "^nil FULL")
    end)
  end)

  it("is a TLS client hello, on any nginx", function()
    local dir = helper.dir()
    helper.sh(([[openssl req -x509 -newkey rsa:2048 -nodes -days 2 \
      -subj /CN=localhost -keyout %s/key.pem -out %s/cert.pem 2>&1]]):format(
      dir, dir))
    local port = nginx.free_port()
    local n = start("", nil, { server = ([[
      listen 127.0.0.1:%s ssl; ssl_certificate %s/cert.pem;
      ssl_certificate_key %s/key.pem;
      ssl_client_hello_by_lua_block {
        local ok, message, code = require"orders":push(1)
        ngx.log(ngx.WARN, "said: ", tostring(ok), " ", code, " ", message)
      }
      location = /ok { return 200 "ok"; } ]]):format(port, dir, dir) })
    assert.equal("ok", helper.sh(("curl -sk -m 60 https://127.0.0.1:%s/ok")
                                   :format(port)))
    assert.is_truthy(n:log():find("said: nil PHASE", 1, true))
  end)
end)


describe("init_worker_by_lua", function()
  local function run(code)
    return nginx.start { http = ([[
      init_worker_by_lua_block {
        local respool = require "resty.respool"
        %s
      } ]]):format(code) }
  end

  it("closes a store whose buffer holds something", function()
    local n = run [[
      local store = assert(respool.open "${store}")
      local q = assert(store:queue("clicks", { buffer = { interval = 60 } }))
      assert(q:push(1))
      ngx.log(ngx.WARN, "closed: ", tostring(store:close()))]]
    await_log(n, "closed: true")
    assert.equal(1, counts(n, "clicks").ready)
  end)

  it("is told which argument of open is wrong", function()
    local n = run [[ngx.log(ngx.WARN, select(2, pcall(respool.open,
      "${store}", "relaxed")))]]
    await_log(n, "bad argument #2 to 'open' (table of options expected")
  end)
end)
