-- SPDX-License-Identifier: MIT
--
-- respool.http within nginx: over cosockets, so that the worker serves others
-- while a request waits for its answer.

local endpoint_of = require "spec.helper.servers.http_endpoint"
local free_port = require "spec.helper.servers.free_port"
local helper = require "spec.helper"
local socket = require "socket"

local CONF = [[
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
error_log DIR/error.log warn;
pid DIR/pid;
worker_processes 1;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path DIR/t1; proxy_temp_path DIR/t2;
  fastcgi_temp_path DIR/t3; uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5;
  lua_package_path "TREE/lua/?.lua;TREE/lua/?/init.lua;;";
  lua_package_cpath "BUILD/luajit/?.so;;";
  server {
    listen 127.0.0.1:PORT;
    location /ping { return 200 "pong"; }
    location /options {
      content_by_lua_block {
        local respool = require "resty.respool"
        for _, name in ipairs { "ca_file", "cert_file", "key_file", "min_tls",
                                "proxy", "deny", "allow", "redirects" } do
          local ok, err = pcall(respool.http, {
            url = "http://127.0.0.1/", [name] = name == "redirects" and 1
              or name == "min_tls" and "1.3" or name:find "_file"
              and "DIR/cert.pem" or "10.0.0.0/8",
          })
          ngx.say(name, " ", ok, " ", err:match "[^:]*$")
        end
        ngx.say(pcall(respool.http, { url = "http://b\195\188cher/" }))
      }
    }
    location /deliver {
      content_by_lua_block {
        local respool = require "resty.respool"
        local store = assert(respool.open ":memory:")
        local q = assert(store:queue("hooks", { max_attempts = 1 }))
        local urls = {}
        for url in ngx.var.arg_url:gmatch "[^,]+" do urls[#urls + 1] = url end
        local handler = respool.http {
          url = urls, timeout = tonumber(ngx.var.arg_timeout),
        }
        for i = 1, tonumber(ngx.var.arg_n) do q:push(i) end
        local counts = q:work(handler, { stop_when_empty = true })
        local dead = q.dead:oldest()
        ngx.say(counts.done, " ", dead and dead.group)
        store:close()
      }
    }
  }
}
]]

local dir, port

local function stop()
  helper.sh(([[cd %s && [ -e pid ] && kill $(cat pid)
    while [ -e pid ]; do sleep 0.01; done]]):format(dir))
end

local function start()
  local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
  dir, port = helper.dir(), free_port()
  local values = { DIR = dir, PORT = port, TREE = helper.sh "pwd",
                   BUILD = build }
  helper.write(dir .. "/nginx.conf",
    (helper.sh "id -u" == "0" and "user root;\n" or "")
    .. CONF:gsub("%u%u%u+", values))
  finally(stop)
  helper.sh(("nginx -p %s -c %s/nginx.conf 2>&1"):format(dir, dir))
end

-- Asks for a path, and returns a function that reads the answer.
local function ask(path)
  local s = assert(socket.connect("127.0.0.1", port))
  s:settimeout(120)
  s:send(("GET %s HTTP/1.0\r\n\r\n"):format(path))
  return function()
    local all = s:receive "*a"
    s:close()
    return all:match "\r\n\r\n(.-)\n?$"
  end
end

local function deliver(actions, n, timeout)
  local endpoint = endpoint_of.start()
  return ask(("/deliver?n=%d&timeout=%s&url=%s"):format(
    n, timeout or 60, endpoint:url(actions))), endpoint
end

describe("respool.http within nginx", function()
  it("delivers, over connections used again", function()
    start()
    local answer, endpoint = deliver("202", 5)
    assert.equal("5 nil", answer())
    local requests = endpoint:requests()
    assert.equal(5, #requests)
    for _, r in ipairs(requests) do assert.equal(1, r.connection) end
  end)

  it("knows what went wrong", function()
    start()
    assert.equal("0 404", deliver("404", 1)())
    assert.equal("0 503", deliver("503", 1)())
    assert.equal("0 closed", deliver("close", 1)())
    assert.equal("0 timeout", deliver("hang", 1, "0.1")())
    assert.equal("0 refused",
                 ask("/deliver?n=1&timeout=1&url=http://127.0.0.1:9/")())
    assert.equal("1 nil", deliver("chunked", 1)())
  end)

  it("asks all URLs at the same time, each by its own answers", function()
    start()
    local endpoint = endpoint_of.start()
    local answer = ask(("/deliver?n=1&timeout=60&url=%s,%s,%s"):format(
      endpoint:url "late", endpoint:url "404", endpoint:url "202"))
    assert.equal("0 404", answer())
    local connections = {}
    for i, r in ipairs(endpoint:requests()) do
      connections[i] = r.connection
    end
    table.sort(connections)
    assert.same({ 1, 2, 3 }, connections)
  end)

  -- ca_file was ignored there.
  it("refuses the options that nginx's own directives stand for", function()
    start()
    helper.write(dir .. "/cert.pem", "-----BEGIN CERTIFICATE-----\n")
    local said = ask "/options"()
    assert.equal(8, select(2, said:gsub("%w+ false ", "")))
    assert.matches("ca_file false +use lua_ssl_trusted_certificate", said)
    assert.matches("false.*a host is written in ASCII", said)
  end)

  it("lets others be served meanwhile", function()
    start()
    local answer, endpoint = deliver("hang", 1, 60)
    while #endpoint:requests() == 0 do socket.sleep(0.01) end
    assert.equal("pong", ask "/ping"())
    endpoint.process:kill()
    assert.equal("0 closed", answer())
  end)
end)
