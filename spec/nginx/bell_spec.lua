-- SPDX-License-Identifier: MIT
--
-- Light threads that wait for items in a real nginx: they cost nothing while
-- nothing comes, and hear of a push of their own process at once.

if jit then return end -- nginx has its own: to ask it once is enough

local helper = require "spec.helper"
local nginx = require "spec.helper.servers.nginx"
local store_in = require "spec.helper.servers.nginx_store"

local CONF = [[
  init_worker_by_lua_block {
    %s
    local respool = require "resty.respool"
    local store = assert(respool.shared "${store}")
    package.loaded.orders = assert(store:queue "orders")
    package.loaded.store = store
    package.loaded.took = {}
    assert(require("resty.respool.worker").start {
      store = store, queue = "jobs", concurrency = %d, batch = 1,
      handle = function(began)
        table.insert(require "took", require("respool.core").mono() - began)
      end })
  }
  exit_worker_by_lua_block { require("resty.respool").exit() }
]]

local SERVER = [[
  location = /push { content_by_lua_block {
    local jobs = assert(require "store":queue "jobs")
    for _ = 1, ngx.var.arg_n do
      assert(jobs:push(require("respool.core").mono()))
    end
    while #require "took" < tonumber(ngx.var.arg_n) do ngx.sleep(0.001) end
    ngx.print(#require "took")
  } }
  location = /take { content_by_lua_block {
    ngx.log(ngx.WARN, "it takes")
    local batch = assert(require "orders":take { timeout = 60 })
    ngx.print(#batch)
    batch:close()
  } }
  location = /killed { content_by_lua_block {
    local orders = require "orders"
    for _ = 1, 5 do
      local thread = ngx.thread.spawn(function()
        orders:take { timeout = 60 }
      end)
      ngx.sleep(0.01)
      assert(ngx.thread.kill(thread))
    end
    local thread = ngx.thread.spawn(function()
      local batch = assert(orders:take { timeout = 60 })
      batch:done()
      assert(batch:settle())
      return #batch
    end)
    ngx.sleep(0.01)
    assert(orders:push "for the one who is left")
    ngx.print((select(2, ngx.thread.wait(thread))))
  } }
  location = /stopped { content_by_lua_block {
    local orders = require "orders"
    local thread = ngx.thread.spawn(function()
      assert(orders:work(function() end))
      return "stopped"
    end)
    ngx.sleep(0.01)
    orders:stop()
    ngx.print((select(2, ngx.thread.wait(thread))))
  } }
]]

local function start(consumers, before)
  return nginx.start { http = CONF:format(before or "", consumers),
                       server = SERVER }
end

-- How often the process was woken, in a while.
local function wakings(n, seconds)
  local function count()
    local status = helper.read(("/proc/%d/status"):format(n:workers()[1]))
    return tonumber(status:match "\nvoluntary_ctxt_switches:%s*(%d+)")
  end
  local before = count()
  helper.pause(seconds)
  return count() - before
end

describe("takes inside nginx", function()
  -- Each consumer looked at its own ticket twenty times a second.
  it("wait together: 200 idle consumers wake the process as one does",
     function()
    local n = start(200)
    n:await("rest, when all have begun", function()
      return wakings(n, 2) < 200
    end)
  end)

  for what, before in pairs {
    ["by the bell"] = "",
    ["without a bell"] = [[
      require("respool.core").bell = function() end ]],
  } do
    it("are handed what their own process pushes, each item once, " .. what,
       function()
      local n = start(20, before)
      assert.equal("300", (n:request "/push?n=300"))
      n:await("the last settle", function()
        return store_in.counts(n, "jobs").leased == 0
      end)
      local stats = store_in.counts(n, "jobs")
      assert.same({ 300, 300 }, { stats.pushed, stats.done })
    end)
  end

  it("hear of what another process pushes", function()
    local n = start(1)
    local taken = nginx.beside(("curl -s -m 60 http://127.0.0.1:%d/take")
      :format(n.port))
    n:await_log "it takes"
    n:look(function(store) assert(store:queue "orders":push "an order") end)
    assert.equal("1", taken())
  end)

  it("hear of what becomes due", function()
    local n = start(1)
    n:look(function(store)
      assert(store:queue "orders":push("an order", { delay = 0.3 }))
    end)
    assert.equal("1", (n:request "/take"))
  end)

  it("of light threads that were killed take nothing", function()
    local n = start(1)
    assert.equal("1", (n:request "/killed"))
    n:look(function(store)
      assert.equal(0, store:queue "orders":stats().leased)
    end)
  end)

  it("return when the work is to stop", function()
    assert.equal("stopped", (start(1):request "/stopped"))
  end)

  it("do not keep a worker process that is to end", function()
    local n = start(50)
    local taken = nginx.beside(("curl -s -m 60 http://127.0.0.1:%d/take")
      :format(n.port))
    n:await_log "it takes"
    n:stop "QUIT"
    assert.equal("0", taken())
  end)
end)
