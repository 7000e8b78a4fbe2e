-- SPDX-License-Identifier: MIT

local core = require "respool.core"
local helper = require "spec.helper"
local json = require "respool.support.json"
local respool = require "respool"
local transfer = require "spec.helper.transfer"

local cbor, null = respool.cbor, respool.null
local export, import = transfer.export, transfer.import
local queue_of, upto = transfer.queue_of, transfer.upto

local FORMS = {
  { form = "json" }, { form = "cbor" }, { form = "json", gzip = true },
  { form = "cbor", zstd = true },
}

local function bytes_of(q)
  local list = {}
  for item in q:each() do list[#list + 1] = item.bytes end
  return list
end

describe("an archive", function()
  for _, o in ipairs(FORMS) do
    local name = o.form .. (o.gzip and ", gzip" or o.zstd and ", zstd" or "")

    it("keeps every payload as it is: " .. name, function()
      local q = queue_of(transfer.HARD)
      local files = export(q, helper.dir() .. "/d", o)
      local counts, r, to = import(files)
      assert.same({}, r.problems)
      assert.equal(#transfer.HARD, counts.pushed)
      local before, after = bytes_of(q), bytes_of(to)
      for i in ipairs(transfer.HARD) do
        assert.equal(before[i], after[i])
      end
    end)

    it("keeps bytes that are no CBOR: " .. name, function()
      local store = helper.store()
      local q = store:queue("orders", { codec = "raw" })
      local given = { "plain", "", "\255\0", "{}", "5" }
      for _, bytes in ipairs(given) do q:push(bytes) end
      local files = export(q, helper.dir(), o)
      local r = respool.file_reader(files)
      local to = helper.store():queue("in", { codec = "raw" })
      assert(respool.import { to = to, reader = r })
      assert.same(given, bytes_of(to))
      -- and when the exporter took them for CBOR
      files = export(store:queue "orders", helper.dir(), o)
      local _, _, other = import(files)
      assert.same(given, bytes_of(other))
    end)
  end

  it("carries everything a dead letter has", function()
    for _, o in ipairs { FORMS[1], FORMS[2] } do
      local q = helper.store():queue("orders", { max_attempts = 2 })
      q:push({ n = 1 }, { headers = { t = 1 }, key = "k", priority = 3 })
      q:work(function(_, item)
        item:retry { error = "no\n" .. item.attempts, group = "g" }
      end, { stop_when_empty = true })
      q.store:advance(4000)
      q:work(function(_, item)
        item:retry { error = "no\n" .. item.attempts, group = "g" }
      end, { stop_when_empty = true })
      q.dead:replay { transform = function() return { n = 2 } end }
      q:work(function() return respool.dead { error = "\255", group = "h" } end,
             { stop_when_empty = true })
      local w = assert(respool.file_writer(helper.dir(), {
        store = q.store, form = o.form,
      }))
      assert(respool.export { dlq = q.dead, writer = w })
      local there = assert(q.dead:oldest())
      local record = assert(respool.file_reader(w.files)):read()[1]
      for _, name in ipairs { "number", "id", "queue", "reason", "group",
                              "error", "pushed_at", "died_at", "attempts",
                              "first_failed_at", "deliveries", "crashes",
                              "replays", "priority", "key", "failures",
                              "history", "header_bytes", "bytes", "version" } do
        assert.same(there[name], record[name])
      end
      assert.equal(cbor.encode { n = 1 }, record.original_bytes)
      assert.equal("h", record.group)
    end
  end)

  it("says in its header what it is", function()
    local q = helper.store():queue("orders", { version = 4 })
    q:push { n = 1 }
    local path = export(q, helper.dir())[1]
    local header = assert(json.decode(helper.read(path):match "^(.-)\n"))
    assert.equal("archive", header.respool)
    assert.equal(1, header.format)
    assert.equal("items", header.kind)
    assert.equal("cbor", header.codec)
    assert.equal(4, header.version)
    assert.equal(q.store:stats().id, header.store)
    assert.equal("orders", header.source)
    assert.is_false(header.moved)
  end)

  it("is plain JSON where a payload is plain", function()
    local q = queue_of { { list = { 1, 2.5, null, { name = "Ada" } } } }
    local line = helper.read(export(q, helper.dir())[1]):match "\n(.-)\n"
    assert.matches('"payload":{"list":[1,2.5,null,{"name":"Ada"}]}', line,
                   1, true)
  end)

  it("is a CBOR sequence of checksums and byte strings", function()
    local q = queue_of { { n = 1 } }
    local text = helper.read(export(q, helper.dir(), { form = "cbor" })[1])
    local at, items = 1, {}
    while at <= #text do
      local a, b, c, d = text:byte(at + 11, at + 14)
      local length = ((a * 256 + b) * 256 + c) * 256 + d
      local pair = assert(cbor.decode(text:sub(at, at + 14 + length)))
      items[#items + 1] = assert(cbor.decode(pair[2]))
      at = at + 15 + length
    end
    assert.equal("archive", items[1].respool)
    assert.equal(cbor.encode { n = 1 }, items[2].body)
    assert.same({ ["end"] = 1 }, items[3])
  end)

  it("of before damaged dead letters said so is read as one that does",
    function()
    local archive = require "respool.transfer.format"
    local old = {
      { number = 1, id = 1, pushed_at = 5, died_at = 6, bytes = "1" },
      { number = 2, id = 0, reason = "damaged", items = 1, bytes = "2" },
      { number = 3, id = 3, reason = "undecodable", items = 1, died_at = 6,
        bytes = "3" },
      { number = 4, id = 3, reason = "undecodable", items = 7, died_at = 6,
        bytes = "4" },
      { number = 5, id = 9, reason = "undecodable", items = 1, pushed_at = 5,
        died_at = 6, bytes = "5" }, -- its codec failed, not its bytes
    }
    for _, form in ipairs { "json", "cbor" } do
      local w = archive.write(form, {
        kind = "dead_letters", codec = "raw", store = "s", source = "q",
      })
      local parts = { w:start() }
      for _, record in ipairs(old) do parts[#parts + 1] = w:record(record) end
      parts[#parts + 1] = w:finish()
      local path = helper.dir() .. "/old"
      helper.write(path, table.concat(parts))
      local q = helper.store():queue("in", { codec = "raw" })
      local counts, r = import({ path }, q)
      assert.same({}, r.problems)
      assert.same({ "dead letter 2: it is damaged",
                    "dead letter 3: it is a damaged segment that was set aside",
                    "dead letter 4: it is a damaged segment that was set "
                      .. "aside" },
                  counts.errors)
      assert.same({ "1", "5" }, bytes_of(q))
    end
  end)

  it("may hold what cannot be read here; the rest can", function()
    local core_sum, parts, sum = core.file.sum, {}, nil
    local function add(text)
      sum = core_sum(text, sum)
      parts[#parts + 1] = ('%s,"sum":"%s"}\n'):format(text:sub(1, -2),
        (sum:gsub(".", function(c) return ("%02x"):format(c:byte()) end)))
    end
    add('{"respool":"archive","format":1,"kind":"items","codec":"raw",'
      .. '"store":"s","source":"q"}')
    add '{"id":1,"pushed_at":5,"body":"one"}'
    for _ = 1, 12 do add '{"id":2,"pushed_at":5}' end
    add '{"id":3,"pushed_at":5,"body":"three"}'
    add '{"end":14}'
    local path = helper.dir() .. "/strange"
    helper.write(path, table.concat(parts))
    local q = helper.store():queue("in", { codec = "raw" })
    local counts, r = import({ path }, q)
    assert.equal(2, counts.pushed)
    assert.equal(path .. ": record 2 cannot be read: it lacks what a record "
      .. "must have", r.problems[1])
    assert.equal(path .. ": and 2 other records", r.problems[#r.problems])
    assert.same({}, r.finished)
    assert.same({ "one", "three" }, bytes_of(q))
  end)

  it("may follow another in one file", function()
    local q = queue_of(upto(10))
    local files = export(q, helper.dir(), { rotate = 500 })
    assert.is_true(#files > 1)
    local all = helper.dir() .. "/all"
    local texts = {}
    for i, path in ipairs(files) do texts[i] = helper.read(path) end
    helper.write(all, table.concat(texts))
    local counts, r = import { all }
    assert.equal(10, counts.pushed)
    assert.same({ all }, r.finished)
  end)

  it("of a newer format is refused, and stays", function()
    for _, form in ipairs { "json", "cbor" } do
      local archive = require "respool.transfer.format"
      local path = helper.dir() .. "/new"
      local format = archive.FORMAT
      archive.FORMAT = format + 1
      local w = archive.write(form, { kind = "items", codec = "cbor" })
      local text = w:start()
      archive.FORMAT = format
      helper.write(path, text)
      local r = assert(respool.file_reader({ path }, { delete = true }))
      local q = helper.store():queue "in"
      assert.equal(0, respool.import { to = q, reader = r }.pushed)
      assert.equal(path .. ": archive format 2 is newer than 1, which this "
        .. "program knows", r.problems[1])
      assert.equal("VERSION", r.code)
      assert.equal(text, helper.read(path))
    end
  end)
end)

-- What comes of a text: defined errors, and a prefix of the records exported.
local function check_damaged(text, path, n, exactly)
  helper.write(path, text)
  local r = assert(respool.file_reader { path })
  local got, batch = 0, r:read()
  while batch do
    for _, record in ipairs(batch) do
      got = got + 1
      assert.same({ n = got }, cbor.decode(record.bytes))
    end
    r:accepted(batch, 0)
    batch = r:read()
  end
  if #r.problems == 0 then
    assert.is_true(exactly, "damage that was not noticed")
    assert.equal(n, got)
    assert.same({ path }, r.finished)
  else
    assert.same({}, r.finished)
    assert.matches("^[^\n]+$", r.problems[1])
    assert.is_true(r.code == "CORRUPT" or r.code == "VERSION")
  end
  return #r.problems > 0
end

local function flip(text, at)
  return text:sub(1, at - 1) .. string.char((text:byte(at) + 1) % 256)
    .. text:sub(at + 1)
end

describe("damage of an archive", function()
  for _, o in ipairs(FORMS) do
    local name = o.form .. (o.gzip and ", gzip" or o.zstd and ", zstd" or "")
    local packed = o.gzip or o.zstd
    -- Compressed files start a process for each read: fewer of them.
    local step = packed and 7 or 1

    it("is found at every byte: " .. name, function()
      local text = helper.read(export(queue_of(upto(3)), helper.dir(), o)[1])
      local path, found = helper.dir() .. "/damaged", 0
      for at = 1, #text, step do
        -- a byte of gzip's header may mean nothing
        if check_damaged(flip(text, at), path, 3, packed) then
          found = found + 1
        end
      end
      assert.is_true(found > #text / step * 0.8)
      assert.is_false(check_damaged(text, path, 3, true)) -- the control
    end)

    it("is found wherever it is cut off: " .. name, function()
      local text = helper.read(export(queue_of(upto(3)), helper.dir(), o)[1])
      local path = helper.dir() .. "/cut"
      for n = 0, #text - 1, step do
        check_damaged(text:sub(1, n), path, 3, packed)
      end
    end)
  end

  it("of its compression is blamed on that, by the file's name", function()
    local dir = helper.dir()
    local text = helper.read(export(queue_of(upto(9)), dir, { gzip = true })[1])
    local path = helper.dir() .. "/cut"
    helper.write(path, text:sub(1, 60))
    local _, r = import { path }
    assert.matches("^" .. path:gsub("%p", "%%%0")
      .. ": the header is damaged: it is cut off %(gzip cannot unpack all of "
      .. "the file%)$", r.problems[1])
  end)

  it("is found when a record is missing, doubled or moved", function()
    local text = helper.read(export(queue_of(upto(3)), helper.dir())[1])
    local lines = {}
    for line in text:gmatch "[^\n]*\n" do lines[#lines + 1] = line end
    local path = helper.dir() .. "/damaged"
    for _, order in ipairs { { 1, 2, 4, 5 }, { 1, 2, 2, 3, 4, 5 },
                             { 1, 3, 2, 4, 5 }, { 1, 5 }, { 1, 2, 3, 4 } } do
      local parts = {}
      for i, k in ipairs(order) do parts[i] = lines[k] end
      assert.is_true(check_damaged(table.concat(parts), path, 3, false))
    end
    assert.is_false(check_damaged(table.concat(lines), path, 3, true))
  end)

  it("lets what lies before it be imported, and the rest later", function()
    local q = queue_of(upto(50))
    local path = export(q, helper.dir())[1]
    local text = helper.read(path)
    helper.write(path, flip(text, math.floor(#text / 2)))
    local counts, r, to = import { path }
    assert.matches("record %d+ is damaged", r.problems[1])
    assert.is_true(counts.pushed > 0 and counts.pushed < 50)
    helper.write(path, text)
    assert.equal(50 - counts.pushed, import({ path }, to).pushed)
    assert.equal(50, to:length().total)
  end)
end)
