-- SPDX-License-Identifier: MIT
--
-- What `respool console` answers: the same routes as http.admin, whose specs
-- are in spec/nginx/face_spec.lua.

local cli = require "spec.helper.cli"
local console_of = require "spec.helper.console"
local helper = require "spec.helper"

local function codes(...)
  local value, status = ...
  return { status, value.error }
end

local function numbers(list, name)
  local found = {}
  for i, one in ipairs(list) do found[i] = one[name] end
  return found
end

describe("Looking", function()
  local console, store, q

  local function start(...)
    local location
    location, store, q = console_of.mails()
    console = console_of.start(location, ...)
  end

  it("needs nothing on the loopback, and the store is only read", function()
    start()
    local session = console:get "session"
    assert.same({ false, false }, { session.writable, session.token })
    assert.equal(5, console:get "queues".queues[1].ready)
    assert.equal(6, console:get "queues/mails".dead)
    assert.equal(5, console:get "queues/mails/policy".max_attempts)
    assert.equal(store:stats().id, console:get "store".id)
    console_of.await("health", function()
      return console:get "health".components.storage.status == "healthy"
    end)
    for _, path in ipairs { "queues/mails/pause", "queues/mails/purge",
                            "dead/mails/replay", "dead/mails/items/1/retry" } do
      assert.same({ 403, "READ_ONLY" }, codes(console:act("POST", path)))
    end
    assert.same({ 5, 6 }, { q:length().ready, q:length().dead })
  end)

  it("tells groups of dead letters with their hours, and partitions", function()
    start()
    local g = console:get "dead/mails/groups".groups[1]
    assert.same({ "even", 3, 6, 24, 3 },
                { g.group, g.count, g.newest, #g.hours, g.hours[24] })
    for _, key in ipairs { "b", "a", "b" } do q:push(1, { partition = key }) end
    local function keys(query)
      local list = console:get("queues/mails/partitions" .. query).partitions
      for i, p in ipairs(list) do list[i] = p.key .. p.ready end
      return list
    end
    assert.same({ "b2", "a1" }, keys "")
    assert.same({ "a1", "b2" }, keys "?order=key")
    assert.same({ "b2" }, keys "?order=key&after=a&limit=1")
    assert.equal(2, console:get "queues".queues[1].partitions)
    assert.same({ 404, "NOT_FOUND" },
                codes(console:get "queues/none/partitions"))
    for _, key in ipairs { "", ("p"):rep(256) } do -- which raised an error
      assert.same({ 400, "PARAMETER" }, codes(console:get(
        "queues/mails/partitions?after=" .. key)))
    end
  end)

  it("tells the course of figures, of one queue and in brief of all", function()
    local location
    location, store, q = console_of.mails()
    local past = assert(helper.open(location, { clock = "manual" }))
    local busy = assert(past:queue "busy")
    past:advance(-1200)
    for i = 1, 3 do
      for n = 1, i do assert(busy:push(n)) end
      assert(past:maintain())
      past:advance(60)
    end
    console = console_of.start(location)
    assert.same({ 2, 3 }, numbers(console:get "trend?queue=busy".trends,
                                  "pushed"))
    local brief = console:get "trend".queues
    assert.equal("busy", brief[1].queue)
    assert.equal(2, #brief[1].samples)
    -- It is read in parts: one that begins within a minute told the sample of
    -- that minute twice.
    local at = math.floor(brief[1].samples[1][2])
    for _, seconds in ipairs { -1, 0, 1 } do
      brief = console:get(("trend?since=%.0f"):format(at - 300 + seconds))
      assert.equal(2, #brief.queues[1].samples)
    end
    assert.same({}, console:get "trend?queue=none".trends)
    assert.same({ 400, "PARAMETER" }, codes(console:get "trend?span=2m"))
  end)

  it("tells the course of figures that seldom change", function()
    local location
    location, store, q = console_of.mails()
    local past = assert(helper.open(location, { clock = "manual" }))
    local rare = assert(past:queue "rare")
    past:advance(-3000)
    for i = 1, 4 do
      assert(rare:push(i))
      assert(past:maintain())
      past:advance(600)
    end
    console = console_of.start(location)
    assert.equal(3, #console:get "trend".queues[1].samples)
  end)

  it("pages items of a state by a cursor", function()
    start()
    local ids, cursor = {}, ""
    repeat
      local page = console:get("queues/mails/items?state=ready&limit=2"
        .. cursor)
      for _, item in ipairs(page.items) do ids[#ids + 1] = item.id end
      cursor = page.cursor and "&cursor=" .. page.cursor
    until not cursor
    assert.same({ 7, 8, 9, 10, 11 }, ids)
    for _, wrong in ipairs { "x", "1.2", "9.0.0.0.0", "0.0.0.0.-1",
                             "0.0.0.0.0.", "0.0.999.0.0", "0. 0.0.0.0",
                             "0.0.0.99999999999999999999.0" } do
      assert.same({ 400, "PARAMETER" }, codes(console:get(
        "queues/mails/items?cursor=" .. wrong:gsub(" ", "%%20"))), wrong)
    end
  end)

  it("filters by text, field, group, reason and time", function()
    start()
    local function dead(query)
      return numbers(console:get("dead/mails/items?" .. query).dead_letters,
                     "id")
    end
    assert.same({ 1, 3, 5 }, dead "group=odd")
    assert.same({ 3 }, dead "field=n=3")
    assert.same({ 2 }, dead "text=refused+2")
    assert.same({ 1, 2, 3, 4, 5, 6 }, dead "field=to.2=bob&reason=rejected")
    assert.same({}, dead "reason=crashed")
    assert.same({}, dead "until=1000")
    assert.same({ 6, 5 }, dead "limit=2&order=newest")
    assert.same({ 9 }, numbers(console:get
      "queues/mails/items?field=n=9".items, "id"))
  end)

  it("shows a record in brief, whole, and as a file", function()
    start()
    q:push(("<b>"):rep(1000))
    local brief = console:get "queues/mails/items/12?brief=true"
    assert.is_nil(brief.payload)
    assert.equal(3003, brief.payload_bytes)
    assert.matches('^"<b><b>', brief.preview)
    assert.is_true(#brief.preview < 300)
    assert.equal(3000, #console:get "queues/mails/items/12".payload)
    local status, text, headers = console:raw("GET",
      "/api/queues/mails/items/12/payload")
    assert.same({ 200, 3003 }, { status, #text })
    assert.equal('attachment; filename="item-12.cbor"',
                 headers["content-disposition"])
    assert.equal("nosniff", headers["x-content-type-options"])
    assert.equal(1, console:get "dead/mails/items/1/payload?as=json".n)
  end)

  it("tells digits that a page would lose", function()
    start()
    q:push { n = 2^53 }
    local _, text = console:raw("GET",
      "/api/queues/mails/items/12/payload?as=json")
    assert.matches('"n": 9007199254740992', text, 1, true)
  end)

  it("shows finished items page by page", function()
    start()
    local kept = store:queue("kept", { keep_done = 3600 })
    local ids = {}
    for i = 1, 3 do ids[i] = kept:push(i) end
    kept:work(function() end, { limit = 3 })
    local page = console:get "queues/kept/finished?limit=2"
    assert.same({ ids[1], ids[2] }, numbers(page.items, "id"))
    assert.same({ ids[3] }, numbers(console:get(
      "queues/kept/finished?cursor=" .. page.cursor).items, "id"))
  end)

  it("is live, and tells only what has changed", function()
    start()
    store:queue "idle"
    local function names(event)
      local list = numbers(event.queues, "name")
      table.sort(list)
      return list
    end
    assert.same({ "idle", "mails" }, names(console:events(1)[1]))
    local writer = helper.spawn([[
      local store = require "respool".open(arg[1], { log = false })
      local q = store:queue "mails"
      while true do q:push(1) require "respool.core".process.nap(0.05) end
    ]], store.path)
    local later = console:change()
    writer:kill()
    assert.same({ "mails" }, names(later))
    assert.equal(6, later.queues[1].dead)
  end)
end)

describe("Acting", function()
  local console, store, q

  before_each(function()
    local location
    location, store, q = console_of.mails()
    console = console_of.start(location, "--writable")
  end)

  -- A database refuses such names, in an error that no route expected.
  it("has nothing by names that are not UTF-8", function()
    for _, path in ipairs { "queues/%FF/pause", "queues/%FF/items/1/run",
                            "dead/%FF/items/1/retry", "schedules/%FF/run",
                            "replays/%FF/cancel" } do
      assert.same({ 404, "NOT_FOUND" }, codes(console:act("POST", path)))
    end
    local _, status = console:act("POST", "dead/mails/replay?to=%FF")
    assert.is_true(status == 400 or status == 404)
  end)

  it("changes settings, and removes a queue, or says what that would do",
     function()
    local told = console:act("POST", "queues/mails/policy?dry_run=true",
                             '{"max_attempts":9,"lease":"5m"}')
    assert.matches("^lease 30.* %-> 300", told.changes[1])
    assert.same({ "max_attempts 5 -> 9" }, { told.changes[2] })
    assert.equal(5, q:config().max_attempts)
    console:act("POST", "queues/mails/policy", '{"max_attempts":9}')
    assert.equal(9, q:config().max_attempts)
    console:act("POST", "queues/mails/policy",
                '{"max_attempts":null,"keep_dead":{"items":5,"bytes":null}}')
    assert.same({ math.huge, { items = 5 } },
                { q:config().max_attempts, q:config().keep_dead })
    console:act("POST", "queues/mails/policy", '{"weights":{"9":3,"0":1}}')
    assert.same({ [9] = 3, [0] = 1 }, q:config().weights)
    for _, wrong in ipairs { '{"max_attempts":0}', '{"validate":1}',
                             '{"leas":1}' } do
      assert.same({ 400, "PARAMETER" },
                  codes(console:act("POST", "queues/mails/policy", wrong)))
    end
    assert.same({ 400, "JSON" },
                codes(console:act("POST", "queues/mails/policy", "[")))
    store:queue("old"):push "x"
    told = console:act("DELETE", "queues/old?dry_run=true")
    assert.same({ 1, true }, { told.items, told.dry_run })
    assert.equal(1, console:act("DELETE", "queues/old").items)
    assert.same({ 404, "NOT_FOUND" },
                codes(console:act("DELETE", "queues/old")))
    q:take()
    assert.same({ 409, "BUSY" },
                codes(console:act("DELETE", "queues/mails")))
  end)

  it("lists, runs, pauses, resumes and removes schedules", function()
    assert(store:schedule("nightly", { cron = "@daily", queue = q,
                                       payload = "go" }))
    local s = console:get "schedules".schedules[1]
    assert.same({ "nightly", "go", false }, { s.name, s.payload, s.paused })
    local id = console:act("POST", "schedules/nightly/run").id
    assert.equal("go", q:get(id).payload)
    assert.is_true(console:act("POST", "schedules/nightly/pause").paused)
    assert.is_true(store:schedules()[1].paused)
    assert.is_false(console:act("POST", "schedules/nightly/resume").paused)
    assert(store:schedule("made", { cron = "@daily", queue = q,
                                    payload = function() return 1 end }))
    assert.same({ 409, "FOREIGN" },
                codes(console:act("POST", "schedules/made/run")))
    assert.is_true(console:act("DELETE", "schedules/nightly").removed)
    assert.same({ 404, "NOT_FOUND" },
                codes(console:act("DELETE", "schedules/nightly")))
  end)

  it("pauses, resumes, pushes, removes and purges", function()
    assert.is_true(console:act("POST", "queues/mails/pause").paused)
    assert.is_true(q:stats().paused)
    assert.is_false(console:act("POST", "queues/mails/resume").paused)
    local told, status = console:act("POST", "queues/mails/items?priority=7",
      '{"n":12,"big":1234567890123456}')
    assert.equal(201, status)
    local item = q:get(told.id)
    assert.same({ n = 12, big = 1234567890123456 }, item.payload)
    assert.equal(7, item.priority)
    assert.same({ 400, "JSON" }, codes(console:act("POST",
      "queues/mails/items", "{")))
    assert.is_true(console:act("DELETE",
      ("queues/mails/items/%d"):format(told.id)).removed)
    assert.equal(5, console:act("POST", "queues/mails/purge").removed)
    assert.equal(0, q:length().total)
    assert.same({ 404, "NOT_FOUND" }, codes(console:act("POST",
      "queues/none/pause")))
  end)

  it("runs, kills, moves and edits items", function()
    local to = store:queue "other"
    local id = q:push({ n = 1 }, { delay = 3600 })
    local path = ("queues/mails/items/%d/"):format(id)
    assert.same({ 409, "BUSY" }, (function()
      local leased = q:take():item(1).id
      return codes(console:act("POST",
        ("queues/mails/items/%d/kill"):format(leased)))
    end)())
    assert.is_true(console:act("POST", path .. "payload", '{"n":2}').edited)
    assert.same({ n = 2 }, q:get(id).payload)
    assert.same({ 400, "JSON" }, codes(console:act("POST", path .. "payload",
                                                   "{")))
    assert.is_true(console:act("POST", path .. "run").due)
    assert.is_true(q:get(id).visible_at <= store:now())
    local told = console:act("POST", path .. "move?to=other")
    assert.same({ "other", true }, { told.queue, told.moved })
    assert.same({ n = 2 }, to:get(told.id).payload)
    assert.same({ 404, "NOT_FOUND" },
                codes(console:act("POST", path .. "move?to=none")))
    for _, wrong in ipairs { "move", "move?to=", "move?to=mails" } do
      assert.same({ 400, "PARAMETER" }, codes(console:act("POST",
        path .. wrong)))
    end
    for _, key in ipairs { "", ("k"):rep(256) } do
      assert.same({ 400, "PARAMETER" }, codes(console:act("POST",
        "queues/mails/items?key=" .. key, "{}")))
    end
    path = ("queues/other/items/%d/"):format(told.id)
    assert.is_true(console:act("POST", path .. "kill?error=why").killed)
    assert.equal("why", to.dead:get(1).error)
  end)

  it("shows results", function()
    local kept = store:queue("kept", { keep_done = 60 })
    local id = kept:push(1)
    local path = ("queues/kept/items/%d/result"):format(id)
    assert.same({ 404, "NOT_FOUND" }, codes(console:get(path)))
    kept:work(function() return { sent = true } end, { limit = 1 })
    assert.same({ sent = true }, console:get(path).result)
  end)

  it("cancels an item that is worked on", function()
    local batch = q:take()
    local path = ("queues/mails/items/%d/cancel"):format(batch:item(1).id)
    assert.is_true(batch:item(1):progress(0.4, "two of five"))
    local told = console:get((path:gsub("/cancel", ""))).progress
    assert.same({ 0.4, "two of five" }, { told.done, told.text })
    assert.is_true(console:act("POST", path).cancelled)
    assert.is_true(batch:item(1):cancelled())
    assert.same({ 404, "NOT_FOUND" }, codes(console:act("POST", path)))
  end)

  it("replays and removes one dead letter", function()
    assert.is_true(console:act("POST", "dead/mails/items/1/retry").retried)
    assert.is_true(console:act("DELETE", "dead/mails/items/2").removed)
    assert.same({ 6, 4 }, { q:length().ready, q:length().dead })
  end)

  it("previews a purge, which removes no more than that", function()
    local filter = "dead/mails/purge?group=odd&field=n=3"
    assert.equal(1, console:act("POST", filter .. "&dry_run=true").removed)
    assert.equal(6, q:length().dead)
    assert.equal(1, console:act("POST", filter).removed)
    assert.equal(2, console:act("POST",
      "dead/mails/purge?group=odd&dry_run=true").removed)
    assert.equal(5, console:act("POST", "dead/mails/purge").removed)
  end)

  it("previews a replay, runs it beside other requests, and stops it",
    function()
    local path = "dead/mails/replay?rate=0.5&text=refused"
    local counts = console:act("POST", path .. "&dry_run=true")
    assert.same({ 6, true }, { counts.moved, counts.dry_run })
    local told, status = console:act("POST", path .. "&name=slow")
    assert.same({ "slow", 202 }, { told.name, status })
    assert.equal("running", console:get "replays".replays[1].state)
    assert.same({ 409, "LOCKED" }, codes(console:act("POST",
      path .. "&name=slow")))
    assert.equal("cancelled", console:act("POST",
      "replays/slow/cancel").state)
    console_of.await("the end of the replay", function()
      return store:replay "slow".state == "cancelled"
    end)
  end)

  it("changes payloads as a replay goes, and shows the first ones before",
     function()
    local path = "dead/mails/replay?group=odd"
    local change = '{"to":null,"from":{"name":"eve"},"n":0}'
    local told = console:act("POST", path .. "&dry_run=true", change)
    assert.same({ 3, 0, 3 }, { told.moved, told.failed, #told.samples })
    local first = told.samples[1]
    assert.equal(1, first.number)
    assert.matches('"to": %[', first.before)
    assert.matches('"n": 1', first.before)
    assert.is_nil(first.after:find '"to"')
    assert.matches('"name": "eve"', first.after)
    assert.equal(6, q:length().dead)
    for _, wrong in ipairs { "{", "1", '"n"', "[]", "[1]" } do
      assert.same({ 400, "JSON" }, codes(console:act("POST", path, wrong)))
    end
    console:act("POST", path .. "&limit=1&name=mend", change)
    console_of.await("the first", function()
      return store:replay "mend".state == "stopped"
    end)
    assert.same({ name = "eve" },
                console:get "replays".replays[1].asked.change.from)
    console:act("POST", "replays/mend/resume")
    console_of.await("the rest", function()
      return store:dead "mails":count() == 4
    end)
    local changed = 0
    for item in q:each() do
      if item.payload.from then
        assert.same({ n = 0, from = { name = "eve" } }, item.payload)
        changed = changed + 1
      end
    end
    assert.equal(2, changed)
  end)

  it("goes on with a replay that was stopped, by the same filter", function()
    console:act("POST", "dead/mails/replay?group=odd&limit=1&name=r")
    console_of.await("a stop", function()
      return store:replay "r".state == "stopped"
    end)
    local asked = console:get "replays".replays[1].asked
    assert.same({ "odd", 1 }, { asked.group, asked.limit })
    for _ = 1, 3 do
      console:act("POST", "replays/r/resume")
      console_of.await("the page", function()
        return store:replay "r".state ~= "running"
      end)
    end
    assert.same({ 8, 3 }, { q:length().ready, q:length().dead })
    assert.is_true(console:act("DELETE", "replays/r").removed)
    assert.same({}, console:get "replays".replays)
  end)

  it("does not go on with a replay whose filter it does not know", function()
    store:dead "mails":replay { name = "own", limit = 1,
                                where = function() return true end }
    assert.same({ 409, "FOREIGN" }, codes(console:act("POST",
      "replays/own/resume")))
  end)

  it("checks the store on request", function()
    assert.same({}, console:act("POST", "store/check").findings)
  end)
end)

-- audit of http.admin: forms of other sites, names that are not this server's
-- (DNS rebinding), and no change by GET.
describe("A request of another site", function()
  local console, q

  before_each(function()
    local location, _
    location, _, q = console_of.mails()
    console = console_of.start(location, "--writable")
  end)

  local function assert_unchanged()
    assert.same({ 5, 6 }, { q:length().ready, q:length().dead })
    assert.is_false(q:stats().paused)
  end

  local function refused(lines, method, path)
    local status, text = console:raw(method or "POST",
      path or "/api/queues/mails/pause", lines)
    return { status, text:match '"error":"(%u+_?%u*)"' }
  end

  it("changes nothing", function()
    local token = "Authorization: Bearer " .. console.token
    assert.same({ 403, "HEADER" }, refused { token })
    assert.same({ 401, "TOKEN" }, refused { "X-Respool: 1" })
    assert.same({ 401, "TOKEN" }, refused {
      "X-Respool: 1", "Authorization: Bearer " .. console.token:sub(2) .. "x",
    })
    for _, line in ipairs {
      "Origin: http://evil.example", "Sec-Fetch-Site: cross-site",
      "Sec-Fetch-Site: same-site", "Origin: null",
      "Origin: http://localhost:1", "Origin: http://localhost.evil.example",
    } do
      assert.same({ 403, "ORIGIN" }, refused { token, "X-Respool: 1", line })
    end
    for _, host in ipairs { "evil.example", "localhost.evil.example" } do
      assert.same({ 403, "HOST" }, refused { token, "X-Respool: 1",
                                             "Host: " .. host })
      assert.same({ 403, "HOST" }, refused({ "Host: " .. host }, "GET",
                                           "/api/queues"))
      assert.same({ 403, "HOST" }, refused({ "Host: " .. host }, "GET", "/"))
    end
    assert_unchanged()
  end)

  it("by GET or HEAD changes nothing either", function()
    for _, path in ipairs { "queues/mails/pause", "queues/mails/purge",
                            "dead/mails/replay", "dead/mails/purge",
                            "store/check" } do
      for _, method in ipairs { "GET", "HEAD" } do
        local status, _, headers = console:raw(method, "/api/" .. path)
        assert.same({ 405, "POST" }, { status, headers.allow })
      end
    end
    assert.equal(405, (console:raw("OPTIONS", "/api/queues")))
    assert_unchanged()
  end)

  it("gets nothing but the files of the page", function()
    for _, path in ipairs { "/../Makefile", "/%2e%2e/Makefile", "/main.lua",
                            "/web/main.js", "/main.js/x", "/Makefile" } do
      assert.equal(404, (console:raw("GET", path)), path)
    end
  end)
end)

describe("The page", function()
  it("has all its files, none from elsewhere, and says so", function()
    local console = console_of.start((console_of.mails()))
    local status, text, headers = console:raw("GET", "/")
    assert.equal(200, status)
    assert.matches("<script type=\"module\" src=\"main.js\">", text, 1, true)
    local policy = headers["content-security-policy"]
    assert.matches("default-src 'none'", policy, 1, true)
    assert.is_nil(policy:find "unsafe" or policy:find "http")
    for name in helper.sh "ls web":gmatch "%S+" do
      status, text = console:raw("GET", "/" .. name)
      assert.same({ 200, helper.read("web/" .. name) }, { status, text }, name)
      local ours = text:gsub("http://www.w3.org", "")
        :gsub("\n%s*[/*]+ [^\n]*", "") -- comments
      assert.is_nil(ours:find "https?://", name)
      assert.is_nil(text:find "innerHTML" or text:find "eval%(", name)
    end
  end)
end)

describe("A console that others reach", function()
  it("needs a token to be started, and to look", function()
    local location = console_of.mails()
    cli.assert_refused(cli.run { "console", location, "--listen",
                                 "0.0.0.0:0", "--writable" }, 2, "token")
    local file = helper.dir() .. "/token"
    helper.write(file, "s3cret\n")
    local console = console_of.start(location, "--listen", "0.0.0.0:0",
                                     "--token-file", file)
    assert.is_nil(console.token)
    assert.same({ 401, "TOKEN" }, codes(console:get "queues"))
    assert.equal(200, (console:raw("GET", "/")))
    assert.equal(200, (console:raw("GET", "/api/queues",
                                   { "Authorization: Bearer s3cret" })))
  end)

  it("answers to the names it is given", function()
    local console = console_of.start((console_of.mails()), "--host",
                                     "queues.example")
    assert.equal(200, (console:raw("GET", "/api/queues",
                                   { "Host: queues.example:9877" })))
  end)
end)

describe("respool console", function()
  it("ends within seconds of a signal, though pages are open", function()
    local console = console_of.start((console_of.mails()))
    console:events(1)
    assert.equal(0, console.process:kill "TERM")
  end)
end)
