-- SPDX-License-Identifier: MIT
--
-- https, to an nginx that says how it was spoken to.

local cli = require "spec.helper.cli"
local free_port = require "spec.helper.servers.free_port"
local helper = require "spec.helper"
local respool = require "respool"

local CONF = [[
error_log DIR/error.log warn;
pid DIR/pid;
worker_processes 1;
events { worker_connections 64; }
http {
  log_format said '$server_protocol $ssl_protocol $ssl_client_verify';
  access_log DIR/access.log said;
  client_body_temp_path DIR/t1; proxy_temp_path DIR/t2;
  fastcgi_temp_path DIR/t3; uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5;
  ssl_certificate DIR/host.pem;
  ssl_certificate_key DIR/host.key;
  server {
    listen 127.0.0.1:PORT ssl http2;
    ssl_protocols VERSION;
    ssl_client_certificate DIR/client.pem;
    ssl_verify_client optional;
    location / { return 202; }
  }
}
]]

local store, q, dir, port

-- A certificate that signs itself, and its key.
local function certify(name)
  helper.sh(([[openssl req -x509 -newkey rsa:2048 -nodes -days 2 \
    -subj /CN=%s -addext subjectAltName=DNS:localhost \
    -keyout %s/%s.key -out %s/%s.pem 2>%s/openssl.log]]):format(
    name, dir, name, dir, name, dir))
end

local function start(version)
  dir, port = helper.dir(), free_port()
  certify "host"
  certify "client"
  local values = { DIR = dir, PORT = port, VERSION = version }
  helper.write(dir .. "/nginx.conf", (CONF:gsub("%u%u%u+", values)))
  finally(function()
    helper.sh(([[cd %s && [ -e pid ] && kill $(cat pid)
      while [ -e pid ]; do sleep 0.01; done]]):format(dir))
  end)
  helper.sh(("nginx -p %s -c %s/nginx.conf 2>&1"):format(dir, dir))
end

before_each(function()
  store = helper.store()
  q = assert(store:queue("hooks", { max_attempts = 1 }))
end)

-- Delivers an item; nil, or its dead letter.
local function deliver(options, host)
  local o = { url = ("https://%s:%s/"):format(host or "localhost", port) }
  for name, value in pairs(options) do o[name] = value end
  q.dead:purge()
  q:push { 1 }
  q:work(respool.http(o), { limit = 1 })
  return q.dead:oldest()
end

-- How the last request was made, as nginx has it.
local function last()
  local lines
  repeat lines = helper.read(dir .. "/access.log") until lines ~= ""
  return lines:match "([^\n]*)\n$"
end

describe("https", function()
  it("is spoken to a host that proves who it is, and to no other", function()
    start "TLSv1.2 TLSv1.3"
    local trusted = { ca_file = dir .. "/host.pem" }
    assert.is_nil(deliver(trusted))
    for _, dead in ipairs {
      deliver {}, deliver { ca_file = dir .. "/client.pem" },
      deliver(trusted, "127.0.0.1"),
    } do
      assert.equal("TLS", dead.group)
    end
    assert.matches("TLS: SSL certificate problem", deliver({}).error)
    assert.matches("TLS: SSL: no alternative certificate subject name",
                   deliver(trusted, "127.0.0.1").error)
  end)

  it("is HTTP/2 where the host speaks it", function()
    start "TLSv1.2 TLSv1.3"
    assert.is_nil(deliver { ca_file = dir .. "/host.pem" })
    assert.equal("HTTP/2.0 TLSv1.3 NONE", last())
  end)

  it("shows a certificate when it is given one", function()
    start "TLSv1.2 TLSv1.3"
    assert.is_nil(deliver {
      ca_file = dir .. "/host.pem", cert_file = dir .. "/client.pem",
      key_file = dir .. "/client.key",
    })
    assert.equal("HTTP/2.0 TLSv1.3 SUCCESS", last())
  end)

  it("is no older than asked for", function()
    start "TLSv1.2"
    assert.is_nil(deliver { ca_file = dir .. "/host.pem" })
    assert.matches(" TLSv1.2 ", last())
    assert.equal("TLS", deliver({
      ca_file = dir .. "/host.pem", min_tls = "1.3",
    }).group)
  end)
end)

-- Twenty items found it out, five times each, and died.
describe("A file that https needs", function()
  it("is missed at the start", function()
    local path = helper.location()
    local other = assert(helper.open(path))
    other:queue "hooks":push "x"
    local empty = helper.dir() .. "/empty"
    helper.write(empty, "nothing\n")
    for _, option in ipairs { "ca-file", "cert-file", "key-file" } do
      for _, file in ipairs { "/no/such/file", empty } do
        local run = cli.run { "deliver", path, "hooks", "--until-empty",
          "--url", "https://localhost/", "--" .. option, file }
        assert.equal(2, run.status)
        assert.matches("%-%-" .. option:gsub("%-", "%%-")
          .. " must be a file in PEM format that can be read", run.err)
      end
    end
    assert.equal(0, other:queue "hooks":peek(1)[1].attempts)
  end)
end)
