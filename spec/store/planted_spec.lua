-- SPDX-License-Identifier: MIT
--
-- Files that others have put where respool makes or opens its own: it never
-- follows a link, writes to a device or waits for a pipe there. Compaction
-- used to write through STORE/compact.mdb and then gave the target to the
-- store's owner.

local helper = require "spec.helper"
local respool = require "respool"

local dir, path, precious
local is_root = helper.sh "id -u" == "0"
local NOBODY = 65534

before_each(function()
  dir = helper.dir()
  path, precious = dir .. "/store", dir .. "/precious"
  helper.write(precious, "precious")
end)

local function make_store()
  local store = assert(helper.open(path))
  assert(store:queue "orders"):push "kept"
  store:close()
end

local function kept()
  local store = assert(helper.open(path))
  local payload = assert(store:queue "orders"):peek()[1].payload
  store:close()
  return payload
end

local PLANTED = {
  link = "ln -s '%s' '%s'",
  ["dangling link"] = "ln -s '%s.none' '%s'",
  ["hard link"] = "ln '%s' '%s'",
  pipe = ": '%s'; mkfifo '%s'",
  device = is_root and ": '%s'; mknod '%s' c 1 3" or nil,
}

local function plant(kind, name)
  helper.sh("rm -f " .. path .. "/" .. name)
  helper.sh(PLANTED[kind]:format(precious, path .. "/" .. name))
end

-- For each kind of file in place of `name`: `body` returns what the call
-- under test does.
local function each_kind(name, body)
  for kind in pairs(PLANTED) do
    make_store()
    plant(kind, name)
    body(kind)
    assert.equal("precious", helper.read(precious), kind)
    assert.equal("1 644", helper.sh(("rm -rf %s/*; stat -c '%%h %%a' '%s'")
      :format(path, precious)), kind)
    assert.equal("precious", helper.sh("ls " .. dir .. " | grep -v store"))
  end
end

local function refused(...)
  local ok, message, code = ...
  assert.is_nil(ok)
  assert.equal("IO", code)
  assert.matches("link", message:gsub("not a plain file", "link"), 1, true)
end

describe("a file that somebody has planted", function()
  it("as data.mdb is not opened", function()
    each_kind("data.mdb", function()
      refused(helper.open(path))
      refused(helper.open(path, { read_only = true }))
      refused(respool.compact(path))
      refused(respool.repair(path, dir .. "/none"))
    end)
  end)

  it("as lock.mdb is not opened, also when looking", function()
    each_kind("lock.mdb", function()
      refused(helper.open(path))
      refused(helper.open(path, { read_only = true }))
      refused(respool.compact(path))
    end)
  end)

  it("as data.mdb.new does not become a store", function()
    each_kind("data.mdb.new", function()
      helper.sh(("cd '%s' && rm -f data.mdb journal control"):format(path))
      local store = assert(helper.open(path))
      assert(store:queue "orders"):push "kept"
      store:close()
      assert.equal("kept", kept())
    end)
  end)

  it("as compact.mdb is not compacted into", function()
    each_kind("compact.mdb", function()
      assert(respool.compact(path))
      assert.equal("kept", kept())
      assert.equal("control\ndata.mdb\njournal\nlock.mdb",
                   helper.sh("ls " .. path))
    end)
  end)

  it("as compact.mdb in another directory is not compacted into", function()
    local to = dir .. "/store.copy"
    for kind in pairs(PLANTED) do
      make_store()
      helper.sh(("rm -rf '%s'; mkdir '%s'"):format(to, to))
      helper.sh(PLANTED[kind]:format(precious, to .. "/compact.mdb"))
      assert(respool.compact(path, { to = to }))
      assert.equal("precious", helper.read(precious))
      assert.equal("data.mdb\njournal", helper.sh("ls " .. to))
    end
  end)

  it("as the lock of an export or import is not opened", function()
    each_kind("export.lock", function()
      local store = assert(helper.open(path))
      local queue = assert(store:queue "orders")
      refused(respool.export {
        dlq = queue.dead, remove = true, writer = { write = function() end },
      })
      store:close()
    end)
  end)
end)

