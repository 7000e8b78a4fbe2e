-- SPDX-License-Identifier: MIT
--
-- respool.otlp in a real nginx: no request waits for the collector.

if jit then return end -- nginx has its own: to ask it once is enough

local collector = require "spec.helper.servers.collector"
local nginx = require "spec.helper.servers.nginx"

-- A server whose pushes are traced; between two requests are `interval`, text.
local function server(there, interval)
  return nginx.start { http = ([[
    init_worker_by_lua_block {
      local respool = require "resty.respool"
      local tracer = respool.otlp { url = "%s", interval = %s }
      local store = assert(respool.open("${store}", { tracer = tracer }))
      package.loaded.orders = assert(store:queue "orders")
    }
    exit_worker_by_lua_block { require("resty.respool").exit() }
  ]]):format(there:url(), interval), server = [[
    location = / { content_by_lua_block {
      ngx.print((assert(require "orders":push "a")))
    } }
  ]] }
end

describe("respool.otlp within nginx", function()
  it("sends spans beside requests, though nothing else happens", function()
    local there = collector.start()
    local n = server(there, "0.1")
    assert.equal("1", (n:request "/"))
    n:await("the span", function() return #there:spans() > 0 end)
    local span = there:spans()[1]
    assert.same({ "push orders", "respool" },
                { span.name, span.resource["service.name"] })
  end)

  -- nginx runs no timer beyond them, and tells nobody but its log: the exporter
  -- waited for its request for ever.
  it("goes on when nginx has had too many timers to run its request",
     function()
    local there = collector.start()
    local n = nginx.start { http = ([[
      lua_max_running_timers 8;
      init_worker_by_lua_block {
        local respool = require "resty.respool"
        local tracer = respool.otlp { url = "%s", interval = 0.1, timeout = 1 }
        local store = assert(respool.open("${store}", { tracer = tracer }))
        package.loaded.orders = assert(store:queue "orders")
      }
      exit_worker_by_lua_block { require("resty.respool").exit() }
    ]]):format(there:url()), server = [[
      location = / { content_by_lua_block {
        ngx.print((assert(require "orders":push "a")))
      } }
      location = /fill { content_by_lua_block {
        package.loaded.full = true
        for _ = 1, 20 do
          ngx.timer.at(0, function()
            while package.loaded.full and not ngx.worker.exiting() do
              ngx.sleep(0.01)
            end
          end)
        end
      } }
      location = /free { content_by_lua_block {
        package.loaded.full = nil
      } }
    ]] }
    n:request "/fill"
    n:await("a request that is not begun", function()
      n:request "/"
      return n:log():find("cosockets.lua:%d+: 8 lua_max_running_timers")
    end)
    n:request "/free"
    n:await("a span", function()
      n:request "/"
      return #there:spans() > 0
    end)
  end)

  it("sends what is left when a worker ends", function()
    local there = collector.start()
    local n = server(there, "3600")
    for _ = 1, 3 do n:request "/" end
    assert.same({}, there.server:requests())
    n:stop "QUIT"
    assert.equal(3, #there:spans())
    assert.is_not_nil(there:metrics()["messaging.client.sent.messages"])
  end)
end)
