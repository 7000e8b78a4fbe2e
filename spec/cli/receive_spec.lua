-- SPDX-License-Identifier: MIT
--
-- respool receive, as a process, spoken to by bare sockets.

local cli = require "spec.helper.cli"
local endpoint_of = require "spec.helper.servers.http_endpoint"
local helper = require "spec.helper"
local respool = require "respool"
local socket = require "socket"

local path, server, port

-- Starts an receive of the queue "hooks" on a free port.
local function start(...)
  path = path or helper.location()
  server = cli.start { "receive", path, "hooks", "--listen", "0", ... }
  server:expect "listening on"
  port = tonumber(server:output():match "listening on http://[^\n]*:(%d+)")
end

before_each(function()
  path = nil
end)

local function queue(options)
  local store = assert(helper.open(path))
  return assert(store:queue("hooks", options)), store
end

local function connect()
  local s = assert(socket.connect("127.0.0.1", port))
  s:settimeout(60)
  return s
end

-- A request with a body; `lines` are more of its header. The body is not given
-- to format(): that of 5.1 ends a string at a NUL.
local function post(body, lines)
  return ("POST /x HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n")
    :format(lines or "", #body) .. body
end

-- Reads one answer: its status, text and headers.
local function answer(s)
  local first, message = s:receive "*l"
  if not first then return nil, message end
  local headers = {}
  for line in function() return s:receive "*l" end do
    if line == "" then break end
    local name, value = line:match "^([^:]+): (.*)$"
    headers[name:lower()] = value
  end
  local length = tonumber(headers["content-length"])
  return tonumber(first:match "^HTTP/1.1 (%d+)"),
    length and s:receive(length), headers
end

-- The answer to a request on a connection of its own.
local function ask(request)
  local s = connect()
  s:send(request)
  local status, text, headers = answer(s)
  s:close()
  return status, text, headers
end

local function statuses(requests)
  local list = {}
  for i, request in ipairs(requests) do list[i] = (ask(request)) end
  return list
end

local function stop(signal)
  return server:kill(signal or "TERM")
end

describe("respool receive", function()
  it("pushes the body as it is, and answers 202 with the id", function()
    start()
    local status, text = ask(post("a\0\255\r\n",
                                  "Content-Type: x/y\r\nX-Other: 1\r\n"))
    assert.same({ 202, '{"id":1}\n' }, { status, text })
    local item = queue():get(1)
    assert.equal("a\0\255\r\n", item.payload)
    assert.same({ ["content-type"] = "x/y" }, item.headers)
  end)

  it("has the item on disk when it answers", function()
    start()
    assert.equal(202, (ask(post "x")))
    server:kill()
    assert.equal("x", queue():get(1).payload)
  end)

  it("keeps the headers that are to be kept", function()
    start("--keep-header", "X-GitHub-Event", "--keep-header", "x-b")
    ask(post("x", "Traceparent: 00-ab-cd-01\r\nTracestate: a=b\r\n"
      .. "Idempotency-Key: k\r\nx-github-event: push\r\n"))
    assert.same({
      ["content-type"] = "application/octet-stream",
      traceparent = "00-ab-cd-01", tracestate = "a=b",
      ["idempotency-key"] = "k", ["x-github-event"] = "push",
    }, queue():get(1).headers)
  end)

  it("decodes JSON when asked, and refuses what is none", function()
    start "--json"
    assert.same({ 202, 400, 400 },
                statuses { post('{"a":[1]}', "Content-Type: a/b\r\n"),
                           post '{"a":', post "" })
    assert.same({ a = { 1 } }, queue():get(1).payload)
    assert.is_nil(queue():get(1).headers)
  end)

  it("pushes a request once that is repeated with its Idempotency-Key",
     function()
    start()
    local once = post("x", "Idempotency-Key: k1\r\n")
    local _, first = ask(once)
    local q, store = queue()
    q:work(function() end, { limit = 1 })
    store:close()
    stop()
    start()
    local status, again = ask(once)
    assert.same({ 202, first }, { status, again })
    assert.equal(1, queue():stats().pushed)
    assert.equal(400, (ask(post("x", "Idempotency-Key: "
      .. ("k"):rep(256) .. "\r\n"))))
  end)

  it("refuses a key that comes again with another body", function()
    start()
    local function with_key(body)
      return post(body, "Idempotency-Key: k1\r\n")
    end
    assert.same({ 202, 422, 202 },
                statuses { with_key "x", with_key "y", with_key "x" })
    stop()
    start "--json"
    local function with_other(body)
      return post(body, "Idempotency-Key: k2\r\n")
    end
    assert.same({ 202, 202, 422 }, statuses {
      with_other '{"a":1,"b":2}', with_other '{"b":2, "a":1}',
      with_other '{"a":1,"b":3}',
    })
    assert.equal(2, queue():stats().pushed)
  end)

  it("keeps the encoding of bytes, and refuses that of JSON", function()
    start()
    local encoded = post("\31\139", "Content-Encoding: gzip\r\n")
    assert.equal(202, (ask(encoded)))
    assert.equal("gzip", queue():get(1).headers["content-encoding"])
    local out = endpoint_of.start()
    cli.run { "deliver", path, "hooks", "--until-empty", "--url",
              out:url "202" }
    assert.equal("gzip", out:requests()[1].headers["content-encoding"])
    stop()
    start "--json"
    assert.equal(415, (ask(encoded)))
    assert.equal(202, (ask(post("{}", "Content-Encoding: identity\r\n"))))
  end)

  -- Delivers to it, signed with these secrets; the status, if refused.
  local function send_signed(secret, signature)
    local q = respool.open(":memory:"):queue "out"
    q:push { a = 1 }
    local url = ("http://127.0.0.1:%d/"):format(port)
    local counts = q:work(respool.http {
      url = url, secret = secret, signature = signature,
    }, { limit = 1 })
    return counts.done == 1 and "done" or q.dead:oldest().group
  end

  it("takes what is signed with one of its secrets", function()
    local file = helper.dir() .. "/secret"
    helper.write(file, "s3cret\nwhsec_bmV4dA==\n")
    start("--secret-file", file)
    for _, secret in ipairs { "s3cret", "next", "whsec_bmV4dA==",
                              { "old", "s3cret" } } do
      assert.equal("done", send_signed(secret))
    end
    assert.equal("401", send_signed "other")
    assert.equal("401", send_signed("s3cret", "respool"))
    assert.same({ 401, 401 }, statuses {
      post "x", post("x", "webhook-id: 1\r\nwebhook-timestamp: 1\r\n"
        .. "webhook-signature: v1,00\r\n"),
    })
    assert.equal(4, queue():stats().pushed)
  end)

  -- A signed request that somebody has seen could be sent again, under other
  -- keys.
  it("takes a signed request once, whoever sends it", function()
    local sign = require "respool.http.sign"
    local file = helper.dir() .. "/secret"
    helper.write(file, "s3cret\n")
    for _, scheme in ipairs { "standard", "respool" } do
      path = nil
      start("--secret-file", file, "--signature", scheme, "--dedup", "0")
      local lines = ""
      for name, value in pairs(sign.headers(scheme, { "s3cret" }, "id1",
                                            "body", {}, {})) do
        lines = lines .. ("%s: %s\r\n"):format(name, value)
      end
      assert.same({ 202, 202, 401, 401 }, statuses {
        post("body", lines), post("body", lines .. "Idempotency-Key: b\r\n"),
        post("other", lines), post("body", (lines:gsub("stamp: ", "stamp: 1"))),
      })
      queue():work(function() end, { limit = 1 })
      assert.equal(202, (ask(post("body", lines))))
      assert.equal(1, queue():stats().pushed)
      stop()
    end
  end)

  -- Sends a signed body of type text/plain with the header x-tenant; `change`
  -- alters the lines of its head. The headers that are kept.
  local function kept(change, ...)
    local sign = require "respool.http.sign"
    local file = helper.dir() .. "/secret"
    helper.write(file, "s3cret\n")
    path = nil
    start("--secret-file", file, "--keep-header", "X-Tenant", ...)
    local headers = { ["x-tenant"] = "ada", ["content-type"] = "text/plain" }
    local lines = "Traceparent: 00-a\r\nX-Tenant: ada\r\n"
      .. "Content-Type: text/plain\r\n"
    local signed = sign.headers("standard", { "s3cret" }, "id1", "body",
                                headers, { "content-type", "x-tenant" })
    for name, value in pairs(signed) do
      lines = lines .. ("%s: %s\r\n"):format(name, value)
    end
    assert.equal(202, (ask(post("body", change(lines)))))
    local found = queue():peek()[1].headers
    stop()
    return { found["content-type"], found["x-tenant"], found.traceparent }
  end

  it("keeps headers that are signed, and no others with them", function()
    local ALL, NONE = { "text/plain", "ada", "00-a" },
      { "application/octet-stream", nil, "00-a" }
    assert.same(ALL, kept(function(lines) return lines end))
    assert.same(NONE, kept(function(lines)
      return (lines:gsub("X%-Tenant: ada", "X-Tenant: eve"))
    end))
    local function as_others_sign(lines)
      return (lines:gsub("respool%-headers.-\r\n", ""))
    end
    assert.same(ALL, kept(as_others_sign))
    assert.same(NONE, kept(as_others_sign, "--signed-headers"))
  end)

  it("tells who may look, if that is asked for", function()
    local file = helper.dir() .. "/token"
    helper.write(file, "t0ken\n")
    start("--token-file", file)
    local function look(lines)
      return "GET /metrics HTTP/1.1\r\nHost: h\r\n" .. lines .. "\r\n"
    end
    assert.same({ 401, 401, 200, 202 }, statuses {
      look "", look "Authorization: Bearer other\r\n",
      look "Authorization: Bearer t0ken\r\n", post "x",
    })
  end)

  it("tells its health and metrics", function()
    start()
    local deadline = socket.gettime() + 60
    local status, text
    repeat
      status, text = ask "GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
    until text:find '"status":"healthy"' or socket.gettime() > deadline
    assert.equal(200, status)
    assert.matches('"status":"healthy"', text)
    ask(post "x")
    status, text = ask "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
    assert.equal(200, status)
    assert.matches('respool_pushed_total{queue="hooks"} 1\n', text)
    local s = connect()
    s:send "HEAD /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\n$", s:receive "*a")
  end)
end)

