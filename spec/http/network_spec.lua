-- SPDX-License-Identifier: MIT
--
-- How respool.http reaches a host: names, proxies, redirects, networks that
-- are not for it, many connections.

local cli = require "spec.helper.cli"
local endpoint_of = require "spec.helper.servers.http_endpoint"
local helper = require "spec.helper"
local odd_server = require "spec.helper.servers.odd_server"
local respool = require "respool"

local OK = "HTTP/1.1 202 Fine\r\nContent-Length: 0\r\n\r\n"

local store, q

local function open(options)
  local path = helper.location()
  store = assert(helper.open(path))
  q = assert(store:queue("hooks", options or { max_attempts = 1 }))
end

before_each(function() open() end)

-- Delivers an item to this URL; nil, or its dead letter.
local function deliver(url, options)
  local o = { url = url, timeout = 60 }
  for name, value in pairs(options or {}) do o[name] = value end
  q:push "x"
  q:work(respool.http(o), { limit = 1 })
  return q.dead:oldest()
end

describe("A name server that does not answer", function()
  local library

  before_each(function()
    library = helper.dir() .. "/silent.so"
    assert.equal("", helper.sh(("cc -shared -fPIC -D_GNU_SOURCE -o %s "
      .. "spec/helper/servers/silent_resolver.c -ldl 2>&1"):format(library)))
  end)

  -- Each of the items in hand waited for it again, one after the other, also
  -- after the signal: SIGTERM with a deadline of a second took 32 s.
  it("holds up nobody, and no shutdown", function()
    open { retry = respool.backoff.constant { delay = 0.01 } }
    for i = 1, 20 do q:push(i) end
    local endpoint = endpoint_of.start()
    local pid = helper.sh((
      "LUA_PATH=%s LUA_CPATH=%s LD_PRELOAD=%s timeout 300 %s bin/respool "
      .. "deliver %s hooks --url http://silent.test/ --url %s "
      .. "--deadline 200ms >%s 2>&1 </dev/null & echo $!"):format(
        cli.quote(package.path), cli.quote(package.cpath), library,
        helper.lua(), store.path, endpoint:url "202", library .. ".out"))
    local deadline = os.time() + 60
    while #endpoint:requests() < 20 and os.time() < deadline do
      helper.sh "sleep 0.05"
    end
    assert.equal(20, #endpoint:requests())
    os.execute("kill -TERM " .. pid)
    assert.equal("gone", helper.sh(
      "timeout 60 tail --pid=" .. pid .. " -f /dev/null && echo gone"))
    assert.matches("released", helper.read(library .. ".out"))
    assert.equal(0, q:stats().dead)
  end)
end)

describe("A proxy", function()
  local function run(env, server, ...)
    q:push "x"
    return cli.run { "deliver", store.path, "hooks", "--until-empty", "--url",
                     "http://target.test/path", env = env:format(server.port),
                     ... }, server:requests()[1] or ""
  end

  it("is what the environment says", function()
    local proxy = odd_server.start(OK)
    local result, got = run("http_proxy=http://u:pass@127.0.0.1:%d", proxy)
    assert.equal(0, result.status)
    assert.matches("^POST http://target.test/path HTTP/1.1|", got)
    assert.matches("|Proxy%-Authorization: Basic dTpwYXNz|", got)
    open()
    result, got = run("ALL_PROXY=http://127.0.0.1:%d", odd_server.start(OK))
    assert.equal(0, result.status)
    assert.matches("^POST http://target.test/path ", got)
  end)

  it("is what the option says", function()
    local proxy = odd_server.start(OK)
    assert.is_nil(deliver("http://target.test/", {
      proxy = "http://u:pass@127.0.0.1:" .. proxy.port,
    }))
    assert.matches("^POST http://target.test/ ", proxy:requests()[1])
    local result = run("http_proxy=http://127.0.0.1:9", proxy, "--proxy",
                       "http://127.0.0.1:" .. proxy.port)
    assert.equal(0, result.status)
  end)

  it("does not show its password", function()
    local dead = deliver("http://target.test/", {
      proxy = "http://u:sesame@127.0.0.1:9",
    })
    assert.equal("refused", dead.group)
    assert.is_nil(dead.error:find "sesame")
    local no = odd_server.start "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"
    q.dead:purge()
    dead = deliver("https://target.test/", {
      proxy = "http://u:sesame@127.0.0.1:" .. no.port,
    })
    assert.same({ "proxy", "https://target.test/: the proxy answered 407" },
                { dead.group, dead.error })
    local result = run("X=%d", no, "--proxy", "http://u:sesame@127.0.0.1:9")
    assert.equal(2, result.status)
    assert.matches("environment", result.err)
    assert.is_nil(result.err:find "sesame")
  end)
end)

describe("A host", function()
  it("may be an IPv6 address", function()
    local server = odd_server.start(OK, { host = "::1" })
    assert.is_nil(deliver(server.base .. "/"))
    assert.matches("|Host: %[::1%]:" .. server.port .. "|",
                   server:requests()[1])
  end)

  it("may have a name in any script", function()
    local server = odd_server.start(OK)
    assert.is_nil(deliver(("http://bücher.localhost:%d/ä?ö"):format(
      server.port)))
    assert.matches("^POST /%%C3%%A4%?%%C3%%B6 ", server:requests()[1])
    assert.matches("|Host: xn%-%-bcher%-kva.localhost:",
                   server:requests()[1])
  end)
end)

describe("A redirect", function()
  local function redirect(to)
    return odd_server.start(("HTTP/1.1 307 There\r\nLocation: %s\r\n"
      .. "Content-Length: 0\r\n\r\n"):format(to))
  end

  it("is followed when asked for, as often as asked for", function()
    local server = odd_server.start(OK)
    local first = redirect(redirect(server.base .. "/end").base .. "/b")
    assert.is_nil(deliver(first.base .. "/a", { redirects = 2 }))
    assert.matches("^POST /end HTTP/1.1|", server:requests()[1])
    assert.equal("307", deliver(first.base .. "/a", { redirects = 1 }).group)
    assert.equal(1, #server:requests())
  end)

  it("leads to another host without credentials", function()
    local server = odd_server.start(OK)
    local first = redirect(server.base .. "/")
    assert.is_nil(deliver(first.base .. "/", {
      redirects = 1, headers = { Authorization = "Bearer t", ["X-Key"] = "k" },
    }))
    assert.matches("|Authorization: Bearer t|.*X%-Key: k",
                   first:requests()[1] .. "|")
    local got = server:requests()[1]
    assert.is_nil(got:find "Bearer")
    assert.is_nil(got:find "X%-Key")
    assert.matches("|Idempotency%-Key: hooks%-1%-", got)
  end)
end)

describe("A network", function()
  local function group(url, options)
    local dead = deliver(url, options)
    q.dead:purge()
    return dead and dead.group
  end

  it("that is denied is not connected to, whatever the name", function()
    local server = odd_server.start(OK)
    for _, host in ipairs { "127.0.0.1", "localhost", "2130706433",
                            "[::ffff:127.0.0.1]", "0x7f.1" } do
      assert.equal("denied", group(("http://%s:%d/"):format(host, server.port),
                                   { deny = "private" }))
    end
    for _, url in ipairs { "http://10.1.2.3/", "http://192.168.1.1/",
                           "http://169.254.169.254/", "http://172.20.0.1/",
                           "http://[fe80::1]/", "http://[fd00::1]/",
                           "http://0.0.0.0/", "http://[::1]/" } do
      assert.equal("denied", group(url, { deny = "private" }), url)
    end
    assert.same({}, server:requests())
  end)

  it("that is denied is not reached over a connection of before", function()
    local endpoint = endpoint_of.start()
    assert.is_nil(group(endpoint:url "202"))
    assert.equal("denied", group(endpoint:url "202", { deny = "private" }))
    assert.equal("denied", group(endpoint:url "202", { deny = "127.0.0.1" }))
    assert.is_nil(group(endpoint:url "202", { deny = "10.0.0.0/8" }))
    assert.equal(2, #endpoint:requests())
  end)

  it("that is allowed is, also where it is denied, and alone alone",
     function()
    local endpoint = endpoint_of.start()
    local url = endpoint:url "202"
    assert.is_nil(group(url, { deny = "private", allow = "127.0.0.0/8" }))
    assert.is_nil(group(url, { allow = "127.0.0.1" }))
    assert.equal("denied", group(url, { allow = { "127.0.0.2/32", "::1" } }))
    assert.equal("denied", group(url, { deny = { "192.0.2.0/24", "private" } }))
    assert.is_nil(group(url, { allow = { "192.0.2.1", "private" } }))
  end)

  it("that is denied is not redirected to", function()
    local server = odd_server.start(OK)
    local first = odd_server.start(("HTTP/1.1 307 There\r\nLocation: "
      .. "http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"):format(
        server.port), { host = "::1" })
    assert.equal("denied", group(first.base .. "/", {
      redirects = 1, deny = "private", allow = "::1",
    }))
    assert.same({}, server:requests())
    assert.equal(1, #first:requests())
  end)

  it("that is denied makes a dead letter at once", function()
    open { max_attempts = 5 }
    local dead = deliver("http://127.0.0.1:9/", { deny = "private" })
    assert.same({ "rejected", 1 }, { dead.reason, dead.attempts })
  end)

  it("is not asked for through a proxy of the environment", function()
    local proxy = odd_server.start(OK)
    q:push "x"
    local run = cli.run { "deliver", store.path, "hooks", "--until-empty",
      "--url", "http://127.0.0.1:9/", "--deny", "private",
      env = "http_proxy=http://127.0.0.1:" .. proxy.port }
    assert.equal(1, run.status)
    assert.same({}, proxy:requests())
    assert.equal("denied", q.dead:oldest().group)
  end)
end)

describe("Many connections", function()
  it("are open at a time", function()
    local n = 1500
    local file = helper.dir() .. "/out"
    local pid = helper.sh(("python3 spec/helper/crowd.py %d >%s 2>&1 </dev/null"
      .. " & echo $!"):format(n, file))
    finally(function() os.execute("kill " .. pid) end)
    helper.sh(("until grep -q port %s; do sleep 0.01; done"):format(file))
    local port = helper.read(file):match "port (%d+)"
    local payloads = {}
    for i = 1, n do payloads[i] = i end
    q:push_many(payloads)
    local run = cli.process { "deliver", store.path, "hooks", "--until-empty",
      "--url", ("http://127.0.0.1:%s/"):format(port), "--concurrency", n,
      "--connect-timeout", "5m", "--timeout", "5m", "--quiet" }
    assert.same({ 0, "" }, { run.status, run.err })
    assert.same({ n, 0 }, { q:stats().done, q:stats().retried })
  end)
end)
