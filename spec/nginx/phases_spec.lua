-- SPDX-License-Identifier: MIT
--
-- What each phase of a real nginx may do.

if jit then return end -- nginx has its own: to ask it once is enough

local helper = require "spec.helper"
local nginx = require "spec.helper.servers.nginx"
local store_in = require "spec.helper.servers.nginx_store"

local OPEN, PUSH, counts = store_in.OPEN, store_in.PUSH, store_in.counts
local hold_lock = store_in.hold_lock

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
    assert.equal(0, counts(n).pushed)
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
      "repair('${store}', '${dir}/mended')", "file_writer '${dir}/exported'",
      "file_reader { '${dir}/exported' }", "export { queue = require'orders' }",
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
    assert.equal(1, counts(n).ready)
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