describe("A connection to respool receive", function()
  it("is good for many requests, sent one behind the other", function()
    start()
    local s = connect()
    s:send(post "a" .. post "b" .. "\r\n" .. post "c")
    for i = 1, 3 do
      local status, text = answer(s)
      assert.same({ 202, ('{"id":%d}\n'):format(i) }, { status, text })
    end
    s:send(post "d")
    assert.equal(202, (answer(s)))
    assert.equal("c", queue():get(3).payload)
  end)

  it("ends when the client says so, or speaks HTTP/1.0", function()
    start()
    for _, request in ipairs {
      post("a", "Connection: close\r\n"),
      "POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\na",
    } do
      local s = connect()
      s:send(request)
      local all = s:receive "*a"
      assert.matches("^HTTP/1.1 202 Accepted\r\n.*Connection: close\r\n", all)
    end
  end)

  it("takes a body in chunks, byte by byte", function()
    start()
    local s = connect()
    s:setoption("tcp-nodelay", true)
    local request = "POST / HTTP/1.1\r\nHost: h\r\n"
      .. "Transfer-Encoding: chunked\r\n\r\n"
      .. "4;name=value\r\nab\r\n\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    for i = 1, #request do s:send(request:sub(i, i)) end
    assert.equal(202, (answer(s)))
    s:send(post "next")
    assert.equal(202, (answer(s)))
    assert.equal("ab\r\n0123456789", queue():get(1).payload)
    assert.equal("next", queue():get(2).payload)
  end)

  -- A million chunks took 13.6 s, in which nobody else was served.
  it("takes a body of very many chunks, and lets others have their turn",
     function()
    start()
    local big = connect()
    big:send("POST / HTTP/1.1\r\nHost: h\r\n"
      .. "Transfer-Encoding: chunked\r\n\r\n")
    local thousand = ("1\r\nx\r\n"):rep(1000)
    for _ = 1, 200 do big:send(thousand) end
    assert.equal(202, (ask(post "small")))
    big:send "0\r\n\r\n"
    assert.equal(202, (answer(big)))
    assert.equal(200000, #queue():get(2).payload)
  end)

  it("may not have more between its chunks than in them", function()
    start()
    local chunk = "1;" .. ("x"):rep(1000) .. "\r\nx\r\n"
    assert.equal(400, (ask("POST / HTTP/1.1\r\nHost: h\r\n"
      .. "Transfer-Encoding: chunked\r\n\r\n" .. chunk:rep(100)
      .. "0\r\n\r\n")))
  end)

  it("is told to go on, if it waits for that", function()
    start("--max-body", "10")
    local s = connect()
    s:send "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
    s:send "Content-Length: 5\r\n\r\n"
    assert.equal(100, (answer(s)))
    s:send "hello"
    assert.equal(202, (answer(s)))
    s:send "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
    s:send "Content-Length: 11\r\n\r\n"
    assert.equal(413, (answer(s)))
  end)

  it("holds up no other by being slow, and ends in time", function()
    start("--timeout", "2s", "--idle", "2s")
    local slow, idle = connect(), connect()
    slow:send "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab"
    idle:send(post "x")
    assert.equal(202, (answer(idle)))
    assert.equal(202, (ask(post "y")))
    assert.equal(408, (answer(slow)))
    assert.same({ nil, "closed" }, { answer(idle) })
    assert.equal(2, queue():length().total)
  end)

  it("is refused when there are too many", function()
    start("--max-connections", "2")
    local a, b = connect(), connect()
    a:send(post "x")
    b:send(post "x")
    assert.same({ 202, 202 }, { (answer(a)), (answer(b)) })
    local status, _, headers = ask(post "y")
    assert.same({ 503, "1" }, { status, headers["retry-after"] })
    a:close()
    b:send(post("z", "Connection: close\r\n"))
    assert.equal(202, (answer(b)))
    local deadline = socket.gettime() + 60
    repeat status = ask(post "y") until status ~= 503
      or socket.gettime() > deadline
    assert.equal(202, status)
  end)
end)

describe("A request to respool receive", function()
  it("is refused when it is too large", function()
    start("--max-body", "1000", "--max-header", "2000")
    local big = ("x"):rep(1001)
    assert.same({ 413, 413, 431, 431, 202 }, statuses {
      post(big),
      "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3E9\r\n"
        .. big .. "\r\n0\r\n\r\n",
      post("x", "X: " .. ("y"):rep(2000) .. "\r\n"),
      "POST /" .. ("y"):rep(5000),
      post(("x"):rep(1000)),
    })
    assert.equal(413, (ask("POST / HTTP/1.1\r\nHost: h\r\n"
      .. "Content-Length: 999999999999\r\n\r\n")))
  end)

  it("is refused when it is not HTTP", function()
    start()
    local top = "POST / HTTP/1.1\r\nHost: h\r\n"
    local chunked = top .. "Transfer-Encoding: chunked\r\n\r\n"
    local malformed = {
      "\22\3\1\2\0\1\0\1\252\3\3\n\n", "GET\r\n\r\n", "POST / HTTP/x\r\n\r\n",
      "POST / HTTP/1.1\nHost: h\n\n", "POST / HTTP/1.1\r\n\r\n",
      "POST  / HTTP/1.1\r\nHost: h\r\n\r\n", top .. "No colon\r\n\r\n",
      top .. "Bad name: x\r\n\r\n", top .. " folded\r\n\r\n",
      top .. "Host: i\r\n\r\n", top .. "A : b\r\n\r\n",
      top .. "A: b\0c\r\n\r\n",
      top .. "A: b\rc\r\n\r\n", top .. "Content-Length: -1\r\n\r\n",
      top .. "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
      top .. "Content-Length: 1, 1\r\n\r\na",
      top .. "Content-Length: 0x1\r\n\r\n",
      top .. "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      chunked .. "x\r\n", chunked .. "-1\r\n",
      chunked .. "1\r\nabc\r\n0\r\n\r\n",
      chunked .. "1\nab\r\n", chunked .. "FFFFFFFFFFFFFFFFF\r\n",
      chunked .. "0\r\n" .. ("T: x\r\n"):rep(3000) .. "\r\n",
    }
    for i, status in ipairs(statuses(malformed)) do
      assert.equal(400, status, ("%d: %q"):format(i, malformed[i]))
    end
    assert.same({ 501, 417, 505 }, statuses {
      top .. "Transfer-Encoding: gzip, chunked\r\n\r\n",
      top .. "Expect: a miracle\r\nContent-Length: 1\r\n\r\n",
      "POST / HTTP/2.0\r\nHost: h\r\n\r\n",
    })
    assert.equal(0, queue():stats().pushed)
    assert.equal(202, (ask(post "x")))
  end)

  it("is refused when it is no POST", function()
    start()
    for _, method in ipairs { "GET", "PUT", "DELETE", "OPTIONS", "BREW" } do
      local status, _, headers =
        ask(method .. " / HTTP/1.1\r\nHost: h\r\n\r\n")
      assert.same({ 405, "POST" }, { status, headers.allow })
    end
    local status, _, headers = ask "PUT /health HTTP/1.1\r\nHost: h\r\n\r\n"
    assert.same({ 405, "GET, HEAD, POST" }, { status, headers.allow })
  end)

  it("is answered 429 while the queue is full", function()
    path = helper.location()
    local _, store = queue { max_items = 1 }
    store:close()
    start()
    assert.equal(202, (ask(post "a")))
    local status, text, headers = ask(post "b")
    assert.same({ 429, "5" }, { status, headers["retry-after"] })
    assert.matches("the queue is full", text)
    queue():remove(1)
    assert.equal(202, (ask(post "b")))
  end)

  it("is answered 503 while the store is full", function()
    start("--max-bytes", "1MiB", "--max-body", "10MiB")
    local body, status, text, headers = ("x"):rep(300000), nil, nil, nil
    for _ = 1, 10 do
      status, text, headers = ask(post(body))
      if status ~= 202 then break end
    end
    assert.same({ 503, "5" }, { status, headers["retry-after"] })
    assert.matches("the store is full", text)
    queue():purge()
    assert.equal(202, (ask(post "small")))
  end)

  it("is not harmed by one it is committed with", function()
    path = helper.location()
    local _, store = queue { max_items = 3 }
    store:close()
    start()
    local sockets, count = {}, { [202] = 0, [429] = 0 }
    for i = 1, 8 do sockets[i] = connect() end
    for i = 1, 8 do sockets[i]:send(post "x") end
    for i = 1, 8 do
      local status = answer(sockets[i])
      count[status] = count[status] + 1
    end
    assert.same({ [202] = 3, [429] = 5 }, count)
  end)
end)

describe("Many requests to respool receive at once", function()
  it("are committed together, each answered with its id", function()
    start()
    local sockets, ids = {}, {}
    for i = 1, 200 do sockets[i] = connect() end
    os.execute("kill -STOP " .. server.pid)
    for i = 1, 200 do sockets[i]:send(post(("body %d"):format(i))) end
    os.execute("kill -CONT " .. server.pid)
    for i = 1, 200 do
      local status, text = answer(sockets[i])
      assert.equal(202, status)
      ids[tonumber(text:match "%d+")] = i
      sockets[i]:close()
    end
    local q, n = queue(), 0
    for item in q:each() do
      n = n + 1
      assert.equal(("body %d"):format(ids[item.id]), item.payload)
    end
    assert.equal(200, n)
    local _, text = ask "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
    local commits = tonumber(text:match "respool_commit_seconds_count (%d+)")
    assert.is_true(commits < 100, commits .. " commits")
  end)
end)

describe("The end of respool receive", function()
  it("answers the request in hand, and lets nobody in", function()
    start()
    local idle, s = connect(), connect()
    idle:send(post "i")
    answer(idle)
    s:send "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab"
    assert.same({ 202, 400 }, statuses { post "x", "what?\r\n\r\n" })
    os.execute("kill -TERM " .. server.pid)
    local deadline = socket.gettime() + 60
    local refused
    repeat
      local other = socket.connect("127.0.0.1", port)
      refused = not other
      if other then other:close() end
    until refused or socket.gettime() > deadline
    assert.is_true(refused)
    s:send "cd"
    local status, _, headers = answer(s)
    assert.same({ 202, "close" }, { status, headers.connection })
    assert.equal(0, server:wait())
    assert.equal("abcd", queue():get(3).payload)
    assert.matches("accepted +3\nrefused +1\n", server:output())
  end)

  it("does not wait for ever", function()
    start("--deadline", "100ms")
    local s = connect()
    s:send "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab"
    assert.equal(202, (ask(post "x")))
    assert.equal(1, stop "INT")
    assert.same({ nil, "closed" }, { answer(s) })
  end)
end)

describe("The command line of respool receive", function()
  local function refused(status, text, ...)
    local run = cli.run { "receive", helper.location(), "hooks", ... }
    assert.equal(status, run.status)
    assert.matches(text, run.err)
    assert.equal(1, select(2, run.err:gsub("\n", "\n")))
  end

  it("is refused in one line when it is wrong", function()
    refused(2, "is not an address such as 127.0.0.1:9876", "--listen", "here")
    refused(2, "is not a name of a header", "--keep-header", "a b")
    refused(2, "holds no secret", "--secret-env", "RESPOOL_NO_SUCH")
    refused(2, "cannot read the secret", "--secret-file", "/no/such")
    refused(2, "is not a size", "--max-body", "much")
    refused(2, "whole number from 1 to", "--max-connections", "5000")
  end)

  it("is refused when the address is taken", function()
    start()
    refused(1, "cannot listen on 127.0.0.1:%d+: address already in use",
            "--listen", "127.0.0.1:" .. port)
  end)

  it("is warned of when strangers can push", function()
    path = helper.location()
    server = cli.start { "receive", path, "hooks", "--listen", "0.0.0.0:0" }
    server:expect "listening on"
    assert.matches("warning: http://0.0.0.0:%d+ can be reached from other "
      .. "machines, and anybody may push", server:output())
  end)

  it("has a help with an example", function()
    local run = cli.run { "receive", "--help" }
    assert.equal(0, run.status)
    assert.matches("Example:\n  respool receive shop.respool", run.out)
  end)
end)
