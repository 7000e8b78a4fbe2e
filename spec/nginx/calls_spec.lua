-- SPDX-License-Identifier: MIT
--
-- Pushes, takes and settles in a real nginx, which yield where they wait. The
-- store is looked at from here.

if jit then return end -- nginx has its own: to ask it once is enough

local helper = require "spec.helper"
local nginx = require "spec.helper.servers.nginx"
local store_in = require "spec.helper.servers.nginx_store"

local OPEN, PUSH, counts = store_in.OPEN, store_in.PUSH, store_in.counts
local UNJOURNALED = store_in.OPEN_UNJOURNALED
local hold_lock = store_in.hold_lock

describe("inside nginx", function()
  it("a durable push yields and answers with its id", function()
    local n = nginx.start { http = OPEN, server = PUSH }
    local body, status = n:request "/push?n=1"
    assert.same({ "1", 200 }, { body, status })
    assert.equal("2", (n:request "/push?n=2"))
    assert.equal(2, counts(n).ready)
  end)

  it("a tracer hears of each verb, also where these yield", function()
    local n = nginx.start { http = [[
      init_worker_by_lua_block {
        local heard = {}
        package.loaded.heard = heard
        local store = assert(require("resty.respool").open("${store}", {
          tracer = {
            start = function(event)
              table.insert(heard, event.operation .. "+")
              return event.operation, { traceparent = "00-1" }
            end,
            finish = function(span) table.insert(heard, span .. "-") end,
          },
        }))
        package.loaded.orders = assert(store:queue "orders")
      }
      exit_worker_by_lua_block { require("resty.respool").exit() }
    ]], server = [[
      location = / { content_by_lua_block {
        local orders = require "orders"
        assert(orders:push "a")
        local counts = assert(orders:work(function(_, item)
          assert(item.headers.traceparent == "00-1")
          ngx.sleep(0.001)
        end, { limit = 1 }))
        ngx.print(counts.done, " ", table.concat(require "heard", " "))
      } }
    ]] }
    assert.equal("1 push+ push- take+ take- handle+ handle- settle+ settle-",
                 (n:request "/"))
  end)

  it("the value of a long payload is made in turns with others", function()
    local n = nginx.start { http = OPEN, server = [[
      location = / { content_by_lua_block {
        local orders, turns = require "orders", 0
        local long = {}
        for i = 1, 30000 do long[i] = { id = i, tags = { i % 7, {} } } end
        assert(orders:push { n = 1 })
        local other = ngx.thread.spawn(function()
          while true do
            ngx.sleep(0.001)
            turns = turns + 1
          end
        end)
        local before = turns
        local cbor = require "respool.support.codec".encode_in_turns(long)
        local encoded_in_turns = turns > before
        assert(cbor == require "respool".cbor.encode(long))
        assert(orders:push_many { long, "text" })
        local function look(batch)
          local before = turns
          local payload = batch[1].payload
          return payload, turns > before
        end
        local batch = assert(orders:take { limit = 3 })
        assert(batch:item(3).payload == "text")
        local _, short_waits = look { batch:item(1) }
        local taken, long_waits = look { batch:item(2) }
        batch:release()
        assert(batch:settle())
        local listed = assert(orders:peek(2))[2].payload
        ngx.thread.kill(other)
        for i = 1, 30000 do
          for _, value in ipairs { taken, listed } do
            local one = value[i]
            assert(one.id == i and one.tags[1] == i % 7 and #one.tags == 2)
          end
        end
        ngx.print(#taken, " ", #listed, " ", tostring(short_waits), " ",
                  tostring(long_waits), " ", tostring(encoded_in_turns))
      } }
      location = /wrong { content_by_lua_block {
        local orders, long = require "orders", { ("x"):rep(20000) }
        long[2] = { f = print }
        local ok, message = pcall(orders.push, orders, long)
        ngx.print(message)
      } }
    ]] }
    assert.equal("30000 30000 false true true", (n:request "/"))
    assert.matches("cannot encode function at %[2%]%.f", (n:request "/wrong"))
  end)

  it("pushes of many requests share commits", function()
    local n = nginx.start { http = UNJOURNALED, server = [[
      location = /push { content_by_lua_block {
        WAITING = (rawget(_G, "WAITING") or 0) + 1
        ngx.print((assert(require"orders":push(WAITING))))
      } }
      location = /waiting { content_by_lua_block { ngx.print(WAITING) } }
    ]] }
    n:request "/push"
    local before = n:look(function(s) return s:stats().last_txn end)
    local let_go, answers = hold_lock(n), {}
    for i = 1, 32 do
      answers[i] = nginx.beside(("curl -s http://127.0.0.1:%d/push"):format(
        n.port))
    end
    n:await("all are there", function() return n:request "/waiting" == "33" end)
    let_go()
    for i = 1, 32 do assert.matches("^%d+$", answers[i]()) end
    local after = n:look(function(s) return s:stats().last_txn end)
    assert.equal(33, counts(n).pushed)
    assert.is_true(after - before < 8, after - before)
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
        assert(store:health({ read_seconds = 60, write_seconds = 60 })
          .status == "healthy")
        ngx.print(orders:length().ready)
      } }
    ]] }
    assert.equal("1", (n:request "/"))
    local stats = counts(n)
    assert.same({ 2, 5 }, { stats.done, stats.pushed })
  end)

  it("a take wakes up for a push of another process", function()
    local n = nginx.start { http = OPEN, server = [[
      location = / { content_by_lua_block {
        local batch = assert(require"orders":take { timeout = 60 })
        for order, item in batch:each() do ngx.print(order) item:done() end
        assert(batch:close())
      } }
    ]] }
    local answer = nginx.beside(("curl -s http://127.0.0.1:%d/"):format(n.port))
    n:look(function(store) store:queue("orders"):push "hello" end)
    assert.equal("hello", answer())
  end)

  -- Nobody was told: the core's threads wait, not the one that may write.
  it("a push that waits for another process says so in the log", function()
    local n = nginx.start { http = UNJOURNALED, server = PUSH }
    n:request "/push?n=1"
    local let_go = hold_lock(n)
    local push = nginx.beside(("curl -s -m 60 'http://127.0.0.1:%d/push'")
      :format(n.port))
    n:await("the line in the log", function()
      return n:log():find("waiting for process %d+ %(writer%), which uses")
    end, 50)
    let_go()
    assert.equal("2", push())
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


describe("an export into files inside nginx", function()
  -- The check of a compressed file and each fsync held the event loop.
  it("lets others run while a file is checked and synced", function()
    local bin = helper.dir()
    helper.write(bin .. "/gzip", ([[#!/bin/sh
      if [ "$1" = -dc ]; then
        : >'%s/checking'
        while [ ! -e '%s/go' ]; do sleep 0.01; done
      fi
      exec /bin/gzip "$@"
    ]]):format(bin, bin))
    helper.sh("chmod +x " .. bin .. "/gzip")
    local n = nginx.start {
      main = ("env PATH=%s:/usr/bin:/bin;"):format(bin), http = OPEN,
      server = PUSH .. [[
        location = /export { content_by_lua_block {
          local respool = require "resty.respool"
          local counts = assert(respool.export {
            queue = require "orders", remove = true,
            writer = assert(respool.file_writer("${dir}/files", {
              store = require "store", gzip = true })) })
          ngx.print(counts.removed)
        } } ]] }
    n:request "/push"
    local answer = nginx.beside(("curl -s -m 60 http://127.0.0.1:%d/export")
      :format(n.port))
    n:await("the file is checked", function()
      return io.open(bin .. "/checking") ~= nil
    end)
    assert.equal("2", (n:request "/push"))
    helper.write(bin .. "/go", "")
    assert.equal("1", answer())
    local all = helper.sh(("gzip -dc %s/files/*.gz"):format(n.dir))
    assert.matches('"end":1', all)
  end)
end)

describe("while another process holds the writer lock", function()
  -- remove_many was the one verb of an export without a ticket.
  it("items that are exported are removed without standing still", function()
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
      return counts(n).scheduled == 2
    end)
    local let_go = hold_lock(n)
    helper.write(n.dir .. "/locked", "")
    for _ = 1, 20 do
      assert.equal(204, (select(2, n:request("/click", "-m 60"))))
    end
    let_go()
    assert.equal("2", answer())
    assert.equal(0, counts(n).scheduled)
  end)

  it("health answers within its bound", function()
    local n = nginx.start { http = OPEN, server = PUSH .. [[
      location = /health { content_by_lua_block {
        require("resty.respool.http").health { store = "${store}",
          bounds = { write_seconds = { unhealthy = 1 } } } } } ]] }
    n:await("health is well", function()
      return select(2, n:request "/health") == 200
    end)
    local let_go = hold_lock(n)
    local body, status = n:request("/health", "-m 60")
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
    assert.equal(204, (select(2, n:request("/click", "-m 60"))))
    let_go()
  end)
end)
