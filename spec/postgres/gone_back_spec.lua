-- SPDX-License-Identifier: MIT
--
-- A server whose data went back, as after a fail-over that lost commits, or
-- when an old copy was put in its place. Who has seen what is gone says so;
-- a crash that loses takes, which do not wait for the disk, is none of that.

local database = require "spec.helper.database"
local helper = require "spec.helper"
local home = database.home

database.describe("a server", "back", function(db)
  local store, queue

  local function server(verb)
    helper.sh(database.server .. verb)
  end

  before_each(function()
    store = db:open "&patience=60" -- for a crash
    queue = assert(store:queue "orders")
  end)

  local function end_sessions()
    db:run [[SELECT FROM pg_stat_activity a, pg_terminate_backend(a.pid)
      WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()]]
  end

  local function refuses(words, ...)
    local result, message, code = ...
    assert.is_nil(result)
    assert.same("CORRUPT", code)
    assert.matches("has gone back: " .. words, message)
  end

  it("with an old copy of its data is refused, by pushes and takes, until it "
     .. "has what was seen", function()
    assert(queue:push "a")
    server "stop"
    helper.sh(("cp -a %s/data %s/old"):format(home, home))
    server "start"
    assert(queue:push "b")
    server "stop"
    helper.sh(("cd %s && mv data new && mv old data"):format(home))
    server "start"
    refuses("a commit that was on its disk is not there", queue:push "c")
    refuses("a commit that was on its disk is not there", queue:take())
    local seen = db:run "SELECT count(*) FROM run"
    server "stop"
    helper.sh(("cd %s && rm -r data && mv new data"):format(home))
    server "start"
    assert.equal("1", seen)
    assert(queue:push "c")
    assert.equal(3, #assert(queue:take { limit = 9 }))
  end)

  it("that would give out tokens again is refused", function()
    assert(queue:push "a")
    assert(queue:take())
    db:run "UPDATE token SET next = 1"
    end_sessions()
    refuses("it gives out tokens again", queue:take())
  end)

  it("that would give out ids again is refused", function()
    assert(queue:push "a")
    db:run "ALTER SEQUENCE ids RESTART"
    end_sessions()
    refuses("it gives out ids again", queue:push "b")
  end)

  it("that crashes before takes are on its disk is not, and gives out no "
     .. "token again", function()
    for i = 1, 80 do assert(queue:push(i)) end
    db:run "ALTER SYSTEM SET wal_writer_delay = '10s'"
    db:run "SELECT pg_reload_conf()"
    local held, ids = {}, {}
    for i = 1, 60 do held[i] = assert(queue:take()) end
    server "crash"
    server "start"
    db:run "ALTER SYSTEM RESET wal_writer_delay"
    for _ = 1, 20 do
      local batch = assert(queue:take())
      ids[#ids + 1] = batch:item(1).id
      batch:done()
      assert(batch:settle())
    end
    assert.equal(20, queue:stats().done)
    for _, batch in ipairs(held) do
      batch:done()
      local ok, _, code = batch:settle()
      assert.is_true(ok or code == "LEASE_LOST")
    end
    assert.same({}, store:check())
  end)
end)
