-- SPDX-License-Identifier: MIT
--
-- The README's configuration of nginx and examples/nginx/run, also called in
-- another way than it should be, or where it cannot run.

local helper = require "spec.helper"
local nginx = require "spec.helper.servers.nginx"

describe("The example", function()
  local function run(port, dir)
    local out = helper.dir() .. "/out"
    local status = helper.sh(("PORT=%s timeout -s INT 120 "
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
    n:await("the example is up", function() return n:is_up() end)
    n:stop()
    assert.matches("nginx is at", stop())
    assert.is_truthy(io.open(dir .. "/store/data.mdb")):close()
  end)
end)

if jit then return end -- nginx has its own: to ask it once is enough

describe("the pages about nginx", function()
  -- A configuration in a page, the first if none is said, and what the harness
  -- needs around it.
  local function configuration(n, page, nth)
    local text
    local next_block = helper.read(page):gmatch "```nginx\n(.-)```"
    for _ = 1, nth or 1 do text = next_block() end
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

  for _, page in ipairs { "README.md", "doc/guide/nginx.md" } do
    it("show a configuration that works: " .. page, function()
      local n = nginx.start {
        conf = function(n) return configuration(n, page) end,
      }
      local body, status = n:post("/orders", '{"sku":"A-1"}')
      assert.same({ '{"id":1}\n', 202 }, { body, status })
      n:await("it is handled", function() return n:log():find "order A%-1" end)
    end)
  end

  it("show locations that answer", function()
    local n = nginx.start {
      conf = function(n) return configuration(n, "doc/guide/nginx.md") end,
    }
    assert.equal(204, (select(2, n:request "/click?page=home")))
    n:await("the click is counted", function()
      return n:request "/metrics":find 'pushed_total{queue="clicks"} 1'
    end)
    assert.matches("<title>", (n:request "/queues/"))
  end)

  it("show examples that work: what a server answers", function()
    local n = nginx.start {
      conf = function(n) return configuration(n, "doc/guide/examples.md") end,
    }
    assert.equal('{"id":1}\n', (n:post("/orders", '{"sku":"A-1"}')))
    assert.matches("respool_items", (n:request "/metrics"))
    assert.equal(200, (select(2, n:request "/health")))
    assert.matches("<title>", (n:request "/console/"))
    assert.matches('"orders"', (n:request "/admin/queues"))
  end)

  it("show examples that work: what a worker does", function()
    local n = nginx.start {
      conf = function(n)
        return configuration(n, "doc/guide/examples.md", 2)
      end,
    }
    assert.equal("1\n", (n:request "/orders"))
    n:await("it is handled", function() return n:log():find "order A%-1" end)
    n:await("it is done", function() return n:request "/length" == "0\n" end)
    assert.equal("1\n", (n:request "/running"))
    n:request "/stop"
    n:await("it ends", function() return n:request "/running" == "0\n" end)
  end)

  it("goes with an example that runs by one command", function()
    local port = nginx.free_port()
    local dir = helper.dir()
    local stop = nginx.beside(("PORT=%s exec examples/nginx/run %s 2>&1")
      :format(port, dir))
    local n = nginx.at(dir, port)
    n:await("the example is up", function() return n:is_up() end)
    assert.equal(202, (select(2, n:post("/orders", "{}"))))
    n:await("a dead letter", function()
      return n:request "/admin/dead/orders/items":find '"no sku"'
    end)
    n:stop()
    assert.is_truthy(stop():find "curl")
  end)
end)
