-- SPDX-License-Identifier: MIT
--
-- Waiting for a result, progress and cancelling in a real nginx: what waits
-- yields, so that the handler beside it gets on.

if jit then return end -- nginx has its own: to ask it once is enough

local helper = require "spec.helper"
local nginx = require "spec.helper.servers.nginx"
local store_in = require "spec.helper.servers.nginx_store"

describe("inside nginx", function()
  it("a result is awaited while the handler works beside it", function()
    local n = nginx.start { http = store_in.OPEN, server = [[
      location = / { content_by_lua_block {
        local kept = assert(require "orders".store:queue("kept", {
          keep_done = 60, max_attempts = 1 }))
        local first = assert(kept:push_many { 1, 2 })
        local seen
        ngx.thread.spawn(function()
          ngx.sleep(0.02)
          local batch = assert(kept:take { limit = 2 })
          assert(batch[1]:progress(0.4, "two of five"))
          seen = kept:get(first).progress.text
          assert(kept:cancel(first + 1))
          seen = seen .. ", " .. tostring(batch[2]:cancelled())
          batch[1]:done { n = 7 }
          assert(batch:settle())
        end)
        local result = assert(kept:await(first, { timeout = 60 }))
        local _, _, code = kept:await(first + 1, { timeout = 60 })
        ngx.print(result.n, ", ", seen, ", ", code)
      } }
    ]] }
    assert.equal("7, two of five, true, NOT_FOUND", (n:request "/"))
  end)

  it("a result of another process is awaited", function()
    local n = nginx.start { http = store_in.OPEN, server = [[
      location = /path { content_by_lua_block {
        assert(require "orders".store:queue("kept", { keep_done = 60 }))
        ngx.print(require "orders".store.path)
      } }
      location = / { content_by_lua_block {
        local kept = require "orders".store:queue "kept"
        local id = assert(kept:push(20))
        ngx.print((kept:await(id, { timeout = 60 })))
      } }
    ]] }
    local process = helper.spawn([[
      local store = require "respool".open(arg[1], { log = false })
      store:queue("kept", { create = false })
        :work(function(number) return number + 1 end, { limit = 1 })
    ]], (n:request "/path"))
    assert.equal("21", (n:request "/"))
    process:wait()
  end)
end)
