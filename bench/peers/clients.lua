-- SPDX-License-Identifier: MIT
--
-- Clients of the peers, no more of each protocol than a queue needs. Each is
-- a function from an address to a table of
--
--   push(bodies)  returns when all are on disk
--   take(n)       leases up to n items: their tokens
--   done(tokens)  acknowledges them
--
-- A group goes out in one piece before its answers are read, or is one
-- statement or transaction where the peer has these.

local socket = require "socket"

package.path = package.path .. ";examples/rabbitmq/?.lua"

local M = {}

local function connect(port)
  local s = assert(socket.connect("127.0.0.1", port))
  s:setoption("tcp-nodelay", true)
  s:settimeout(60)
  return s
end

-- The texts of a form filled in with each of a list, behind one another.
local function each(form, list)
  local texts = {}
  for i, value in ipairs(list) do texts[i] = form:format(value) end
  return table.concat(texts)
end

-- respool: the address is a directory or a URL.

function M.respool(address)
  local store = assert(require "respool".open(address, { log = false }))
  local q = assert(store:queue("jobs", { lease = 60 }))
  local c = {}
  function c.push(bodies)
    assert(q:push_many(bodies))
  end
  function c.take(n)
    return assert(q:take { limit = n, timeout = 10 })
  end
  function c.done(batch)
    batch:done()
    assert(batch:settle())
    batch:close()
  end
  return c
end

-- Redis: an answer of its protocol.
local function answer(s)
  local line = assert(s:receive "*l")
  local kind, rest = line:sub(1, 1), line:sub(2)
  assert(kind ~= "-", rest)
  local n = tonumber(rest)
  if kind == "$" then return n >= 0 and s:receive(n + 2):sub(1, -3) end
  if kind ~= "*" then return rest end
  local list = {}
  for i = 1, n do list[i] = answer(s) end
  return list
end

