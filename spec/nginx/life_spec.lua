-- SPDX-License-Identifier: MIT
--
-- Nothing is lost when the workers of a real nginx come and go.

if jit then return end -- nginx has its own: to ask it once is enough

local helper = require "spec.helper"
local nginx = require "spec.helper.servers.nginx"
local store_in = require "spec.helper.servers.nginx_store"

local OPEN, PUSH, HANDLE = store_in.OPEN, store_in.PUSH, store_in.HANDLE
local counts, readers, consumer =
  store_in.counts, store_in.readers, store_in.consumer
local push_numbers, await_done, each_seen_once =
  store_in.push_numbers, store_in.await_done, store_in.each_seen_once

-- Pushes from four clients until told to stop; each logs the answers that
-- promise something.
local function pushers(n)
  helper.write(n.dir .. "/go", "")
  local stop = {}
  for i = 1, 4 do
    stop[i] = nginx.beside(([[cd %s; while [ -e go ]; do
      curl -s -m 60 -w ' %%{http_code}\n' http://127.0.0.1:%d/push; done]])
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
    n:await("some pushes", function() return counts(n, "orders").ready > 20 end)
    local _, unique = stop()
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
      return counts(n).leased > 0
    end)
    local old = n:workers()[1]
    n:signal "HUP"
    await_done(n, 200)
    each_seen_once(n, 200)
    n:await("the old one is gone", function()
      return #n:workers() == 1 and n:workers()[1] ~= old
    end)
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
    n:await("some pushes", function() return counts(n, "orders").ready > 20 end)
    local _, unique = stop()
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
      return counts(n).done > 0
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
    assert.equal(10, counts(n).ready)
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
      return counts(n).ready == 1
    end)
  end)
end)
