-- SPDX-License-Identifier: MIT
--
-- examples/nginx/run: what it does when it is called in another way than it
-- should be, or where it cannot run.

local helper = require "spec.helper"
local nginx = require "spec.helper.nginx"

describe("The example", function()
  local function run(port, dir)
    local out = helper.dir() .. "/out"
    local status = helper.sh(("PORT=%s timeout -s INT 20 "
      .. "examples/nginx/run '%s' >%s 2>&1; echo $?"):format(port, dir, out))
    return tonumber(status), helper.read(out)
  end

  it("says when it cannot listen", function()
    local taken = nginx.start {}
    local status, text = run(taken.port, helper.dir())
    assert.is_not.equal(0, status)
    assert.is_nil(text:find "nginx is at")
    assert.matches("Address already in use", text)
  end)

  it("refuses a port that is none", function()
    for _, port in ipairs { "abc", "0", "65536", "80 80" } do
      local status, text = run("'" .. port .. "'", helper.dir())
      assert.equal(2, status)
      assert.matches("PORT must be", text)
    end
  end)

  it("runs in a directory of any name", function()
    local dir, port = helper.dir() .. "/a b&c,d\"e\\f", nginx.free_port()
    local link = helper.dir() .. "/link"
    helper.sh(("ln -s '%s' %s"):format(dir, link))
    local stop = nginx.beside(("PORT=%s exec examples/nginx/run '%s' 2>&1")
      :format(port, dir))
    local n = nginx.at(link, port)
    n:await("the example is up", function() return n:is_up() end, 30)
    n:stop()
    assert.matches("nginx is at", stop())
    assert.is_truthy(io.open(dir .. "/store/data.mdb")):close()
  end)
end)
