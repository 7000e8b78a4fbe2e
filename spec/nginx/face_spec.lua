-- SPDX-License-Identifier: MIT
--
-- What resty.respool.http makes of what clients send: nothing but what was
-- asked for is done, and what is told is JSON as `respool` prints it.

local cjson = require "cjson"
local helper = require "spec.helper"
local nginx = require "spec.helper.servers.nginx"
local respool = require "respool"

local ADMIN = [[
  location /admin/ { content_by_lua_block {
    require("resty.respool.http").admin {
      store = "${store}", prefix = "/admin/" } } }
  location = /health { content_by_lua_block {
    require("resty.respool.http").health { store = "${store}" } } }
  location = /metrics { content_by_lua_block {
    require("resty.respool.http").metrics { store = "${store}" } } }
]]

-- Locations of intakes: options of receive() by path.
local function receivers(by_path)
  local parts = { ADMIN }
  for path, options in pairs(by_path) do
    parts[#parts + 1] = ([[location = /%s { content_by_lua_block {
      require("resty.respool.http").receive { store = "${store}", %s } } }]])
      :format(path, options)
  end
  return table.concat(parts, "\n")
end

local ACT = "-H 'X-Respool: 1'" -- what changes something
local POST, DELETE = ACT .. " -X POST", ACT .. " -X DELETE"

local EXIT = 'exit_worker_by_lua_block { require("resty.respool").exit() }'

local function start(by_path)
  return nginx.start { http = EXIT, server = receivers(by_path or {}) }
end

-- Dead letters of a DLQ: `n` of group "g", each with its number as payload.
local function bury(n, count, policy)
  n:look(function(store)
    local q = store:queue("orders", policy)
    for i = 1, count do q:push(i) end
    q:work(function(_, item) item:dead { group = "g", error = "no" } end,
           { limit = count })
  end)
end

local function dead_letters(n)
  return n:look(function(store) return store:dead "orders":count() end)
end

-- Status and error code of an answer.
local function said(body, status)
  return { status, cjson.decode(body).error }
end

-- How the command line prints what `command` looks at.
local function printed(n, command)
  return helper.sh(("bin/respool %s"):format(command:gsub("STORE", n.store)))
end

local FACE = [[
  location = /orders { content_by_lua_block {
    require("resty.respool.http").receive {
      store = "${store}", queue = "orders", json = true, max_body = 100,
      options = { max_items = 3, max_attempts = 1, validate = function(order)
        if order.bad then error("it is bad", 0) end end },
      push = function(order) return { key = order.key } end } } }
  location = /raw { content_by_lua_block {
    require("resty.respool.http").receive {
      store = "${store}", queue = "raw" } } }
  location = /metrics { content_by_lua_block {
    require("resty.respool.http").metrics { store = "${store}" } } }
  location = /health { content_by_lua_block {
    require("resty.respool.http").health { store = "${store}",
      bounds = { read_seconds = 60, write_seconds = 60 } } } }
  location /admin/ { content_by_lua_block {
    require("resty.respool.http").admin {
      store = "${store}", prefix = "/admin/" } } }
]]