describe("in a directory where everybody may write", function()
  if not is_root then return end

  it("a file of somebody else is not opened", function()
    make_store()
    helper.sh(("chmod 1777 '%s'; chown %d '%s/lock.mdb'"):format(path, NOBODY,
                                                                path))
    local _, message, code = helper.open(path)
    assert.equal("IO", code)
    assert.matches("another user has made it", message)
    helper.sh(("chmod 755 '%s'"):format(path)) -- the control
    assert.equal("kept", kept())
  end)
end)

describe("root in a store of another user", function()
  if not is_root then return end

  before_each(function()
    make_store()
    helper.sh(("chown -R %d:%d '%s'"):format(NOBODY, NOBODY, path))
  end)

  local function owners()
    return helper.sh(("stat -c '%%u %%g' '%s'/*"):format(path))
  end

  local THEIRS = ("%d %d\n"):format(NOBODY, NOBODY):rep(4):sub(1, -2)

  it("makes files that belong to that user", function()
    helper.sh(("rm '%s/lock.mdb'"):format(path))
    assert.equal("kept", kept())
    assert.equal(THEIRS, owners())
    assert(respool.compact(path))
    assert.equal(THEIRS, owners())
  end)

  it("makes files that belong to the user of the data, in its own directory",
     function()
    helper.sh(("chown 0:0 '%s'; rm '%s/lock.mdb'"):format(path, path))
    assert.equal("kept", kept())
    assert.equal(THEIRS, owners())
  end)

  -- Whatever a name leads to by the time it is opened, that user may open it.
  it("has the rights of that user alone", function()
    helper.sh(("chown 0:0 '%s/data.mdb'; chmod 600 '%s/data.mdb'"):format(path,
                                                                    path))
    local _, message, code = helper.open(path)
    assert.equal("IO", code)
    assert.matches("belongs to user 0, and user 65534 has no permission",
                   message)
    helper.sh(("chown %d '%s'/*"):format(NOBODY, path)) -- the control
    assert.equal("kept", kept())
  end)

  it("keeps its own rights elsewhere", function()
    assert.equal("kept", kept())
    helper.sh(("chmod 600 '%s'"):format(precious))
    assert.equal("precious", helper.read(precious))
  end)
end)

describe("what is taken out of a store", function()
  local function modes(in_dir)
    return helper.sh(("stat -c %%a '%s' '%s'/*"):format(in_dir, in_dir))
  end

  it("is no more readable than the store", function()
    make_store()
    helper.sh(("cd '%s'; chmod 600 *; rm -f lock.mdb control"):format(path))
    local to, out = dir .. "/store.copy", dir .. "/store.out"
    assert(respool.compact(path, { to = to }))
    assert.equal("700\n600\n600", modes(to)) -- its journal, too
    assert(respool.repair(path, dir .. "/store.new"))
    assert.equal("700\n600\n600", modes(dir .. "/store.new"))
    local store = assert(helper.open(path))
    assert(respool.export {
      queue = store:queue "orders",
      writer = assert(respool.file_writer(out, { store = store })),
    })
    assert.equal("700\n600", modes(out))
    assert.equal("600\n600\n600\n600",
                 helper.sh(("stat -c %%a '%s'/*"):format(path)))
  end)

  it("is written by the group if the store is", function()
    make_store()
    helper.sh(("cd '%s'; chmod 660 data.mdb; rm control journal lock.mdb")
      :format(path))
    local store = assert(helper.open(path))
    assert(store:queue("orders"):push "x")
    assert(store:close())
    assert.equal("660\n660\n660\n660",
                 helper.sh(("stat -c %%a '%s'/*"):format(path)))
  end)

  it("is read by the group if the store is, and by nobody else", function()
    make_store()
    local out = dir .. "/store.out"
    local store = assert(helper.open(path))
    for _, packed in ipairs { "none", "gzip", "zstd" } do
      assert(respool.export {
        queue = store:queue "orders",
        writer = assert(respool.file_writer(out, {
          store = store, [packed ~= "none" and packed or "form"] =
            packed ~= "none" or "json",
        })),
      })
    end
    assert.equal("750\n640\n640\n640", modes(out))
  end)
end)
