-- SPDX-License-Identifier: MIT
--
-- Archives in files: their writer and their reader.

local core = require "respool.core"
local helper = require "spec.helper"
local respool = require "respool"
local transfer = require "spec.helper.transfer"

local export, import = transfer.export, transfer.import
local queue_of, upto = transfer.queue_of, transfer.upto

describe("the file reader", function()
  it("takes names of files", function()
    for _, wrong in ipairs { { { 5 } }, { "x" }, { { "a", false } } } do
      assert.error_matches(function() respool.file_reader(wrong[1]) end,
                           "list of names of files expected")
    end
  end)
end)

describe("a program for files", function()
  local tickets = require "respool.support.ticket"

  it("gets no blocked signals from the thread that starts it", function()
    local store = helper.store()
    for command, succeeds in pairs {
      ["true"] = true, ["false"] = false, ["kill -TERM $$"] = false,
    } do
      local ticket = assert(core.start.store.run_command(store.handle, command))
      assert.is_true(tickets.await(ticket, math.huge))
      assert.equal(succeeds, ticket:finish(), command)
    end
  end)
end)

describe("the file writer", function()
  it("begins a new file when one is large enough", function()
    local dir = helper.dir()
    local files = export(queue_of(upto(100)), dir, { rotate = "4KiB" })
    assert.is_true(#files > 3)
    for i, path in ipairs(files) do
      local size = #helper.read(path)
      assert.is_true(size < 4096 + 1000)
      assert.is_true(i == #files or size >= 4096)
    end
    assert.equal(100, import { dir }.pushed)
  end)

  it("publishes a file when it is old enough", function()
    local q = helper.store():queue "orders"
    local w = assert(respool.file_writer(helper.dir(), {
      store = q.store, every = 60,
    }))
    local began, n, at = q.store:now(), 0, {}
    respool.export {
      queue = q, remove = true, follow = true, writer = w,
      on_progress = function()
        if #w.files > #at then at[#at + 1] = q.store:now() - began end
        n = n + 1
        if n % 10 == 1 then q:push { n = n } end
        return #w.files < 2
      end,
    }
    assert.near(60, at[1], 12)
    assert.near(120, q.store:now() - began, 24)
  end)

  it("names no two files alike", function()
    local dir, q = helper.dir(), queue_of(upto(1)) -- time stands still
    local seen = {}
    for _ = 1, 20 do
      local path = export(q, dir)[1]
      assert.is_nil(seen[path])
      seen[path] = true
    end
  end)

  it("takes another name when there is such a file already", function()
    local names = require "respool.transfer.files"
    local name, dir, n = names.name, helper.dir(), 0
    finally(function() names.name = name end)
    names.name = function(_, _, suffix)
      n = n + 1
      return ("same-%d%s"):format(n < 3 and 1 or n, suffix)
    end
    local w = assert(respool.file_writer(dir, { store = helper.store() }))
    local q = queue_of(upto(1))
    assert(respool.export { queue = q, limit = 1, writer = {
      write = function(_, batch)
        local accepted = w:write(batch)
        helper.write(dir .. "/same-1.jsonl", "somebody else's")
        return accepted
      end,
      flush = function() return w:flush() end,
    } })
    assert.equal("somebody else's", helper.read(dir .. "/same-1.jsonl"))
    assert.same({ dir .. "/same-3.jsonl" }, w.files)
    assert.equal(1, import(w.files).pushed)
  end)

  it("keeps names of queues out of other directories", function()
    local q = helper.store():queue "../é x/\n.."
    q:push { n = 1 }
    local dir = helper.dir()
    local path = export(q, dir)[1]
    assert.equal(dir, path:match "^(.*)/[%w._-]+$")
    assert.equal(1, import { dir }.pushed)
  end)

  it("writes nothing when there is nothing", function()
    local dir = helper.dir()
    assert.same({}, export(helper.store():queue "orders", dir))
    assert.same({}, core.file.list(dir))
  end)

  it("shows no file before it is whole", function()
    local dir = helper.dir()
    local w = assert(respool.file_writer(dir, { store = helper.store() }))
    local q = queue_of(upto(10))
    respool.export { queue = q, remove = true, batch = 2, writer = {
      write = function(_, batch)
        local n = w:write(batch)
        assert.same({}, (require "respool.transfer.files".list(dir)))
        assert.equal(0, import { dir }.pushed)
        return n
      end,
      flush = function() return w:flush() end,
    } }
    assert.equal(10, import { dir }.pushed)
  end)

  it("tells of leftovers, which are never read", function()
    local dir = helper.dir()
    local path = export(queue_of(upto(3)), dir)[1]
    assert(os.rename(path, path .. ".part"))
    local w = assert(respool.file_writer(dir, { store = helper.store() }))
    assert.same({ path .. ".part" }, w.leftovers)
    assert.equal(0, import { dir }.pushed)
    local counts, r = import { path .. ".part" }
    assert.equal(0, counts.pushed)
    assert.matches("never finished", r.problems[1])
  end)

  it("removes what a killed export had published, and writes the rest",
     function()
    for _, kind in ipairs { "dead_letters", "items" } do
      local q, dir = queue_of(upto(30)), helper.dir()
      if kind == "dead_letters" then
        q:work(function() return respool.dead() end, { stop_when_empty = true })
      end
      local o = { remove = true, queue = kind == "items" and q or nil,
                  dlq = kind == "dead_letters" and q.dead or nil }
      -- published, not removed: as when killed in between
      local w = assert(respool.file_writer(dir, { store = q.store }))
      o.limit = 20
      o.writer = {
        write = function(_, batch) return w:write(batch) end,
        flush = function() w:flush() error("killed", 0) end,
      }
      assert.is_nil((respool.export(o)))
      assert.equal(1, #w.files)
      w = assert(respool.file_writer(dir, { store = q.store }))
      o.limit, o.writer = nil, w
      local counts = assert(respool.export(o))
      assert.equal(20, counts.known)
      assert.equal(10, counts.removed)
      local total = import { dir }
      assert.equal(30, total.pushed)
      assert.equal(0, total.known) -- no record is in two files
      assert.equal(0, q:length().total + q:length().dead)
    end
  end)

  it("does not take a copy for what a killed export left", function()
    local q, dir = queue_of(upto(3)), helper.dir()
    export(q, dir)
    local w = assert(respool.file_writer(dir, { store = q.store }))
    local counts = respool.export { queue = q, remove = true, writer = w }
    assert.equal(0, counts.known)
    assert.equal(3, counts.removed)
  end)

  it("says what is missing or in the way", function()
    local store = helper.store()
    local w, message, code = respool.file_writer("/nowhere/at/all",
                                                 { store = store })
    assert.is_nil(w)
    assert.matches("cannot create /nowhere/at/all", message)
    assert.equal("NOT_FOUND", code)
    local program = require "respool.transfer.files".programs.zstd
    finally(function() program.name = "zstd" end)
    program.name = "no-such-program"
    w, message, code = respool.file_writer(helper.dir(), {
      store = store, zstd = true,
    })
    assert.is_nil(w)
    assert.equal("the program 'no-such-program' is missing (Debian package "
      .. "zstd)", message)
    assert.equal("NOT_FOUND", code)
    assert.error_matches(function()
      respool.file_writer(helper.dir(), {
        store = store, gzip = true, zstd = true,
      })
    end, "exclude each other")
  end)

  it("publishes no file after no time", function()
    assert.error_matches(function()
      respool.file_writer(helper.dir(), {
        store = helper.store(), every = 0,
      })
    end, "option 'every' must be .* above 0")
  end)

  it("accepts nothing when the disk takes nothing", function()
    local device = io.open("/dev/full", "wb")
    if not device then return pending "there is no /dev/full" end
    device:close()
    local q, dir = queue_of(upto(3)), helper.dir()
    for _, o in ipairs { {}, { gzip = true } } do
      local w = assert(respool.file_writer(dir, {
        store = q.store, gzip = o.gzip,
      }))
      local files = require "respool.transfer.files"
      local part = files.PART
      finally(function() files.PART = part end)
      local counts, message = respool.export {
        queue = q, remove = true, writer = {
          write = function(_, batch)
            local n = w:write(batch)
            -- what is written from here on goes to a full device
            w.open.stream:close()
            w.open.stream = o.gzip
              and io.popen("gzip -qc 2>/dev/null >/dev/full || cat >/dev/null",
                           "w") or io.open("/dev/full", "wb")
            os.remove(w.open.path .. part)
            helper.write(w.open.path .. part, "")
            w.open.stream:write(("x"):rep(100000))
            return n
          end,
          flush = function() return w:flush() end,
        },
      }
      assert.is_nil(counts)
      assert.matches("cannot write", message)
      q.store:advance(20)
      assert.equal(3, q:length().ready)
      w:abandon()
      assert.same({}, core.file.list(dir))
    end
  end)
end)

describe("the file reader", function()
  it("deletes files of which all is imported, and no others", function()
    local q, dir = queue_of(upto(30)), helper.dir()
    local files = export(q, dir, { rotate = 1500 })
    local text = helper.read(files[2])
    helper.write(files[2], text:sub(1, -20))
    local r = assert(respool.file_reader({ dir }, { delete = true }))
    local to = helper.store():queue "in"
    assert(respool.import { to = to, reader = r })
    assert.same({ files[2]:match "[^/]*$" }, core.file.list(dir))
    helper.write(files[2], text)
    r = assert(respool.file_reader({ dir }, { delete = true }))
    assert(respool.import { to = to, reader = r })
    assert.same({}, core.file.list(dir))
    assert.equal(30, to:length().total)
  end)

  it("keeps a file of which a record could not be pushed", function()
    local q, dir = helper.store():queue "orders", helper.dir()
    q:push({ n = 1 }, { key = "k" })
    local path = export(q, dir)[1]
    local to = helper.store():queue "in"
    to:push(0, { key = "k" })
    local r = assert(respool.file_reader({ path }, { delete = true }))
    assert.equal(1, respool.import { to = to, reader = r }.failed)
    assert.equal(1, #core.file.list(dir))
  end)

  it("says which file is no archive", function()
    local dir = helper.dir()
    for name, text in pairs { text = "hello\n", empty = "", json = "{}\n",
                              other = '{"a":1,"sum":"0000000000000000"}\n' } do
      helper.write(dir .. "/" .. name, text)
      local r = assert(respool.file_reader { dir .. "/" .. name })
      assert.is_nil((r:read() or {})[1])
      r:read()
      assert.matches("^" .. dir:gsub("%p", "%%%0") .. "/" .. name .. ": ",
                     r.problems[1])
      assert.equal("CORRUPT", r.code)
    end
    local r = assert(respool.file_reader { dir .. "/nothing" })
    assert.is_nil(r:read())
    assert.equal("NOT_FOUND", r.code)
  end)
end)
