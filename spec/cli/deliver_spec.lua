-- SPDX-License-Identifier: MIT
--
-- respool deliver, as a process, to an endpoint that answers as the path
-- says.

local cli = require "spec.helper.cli"
local core = require "respool.core"
local endpoint_of = require "spec.helper.servers.http_endpoint"
local helper = require "spec.helper"
local respool = require "respool"
local socket = require "socket"

local path, store, q, endpoint

-- The queue "hooks", with a policy that does not take long.
local function open(options)
  path = helper.location()
  store = assert(helper.open(path))
  local o = { retry = respool.backoff.constant { delay = 0.01 } }
  for name, value in pairs(options or {}) do o[name] = value end
  q = assert(store:queue("hooks", o))
  endpoint = endpoint_of.start()
end

local function push(n)
  for i = 1, n do q:push { n = i } end
end

local function words(actions, ...)
  local list = { "deliver", path, "hooks", ... }
  for action in actions:gmatch "%S+" do
    list[#list + 1] = "--url"
    list[#list + 1] = endpoint:url(action)
  end
  return list
end

-- Delivers until nothing is left.
local function deliver(actions, ...)
  return cli.run(words(actions, "--until-empty", ...))
end

-- Waits until the queue's figures are as wanted.
local function await(wanted)
  local deadline = socket.gettime() + 60
  repeat
    local s = q:stats()
    if wanted(s) then return end
    socket.sleep(0.01)
  until socket.gettime() > deadline
  error("it did not come to that")
end

local function await_requests(n)
  await(function() return #endpoint:requests() >= n end)
end

-- How often these actions were asked for; for an item only, if there is an id.
local function count(actions, id)
  local n = 0
  for _, r in ipairs(endpoint:requests()) do
    if r.path == "/" .. actions
       and (not id or r.headers["respool-id"] == id) then
      n = n + 1
    end
  end
  return n
end

local function connections()
  local list, n = {}, 0
  for _, r in ipairs(endpoint:requests()) do
    if not list[r.connection] then n = n + 1 end
    list[r.connection] = true
  end
  return n
end

describe("respool deliver", function()
  it("delivers what is there, and tells how it went by URL", function()
    open()
    push(40)
    local run = deliver "202 200"
    assert.equal("", run.err)
    assert.equal(0, run.status)
    assert.matches("delivered +40\n", run.out)
    assert.matches(endpoint:url "202" .. " +40 +0 +0 ", run.out)
    assert.matches(endpoint:url "200" .. " +40 +0 +0 ", run.out)
    assert.same({ 40, 0 }, { q:stats().done, q:length().total })
    assert.equal(80, #endpoint:requests())
  end)

  it("ends with 1 when an item died", function()
    open()
    push(3)
    local run = deliver "404"
    assert.equal(1, run.status)
    assert.matches("dead +3\n", run.out)
    assert.same({ "404", 3 },
                { q.dead:groups()[1].group, q.dead:groups()[1].count })
  end)

  it("tries again what may be accepted next time", function()
    open()
    push(3)
    assert.equal(0, deliver("503,429,202").status)
    assert.same({ 3, 6 }, { q:stats().done, q:stats().retried })
  end)

  it("calls no URL again that has accepted", function()
    open()
    push(20)
    assert.equal(0, deliver("202 503,408,200").status)
    assert.same({ 20, 60 }, { count "202", count "503,408,200" })
  end)

  it("keeps the answers as results, of earlier attempts too", function()
    open { keep_done = 60 }
    push(1)
    assert.equal(0, deliver("201 503,202").status)
    local result = assert(q:result(1))
    assert.equal(201, result[endpoint:url "201"].status)
    assert.equal(202, result[endpoint:url "503,202"].status)
  end)

  it("asks several at a time, over connections used again", function()
    open()
    push(24)
    deliver("meet~8", "--concurrency", "8")
    assert.equal(8, connections())
    assert.equal(24, #endpoint:requests())
  end)

  it("goes on while one waits for its answer, and settles the others",
     function()
    open()
    push(30)
    local process = cli.start(words("each/hang,202", "--concurrency", "4",
                                    "--timeout", "1h"))
    await(function(s) return s.done == 29 and s.leased == 1 end)
    push(5)
    await(function(s) return s.done == 34 and s.leased == 1 end)
    assert.equal(137, process:kill())
  end)

  it("does not let a URL that is slow hold up the others", function()
    open()
    push(60)
    local process = cli.start(words("hang 202", "--concurrency", "4",
                                    "--timeout", "1h"))
    await(function() return count "202" == 60 and count "hang" == 3 end)
    assert.equal(0, q:stats().retried)
    process:kill()
    assert.same({ 60, 3 }, { count "202", count "hang" })
  end)

  it("keeps to the order of an ordered queue", function()
    open { ordered = true }
    push(5)
    deliver("503,202", "--concurrency", "8")
    local ids = {}
    for i, r in ipairs(endpoint:requests()) do
      ids[i] = r.headers["respool-id"]
    end
    assert.equal("1 1 2 2 3 3 4 4 5 5", table.concat(ids, " "))
  end)

  it("sends what receive took as it came", function()
    open()
    local text = '{ "b": [],\n "a": 1e2 }'
    q:push(text, { headers = { ["content-type"] = "application/x+json",
                               ["idempotency-key"] = "k1" } })
    deliver "202"
    local r = endpoint:requests()[1]
    assert.same({ text, "application/x+json", "k1" },
                { r.body, r.headers["content-type"],
                  r.headers["idempotency-key"] })
  end)

  it("sends lines as respool push --raw left them", function()
    open()
    local pushed = cli.run { "push", "--raw", path, "lines", input = "ab\n5\n" }
    assert.equal(0, pushed.status)
    cli.run { "deliver", path, "lines", "--raw", "--until-empty",
              "--content-type", "text/plain", "--url", endpoint:url "202" }
    local got = {}
    for i, r in ipairs(endpoint:requests()) do
      got[i] = r.body .. " " .. r.headers["content-type"]
    end
    table.sort(got)
    assert.same({ "5 text/plain", "ab text/plain" }, got)
  end)

  it("sends headers and a signature as asked for", function()
    open()
    q:push({ a = 1 }, { headers = { ["x-event"] = "push" } })
    local list = words("202", "--until-empty", "--secret-env", "HOOK_SECRET",
                       "--header", "Authorization: Bearer t",
                       "--forward-header", "X-Event")
    list.env = "HOOK_SECRET=abc"
    assert.equal(0, cli.run(list).status)
    local h = endpoint:requests()[1].headers
    assert.same({ "Bearer t", "push" }, { h.authorization, h["x-event"] })
    assert.equal(h["idempotency-key"], h["webhook-id"])
    assert.matches("^v1,[%w+/]+=$", h["webhook-signature"])
    assert.equal(44 + 3, #h["webhook-signature"])
  end)

  it("is signed by each secret there is, of files and the environment",
     function()
    open()
    push(1)
    local file = helper.dir() .. "/secrets"
    helper.write(file, "one\ntwo\n")
    local list = words("202", "--until-empty", "--secret-file", file,
                       "--secret-env", "HOOK_SECRET")
    list.env = "HOOK_SECRET=three"
    assert.equal(0, cli.run(list).status)
    local h = endpoint:requests()[1].headers
    assert.equal(3, select(2, h["webhook-signature"]:gsub("v1,", "")))
  end)

  it("takes for accepted what it is told", function()
    open()
    push(2)
    assert.equal(0, deliver("409", "--success", "200-299,409", "--method",
                            "PUT").status)
    assert.equal("PUT", endpoint:requests()[1].method)
    push(1)
    assert.equal(1, deliver("202", "--success", "200").status)
  end)

  -- A receiver that was away for 20 s turned the backlog into dead letters.
  it("tries for about three days, unless the queue has a policy", function()
    open()
    local plain = assert(store:queue "plain")
    plain:push(1)
    cli.run { "deliver", path, "plain", "--until-empty", "--url",
              endpoint:url "404" }
    local c = plain:config()
    assert.same({ 10, "list", 5, 5 }, { c.max_attempts, c.retry.name,
                                        c.retry.list[1], c.breaker.failures })
    local days = 0
    for _, seconds in ipairs(c.retry.list) do days = days + seconds / 86400 end
    assert.is_true(days > 3 and days < 3.5)
    push(1)
    deliver "202"
    assert.equal("constant", q:config().retry.name)
    deliver("202", "--retry", "1s,2m", "--max-attempts", "7")
    assert.same({ 7, { 1, 120 } }, { q:config().max_attempts,
                                     q:config().retry.list })
  end)

  -- With a receiver that took ten a second, 240 of 300 items died.
  it("waits for a host that asks for it, and spends no attempt", function()
    open { max_attempts = 1 }
    push(20)
    assert.equal(0, deliver("each/429~1,429~1,202").status)
    assert.same({ 20, 0 }, { q:stats().done, q:stats().retried })
  end)

  it("begins no more items a second than asked for", function()
    open()
    push(12)
    local began = core.mono()
    assert.equal(0, deliver("202", "--rate", "20").status)
    assert.is_true((core.mono() - began) / 1e6 >= 10 / 20)
  end)

  it("limits attempts as asked for", function()
    open()
    push(1)
    assert.equal(1, deliver("503", "--max-attempts", "2").status)
    assert.equal(2, #endpoint:requests())
    assert.equal("503", q.dead:oldest().group)
  end)
end)

describe("The end of respool deliver", function()
  it("waits for the answers in hand, and releases the rest", function()
    open()
    push(40)
    local process = cli.start(words("gate", "--concurrency", "3",
                                    "--deadline", "1h"))
    await_requests(3)
    os.execute("kill -TERM " .. process.pid)
    endpoint:open_gate()
    assert.equal(0, process:wait())
    local n, s = #endpoint:requests(), q:stats()
    assert.same({ 3, 3, 37, 0, 0 },
                { n, s.done, s.ready, s.leased, s.retried })
  end)

  it("does not wait for ever, and spends nothing", function()
    open()
    push(2)
    local process = cli.start(words("hang", "--deadline", "100ms",
                                    "--timeout", "1h"))
    await_requests(2)
    assert.equal(0, process:kill "INT")
    assert.same({ 2, 0 }, { q:stats().ready, q:peek(1)[1].attempts })
    assert.matches("released +2\n", process:output())
  end)

  -- The second item is sent to the first URL when the answer to the first item
  -- is known.
  it("comes at once with a second signal, which keeps what is known",
     function()
    open()
    push(2)
    local process = cli.start(words("202 hang", "--deadline", "1h", "--timeout",
      "1h", "--concurrency", "2", "--per-url", "1"))
    await(function() return count "202" == 2 and count "hang" == 1 end)
    os.execute("kill -INT " .. process.pid)
    assert.equal(0, process:kill "TERM")
    assert.same({ 0, 0 }, { q:stats().leased, q:stats().retried })
    process = cli.start(words("202 hang", "--timeout", "1h"))
    await(function() return count("hang", "1") == 2 end)
    process:kill()
    assert.equal(1, count("202", "1"))
  end)
end)

describe("The command line of respool deliver", function()
  local function refused(status, text, ...)
    local run = cli.run { "deliver", path, ... }
    assert.equal(status, run.status)
    assert.matches(text, run.err)
    assert.equal(1, select(2, run.err:gsub("\n", "\n")))
  end

  it("is refused in one line when it is wrong", function()
    open()
    refused(2, "'%-%-url'", "hooks")
    refused(2, "'ftp://x/' is not a URL with http:// or https://", "hooks",
            "--url", "ftp://x/")
    refused(2, "'x' is not a header such as", "hooks", "--url", "http://x/",
            "--header", "x")
    refused(2, "%-%-header: 'Host' cannot be sent", "hooks", "--url",
            "http://x/", "--header", "Host: y")
    refused(2, "%-%-forward%-header: 'a b' is not a name of a header",
            "hooks", "--url", "http://x/", "--forward-header", "a b")
    refused(2, "%-%-connect%-timeout must be seconds or a time such as .5m., "
            .. "above 0", "hooks", "--url", "http://x/", "--connect-timeout",
            "0")
    refused(2, "begins with a dot", ".notes", "--url", "http://x/")
    refused(2, "'%-%-mode' must be one of", "hooks", "--url", "http://x/",
            "--mode", "some")
    refused(2, "holds no secret", "hooks", "--url", "http://x/",
            "--secret-env", "RESPOOL_NO_SUCH")
    refused(2, "'200%-' is not a list of statuses", "hooks", "--url",
            "http://x/", "--success", "200-")
    refused(2, "'1s,x' is not a list of delays", "hooks", "--url",
            "http://x/", "--retry", "1s,x")
    refused(2, "'10.0.0.0/33' is no network", "hooks", "--url",
            "http://x/", "--deny", "10.0.0.0/33")
    refused(2, "is not a duration", "hooks", "--url", "http://x/",
            "--timeout", "soon")
    refused(1, "there is no queue 'hook' in .*; did you mean 'hooks'%?",
            "hook", "--url", "http://x/")
  end)

  it("is refused when there is no store", function()
    path = helper.location()
    refused(1, "there is no store", "hooks", "--url", "http://x/")
  end)

  it("has a help with an example", function()
    local run = cli.run { "deliver", "--help" }
    assert.equal(0, run.status)
    assert.matches("Example:\n  respool deliver shop.respool", run.out)
  end)
end)
