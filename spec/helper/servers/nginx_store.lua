-- SPDX-License-Identifier: MIT
--
-- A store inside a real nginx: configurations that open it, push into it and
-- consume from it, and what lies in it, seen from outside.

local assert = require "luassert"
local helper = require "spec.helper"

local M = {}

-- Opens the store and two queues, "orders" and the buffered "clicks".
M.OPEN = [[
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

-- The same, where each push is a commit of LMDB, and waits for its writer.
M.OPEN_UNJOURNALED = M.OPEN:gsub('shared ("${store}")',
                                 'shared(%1, { journal = false })')

M.PUSH = [[
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

-- The statistics of a queue, "orders", of a store without findings.
function M.counts(n, name)
  return n:look(function(store)
    assert.same({}, store:check())
    return store:queue(name or "orders"):stats()
  end)
end

-- A process holds the writer lock of the store until the function returned is
-- called.
function M.hold_lock(n)
  local lock = assert(io.popen(("exec %s/spec/writer %s %s/go"):format(
    os.getenv "RESPOOL_BUILD", n.store, n.dir)))
  assert.equal("held", lock:read())
  return function()
    helper.write(n.dir .. "/go", "")
    lock:close()
  end
end

-- Reader slots in use, seen by a process that uses one itself.
function M.readers(n)
  return n:look(function(store) return store:stats().readers end)
end

-- Each item adds its number to a second queue, so that nothing is counted
-- that was not handled.
function M.consumer(more)
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

M.HANDLE = [[handle = function(n, item)
  ngx.sleep(0.001)
  item:push(seen, n)
end]]

-- Pushes 1 to `count`.
function M.push_numbers(n, count)
  n:look(function(store)
    local list = {}
    for i = 1, count do list[i] = i end
    assert(store:queue("orders", { lease = 2 }):push_many(list))
  end)
end

function M.await_done(n, count, seconds)
  n:await("all are done", function()
    return M.counts(n, "orders").done >= count
  end, seconds)
end

-- Each of 1 to `count` was handled once.
function M.each_seen_once(n, count)
  local seen = {}
  n:look(function(store)
    for item in store:queue("seen"):each() do
      assert.is_nil(seen[item.payload])
      seen[item.payload] = true
    end
  end)
  for i = 1, count do assert.is_true(seen[i]) end
end

return M