describe("The HTTP face", function()
  local function start_face()
    return nginx.start { http = EXIT, server = FACE }
  end

  local function json(body, status)
    return cjson.decode(body), status
  end

  it("takes a body in with 202 and its id", function()
    local n = start_face()
    local answer, status = json(n:post("/orders", '{"sku":"A-1"}'))
    assert.same({ { id = 1 }, 202 }, { answer, status })
    n:post("/raw", "any \0 bytes")
    n:look(function(store)
      assert.same({ sku = "A-1" }, store:queue("orders"):peek()[1].payload)
      assert.equal("any \0 bytes", store:queue("raw"):peek()[1].payload)
    end)
  end)

  it("refuses with the reason", function()
    local n = start_face()
    local function refusal(body, options)
      local answer, status, head = n:post("/orders", body, options)
      return { status, cjson.decode(answer).error }, head
    end
    assert.same({ 400, "JSON" }, (refusal "{"))
    assert.same({ 400, "EMPTY" }, (refusal ""))
    assert.same({ 413, "TOO_LARGE" }, (refusal(("x"):rep(101))))
    assert.same({ 422, "CHECK" }, (refusal '{"bad":true}'))
    assert.same({ 405, "METHOD" }, (refusal("1", "-X PUT")))
    assert.equal(202, (select(2, n:post("/orders", '{"key":"k"}'))))
    assert.same({ 409, "EXISTS" }, (refusal '{"key":"k"}'))
    for _ = 1, 2 do n:post("/orders", "{}") end
    local answer, head = refusal "{}"
    assert.same({ 429, "FULL" }, answer)
    assert.is_truthy(head:find "Retry%-After: 1")
  end)

  it("tells metrics and health", function()
    local n = start_face()
    n:post("/orders", "{}")
    local text, status, head = n:request "/metrics"
    assert.equal(200, status)
    assert.is_truthy(head:find "text/plain; version=0.0.4")
    assert.is_truthy(text:find 'queue="orders"')
    local health
    health, status = json(n:request "/health")
    assert.same({ "healthy", 200 }, { health.status, status })
    assert.equal(405, select(2, n:request("/health", "-X POST")))
  end)

  it("lists queues, items and dead letters, retries and removes these",
    function()
    local n = start_face()
    n:post("/orders", '{"n":1}')
    n:look(function(store)
      local orders = store:queue "orders"
      for _ = 1, 2 do orders:push { n = 2 } end
      orders:work(function(_, item)
        item:dead { group = "g", error = "no" }
      end, { limit = 3 })
      orders:push "\255"
    end)
    local orders = json(n:request "/admin/queues").queues[1]
    assert.same({ "orders", 3, 1 }, { orders.name, orders.dead, orders.ready })
    assert.equal(4, json(n:request "/admin/queues/orders").pushed)
    assert.equal("/w==", json(n:request "/admin/queues/orders/items")
                           .items[1].payload["$base64"])
    assert.same({ { name = "orders", dead_letters = 3 } },
                json(n:request "/admin/dead").dead_letter_queues)
    local dlq = "/admin/dead/orders/"
    local list = json(n:request(dlq .. "items?limit=2")).dead_letters
    assert.same({ 2, 1, "g" },
                { #list, list[1].payload.n, list[1].group })
    assert.equal(3, json(n:request(dlq .. "groups")).groups[1].count)
    assert.equal(1, json(n:request(dlq .. "items/1")).payload.n)
    assert.equal(200, select(2, n:request(dlq .. "items/1/retry",
                                          POST)))
    assert.equal(200,
      select(2, n:request(dlq .. "items/2", DELETE)))
    assert.equal(1, json(n:request(dlq .. "replay?group=g", POST)).moved)
    assert.equal(404, select(2, n:request(dlq .. "items/1")))
    assert.equal(404, select(2, n:request "/admin/queues/none"))
    assert.equal(404, select(2, n:request "/admin/nothing"))
    local _, status, head = n:request("/admin/queues", POST)
    assert.equal(405, status)
    assert.is_truthy(head:find "Allow: GET")
    n:look(function(store)
      assert.same({}, store:check())
      assert.equal(3, store:queue("orders"):length().ready)
    end)
  end)
end)

describe("A parameter", function()
  it("that is not understood does nothing", function()
    local n = start()
    bury(n, 3)
    for _, query in ipairs {
      "limit=abc", "limit=-1", "limit=2.5", "limit=0", "limit=", "limit",
      "limit=1&limit=1", "Limit=1", "limit=0x1", "limit=1e0", "=1",
      "limit=9007199254740993", "group", "group=a&group=g", "where=1",
      "limit=1;group=g", "group=g#x",
    } do
      assert.same({ 400, "PARAMETER" }, said(n:request(
        "/", (ACT .. " -X POST --request-target '/admin/dead/orders/replay?%s'")
          :format(query))), query)
    end
    assert.equal(3, dead_letters(n))
    assert.equal(1, cjson.decode((n:request(
      "/admin/dead/orders/replay?limit=1&group=g", POST))).moved)
    assert.equal(2, dead_letters(n))
  end)

  it("in the body is not taken for none", function()
    local n = start()
    bury(n, 2)
    local dlq = "/admin/dead/orders/"
    assert.same({ 400, "JSON" }, said(n:post(dlq .. "replay", "limit=1", ACT)))
    assert.same({ 400, "BODY" }, said(n:post(dlq .. "purge", "limit=1", ACT)))
    assert.same({ 400, "BODY" },
                said(n:post(dlq .. "items/1", "x", DELETE)))
    assert.equal(2, dead_letters(n))
    assert.equal(200, select(2, n:post(dlq .. "replay", "", ACT)))
  end)

  it("is named by the answer that refuses it, whatever the route", function()
    local n = start()
    bury(n, 1)
    for path, name in pairs {
      ["queues?x=1"] = "x", ["queues/orders/items?limit=1001"] = "limit",
      ["dead/orders/items?after=-1"] = "after",
      ["dead/orders/items?order=old"] = "order",
      ["dead/orders/items?group"] = "group",
      ["dead/orders/items/1?limit=1"] = "limit",
    } do
      local body, status = n:request("/admin/" .. path)
      assert.equal(400, status)
      assert.matches("parameter '" .. name .. "'", cjson.decode(body).message)
    end
    assert.equal(404,
      select(2, n:request "/admin/dead/orders/items/0x1"))
  end)

  it("group may be empty, for dead letters without one", function()
    local n = start()
    bury(n, 1)
    n:look(function(store)
      local q = store:queue "orders"
      q:push "no group"
      q:work(function(_, item) item:dead {} end, { limit = 1 })
    end)
    assert.equal(1, cjson.decode((n:request(
      "/admin/dead/orders/replay?group=", POST))).moved)
    assert.equal("no group", n:look(function(store)
      return store:queue "orders":peek()[1].payload
    end))
  end)
end)

describe("A replay that stops half way", function()
  it("tells what it has moved", function()
    local n = start()
    bury(n, 300, { max_attempts = 1 })
    n:look(function(store) store:queue("orders", { max_items = 150 }) end)
    local body, status = n:request("/admin/dead/orders/replay", POST)
    local told = cjson.decode(body)
    assert.same({ 429, "FULL" }, { status, told.error })
    assert.equal(300 - dead_letters(n), told.moved)
    assert.is_true(told.moved > 0)
    assert.same({ g = told.moved }, told.by_group)
  end)
end)

describe("What is told of a store", function()
  it("is what the command line prints", function()
    local n = start { j = 'queue = "j", json = true' }
    local body = '{"a":1234567890123456,"b":[],"c":{},"d":0.1,"e":[null]}'
    assert.equal(202, select(2, n:post("/j", body)))
    n:look(function(store)
      local q = store:queue "j"
      q:push "\255"
      q:push({ 1 / 0 }, { headers = { t = "\255", u = "ü" } })
    end)
    local items = printed(n, "peek STORE j -n 9 --json"):gsub("\n", ",")
    assert.matches(body, items, 1, true)
    assert.matches('"payload":{"$base64":"/w=="}', items, 1, true)
    assert.equal(('{"items":[%s]}\n'):format(items),
                 (n:request "/admin/queues/j/items"))
  end)

  it("has lists where there is nothing", function()
    local n = start()
    for path, body in pairs {
      queues = '{"queues":[]}', dead = '{"dead_letter_queues":[]}',
      ["dead/none/items"] = '{"dead_letters":[]}',
      ["dead/none/groups"] = '{"groups":[]}',
    } do
      assert.equal(body .. "\n", (n:request("/admin/" .. path)))
    end
    n:look(function(store)
      local q = store:queue "orders"
      q:push(1)
      q:work(function(_, item) item:dead {} end, { limit = 1 })
    end)
    assert.equal('{"items":[]}\n', (n:request "/admin/queues/orders/items"))
    assert.matches('"history":[]',
      n:request "/admin/dead/orders/items/1",
                   1, true)
    assert.matches('"errors":[]',
      n:request("/admin/dead/orders/replay", POST), 1, true)
  end)

  it("has all figures of a queue", function()
    local n = start()
    bury(n, 2)
    local told = cjson.decode((n:request "/admin/queues/orders"))
    assert.equal(2, told.handle.count)
    assert.equal(2, told.wait.count)
    assert.equal(cjson.null, told.wait.buckets[#told.wait.buckets].upto)
    assert.equal(0, told.bytes)
    assert.is_nil(told.base64)
  end)

  it("keeps what stands beside bytes that are not UTF-8", function()
    local n = start()
    n:look(function(store)
      local q = store:queue("we\255ird", { max_attempts = 1 })
      for _ = 1, 2 do q:push("x", { headers = { t = "\255" } }) end
      q:work(function(_, item)
        item:dead { error = "\255", group = "g\255" }
      end, { limit = 2 })
    end)
    local weird = { ["$base64"] = "d2X/aXJk" }
    local function get(path)
      return cjson.decode((n:request(path)))
    end
    assert.same(weird, get "/admin/queues".queues[1].name)
    assert.same(weird, get "/admin/dead".dead_letter_queues[1].name)
    local dead_letter = get "/admin/dead/we%FFird/items/1"
    assert.same({ ["$base64"] = "/w==" }, dead_letter.history[1].error)
    assert.same({ ["$base64"] = "/w==" }, dead_letter.headers.t)
    assert.same({ ["$base64"] = "Z/8=" },
                get "/admin/dead/we%FFird/groups".groups[1].group)
    assert.equal(0, get "/health".components.queues["$base64:d2X/aXJk"].ready)
    local replayed = n:request("/admin/dead/we%FFird/replay?group=g%FF",
                               POST)
    assert.same({ ["$base64:Z/8="] = 2 }, cjson.decode(replayed).by_group)
  end)
end)

describe("A path", function()
  it("means what nginx takes it for", function()
    local n = start()
    n:look(function(store) store:queue "orders":push(1) end)
    local plain = n:request "/admin/queues/orders/items"
    for _, path in ipairs {
      "//admin/queues/orders/items", "/%61dmin/queues/orders/items",
      "/x/../admin/queues/orders/items", "/admin/./queues//orders/items/",
      "/admin/dead/%2e%2e/queues/orders/items",
    } do
      assert.equal(plain, (n:request(path, "--path-as-is")), path)
    end
  end)

  it("names a queue exactly, decoded once", function()
    local n = start()
    n:look(function(store)
      for name in pairs { ["a/b"] = 1, ["a+b"] = 1, ["a%2Fb"] = 1,
                          ["é ?#"] = 1 } do
        store:queue(name)
      end
    end)
    for path, name in pairs {
      ["a%2Fb"] = "a/b", ["a+b"] = "a+b", ["a%2Bb"] = "a+b",
      ["a%252Fb"] = "a%2Fb", ["%C3%A9%20%3F%23"] = "é ?#",
    } do
      local body, status = n:request("/admin/queues/" .. path)
      assert.same({ 200, name }, { status, cjson.decode(body).name })
    end
  end)

  it("that nginx has let in leads nowhere else", function()
    local n = nginx.start { http = EXIT, server = [[
      location /admin/ { return 403; }
      location /admin/queues/ { content_by_lua_block {
        require("resty.respool.http").admin {
          store = "${store}", prefix = "/admin/" } } }
      location /old/ { rewrite ^/old/(.*)$ /admin/queues/$1 last; }
    ]] }
    bury(n, 1)
    assert.equal(403, select(2, n:request "/admin/dead"))
    assert.equal(404, select(2, n:request(
      "/admin/queues/a%2Fb/../../dead", "--path-as-is")))
    assert.equal(200, select(2, n:request "/old/orders"))
  end)

  it("that is not below the prefix is not found", function()
    local n = nginx.start { http = EXIT, server = [[
      location /admin { content_by_lua_block {
        require("resty.respool.http").admin {
          store = "${store}", prefix = "/admin/" } } } ]] }
    for _, path in ipairs { "/adminqueues", "/admin", "/admin/" } do
      assert.same({ 404, "NOT_FOUND" }, said(n:request(path)))
    end
    assert.equal(200, select(2, n:request "/admin/queues"))
  end)
end)

describe("HEAD", function()
  it("is answered as GET is, without the body", function()
    local n = start { raw = 'queue = "raw"' }
    for _, path in ipairs { "/health", "/metrics", "/admin/queues" } do
      local _, status, head = n:request(path, "-I")
      assert.equal(200, status)
      assert.is_true(tonumber(head:match "Content%-Length: (%d+)") > 0)
      _, status, head = n:request(path, "-X PUT")
      assert.equal(405, status)
      assert.matches("Allow: GET, HEAD\r", head, 1, true)
    end
    local _, status, head = n:request("/raw", "-I")
    assert.equal(405, status)
    assert.matches("Allow: POST\r", head, 1, true)
  end)
end)

describe("An receive of JSON", function()
  it("stores what was sent, or refuses it", function()
    local n = start { j = 'queue = "j", json = true' }
    for _, body in ipairs {
      '{"id":9007199254740993}', "NaN", "Infinity", "0x10", '"\255"', "1e400",
      "-12345678901234567890", "{", ("["):rep(65) .. ("]"):rep(65),
      ("["):rep(1000) .. ("]"):rep(1000),
    } do
      assert.same({ 400, "JSON" }, said(n:post("/j", body)), body)
    end
    for _, body in ipairs {
      '{"tags":[]}', "9007199254740992", "null", "false",
      ("["):rep(64) .. ("]"):rep(64),
    } do
      assert.equal(202, select(2, n:post("/j", body)))
    end
    local kept = n:look(function(store)
      local list = {}
      for i, item in ipairs(store:queue "j":peek(9)) do
        list[i] = item.payload
      end
      return list
    end)
    assert.equal(5, #kept)
    assert.equal(respool.array_mt, getmetatable(kept[1].tags))
    assert.same({ 2^53, respool.null, false }, { kept[2], kept[3], kept[4] })
  end)
end)

describe("Long JSON", function()
  -- By threads and in pieces: no more than a few ms at once are spent on it.
  it("comes in, is seen whole by functions, and is listed", function()
    local list = {}
    for i = 1, 20000 do
      list[i] = i % 3 == 0 and "[]" or i % 3 == 1 and '{"n":' .. i .. "}" or i
    end
    local body = ('{"all":[%s],"s":"%s"}'):format(
      table.concat(list, ","), ("é"):rep(20000))
    local n = start {
      plain = 'queue = "plain", json = true',
      seen = [[queue = "seen", json = true, push = function(v)
        assert(#v.all == 20000 and v.all[19999].n == 19999)
        assert(getmetatable(v.all[3]) and #v.s == 40000)
        return { key = "k" } end]],
    }
    for _, name in ipairs { "plain", "seen" } do
      assert.equal(202, select(2, n:post("/" .. name, body)))
      local told = cjson.decode((n:request("/admin/queues/" .. name
        .. "/items"))).items
      assert.same(cjson.decode(body), told[1].payload)
    end
    assert.same({ 400, "JSON" }, said(n:post("/plain", body:sub(1, -2))))
    n:look(function(store)
      local q = store:queue "plain"
      for _ = 1, 11 do q:push(("x"):rep(2^20)) end
      q:work(function() return respool.dead() end, { stop_when_empty = true })
    end)
    local answer, status = n:request "/admin/dead/plain/items?limit=12"
    assert.equal(200, status)
    assert.equal(12, #cjson.decode(answer).dead_letters)
  end)
end)

describe("The function push of an receive", function()
  it("cannot be made to fail but by the client's fault", function()
    local n = start { j = [[queue = "j", json = true, push = function(o)
      return { key = o.key } end]] }
    for _, body in ipairs {
      '{"key":1}', '{"key":""}', '{"key":{}}', "1",
      ('{"key":"%s"}'):format(("k"):rep(256)),
    } do
      assert.same({ 422, "CHECK" }, said(n:post("/j", body)))
    end
    assert.equal(202, select(2, n:post("/j", '{"key":"k"}')))
    assert.is_nil(n:log():find "lua entry thread aborted")
  end)
end)

describe("The options of an receive", function()
  it("hold whoever has opened the queue before", function()
    local n = start {
      a = 'queue = "q"', b = 'queue = "q", options = { max_items = 2 }',
    }
    n:look(function(store) store:queue "q" end)
    assert.equal(200, select(2, n:request "/admin/queues/q/items"))
    assert.equal(202, select(2, n:post("/a", "x")))
    assert.equal(202, select(2, n:post("/b", "x")))
    assert.same({ 429, "FULL" }, said(n:post("/b", "x")))
    assert.same({ 429, "FULL" }, said(n:post("/a", "x")))
  end)

  it("are checked with every request", function()
    local n = start {
      a = 'queue = "q"', b = 'queue = "q", options = { max_itemz = 2 }',
      c = 'queue = "q", options = { validate = 1 }',
      d = 'queue = "q", push = { x = 1 }',
    }
    assert.equal(202, select(2, n:post("/a", "x")))
    for _, path in ipairs { "/b", "/c", "/d" } do
      for _ = 1, 2 do assert.equal(500, select(2, n:post(path, "x"))) end
    end
    assert.matches("unknown option 'max_itemz'", n:log(), 1, true)
  end)

  it("are a location's own where they are functions", function()
    local n = start {
      a = [[queue = "q", options = { codec = { name = "c",
        encode = function(s) return "a" .. s end, decode = tostring } }]],
      b = [[queue = "q", options = { codec = { name = "c",
        encode = function(s) return "b" .. s end, decode = tostring } }]],
      c = 'queue = "q", json = true, options = { codec = "raw" }',
    }
    for _, path in ipairs { "/a", "/b" } do n:post(path, "x") end
    assert.equal(202, select(2, n:post("/c", '"c"')))
    assert.same({ 422, "CHECK" }, said(n:post("/c", "{}")))
    assert.same({ "ax", "bx", "c" }, n:look(function(store)
      local list = {}
      for i, item in ipairs(store:queue("q", { codec = "raw" }):peek(9)) do
        list[i] = item.payload
      end
      return list
    end))
  end)

  it("are applied anew to a queue that was dropped", function()
    local n = start { a = 'queue = "q", options = { max_items = 7 }' }
    n:post("/a", "x")
    n:look(function(store) assert(store:drop_queue "q") end)
    assert.equal(202, select(2, n:post("/a", "x")))
    assert.equal(7, n:look(function(store)
      return store:queue "q":config().max_items
    end))
  end)
end)

describe("A check of an receive", function()
  it("tells the client why, and nothing of where", function()
    local n = start {
      j = [[queue = "j", json = true, options = { validate = function(o)
        if o == 1 then error("no sku") end
        if o == 2 then error({ message = "no price" }) end
        if o == 3 then error({}) end
        if o == 4 then error() end
        if o == 5 then return o.x.y end
        if o == 6 then error("one\ntwo", 0) end
        if o == 7 then error("\255", 0) end
      end }]],
    }
    for i, why in ipairs {
      "no sku", "no price", "the payload is refused", "the payload is refused",
      "attempt to index local 'o' (a number value)", "one", "\\xff",
    } do
      local body, status = n:post("/j", tostring(i))
      assert.same({ 422, { error = "CHECK", message = why } },
                  { status, cjson.decode(body) })
    end
  end)
end)

describe("What is full", function()
  it("is the queue with 429, the store with 503", function()
    local n = start {
      q = 'queue = "q", options = { max_items = 1 }, push = { timeout = 0.05 }',
      s = 'queue = "s", open = { max_bytes = "1MiB" }',
    }
    local pushed, body = 0, ("x"):rep(200000)
    local function push() return said(n:post("/s", body)) end
    local answer = push()
    while answer[1] == 202 do pushed, answer = pushed + 1, push() end
    assert.same({ 503, "FULL" }, answer)
    assert.is_true(pushed > 1)
    assert.equal(202, select(2, n:post("/q", "x")))
    assert.same({ 429, "TIMEOUT" }, said(n:post("/q", "x")))
  end)
end)

describe("http.admin", function()
  local retry = "/admin/dead/orders/items/1/retry"

  -- What an HTML form of any site can send did the act.
  it("does not let a form act, nor a page of another site", function()
    local n = start()
    bury(n, 1)
    assert.same({ 403, "HEADER" }, said(n:request(retry, "-X POST")))
    for _, header in ipairs { "Sec-Fetch-Site: cross-site",
      "Sec-Fetch-Site: same-site", "Origin: http://evil.example",
      "Origin: null" } do
      assert.same({ 403, "ORIGIN" }, said(n:request(
        retry, ("%s -H '%s'"):format(POST, header))), header)
    end
    assert.equal(1, dead_letters(n))
    local own = ("%s -H 'Sec-Fetch-Site: same-origin' "
      .. "-H 'Origin: http://127.0.0.1:%d'"):format(POST, n.port)
    assert.equal(200, select(2, n:request(retry, own)))
  end)

  it("answers only to its own names", function()
    local n = nginx.start { http = EXIT, server = [[
      server_name queues.example;
      location /admin/ { content_by_lua_block {
        require("resty.respool.http").admin {
          store = "${store}", prefix = "/admin/", hosts = { "other.example" }
        } } } ]] }
    local function status(host)
      return (select(2, n:request("/admin/queues",
                                  ("-H 'Host: %s'"):format(host))))
    end
    for _, host in ipairs { "localhost:80", "[::1]", "10.0.0.1:8080",
                            "Queues.example", "other.example:81" } do
      assert.equal(200, status(host), host)
    end
    for _, host in ipairs { "evil.example", "127.0.0.1.evil.example" } do
      assert.equal(403, status(host), host)
    end
  end)

  it("tells browsers to keep nothing, and to take it for what it is",
     function()
    local n = start()
    local _, _, head = n:request "/admin/queues"
    assert.matches("\nCache%-Control: no%-store\r", head)
    assert.matches("\nX%-Content%-Type%-Options: nosniff\r", head)
  end)
end)
