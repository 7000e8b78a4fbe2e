-- SPDX-License-Identifier: MIT
--
-- respool inside a real nginx: what each phase may do, and that nothing is
-- lost when workers come and go. The store is looked at from here.

if jit then return end -- nginx has its own: to ask it once is enough

local helper = require "spec.helper"
local nginx = require "spec.helper.nginx"

-- Opens the store and two queues, "orders" and the buffered "clicks".
local OPEN = [[
  init_worker_by_lua_block {
    local respool = require "resty.respool"
    local store = assert(respool.shared "${store}")
    package.loaded.store = store
    package.loaded.orders = assert(store:queue "orders")
    package.loaded.clicks = assert(store:queue("clicks", {
      buffer = { interval = 0.05 } }))
  }
  exit_worker_by_lua_block { require("resty.respool").exit() }
]]

local PUSH = [[
  location = /push { content_by_lua_block {
    local id, message, code = require"orders":push { n = ngx.var.arg_n }
    if not id then ngx.status = 503 end
    ngx.print(id or code .. ": " .. message)
  } }
  location = /click { return 204; log_by_lua_block {
    local ok, message = require"clicks":push { n = ngx.var.arg_n }
    if not ok then ngx.log(ngx.ERR, "lost: ", message) end
  } }
]]

local function counts(n, name)
  return n:look(function(store)
    assert.same({}, store:check())
    return store:queue(name):stats()
  end)
end

-- A process that holds the writer lock of its store until the
-- function that it returns is called.
local function hold_lock(n)
  local lock = assert(io.popen(("exec %s/spec/writer %s %s/go"):format(
    os.getenv "RESPOOL_BUILD", n.store, n.dir)))
  assert.equal("held", lock:read())
  return function()
    helper.write(n.dir .. "/go", "")
    lock:close()
  end
end

-- Reader slots in use, seen by who uses one itself.
local function readers(n)
  return n:look(function(store) return store:stats().readers end)
end