local function ask(s, commands, n)
  assert(s:send(commands))
  local list = {}
  for _ = 1, n do list[#list + 1] = answer(s) or nil end
  return list
end

-- A list, from which items move to one of each worker.
function M.redis_list(port)
  local s, moving = connect(port), "moving:" .. socket.gettime()
  local c = {}
  function c.push(bodies)
    ask(s, each("LPUSH jobs %s\r\n", bodies), #bodies)
  end
  function c.take(n)
    local command = ("LMOVE jobs %s RIGHT LEFT\r\n"):format(moving)
    return ask(s, command:rep(n), n)
  end
  function c.done(bodies)
    ask(s, each("LREM " .. moving .. " -1 %s\r\n", bodies), #bodies)
  end
  return c
end

function M.redis_stream(port)
  local s, me = connect(port), socket.gettime()
  s:send "XGROUP CREATE stream workers 0 MKSTREAM\r\n"
  s:receive "*l" -- an error when another has made it
  local c = {}
  function c.push(bodies)
    ask(s, each("XADD stream * body %s\r\n", bodies), #bodies)
  end
  function c.take(n)
    local found = ask(s, ("XREADGROUP GROUP workers %f COUNT %d STREAMS "
      .. "stream >\r\n"):format(me, n), 1)[1]
    local ids = {}
    for i, entry in ipairs(found[1] and found[1][2] or {}) do
      ids[i] = entry[1]
    end
    return ids
  end
  function c.done(ids)
    local list = table.concat(ids, " ")
    ask(s, ("XACK stream workers %s\r\nXDEL stream %s\r\n"):format(list, list),
        2)
  end
  return c
end

function M.beanstalkd(port)
  local s = connect(port)
  local function receive(n, form)
    local list = {}
    for i = 1, n do
      local line = assert(s:receive "*l")
      list[i] = assert(line:match(form), line)
      if line:find "^RESERVED" then s:receive "*l" end
    end
    return list
  end
  local c = {}
  function c.push(bodies)
    s:send(each(("put 0 0 60 %d\r\n%%s\r\n"):format(#bodies[1]), bodies))
    receive(#bodies, "^INSERTED (%d+)")
  end
  function c.take(n)
    s:send(("reserve\r\n"):rep(n))
    return receive(n, "^RESERVED (%d+)")
  end
  function c.done(ids)
    s:send(each("delete %s\r\n", ids))
    receive(#ids, "^DELETED")
  end
  return c
end

-- RabbitMQ, by STOMP. A receipt of a message is the publisher's confirm; of an
-- acknowledgement it says that the broker has read it, no more.
function M.rabbitmq(port, group)
  local stomp = require "stomp"
  local connection = assert(stomp.connect { host = "127.0.0.1", port = port,
    vhost = "/", login = "guest", passcode = "guest", timeout = 60 })
  connection.socket:setoption("tcp-nodelay", true)
  local came, receipts = {}, 0
  local function headers(more)
    more.destination, more.durable, more.persistent = "/queue/jobs", true, true
    more["auto-delete"], more["x-queue-type"] = false, "quorum"
    return more
  end
  local function next_frame()
    local command, given = connection:next()
    assert(command == "MESSAGE" or command == "RECEIPT",
           given and given.message or given)
    if command == "MESSAGE" then came[#came + 1] = given.ack end
    return command
  end
  local function confirmed(n)
    while n > 0 do
      if next_frame() == "RECEIPT" then n = n - 1 end
    end
  end
  local function receipt()
    receipts = receipts + 1
    return receipts
  end
  connection:send("SUBSCRIBE", headers { id = 1, ack = "client-individual",
    ["prefetch-count"] = group, receipt = receipt() })
  confirmed(1)
  local c = {}
  function c.push(bodies)
    for _, body in ipairs(bodies) do
      connection:send("SEND", headers { receipt = receipt() }, body)
    end
    confirmed(#bodies)
  end
  function c.take(n)
    while #came < n do next_frame() end
    local acks = came
    came = {} -- no more come than are asked for
    return acks
  end
  function c.done(acks)
    for i, ack in ipairs(acks) do
      connection:send("ACK", { id = ack, receipt = i == #acks and receipt()
        or nil })
    end
    confirmed(1)
  end
  return c
end

-- Tarantool: its binary protocol, functions from a text to a text.
function M.tarantool(port)
  local s = connect(port)
  s:receive(128)
  local function text(t)
    return string.pack(">Bs4", 0xdb, t)
  end
  local function call(name, argument)
    local body = "\x82\x00\x0a\x01\x00\x82\x22" .. text(name) .. "\x21\x91"
      .. text(argument)
    s:send(string.pack(">Bs4", 0xce, body))
    local got = s:receive((string.unpack(">I4", s:receive(5), 2)))
    local at = select(2, got:find("\x81\x30\xdd\0\0\0\1", 1, true))
    if not at then error(got:gsub("%c", "?"), 0) end
    local kind = got:byte(at + 1)
    return got:sub(at + (kind < 0xc0 and 2 or kind - 0xd9 + 3))
  end
  local c = {}
  function c.push(bodies)
    call("push", table.concat(bodies, "\n"))
  end
  function c.take(n)
    local ids = {}
    for id in call("take", tostring(n)):gmatch "%d+" do ids[#ids + 1] = id end
    return ids
  end
  function c.done(ids)
    call("done", table.concat(ids, " "))
  end
  return c
end

-- A job table in SQL, but for how items are taken.
local function job_table(run, take)
  local c = {}
  function c.push(bodies)
    run("INSERT INTO job(due, body) VALUES "
      .. each(", (0, '%s')", bodies):sub(3))
  end
  function c.take(n)
    return take(n, socket.gettime())
  end
  function c.done(ids)
    run("DELETE FROM job WHERE id IN (" .. table.concat(ids, ", ") .. ")")
  end
  return c
end

-- Runs a statement: the first column of its rows.
local function runner(connection)
  return function(statement)
    local cursor, list = assert(connection:execute(statement)), {}
    if type(cursor) == "number" then return list end
    for value in function() return cursor:fetch() end do
      list[#list + 1] = value
    end
    cursor:close()
    return list
  end
end

function M.postgres(url)
  local env = require "luasql.postgres".postgres()
  local run = runner(assert(env:connect(url)))
  run "SET client_min_messages = warning"
  run("CREATE TABLE IF NOT EXISTS job(id bigserial PRIMARY KEY, "
    .. "due float8 NOT NULL, body text NOT NULL)")
  run "CREATE INDEX IF NOT EXISTS job_due ON job(due, id)"
  return job_table(run, function(n, now)
    return run(("UPDATE job SET due = %f WHERE id IN (SELECT id FROM job WHERE "
      .. "due < %f ORDER BY due, id LIMIT %d FOR UPDATE SKIP LOCKED) "
      .. "RETURNING id"):format(now + 60, now, n))
  end)
end

function M.sqlite(dir)
  local env = require "luasql.sqlite3".sqlite3()
  local run = runner(assert(env:connect(dir .. "/jobs.db")))
  run "PRAGMA busy_timeout = 60000"
  run "PRAGMA journal_mode = WAL"
  run "PRAGMA synchronous = FULL"
  run("CREATE TABLE IF NOT EXISTS job(id INTEGER PRIMARY KEY, "
    .. "due REAL NOT NULL, body TEXT NOT NULL)")
  run "CREATE INDEX IF NOT EXISTS job_due ON job(due, id)"
  return job_table(run, function(n, now)
    run "BEGIN IMMEDIATE" -- luasql steps a statement that has rows twice
    local ids = run(("SELECT id FROM job WHERE due < %f ORDER BY due, id "
      .. "LIMIT %d"):format(now, n))
    if ids[1] then
      run(("UPDATE job SET due = %f WHERE id IN (%s)"):format(now + 60,
        table.concat(ids, ", ")))
    end
    run "COMMIT"
    return ids
  end)
end

return M
