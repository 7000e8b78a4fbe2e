-- SPDX-License-Identifier: MIT
--
-- Paths that hold no store, or one that this program does not know: each is
-- refused with its code and left as it was.

local helper = require "spec.helper"
local stored = require "spec.helper.stored"

local dir

before_each(function() dir = helper.dir() end)

-- Opening fails with this code and one line that names the path.
local function assert_refused(code, path, options)
  local store, message, got = helper.open(path, options)
  assert.is_nil(store)
  assert.equal(code, got)
  assert.is_truthy(message:find(path, 1, true), message)
  assert.is_nil(message:find "\n")
  return message
end

local function checksum(path)
  return helper.sh(("cat '%s' | cksum"):format(path))
end

-- A store that holds an item, closed.
local function new_store()
  local path = helper.location()
  local store = assert(helper.open(path))
  assert(store:queue "orders"):push "precious"
  store:close()
  return path
end

local function assert_holds_its_item(path)
  local store = assert(helper.open(path))
  assert.equal("precious", assert(store:queue "orders"):peek()[1].payload)
end

describe("a path", function()
  it("that is a file is refused, and the file left alone", function()
    local path = dir .. "/file"
    helper.write(path, "text")
    assert_refused("IO", path)
    assert.equal("text", helper.read(path))
  end)

  it("whose parent is missing is refused", function()
    assert_refused("IO", dir .. "/none/store")
  end)

  it("where nothing can be written is refused", function()
    assert_refused("IO", "/proc/store")
    if helper.sh "id -u" == "0" then return end -- who may write all else
    helper.sh("chmod 500 " .. dir)
    assert_refused("IO", dir .. "/store")
    assert_refused("IO", dir)
  end)

  -- It was "no store", which one may think may be made anew.
  it("without permission says so, and for whom", function()
    if helper.sh "id -u" ~= "0" then return end -- who may be another user
    local path = new_store()
    local function look(wanted)
      local said = helper.sh(([[setpriv --reuid=65534 --regid=65534 \
        --clear-groups env \
        LUA_PATH='%s' LUA_CPATH='%s' '%s' -e 'print(select(2,
          require "respool".open(
            "%s", { read_only = true, log = false })))' 2>&1]]):format(
        package.path, package.cpath, helper.lua(), path))
      assert.equal(wanted .. "\tIO", said)
    end
    look(("cannot open store '%s': user 65534 has no permission"):format(path))
    helper.sh(("chmod 755 '%s/..' '%s'"):format(path, path))
    look(("cannot open '%s/data.mdb': it belongs to user 0, and user 65534 "
      .. "has no permission"):format(path))
    helper.sh(("chmod 666 '%s'/data.mdb"):format(path))
    look(("cannot open '%s/lock.mdb': it belongs to user 0, and user 65534 "
      .. "has no permission"):format(path))
  end)

  it("that is too long for the system is refused", function()
    local path = dir .. "/" .. ("x"):rep(300)
    local _, _, code = helper.open(path)
    assert.equal("IO", code)
  end)

  it("may have any characters", function()
    local path = dir .. "/a b'ü\n\255"
    local store = assert(helper.open(path))
    assert.is_true(store:close())
    assert(helper.open(path, { create = false }))
  end)

  it("of an empty directory becomes a store", function()
    assert(helper.open(dir))
    assert.equal("0", helper.sh(("test -f '%s/data.mdb'; echo $?"):format(
      dir)))
  end)

  -- A store used to be made under its own name. A power cut in its first
  -- moments left a file that was no store, and none could be made any more.
  it("becomes a store also where one was left half made", function()
    helper.write(dir .. "/data.mdb.new", ("\0"):rep(8192))
    assert(helper.open(dir)):close()
    assert.equal("control\ndata.mdb\nlock.mdb", helper.sh("ls " .. dir))
  end)

  it("may be reached by two names at once", function()
    helper.sh(("ln -s '%s' '%s/link'"):format(dir, dir))
    local one = assert(helper.open(dir .. "/."))
    local other = assert(helper.open(dir .. "/link"))
    assert(one:queue "orders"):push "a"
    assert.equal(1, #assert(other:queue "orders"):take())
  end)
end)

describe("create = false", function()
  it("finds no store where there is nothing, and makes none", function()
    assert_refused("NOT_FOUND", dir .. "/none", { create = false })
    assert.equal("", helper.sh("ls " .. dir))
  end)

  it("finds no store in an empty directory, and makes none", function()
    assert_refused("NOT_FOUND", dir, { create = false })
    assert.equal("", helper.sh("ls " .. dir))
  end)

  it("opens the store that is there", function()
    assert_holds_its_item(new_store())
  end)
end)

describe("another program's LMDB", function()
  it("is refused, and its data left alone", function()
    stored.damage(dir, "foreign", "theirs")
    local before = checksum(dir .. "/data.mdb")
    assert_refused("VERSION", dir)
    assert.equal(before, checksum(dir .. "/data.mdb"))
  end)

  it("is refused also when a database of it is named as one of ours",
     function()
    for _, name in ipairs { "meta", "queues" } do
      local path = dir .. "/" .. name
      helper.sh("mkdir " .. path)
      stored.damage(path, "foreign", name)
      local before = checksum(path .. "/data.mdb")
      assert_refused("VERSION", path)
      assert.equal(before, checksum(path .. "/data.mdb"))
    end
  end)
end)

describe("a data.mdb", function()
  local path, data

  before_each(function()
    path = new_store()
    data = helper.read(path .. "/data.mdb")
  end)

  local function assert_unreadable(bytes)
    helper.write(path .. "/data.mdb", bytes)
    local store, message, code = helper.open(path)
    assert.is_nil(store)
    assert.is_true(code == "VERSION" or code == "CORRUPT", message)
    assert.equal(bytes, helper.read(path .. "/data.mdb"))
  end

  it("of other bytes is refused, and left as it is", function()
    assert_unreadable(("garbage\0"):rep(10000))
    assert_unreadable(("\0"):rep(100000))
    assert_unreadable "short"
  end)

  it("whose head is overwritten is refused", function()
    assert_unreadable(("\255"):rep(8192) .. data:sub(8193))
  end)

  -- Reading beyond the end would end the process.
  it("that was cut off is refused, also to who only looks", function()
    data = data:sub(1, 12288)
    helper.write(path .. "/data.mdb", data)
    local process = helper.spawn([[
      local open = require "respool".open
      print(open(arg[1]))
      print(open(arg[1], { read_only = true }))
    ]], path)
    assert.equal(0, process:wait(), process:output())
    assert.matches("^nil\t[^\n]* is cut off:[^\n]*\tCORRUPT\n"
      .. "nil\t[^\n]*\tCORRUPT\n$", process:output())
    assert.equal(data, helper.read(path .. "/data.mdb"))
  end)

  -- LMDB maps all up to the page that is said to be the last: there was "not
  -- enough memory" to open the store.
  it("that says of a page far behind its end that it is used is damaged",
     function()
    local last, up = 16 + 24 + 96 + 5, "\1" -- a high byte of its number
    for _, at in ipairs { last, 4096 + last } do
      data = data:sub(1, at) .. up .. data:sub(at + 2)
    end
    helper.write(path .. "/data.mdb", data)
    for _, o in ipairs { {}, { read_only = true } } do
      local store, message, code = helper.open(path, o)
      assert.is_nil(store)
      assert.equal("CORRUPT", code)
      assert.matches("is damaged: .*; see respool repair$", message)
    end
    assert.equal(data, helper.read(path .. "/data.mdb"))
  end)

  it("may end early by pages that are free", function()
    local store = assert(helper.open(path))
    local q = store:queue "orders"
    q:push_many(helper.range(30000))
    q:purge()
    for i = 1, 20 do -- these use again what is free in front
      q:push(i)
      q:purge()
    end
    store:close()
    local opened, refused = 0, 0
    for cut = #helper.read(path .. "/data.mdb") - 4096, 4096, -4096 do
      helper.sh(("truncate -s %d %s/data.mdb"):format(cut, path))
      local looker, message, code = helper.open(path, { read_only = true })
      if looker then
        opened = opened + 1
        assert.equal(0, looker:queue("orders"):length().total)
        looker:close()
      else
        refused = refused + 1
        assert.is_true(code == "CORRUPT" or code == "VERSION", message)
      end
    end
    assert.is_true(opened > 0 and refused > 0)
  end)
end)

describe("the format version", function()
  local path

  before_each(function() path = new_store() end)

  it("of a newer program is refused, and both are told", function()
    stored.damage(path, "put", "meta", "format", "03")
    local message = assert_refused("VERSION", path)
    assert.matches("format 3.*up to 2", message)
  end)

  it("that is no number is refused", function()
    stored.damage(path, "put", "meta", "format", "6161")
    assert_refused("VERSION", path)
  end)

  it("refused harms nothing: the program that knows it goes on", function()
    stored.damage(path, "put", "meta", "format", "1903e7")
    assert_refused("VERSION", path)
    stored.damage(path, "put", "meta", "format", "02")
    assert_holds_its_item(path)
  end)
end)
