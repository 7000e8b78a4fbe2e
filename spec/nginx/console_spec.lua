-- SPDX-License-Identifier: MIT
--
-- http.console: the page and what it asks for, in nginx. What the routes do is
-- in spec/console/, and in face_spec.lua beside this.

local cjson = require "cjson"
local helper = require "spec.helper"
local nginx = require "spec.helper.servers.nginx"

local function start(options)
  return nginx.start {
    http = 'exit_worker_by_lua_block { require("resty.respool").exit() }',
    server = ([[location /console/ { content_by_lua_block {
      require("resty.respool.http").console {
        store = "${store}", prefix = "/console/", %s } } }]]):format(options),
  }
end

local function fill(n)
  n:look(function(store)
    local q = store:queue "mails"
    for i = 1, 3 do q:push { n = i } end
    q:work(function(_, item) item:dead { group = "g" } end, { limit = 2 })
  end)
end

local API = "/console/api/"
local TOKEN = "-H 'X-Respool: 1' -H 'Authorization: Bearer t0ken'"

describe("http.console", function()
  it("serves the page, and looks", function()
    local n = start ""
    fill(n)
    local text, status, head = n:request "/console/"
    assert.equal(200, status)
    assert.matches("main.js", text, 1, true)
    assert.matches("Content%-Security%-Policy: default%-src 'none'", head)
    assert.equal(200, (select(2, n:request "/console/main.js")))
    assert.equal(404, (select(2, n:request "/console/nginx.conf")))
    assert.equal(1, cjson.decode(
      (n:request(API .. "queues"))).queues[1].ready)
    assert.equal(403, (select(2, n:request(API .. "queues/mails/pause",
                                           TOKEN .. " -X POST"))))
  end)

  it("acts with the token, and replays beside requests", function()
    local n = start 'writable = true, token = "t0ken"'
    fill(n)
    local act = TOKEN .. " -X POST"
    assert.equal(401, (select(2, n:request(API .. "queues/mails/pause",
                                           "-X POST -H 'X-Respool: 1'"))))
    assert.equal(200, (select(2, n:request(API .. "queues/mails/pause",
                                           act))))
    local told, status = n:post(API .. "queues/mails/items", '{"n":9}', TOKEN)
    assert.same({ 4, 201 }, { cjson.decode(told).id, status })
    assert.equal(202, (select(2, n:request(
      API .. "dead/mails/replay?name=r&rate=1000", act))))
    n:await("the replay", function()
      return n:look(function(store)
        return store:replay "r".state == "finished"
      end)
    end)
    assert.equal(4, n:look(function(store)
      return store:queue "mails":length().ready
    end))
  end)

  -- They were made Lua values on the way, which LuaJIT cannot of each.
  it("shows results as they are stored", function()
    local n = start ""
    local most = 9007199254740993 -- 2^53 + 1, where there are integers
    n:look(function(store)
      local q = store:queue("kept", { keep_done = 60 })
      q:push_many { 1, 2, 3 }
      local results = { most, { a = { 2 } }, false }
      q:work(function(i, item) item:done(results[i]) end, { limit = 3 })
    end)
    local function result(i)
      local text = n:request((API .. "queues/kept/items/%d/result"):format(i))
      return (text:match '"result":(.*)}\n$')
    end
    assert.equal(jit and "9007199254740992" or "9007199254740993", result(1))
    assert.equal('{"a":[2]}', result(2))
    assert.equal("false", result(3))
  end)

  it("sends events", function()
    local n = start ""
    fill(n)
    local text = helper.sh(([[curl -sN -m 60 'http://127.0.0.1:%d%sevents' |
      awk '/^data/ { print; if (++n == 2) exit }']]):format(n.port, API))
    local first, second = text:match "data: ([^\n]*)\ndata: ([^\n]*)"
    first, second = cjson.decode(first), cjson.decode(second)
    assert.same({ "mails", 1 }, { first.queues[1].name, first.queues[1].ready })
    assert.same({}, second.queues)
  end)

  it("that is writable needs a token", function()
    local n = start "writable = true"
    assert.equal(500, (select(2, n:request "/console/")))
    assert.matches("'writable' needs a 'token'", n:log(), 1, true)
  end)
end)