describe("inside nginx", function()
  it("a durable push yields and answers with its id", function()
    local n = nginx.start { http = OPEN, server = PUSH }
    local body, status = n:request "/push?n=1"
    assert.same({ "1", 200 }, { body, status })
    assert.equal("2", (n:request "/push?n=2"))
    assert.equal(2, counts(n, "orders").ready)
  end)

  it("pushes of many requests share commits", function()
    local n = nginx.start { http = OPEN, server = PUSH }
    n:request "/push"
    local before = n:look(function(s) return s:stats().last_txn end)
    local answered, refused = n:load("/push", "-c 32 -t 1 -d 1s")
    assert.equal(0, refused)
    local after = n:look(function(s) return s:stats().last_txn end)
    assert.is_true(counts(n, "orders").pushed >= answered)
    assert.is_true(after - before < answered / 2)
  end)

  it("a buffered push in log_by_lua is there at the exit", function()
    local n = nginx.start { http = OPEN, server = PUSH }
    local answered = n:load("/click", "-c 16 -t 1 -d 1s")
    n:stop "QUIT"
    assert.is_true(counts(n, "clicks").pushed >= answered)
    assert.is_nil(n:log():find "lost")
  end)

  it("takes, settles, extends and commits transactions", function()
    local n = nginx.start { http = OPEN, server = [[
      location = / { content_by_lua_block {
        local orders, store = require "orders", require "store"
        for i = 1, 3 do assert(orders:push { n = i }) end
        local batch = assert(orders:take { limit = 2, timeout = 1 })
        assert(batch:extend(60))
        for order, item in batch:each() do
          if order.n == 1 then item:done() else item:dead { group = "no" } end
        end
        local _, next_batch = assert(batch:settle { take = { limit = 5 } })
        assert(store:transaction(function(tx)
          for _, item in next_batch:each() do tx:done(item) end
          tx:push(orders, { n = 4 })
        end))
        assert(next_batch:close() and batch:close())
        assert(#orders:take() == 1) -- collected: its lease runs out
        assert(orders.dead:retry(1))
        assert(orders.dead:groups() and store:check()[1] == nil)
        assert(store:maintain { seconds = 0.1 } and orders:flush())
        assert(store:health().status == "healthy")
        ngx.print(orders:length().ready)
      } }
    ]] }
    assert.equal("1", (n:request "/"))
    local stats = counts(n, "orders")
    assert.same({ 2, 5 }, { stats.done, stats.pushed })
  end)

  it("a take wakes up for a push of another process", function()
    local n = nginx.start { http = OPEN, server = [[
      location = / { content_by_lua_block {
        local batch = assert(require"orders":take { timeout = 10 })
        for order, item in batch:each() do ngx.print(order) item:done() end
        assert(batch:close())
      } }
    ]] }
    local answer = nginx.beside(("curl -s http://127.0.0.1:%d/"):format(n.port))
    n:look(function(store) store:queue("orders"):push "hello" end)
    assert.equal("hello", answer())
  end)

  it("goes on serving while another process holds the writer lock", function()
    local n = nginx.start { http = OPEN, server = PUSH .. [[
      location = /look { content_by_lua_block {
        ngx.print(require"orders":length().ready) } } ]] }
    local let_go = hold_lock(n)
    local answer = nginx.beside(("curl -s http://127.0.0.1:%d/push"):format(
      n.port))
    for _ = 1, 20 do
      assert.equal("0", (n:request "/look"))
      assert.equal(204, (select(2, n:request "/click")))
    end
    let_go()
    assert.equal("1", answer())
  end)
end)


describe("while another process holds the writer lock", function()
  -- remove_many was the one verb of a dump that had no ticket.
  it("items that are dumped are removed without standing still", function()
    local n = nginx.start { http = OPEN, server = PUSH .. [[
      location = /export { content_by_lua_block {
        local counts = assert(require "resty.respool".export {
          queue = require "orders", remove = true, writer = function()
            local file
            repeat ngx.sleep(0.01) file = io.open "${dir}/locked" until file
            file:close()
          end })
        ngx.print(counts.removed)
      } } ]] }
    n:request "/push"
    n:request "/push"
    local answer = nginx.beside(("curl -s http://127.0.0.1:%d/export"):format(
      n.port))
    n:await("items are held", function()
      return counts(n, "orders").scheduled == 2
    end)
    local let_go = hold_lock(n)
    helper.write(n.dir .. "/locked", "")
    for _ = 1, 20 do
      assert.equal(204, (select(2, n:request("/click", "-m 5"))))
    end
    let_go()
    assert.equal("2", answer())
    assert.equal(0, counts(n, "orders").scheduled)
  end)

  it("health answers within its bound", function()
    local n = nginx.start { http = OPEN, server = PUSH .. [[
      location = /health { content_by_lua_block {
        require("resty.respool.http").health { store = "${store}",
          bounds = { write_seconds = { unhealthy = 0.1 } } } } } ]] }
    assert.equal(200, select(2, n:request "/health"))
    local let_go = hold_lock(n)
    local body, status = n:request("/health", "-m 5")
    assert.equal(503, status)
    assert.matches("TIMEOUT", body)
    let_go()
    n:await("health is well again", function()
      return select(2, n:request "/health") == 200
    end)
  end)

  -- A worker that came by a reload stood in init_worker_by_lua.
  it("a worker opens queues that are as it wants them", function()
    local n = nginx.start { http = OPEN, server = PUSH }
    n:request "/push"
    local let_go = hold_lock(n)
    local before = n:workers()[1]
    n:signal "HUP"
    n:await("a new worker", function()
      local last = n:workers()
      return last[#last] ~= before
    end)
    n:signal("KILL", before)
    assert.equal(204, (select(2, n:request("/click", "-m 5"))))
    let_go()
  end)
end)

describe("a phase that cannot yield", function()
  local function say(call)
    return ([[
      local ok, message, code = %s
      ngx.log(ngx.WARN, "said: ", tostring(ok), " ", code, " ", message)
    ]]):format(call)
  end

  it("is told so by a durable push", function()
    local n = nginx.start { http = OPEN, server = [[
      location = /log { return 204; log_by_lua_block { ]]
        .. say "require'orders':push(1)" .. [[ } }
      location = /flush { return 204; header_filter_by_lua_block { ]]
        .. say "require'clicks':flush()" .. [[ } }
      location = /set { set_by_lua_block $x { ]]
        .. say "require'orders':take()" .. [[ } return 204; }
    ]] }
    n:request "/log"
    n:request "/flush"
    n:request "/set"
    n:await("three refusals", function()
      return select(2, n:log():gsub("said: nil PHASE", "")) == 3
    end)
    assert.is_truthy(n:log():find("which log_by_lua cannot", 1, true))
    assert.equal(0, counts(n, "orders").pushed)
  end)

  it("pushes into a buffer, and is told when that is full", function()
    local n = nginx.start { http = [[
      init_worker_by_lua_block {
        package.loaded.q = assert(require("resty.respool").shared "${store}"
          :queue("small", { overflow = "wait", buffer = {
            interval = 60, max_buffered_bytes = 10 } }))
      }
    ]], server = [[
      location = / { return 204; log_by_lua_block { ]]
        .. say "require'q':push '1234567'" .. "\n"
        .. say "require'q':push '1234567'" .. [[ } }
    ]] }
    local let_go = hold_lock(n) -- no flush makes room in between
    n:request "/"
    n:await("two answers", function()
      return n:log():find "said: true" and n:log():find "said: nil FULL"
    end)
    let_go()
  end)

  it("is told so by work on files", function()
    local calls = {
      "compact('${store}', { to = '${dir}/copy' })",
      "repair('${store}', '${dir}/mended')", "file_writer '${dir}/dumped'",
      "file_reader { '${dir}/dumped' }", "export { queue = require'orders' }",
      "import { to = require'orders' }",
    }
    local said = {}
    for i, call in ipairs(calls) do
      said[i] = say("require'resty.respool'." .. call)
    end
    local n = nginx.start { http = OPEN, server = [[
      location = / { return 204; log_by_lua_block { do ]]
        .. table.concat(said, " end do ") .. [[ end } } ]] }
    n:request "/"
    n:await("refusals", function()
      return select(2, n:log():gsub("said: nil PHASE", "")) == #calls
    end)
    assert.is_truthy(n:log():find("respool.repair has to wait", 1, true))
    assert.equal("", helper.sh(("ls -d %s/copy %s/mended 2>&-"):format(
      n.dir, n.dir)))
  end)

  it("lets a store be compacted before there are workers", function()
    local n = nginx.start { http = OPEN, server = PUSH }
    n:request "/push"
    n:stop "QUIT"
    os.remove(n.dir .. "/nginx.pid")
    local again = nginx.start { http = ([[
      init_by_lua_block {
        local done = assert(require "resty.respool".compact "%s")
        assert(done.after > 0)
      } ]]):format(n.store) .. OPEN, server = PUSH }
    assert.is_truthy(again:master())
    assert.equal(1, counts(n, "orders").ready)
  end)

  -- It was told that a flush has to wait, for which it had not asked.
  it("is told no more where overflow would make room by a flush", function()
    local n = nginx.start { http = [[
      init_worker_by_lua_block {
        local store = assert(require("resty.respool").shared "${store}")
        for _, overflow in ipairs { "drop_oldest", "dead" } do
          package.loaded[overflow] = assert(store:queue(overflow, {
            overflow = overflow,
            buffer = { interval = 60, max_buffered_bytes = 10 } }))
        end
      }
    ]], server = [[
      location = / { return 204; log_by_lua_block {
        for _, overflow in ipairs { "drop_oldest", "dead" } do
          local q = require(overflow)
          q:push "1234567"
          ]] .. say "q:push '1234567'" .. [[
        end
      } }
    ]] }
    local let_go = hold_lock(n)
    n:request "/"
    n:await("two answers", function()
      return select(2, n:log():gsub("said: nil FULL", "")) == 2
    end)
    let_go()
    for _, overflow in ipairs { "drop_oldest", "dead" } do
      n:await("the flush that makes room", function()
        return counts(n, overflow).ready > 0
      end)
    end
  end)

  it("opens no store in init_by_lua, for a reason", function()
    local n = nginx.try { http = [[
      init_by_lua_block { assert(require("resty.respool").open "${store}") }
    ]] }
    n:await("the reason", function()
      return n:said():find("open it in init_worker_by_lua", 1, true)
    end)
    assert.is_nil(n:master())
  end)
end)


-- Each item adds its number to a second queue, so that nothing is counted
-- that was not handled.
local function consumer(more)
  return ([[
    init_worker_by_lua_block {
      local respool = require "resty.respool"
      local store = assert(respool.shared "${store}")
      package.loaded.orders = assert(store:queue("orders", { lease = 2 }))
      local seen = assert(store:queue "seen")
      package.loaded.worker = assert(require("resty.respool.worker").start {
        store = store, queue = "orders", %s
      })
    }
    exit_worker_by_lua_block { require("resty.respool").exit() }
  ]]):format(more)
end

local HANDLE = [[handle = function(n, item)
  ngx.sleep(0.001)
  item:push(seen, n)
end]]

local function push_numbers(n, count)
  n:look(function(store)
    local list = {}
    for i = 1, count do list[i] = i end
    assert(store:queue("orders", { lease = 2 }):push_many(list))
  end)
end

local function await_done(n, count, seconds)
  n:await("all are done", function()
    return counts(n, "orders").done >= count
  end, seconds)
end

local function each_seen_once(n, count)
  local seen = {}
  n:look(function(store)
    for item in store:queue("seen"):each() do
      assert.is_nil(seen[item.payload])
      seen[item.payload] = true
    end
  end)
  for i = 1, count do assert.is_true(seen[i]) end
end

describe("a worker in nginx", function()
  it("delivers everything, by many at a time", function()
    local n = nginx.start { workers = 2, http = consumer(HANDLE
      .. ", concurrency = 4") }
    push_numbers(n, 500)
    await_done(n, 500)
    each_seen_once(n, 500)
  end)

  it("fails an item whose push is refused, and goes on", function()
    local n = nginx.start { http = consumer [[
      options = { max_attempts = 1 }, batch = 20, handle = function(i, item)
        item:push(seen, i, i % 10 == 3 and { key = "three" } or nil)
      end]] }
    push_numbers(n, 40)
    await_done(n, 37)
    n:await("the others died", function()
      return counts(n, "orders").dead == 3
    end)
    n:look(function(store)
      assert.equal("EXISTS", store:dead("orders"):oldest().group)
      assert.equal(37, store:queue("seen"):length().total)
    end)
  end)

  it("runs a worker script", function()
    local dir = helper.dir()
    helper.write(dir .. "/job.lua", [[return { queue = "mails",
      handle = function(mail) return nil, { message = mail, retryable = false }
      end }]])
    local n = nginx.start { http = ([[
      init_worker_by_lua_block {
        assert(require("resty.respool.worker").start {
          store = "${store}", script = "%s/job.lua" })
      } ]]):format(dir) }
    n:look(function(store) store:queue("mails"):push "no" end)
    n:await("a dead letter", function()
      return n:look(function(store)
        local dead_letter = store:queue("mails").dead:oldest()
        return dead_letter and dead_letter.error == "no"
      end)
    end)
  end)

  it("keeps the lease of a handler that yields for long", function()
    local n = nginx.start { http = consumer [[
      handle = function() ngx.sleep(3) end]] }
    push_numbers(n, 1)
    await_done(n, 1)
    local stats = counts(n, "orders")
    assert.same({ 1, 0, 0 },
                { stats.delivered, stats.crashed, stats.lease_lost })
  end)

  it("uses cosockets in its handlers", function()
    local n = nginx.start { http = consumer [[
      handle = function()
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ${port}))
        assert(sock:send "GET /ok HTTP/1.0\r\n\r\n")
        assert(sock:receive "*l" == "HTTP/1.1 200 OK")
        sock:close()
      end, concurrency = 3]], server = [[location = /ok { return 200 "ok"; }]] }
    push_numbers(n, 30)
    await_done(n, 30)
    assert.equal(0, counts(n, "orders").retried)
  end)

  it("lets a handler finish when nginx quits, and releases the rest", function()
    local n = nginx.start { http = consumer [[
      handle = function() ngx.log(ngx.WARN, "begun") ngx.sleep(0.5) end]] }
    push_numbers(n, 10)
    n:await("it has begun", function() return n:log():find "begun" end)
    n:stop "QUIT"
    local stats = counts(n, "orders")
    assert.is_true(stats.done >= 1)
    assert.same({ 10, 0, 0 },
                { stats.ready + stats.done, stats.leased, stats.retried })
  end)

  it("kills a handler at its deadline and releases its items", function()
    local n = nginx.start { http = consumer [[
      handle = function() ngx.log(ngx.WARN, "begun") ngx.sleep(60) end,
      deadline = 0.3]] }
    push_numbers(n, 3)
    n:await("it has begun", function() return n:log():find "begun" end)
    n:stop "QUIT"
    local stats = counts(n, "orders")
    assert.same({ 3, 0, 0 }, { stats.ready, stats.leased, stats.retried })
    assert.is_truthy(n:log():find "still running at the deadline")
  end)

  it("releases what it holds when nginx is terminated", function()
    local n = nginx.start { http = consumer [[
      handle = function() ngx.sleep(60) end]] }
    push_numbers(n, 3)
    n:await("one is leased", function()
      return counts(n, "orders").leased > 0
    end)
    n:stop "TERM"
    local stats = counts(n, "orders")
    assert.same({ 3, 0 }, { stats.ready, stats.leased })
  end)

  it("stops when asked, and says so", function()
    local n = nginx.start { http = consumer(HANDLE), server = [[
      location = / { content_by_lua_block {
        local worker = require "worker"
        worker:stop()
        while worker:running() > 0 do ngx.sleep(0.01) end
        ngx.print(worker:running())
      } } ]] }
    assert.equal("0", (n:request "/"))
    push_numbers(n, 1)
    assert.equal(1, counts(n, "orders").ready)
  end)

  -- nginx does so when it has no connection left for a timer, or too many are
  -- running: the first three timers are refused, or never come.
  local function with_bad_timers(answer)
    return nginx.start { http = ([[
      init_worker_by_lua_block {
        local at, bad = ngx.timer.at, 3
        ngx.timer.at = function(...)
          bad = bad - 1
          if bad < 0 then return at(...) end
          return %s
        end
        assert(require("resty.respool.worker").start {
          store = "${store}", queue = "orders", handle = function() end })
      } ]]):format(answer) }
  end

  it("comes back when nginx refuses its timer", function()
    local n = with_bad_timers "nil, 'worker_connections are not enough'"
    push_numbers(n, 5)
    await_done(n, 5)
    assert.equal(1, select(2, n:log():gsub("are not enough", "")))
  end)

  it("comes back when nginx loses its timer", function()
    local n = with_bad_timers "true"
    push_numbers(n, 5)
    await_done(n, 5, 20)
  end)
end)


