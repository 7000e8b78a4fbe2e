-- SPDX-License-Identifier: MIT
--
-- Worlds in which a store in a database cannot be had, or not in the usual
-- way: each is told in one clear line, with nothing half done.

local cli = require "spec.helper.cli"
local database = require "spec.helper.database"
local helper = require "spec.helper"
local respool = require "respool"
local terminal = require "spec.helper.terminal"

database.describe("a store in a database", "worlds", function(db)
  local function sql(text) return db:sql(text) end
  local function url(...) return db:url(...) end

  local function as(role)
    return function(text) return (text:gsub("respool@", role .. "@", 1)) end
  end

  local function open(text, options)
    return helper.open(text, options)
  end

  -- That it cannot be opened, in one line that has these words.
  local function assert_refused(code, words, text, options)
    local store, message, why = open(text, options)
    assert.is_nil(store)
    assert.equal(code, why)
    assert.matches(words, message)
    assert.not_matches("\n", message)
    return message
  end

  setup(function()
    db:start_pooler()
    for _, role in ipairs { "respool_secret", "respool_nobody" } do
      sql(("DROP ROLE IF EXISTS %s; CREATE ROLE %s LOGIN PASSWORD 'right'")
        :format(role, role))
    end
  end)

  it("is not there: NOT_FOUND, where it is not to be made", function()
    assert_refused("NOT_FOUND", "there is no store in .*respool init",
                   (url()), { create = false })
    assert_refused("NOT_FOUND", "there is no store in", (url()),
                   { read_only = true })
  end)

  it("cannot be made by a role that may not", function()
    assert_refused("DENIED", "may not make one: `respool init`",
                   (url(as "respool_nobody")))
  end)

  it("is refused to a role without rights", function()
    local location, name = url()
    assert(open(location))
    assert_refused("DENIED", "permission denied for schema " .. name,
                   as "respool_nobody"(location))
  end)

  it("is told with a wrong password, which is not shown", function()
    local location = url(as "respool_secret:wrong")
    local message = assert_refused("IO", "password authentication failed",
                                   location)
    assert.not_matches("wrong", message)
    local run = cli.run { "ls", location }
    cli.assert_refused(run, 1, "password authentication failed")
    assert.not_matches("wrong", run.err)
  end)

  it("is served with the right one, which no message shows", function()
    local location, name = url(as "respool_secret:right")
    sql "GRANT CREATE ON DATABASE worlds TO respool_secret"
    local store = assert(open(location))
    assert(store:queue "orders":push "a")
    assert.equal("respool store " .. as "respool_secret"(db.base) .. "&schema="
      .. name, tostring(store))
  end)

  it("is shown by commands without its password", function()
    local location = url(as "respool_secret:right")
    assert(open(location)):queue "orders":push "a"
    terminal.session({ "top", location }, {
      { "expect", "orders" }, { "resize", 400, 20 },
      { "expect", "respool top  " .. as "respool_secret"(db.base) },
      { "send", "q" }, { "end" },
    })
    local script = helper.dir() .. "/worker.lua"
    helper.write(script, [[
      return { queue = "orders", handle = function() error "no" end }
    ]])
    open(location):queue("orders", { max_attempts = 1 })
    local run = cli.run { "work", location, script, "--until-empty" }
    assert.matches("respool dead groups postgres://respool_secret@", run.err)
    assert.not_matches("right", run.out .. run.err)
    for _, args in ipairs {
      { "check", location }, { "compact", location },
      { "repair", location, helper.dir() .. "/mended" },
    } do
      run = cli.run(args)
      assert.not_matches("right", run.out .. run.err)
    end
  end)

  it("may have a schema whose name needs quotes", function()
    for _, name in ipairs { "Shop", "a b", "a.b" } do
      local location = url():gsub("schema=.*$", "schema=" ..
                                  name:gsub(" ", "%%%%20"))
      local store = assert(open(location))
      assert(store:queue("orders"):push "a")
      assert.same({}, store:check())
      store:close()
    end
  end)

  -- The cause: a schema that was there was taken for a store that another
  -- process had just made, and a role that may make none never had one.
  it("is made in a schema that is there and empty, by a role that makes none",
     function()
    local location, name = url(as "respool_nobody")
    sql(("CREATE SCHEMA %s AUTHORIZATION respool_nobody"):format(name))
    local store = assert(open(location))
    assert(store:queue "orders":push "a")
    assert.same({}, store:check())
    local run = cli.run { "init", location }
    assert.equal(0, run.status)
  end)

  it("is not made in a schema that holds something else, of which nothing "
     .. "changes", function()
    for _, thing in ipairs {
      "TABLE %s.run (a int)", "TYPE %s.mood AS ENUM ('sad')",
      "FUNCTION %s.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    } do
      local location, name = url()
      sql(("CREATE SCHEMA %s; CREATE %s"):format(name, thing:format(name)))
      assert_refused("VERSION", "schema " .. name .. " holds something else",
                     location)
      cli.assert_refused(cli.run { "init", location }, 1, "something else")
      assert.equal("0", sql(([[SELECT count(*) FROM pg_class
        WHERE relnamespace = '%s'::regnamespace AND relname = 'meta']])
        :format(name)))
    end
  end)

  it("has no roles where their names would be cut", function()
    local location = url():gsub("schema=.*$", "schema=" .. ("x"):rep(58))
    cli.assert_refused(cli.run { "init", location, "--roles" }, 1,
                       "has more than 57 bytes")
    assert.equal("0", sql "SELECT count(*) FROM pg_roles WHERE rolname ~ '^xx'")
  end)

  it("of a newer format is refused, and both are told", function()
    local location, name = url()
    open(location):close()
    sql(("UPDATE %s.meta SET value = '9' WHERE name IN ('format', " ..
      "'oldest_client')"):format(name))
    assert_refused("VERSION", "format 9, this is respool .* format 1",
                   location)
  end)

  it("on a server that only reads is not written to", function()
    local location = url()
    open(location):close()
    sql "ALTER DATABASE worlds SET default_transaction_read_only = on"
    local _, message, code = open(location)
    local looked = open(location, { read_only = true })
    local healths = {}
    for i, word in ipairs { "", "&target_session_attrs=any" } do
      healths[i] = cli.run { "health", location .. word .. "&patience=1" }
    end
    sql("SET default_transaction_read_only = off; " ..
        "ALTER DATABASE worlds RESET default_transaction_read_only")
    assert.equal("IO", code)
    assert.matches("session is read%-only", message)
    assert.same({}, assert(looked):queues())
    assert.equal(2, healths[1].status)
    assert.matches("session is read%-only", healths[1].out)
    assert.equal(0, healths[2].status, "the URL asks for no more")
    assert.equal(0, cli.until_healthy(function()
      return cli.run { "health", location }
    end).status)
  end)

  it("on a standby is looked at, and written to only on its primary",
     function()
    local location, name = url()
    local store = assert(open(location))
    assert(store:queue "orders":push "a")
    store:close()
    local standby = helper.sh(database.server .. "standby")
      :gsub("/postgres%?", "/worlds?") .. "&schema=" .. name
    assert_refused("IO", "session is read%-only", standby .. "&patience=1")
    assert_refused("IO", "session is read%-only",
                   (standby:gsub(name, "not_there")) .. "&patience=1")
    local looked = assert(open(standby, { read_only = true }))
    local queue = assert(looked:queue "orders")
    assert.equal(1, queue:stats().ready)
    assert.equal("a", queue:peek(1)[1].payload)
    assert.same({}, looked:check())
    assert.error_matches(function() queue:push "b" end, "opened read_only")
    local both = standby:gsub("host=([^&]*)&port=5433",
                              "host=%1,%1&port=5433,5432")
    assert(assert(open(both)):queue "orders":push "b")
  end)

  it("where no server is says so", function()
    assert_refused("IO", "No such file or directory",
                   "postgres://respool@/worlds?host=/nowhere")
  end)

  it("is found on the second host where the first does not answer", function()
    local store = assert(open((url(function(text)
      return (text:gsub("host=", "host=/nowhere,"))
    end))))
    assert(store:queue "orders":push "a")
  end)

  it("in no database of that name says so", function()
    assert_refused("IO", "database \"nowhere\" does not exist",
                   (db.base:gsub("/worlds", "/nowhere")))
  end)

  -- A server that says that it is of this version, and no more; its port.
  local function server_of(version)
    local child = helper.spawn([[
      local server = require "socket".bind("127.0.0.1", 0)
      print(select(2, server:getsockname()))
      io.stdout:flush()
      local function message(kind, text)
        local n = #text + 4
        return kind .. string.char(0, 0, 0, n) .. text
      end
      local function says(name, value)
        return message("S", name .. "\0" .. value .. "\0")
      end
      while true do
        local peer = server:accept()
        local size = peer:receive(4)
        peer:receive(size:byte(3) * 256 + size:byte(4) - 4)
        peer:send(message("R", ("\0"):rep(4)) .. says("server_version", arg[1])
          .. says("in_hot_standby", "off")
          .. says("default_transaction_read_only", "off") .. message("Z", "I"))
        peer:settimeout(5)
        peer:receive(1)
        peer:close()
      end
    ]], version)
    child:expect "\n"
    return child:output():match "%d+"
  end

  it("on a server that is too old says which is needed",
     function()
    for version, words in pairs {
      ["11.22"] = "PostgreSQL 12 or newer is needed",
      ["12.22"] = "closed the connection",
    } do
      local location = ("postgres://respool@127.0.0.1:%s/worlds?"
        .. "sslmode=disable&gssencmode=disable&patience=1")
        :format(server_of(version))
      assert_refused("IO", words, location)
      cli.assert_refused(cli.run { "ls", location }, 1, words)
    end
  end)

  -- The cause: a wrong password was sent 25 times a second.
  it("on a server that refuses connections is tried less and less often",
     function()
    local child = helper.spawn [[
      local server = require "socket".bind("127.0.0.1", 0)
      print(select(2, server:getsockname()))
      io.stdout:flush()
      while true do
        server:accept():close()
        io.write "."
        io.stdout:flush()
      end
    ]]
    child:expect "\n"
    local port = child:output():match "%d+"
    assert_refused("IO", "", ("postgres://respool@127.0.0.1:%s/worlds?"
      .. "sslmode=disable&gssencmode=disable&patience=2"):format(port))
    local _, tries = child:output():gsub("%.", "")
    assert.is_true(tries > 1 and tries < 16, tries)
  end)

  it("that wants TLS of a server without is not opened", function()
    local child = helper.spawn [[
      local server = require "socket".bind("127.0.0.1", 0)
      print(select(2, server:getsockname()))
      io.stdout:flush()
      while true do
        local peer = server:accept()
        peer:receive(8) -- the request for TLS
        peer:send "N"
        peer:close()
      end
    ]]
    child:expect "\n"
    local port = child:output():match "%d+"
    assert_refused("IO", "SSL", ("postgres://respool@127.0.0.1:%s/worlds?"
      .. "sslmode=require"):format(port))
  end)

  it("is no URL that libpq understands: INVALID, without a word of it",
     function()
    local ok, message = pcall(respool.open, "postgres://u:hush@h/d?nonsense=1")
    assert.is_false(ok)
    assert.matches("a URL that PostgreSQL does not understand, as there is "
      .. "no option 'nonsense'", message)
    assert.not_matches("hush", message)
  end)

  it("has an option that there is not, which is named unless it may be of a "
     .. "password", function()
    for rest, named in pairs {
      ["u@h/d?patince=3"] = "patince",
      ["u@h/d?patience=3&sslmode=require&shcema=x&b=1"] = "shcema",
      ["u@h/d?ssl=true&hush_hush=1"] = "hush_hush",
      ["u:p/d?hush=1@h/d"] = false, ["u@h/d?password=a&hush=1"] = false,
      ["u@h/d?sslpassword=a&hush=1"] = false, ["u@h/d?hush"] = false,
      ["u@h/d?hush%20=1"] = false,
      ["u@h/d?" .. ("hush"):rep(11) .. "=1"] = false,
      ["u@h/d?patince=hush"] = "patince",
    } do
      local ok, message = pcall(respool.open, "postgres://" .. rest,
                                { log = false })
      assert.is_false(ok)
      assert.equal(named, message:match "no option '(.-)'" or false)
      if named ~= "hush_hush" then assert.not_matches("hush", message) end
    end
  end)

  it("checks what respool itself reads of a URL", function()
    for _, case in ipairs {
      { "patience=0", "patience: a whole number of seconds from 1 to 3600" },
      { "patience=3601", "patience: a whole" }, { "patience=", "patience: a" },
      { "patience=10s", "patience: a whole" },
      { "patience=99999999999999", "patience: a whole" },
      { "prepare=false", "prepare: yes or no" },
      { "listen=", "listen: yes, no, or a" }, { "listen=db:x", "listen: yes" },
      { "listen=db:0", "listen: y" }, { "listen=db:65536", "listen: y" },
      { "listen=%3A5432", "listen: y" }, { "listen=a%20b", "listen: y" },
      { "listen=::1", "listen: yes" }, { "listen=[]:5432", "listen: yes" },
      { "listen=[::1", "listen: yes" }, { "listen=[::1]5432", "listen: yes" },
      { "listen=[::1]:x", "listen: yes" }, { "listen=[a[b]", "listen: yes" },
      { "schema=", "schema: a name of 1 to 63 bytes" },
      { "schema=a%00b", "schema: a name" }, { "schema=%FF", "in UTF%-8" },
      { "schema=a&schema=b", "as it has 'schema' twice" },
    } do
      assert.error_matches(function()
        respool.open("postgres://u@h/d?" .. case[1], { log = false })
      end, case[2])
    end
  end)

  it("listens at the IPv6 address that the URL names", function()
    local script, port = helper.dir() .. "/accept.py", helper.dir() .. "/port"
    helper.write(script, [[
import os, socket, sys
s = socket.socket(socket.AF_INET6)
s.settimeout(20)
s.bind(("::1", 0))
s.listen()
with open(sys.argv[1] + ".new", "w") as f: f.write(str(s.getsockname()[1]))
os.rename(sys.argv[1] + ".new", sys.argv[1])
s.accept()
open(sys.argv[1] + ".came", "w").close()
]])
    os.execute(("python3 %s %s 2>/dev/null &"):format(script, port))
    local function is_there(path)
      return helper.sh(("ls %s 2>/dev/null || true"):format(path)) ~= ""
    end
    local ends = os.time() + 10
    while not is_there(port) and os.time() < ends do helper.sh "sleep 0.05" end
    if not is_there(port) then
      pending "needs IPv6 on the loopback"
      return
    end
    local number = helper.sh("cat " .. port)
    local store = assert(open(url() .. "&listen=[::1]:" .. number))
    local orders = assert(store:queue "orders")
    ends = os.time() + 20
    repeat
      assert.equal(0, #orders:take { timeout = 0.1 })
      assert.is_true(os.time() < ends, "nothing listens there")
    until is_there(port .. ".came")
  end)

  it("takes listen=yes for the URL's own host", function()
    local store = assert(open(url() .. "&listen=yes"))
    assert(store:queue "orders":push "a")
    assert.equal("a", store:queue "orders":take()[1].payload)
  end)

  it("shows nothing of a password that is not written as it should be",
     function()
    for _, text in ipairs { "postgres://u:hush@hush@h/d",
                            "postgres://u:hush/hush@h/d" } do
      local ok, message = pcall(respool.open, text, { log = false })
      assert.is_false(ok)
      assert.matches("in a password @ is written %%40 and / %%2F", message)
      assert.not_matches("hush", message)
      local run = cli.run { "ls", text }
      assert.equal(1, run.status)
      assert.not_matches("hush", run.err)
    end
  end)

  it("answers IO when no server came within the URL's patience", function()
    local began = os.time()
    assert_refused("IO", "", "postgres://respool@/worlds?host=" ..
                   helper.dir() .. "&patience=1")
    assert.is_true(os.time() - began < 60)
  end)

  it("has neither max_bytes nor files", function()
    local location = url()
    for option, value in pairs { max_bytes = "1GiB", max_readers = 8 } do
      assert.error_matches(function()
        respool.open(location, { [option] = value, log = false })
      end, option .. " is for stores in files")
    end
    -- The cause: what is in use of no bound at all is more than any share of
    -- it, which an alert asks for.
    local metrics = assert(assert(open(location)):metrics())
    assert.matches("respool_used_bytes", metrics)
    for _, name in ipairs { "max_bytes", "map_bytes", "readers",
                            "max_readers" } do
      assert.not_matches("respool_" .. name, metrics)
    end
    assert.error_matches(function() respool.compact(location) end,
                         "is not in files of its own")
    assert.error_matches(function()
      local _ = respool.repair(location, helper.dir() .. "/to")
    end, "is not in files of its own")
  end)

  it("behind a pooler that eats notifications is looked at again", function()
    local location = url(nil, db.pooler)
    local store = assert(open(location))
    local queue = assert(store:queue "orders")
    helper.spawn([[
      local store = assert(require "respool".open(arg[1], { log = false }))
      require "socket".sleep(0.3)
      assert(store:queue "orders":push "late")
    ]], location)
    local batch = assert(queue:take { timeout = 20 })
    assert.equal("late", batch:item(1).payload)
    batch:done()
    assert(batch:settle())
    assert.same({}, store:check())
  end)

  it("is delivered from with a breaker, as any other", function()
    local location = url()
    local queue = assert(open(location):queue "orders")
    local run = cli.run { "deliver", location, "orders", "--until-empty",
                          "--url", "http://127.0.0.1:1/" }
    assert.same({ 0, 5 }, { run.status, queue:config().breaker.failures })
  end)

  it("gives applications what their role needs, and no table", function()
    local location, name = url()
    local run = cli.run { "init", location, "--roles" }
    assert.equal(0, run.status)
    for _, kind in ipairs { "push", "work" } do
      sql(("GRANT %s_%s TO respool_nobody"):format(name, kind))
      local store = assert(open(as "respool_nobody"(location)))
      if kind == "push" then
        assert(open(location):queue "orders")
        local queue = assert(store:queue "orders")
        assert(queue:push "a")
        assert.equal(1, queue:length().ready)
        assert.equal("DENIED", helper.code(queue:take()))
        local file = helper.dir() .. "/items.jsonl"
        helper.write(file, '{"n":2}\n')
        for _, args in ipairs { { "push", "orders", file }, { "ls" },
                                { "stats", "orders" } } do
          table.insert(args, 2, as "respool_nobody"(location))
          assert.same({ 0, "" }, { cli.run(args).status, cli.run(args).err })
        end
        run = cli.run { "history", as "respool_nobody"(location),
                              "orders" }
        assert.matches("^respool: postgres:[^\n]*denied for function [^\n]*\n$",
                       run.err)
      else
        local batch = assert(store:queue "orders":take())
        batch:done()
        assert(batch:settle())
        assert(open(location):queue "orders":push "b")
        local name_of
        assert(store:queue "orders":work(function()
          name_of = assert(store:workers())[1].name
        end, { name = "w", stop_when_empty = true }))
        assert.same({ "w", 0 }, { name_of, #assert(store:workers()) })
        assert(open(location):queue("orders", { keep_done = "1h" }))
        assert(open(location):queue "orders":push("c", { key = "k" }))
        local script = helper.dir() .. "/worker.lua"
        helper.write(script, [[
          local respool = require "respool"
          return { queue = "orders", handle = function(payload)
            if payload == "c" then return respool.dead { error = "no" } end
          end }
        ]])
        for _, args in ipairs {
          { "get", "orders", "--key", "k" },
          { "work", script, "--until-empty" }, { "history", "orders" },
          { "dead", "list", "orders" }, { "dead", "groups", "orders" },
          { "dead", "show", "orders", "1" },
        } do
          table.insert(args, args[1] == "dead" and 3 or 2,
                       as "respool_nobody"(location))
          assert.not_matches("permission", cli.run(args).err)
        end
        assert.equal(1, store:queue "orders".dead:count())
      end
      assert.equal("DENIED", helper.code(store:drop_queue "orders"))
      store:close()
    end
    assert.matches("permission denied", sql(("SET ROLE respool_nobody; " ..
      "SELECT * FROM %s.run"):format(name)))
    for _, kind in ipairs { "push", "work", "admin" } do
      sql(("DROP OWNED BY %s_%s; DROP ROLE %s_%s"):format(
        name, kind, name, kind))
    end
  end)
end)
