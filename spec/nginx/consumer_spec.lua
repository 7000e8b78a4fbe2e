-- SPDX-License-Identifier: MIT
--
-- Consumers in a real nginx. How they end is in worker_spec.lua.

if jit then return end -- nginx has its own: to ask it once is enough

local helper = require "spec.helper"
local nginx = require "spec.helper.servers.nginx"
local store_in = require "spec.helper.servers.nginx_store"

local HANDLE, counts, consumer =
  store_in.HANDLE, store_in.counts, store_in.consumer
local push_numbers, await_done, each_seen_once =
  store_in.push_numbers, store_in.await_done, store_in.each_seen_once

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
      return counts(n).dead == 3
    end)
    n:look(function(store)
      assert.equal("EXISTS", store:dead("orders"):oldest().group)
      assert.equal(37, store:queue("seen"):length().total)
    end)
  end)

  it("runs a worker script", function()
    local dir = helper.dir()
    helper.write(dir .. "/worker.lua", [[return { queue = "mails",
      handle = function(mail) return nil, { message = mail, retryable = false }
      end }]])
    local n = nginx.start { http = ([[
      init_worker_by_lua_block {
        assert(require("resty.respool.worker").start {
          store = "${store}", script = "%s/worker.lua" })
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
    local stats = counts(n)
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
    assert.equal(0, counts(n).retried)
  end)

  it("lets a handler finish when nginx quits, and releases the rest", function()
    local n = nginx.start { http = consumer [[
      handle = function() ngx.log(ngx.WARN, "begun") ngx.sleep(0.5) end]] }
    push_numbers(n, 10)
    n:await("it has begun", function() return n:log():find "begun" end)
    n:stop "QUIT"
    local stats = counts(n)
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
    local stats = counts(n)
    assert.same({ 3, 0, 0 }, { stats.ready, stats.leased, stats.retried })
    assert.is_truthy(n:log():find "still running at the deadline")
  end)

  it("releases what it holds when nginx is terminated", function()
    local n = nginx.start { http = consumer [[
      handle = function() ngx.sleep(60) end]] }
    push_numbers(n, 3)
    n:await("one is leased", function()
      return counts(n).leased > 0
    end)
    n:stop "TERM"
    local stats = counts(n)
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
    assert.equal(1, counts(n).ready)
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
    await_done(n, 5)
  end)
end)