-- Pushes from four clients until told to stop; each logs the answers that
-- promise something.
local function pushers(n)
  helper.write(n.dir .. "/go", "")
  local stop = {}
  for i = 1, 4 do
    stop[i] = nginx.beside(([[cd %s; while [ -e go ]; do
      curl -s -m 5 -w ' %%{http_code}\n' http://127.0.0.1:%d/push; done]])
      :format(n.dir, n.port))
  end
  return function()
    os.remove(n.dir .. "/go")
    local ids, unique = 0, {}
    for i = 1, 4 do
      for id in stop[i]():gmatch "(%d+) 200\n" do
        ids, unique[tonumber(id)] = ids + 1, true
      end
    end
    return ids, unique
  end
end

-- Each acknowledged id is in the store.
local function none_lost(n, unique)
  n:look(function(store)
    for item in store:queue("orders"):each() do unique[item.id] = nil end
  end)
  assert.is_nil(next(unique))
end

describe("the life of nginx", function()
  it("a reload under load loses nothing", function()
    local n = nginx.start { http = OPEN, server = PUSH, workers = 2 }
    local first = n:workers()
    local stop = pushers(n)
    for _ = 1, 3 do
      helper.sh "sleep 0.3"
      n:signal "HUP"
    end
    n:await("the first generation is gone", function()
      local left = 0
      for _, pid in ipairs(n:workers()) do
        if pid == first[1] or pid == first[2] then left = left + 1 end
      end
      return left == 0 and #n:workers() == 2
    end)
    local acknowledged, unique = stop()
    assert.is_true(acknowledged > 20)
    none_lost(n, unique)
    assert.has_error(function() none_lost(n, { [2^40] = true }) end)
    n:stop()
    assert.is_true(readers(n) <= 6) -- there were eight workers
  end)

  it("two generations work on one store, and an old one ends", function()
    local n = nginx.start { http = consumer [[
      handle = function(i, item)
        ngx.sleep(i <= 2 and 1 or 0.001)
        item:push(seen, i)
      end, concurrency = 2, batch = 1, deadline = 2]] }
    push_numbers(n, 200)
    n:await("it is at work", function()
      return counts(n, "orders").leased > 0
    end)
    local old = n:workers()[1]
    n:signal "HUP"
    await_done(n, 200)
    each_seen_once(n, 200)
    n:await("the old one is gone", function()
      return #n:workers() == 1 and n:workers()[1] ~= old
    end, 5)
  end)

  it("a worker that is killed loses its leases, no acknowledged push",
     function()
    local n = nginx.start { http = OPEN, server = PUSH, workers = 2 }
    local stop = pushers(n)
    for _ = 1, 4 do
      helper.sh "sleep 0.2"
      n:signal("KILL", n:workers()[1])
    end
    helper.sh "sleep 0.2"
    local acknowledged, unique = stop()
    assert.is_true(acknowledged > 20)
    none_lost(n, unique)
    n:stop()
    n:look(function(store)
      store:maintain()
      assert.is_true(store:stats().readers <= 3)
    end)
  end)

  it("a killed consumer's items are delivered again", function()
    local n = nginx.start { http = consumer(HANDLE .. ", concurrency = 2") }
    push_numbers(n, 300)
    n:await("some are done", function()
      return counts(n, "orders").done > 0
    end)
    n:signal("KILL", n:workers()[1])
    await_done(n, 300)
    each_seen_once(n, 300)
  end)

  it("works with lua_code_cache off", function()
    local n = nginx.start { http = "lua_code_cache off;" .. OPEN, server = [[
      location = / { content_by_lua_block {
        local respool = require "resty.respool"
        local store = assert(respool.shared "${store}")
        local orders = assert(store:queue "orders")
        local clicks = assert(store:queue("clicks", {
          buffer = { interval = 60 } }))
        assert(clicks:push(1))
        ngx.print((assert(orders:push(1))))
      } }
    ]] }
    for i = 1, 10 do assert.equal(tostring(i), (n:request "/")) end
    assert.equal(10, counts(n, "orders").ready)
    n:await("the last buffer is flushed", function() -- behind its answer
      return counts(n, "clicks").ready == 10
    end)
    assert.is_true(readers(n) <= 4)
  end)

  it("works as a daemon", function()
    local n = nginx.start { daemon = "on", http = OPEN, server = PUSH }
    assert.equal("1", (n:request "/push"))
    assert.equal(204, select(2, n:request "/click"))
    n:stop "TERM"
    assert.equal(1, counts(n, "clicks").pushed)
  end)

  it("a request that its client gives up harms nobody", function()
    local n = nginx.start { http = OPEN, server = [[
      lua_check_client_abort on;
      location = /take { content_by_lua_block {
        ngx.on_abort(function() ngx.exit(499) end)
        require"orders":take { timeout = 60 }
      } } ]] .. PUSH }
    for _ = 1, 5 do
      n:request("/take", "-m 0.05")
    end
    assert.equal("1", (n:request "/push"))
    n:await("it is ready again, or still", function()
      return counts(n, "orders").ready == 1
    end)
  end)
end)


describe("the page about nginx", function()
  -- The configuration in the README, and what the harness needs around it.
  local function configuration(n)
    local text = helper.read "README.md":match "```nginx\n(.-)```"
    local own = ([[
      error_log %s/error.log notice;
      http { client_body_temp_path %s/t1; proxy_temp_path %s/t2;
        fastcgi_temp_path %s/t3; uwsgi_temp_path %s/t4; scgi_temp_path %s/t5;
    ]]):gsub("%%s", n.dir)
    return (text:gsub("modules/", "/usr/lib/nginx/modules/")
      :gsub("/var/lib/respool/jobs", n.store)
      :gsub("listen 8080", "listen 127.0.0.1:" .. n.port)
      :gsub("http {", function() return own .. nginx.paths() end))
  end

  it("shows a configuration that works", function()
    local n = nginx.start { conf = configuration }
    local body, status = n:post("/orders", '{"sku":"A-1"}')
    assert.same({ '{"id":1}\n', 202 }, { body, status })
    n:await("it is handled", function() return n:log():find "order A%-1" end)
  end)

  it("goes with an example that runs by one command", function()
    local port = nginx.free_port()
    local dir = helper.dir()
    local stop = nginx.beside(("PORT=%s exec examples/nginx/run %s 2>&1")
      :format(port, dir))
    local n = nginx.at(dir, port)
    n:await("the example is up", function() return n:is_up() end, 30)
    assert.equal(202, (select(2, n:post("/orders", "{}"))))
    n:await("a dead letter", function()
      return n:request "/admin/dead/orders/items":find '"no sku"'
    end)
    n:stop()
    assert.is_truthy(stop():find "curl")
  end)
end)
