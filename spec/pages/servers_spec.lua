-- SPDX-License-Identifier: MIT
--
-- What the pages show of PostgreSQL, Redis and beanstalkd: each block runs as
-- it stands, against a server of its own.

local database = require "spec.helper.database"
local helper = require "spec.helper"
local pages = require "spec.helper.pages"
local socket = require "socket"

if jit then return end -- to ask the servers once is enough

-- The blocks in which a text occurs.
local function blocks_with(...)
  local list = {}
  for _, block in ipairs(pages.blocks("lua", "console")) do
    for _, text in ipairs { ... } do
      if block.text:find(text, 1, true) then
        list[#list + 1] = block
        break
      end
    end
  end
  assert.is_true(#list > 0)
  return list
end

local function assert_shown(block, ran)
  assert.equal(0, ran.status, block.id .. "\n" .. ran.out .. ran.err)
  local expected, fits = pages.expected(block, ran)
  if not fits then assert.equal(expected, ran.out, block.id) end
end

describe("The pages about PostgreSQL", function()
  if not database.installed() then return end

  lazy_teardown(database.stop)

  it("show what holds", function()
    for _, block in ipairs(blocks_with("postgres:///", "luasql.postgres")) do
      local base = database.start("shop").base
      local env = ("PGHOST=%s PGUSER=respool"):format(base:match "host=(.*)$")
      assert_shown(block, pages.run({ block }, { env = env })[block.id])
    end
  end)

  it("show SQL that there is", function()
    local server = database.start "shop"
    for _, block in ipairs(pages.blocks "sql") do
      assert.equal("", server:sql("BEGIN; CREATE ROLE worker;\n"
        .. block.text .. "ROLLBACK;"))
    end
  end)
end)

-- Starts a server on the loopback: its port, how to talk to it, its process.
local function start(command)
  local port = pages.free_port()
  local pid = helper.sh(("cd %s; exec %s >log 2>&1 & echo $!"):format(
    helper.dir(), command:gsub("PORT", port)))
  local ends, client = socket.gettime() + 60, socket.connect("127.0.0.1", port)
  while not client and socket.gettime() < ends do
    socket.sleep(0.01)
    client = socket.connect("127.0.0.1", port)
  end
  return port, assert(client), pid
end

local function stop(pid)
  os.execute("kill -9 " .. pid)
end

local function say(client, ...)
  for _, line in ipairs { ... } do
    assert(client:send(line .. "\r\n"))
    assert(client:receive "*l")
  end
end

describe("The recipe for beanstalkd", function()
  it("carries its jobs over", function()
    local port, client, pid = start "beanstalkd -l 127.0.0.1 -p PORT"
    finally(function() stop(pid) end)
    for _, body in ipairs { "first", "second", "third" } do
      say(client, ("put 0 0 60 %d\r\n%s"):format(#body, body))
    end
    local block = blocks_with("11300")[1]
    local ran = pages.run({ block }, { ports = { ["11300"] = port } })
    assert_shown(block, ran[block.id])
    client:close()
  end)
end)

describe("The recipe for Redis", function()
  it("carries its lists over", function()
    local port, client, pid = start("redis-server --port PORT "
      .. "--bind 127.0.0.1 --save '' --appendonly no --daemonize no")
    finally(function() stop(pid) end)
    say(client, "LPUSH jobs second", "LPUSH jobs third",
        "LPUSH jobs.moving first")
    local block = blocks_with("6379")[1]
    local ran = pages.run({ block }, { ports = { ["6379"] = port } })
    assert_shown(block, ran[block.id])
    client:close()
  end)
end)
