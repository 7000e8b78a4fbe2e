-- SPDX-License-Identifier: MIT
--
-- The contents of a store, read as doc/format.md says and without respool: the
-- page's table gives the fields of the keys, its drawings the fields of the
-- records, spec/c/lmdb/dump.c the bytes, and the values are decoded here. A
-- difference between page and store is an error.

local helper = require "spec.helper"
local respool = require "respool"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

local M = { NULL = setmetatable({}, { __tostring = function()
  return "null"
end }) }


-- CBOR (RFC 8949): definite lengths, and integers in their shortest form but
-- for those of nine bytes where `fixed`. Byte strings become { bytes = ... }.

local item

local function big_endian(s)
  local n = 0
  for i = 1, #s do n = n * 256.0 + s:byte(i) end
  return n
end

local SIZES = { [24] = 1, [25] = 2, [26] = 4, [27] = 8 }

local function argument(r, info)
  if info < 24 then return info end
  local size = assert(SIZES[info], "a length that is not definite")
  local n = big_endian(r:take(size))
  local least = size == 1 and 24 or 256 ^ (size / 2)
  assert(n >= least or r.fixed and size ~= 1, "a form that is not shortest")
  return n
end

local function float(r, info)
  local s = r:take(SIZES[info])
  local bits = { [2] = { 5, 10 }, [4] = { 8, 23 }, [8] = { 11, 52 } }
  local e_bits, m_bits = bits[#s][1], bits[#s][2]
  local n = big_endian(s:sub(1, 2)) % 32768
  local rest = #s * 8 - 16
  local exponent = math.floor(n / 2 ^ (15 - e_bits))
  local mantissa = n % 2 ^ (15 - e_bits) * 2 ^ rest + big_endian(s:sub(3))
  local sign = s:byte(1) >= 128 and -1 or 1
  assert(exponent > 0 or mantissa == 0, "a float of no use here")
  if exponent == 0 then return 0.0 end
  return sign * (1 + mantissa / 2 ^ m_bits)
    * 2 ^ (exponent - 2 ^ (e_bits - 1) + 1)
end

local SIMPLE = { [20] = false, [21] = true, [22] = M.NULL }

local MAJOR = {
  [0] = function(_, n) return n end,
  [1] = function(_, n) return -1 - n end,
  [2] = function(r, n) return { bytes = r:take(n) } end,
  [3] = function(r, n) return r:take(n) end,
  [4] = function(r, n)
    local list = {}
    for i = 1, n do list[i] = item(r) end
    return list
  end,
  [5] = function(r, n)
    local map = {}
    for _ = 1, n do map[item(r)] = item(r) end
    return map
  end,
}

function item(r)
  local head = r:take(1):byte()
  local major, info = math.floor(head / 32), head % 32
  if major < 6 then return MAJOR[major](r, argument(r, info)) end
  assert(major == 7, "a tag")
  if SIZES[info] and info > 24 then return float(r, info) end
  assert(SIMPLE[info] ~= nil, "a simple value of no use here")
  return SIMPLE[info]
end

-- One item, which is all of the bytes.
function M.decode(bytes, fixed)
  local r = { at = 1, fixed = fixed }
  function r:take(n)
    assert(self.at + n - 1 <= #bytes, "cut off")
    self.at = self.at + n
    return bytes:sub(self.at - n, self.at - 1)
  end
  local value = item(r)
  assert(r.at == #bytes + 1, "bytes behind the value")
  return value
end


-- The page.

local PAGE = helper.read "doc/format.md"

-- Fields of a key, { name, size } each, from words such as "blob 8, part 4".
local function key_fields(words)
  local fields = {}
  for name, size in words:gmatch "([%a_][%a_ ]-) (%d+)" do
    table.insert(fields, { name, tonumber(size) })
  end
  local tail = words:match ", (%l+)$" -- the rest of the key
  if #fields > 0 and tail then table.insert(fields, { tail }) end
  return fields
end

-- The tables: by name, the fields of the key, and the word for the value. "as
-- in" refers to another's key.
local function read_table()
  local found = {}
  for line in PAGE:gmatch "[^\n]+" do
    local name, key, value =
      line:match "^| `([%l_]+)` | ?%d* ?| ([^|]+) | ([%a_]+).- |$"
    if name then
      local like = key:match "^as in `(%l+)`$"
      found[name] = {
        key = like and found[like].key or key_fields(key), value = value,
      }
    end
  end
  return found
end

-- A line of a drawing without its label and the remark at its end.
local function plain(line)
  return (line:gsub("^[%l_]+:", ""):gsub("^ +", ""):gsub("  .*", ""))
end

-- The fields in the brackets that a drawing begins with. A list among them
-- goes by the name of its elements.
local function drawn_fields(lines)
  local fields = {}
  local inner = table.concat(lines, " "):match "^%b[]"
  if not inner then return nil end
  inner = inner:sub(2, -2):gsub("%b[]", function(list)
    return list:match "[%l_]+" .. " list"
  end)
  for field in inner:gmatch "[^,]+" do
    fields[#fields + 1] = field:gsub("%b()", ""):match "^%s*(.-)%s*$"
  end
  return fields
end

-- Drawings by their label, or else by the heading they stand under. A blank
-- line or a label begins a new one.
local function read_drawings()
  local found, heading, name, lines = {}, nil, nil, {}
  local function finish()
    if name and not found[name] then found[name] = drawn_fields(lines) end
    name, lines = nil, {}
  end
  local drawing = false
  for line in PAGE:gmatch "([^\n]*)\n" do
    heading = line:match "^## (.*)" or heading
    if line == "```" then drawing = not drawing end
    local label = line:match "^([%l_]+):"
    if label or line == "" or line == "```" then finish() end
    if drawing and line ~= "```" and line ~= "" then
      name = name or label or heading
      table.insert(lines, plain(line))
    end
  end
  return found
end

M.page = { tables = read_table(), drawings = read_drawings(), text = PAGE }


-- Records, by the names the page gives their fields.

-- An array as a record of this name.
function M.record(name, array)
  local fields = assert(M.page.drawings[name], name)
  assert(#array == #fields, ("%s: %d fields drawn, %d stored"):format(
    name, #fields, #array))
  local record = {}
  for i, field in ipairs(fields) do record[field] = array[i] end
  return record
end

local function split_key(name, bytes)
  local fields, key, at = M.page.tables[name].key, {}, 1
  if #fields == 0 then return bytes end
  for _, field in ipairs(fields) do
    local size = field[2] or #bytes + 1 - at
    local part = bytes:sub(at, at + size - 1)
    key[field[1]] = field[2] and big_endian(part) or part
    at = at + size
  end
  assert(at == #bytes + 1, ("%s: a key of %d bytes"):format(name, #bytes))
  return key
end

local function split_value(kind, bytes)
  local value = M.decode(bytes, true)
  if value == M.NULL or not M.page.drawings[kind] then return value end
  return M.record(kind, value)
end

local function unhex(hex)
  return (hex:gsub("..", function(two)
    return string.char(tonumber(two, 16))
  end))
end

local UNSUMMED = { format = true, store = true }

-- Is the checksum of an entry fixed, and of all behind it?
function M.is_summed(entry)
  local stated = entry.bytes:sub(3, 10):gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end)
  return entry.bytes:byte(2) == 0x1b and stated == entry.sum
end

-- The contents of a store of any format: by table, a list of { key, value, sum
-- }, all bytes; `sum` is the checksum that it should have, by the other
-- implementation.
function M.raw(path)
  local found = {}
  local said = helper.sh(("%s/spec/dump '%s'"):format(build, path))
  for line in said:gmatch "[^\n]+" do
    local name, key, value, sum = line:match "^([%l_]+) ?(%x*) ?(%x*) ?(.*)$"
    found[name] = found[name] or {}
    if value ~= "" then
      table.insert(found[name], {
        key = unhex(key), value = unhex(value), sum = sum,
      })
    end
  end
  return found
end

-- The same of this format: by table, a list of { key, value, key_bytes, bytes,
-- sum }.
function M.read(path)
  local found = {}
  for name, entries in pairs(M.raw(path)) do
    found[name] = {}
    for i, e in ipairs(entries) do
      local kind = assert(M.page.tables[name], name).value
      local entry = { key_bytes = e.key, bytes = e.value, sum = e.sum }
      entry.key = split_key(name, entry.key_bytes)
      entry.value = split_value(kind, entry.bytes)
      assert(UNSUMMED[e.key] or entry.value == M.NULL or M.is_summed(entry),
             name)
      found[name][i] = entry
    end
  end
  return found
end

-- The only entry of a database.
function M.only(path, database)
  local entries = M.read(path)[database]
  assert(#entries == 1, ("%d entries in %s"):format(#entries, database))
  return entries[1]
end

-- Damages what lies at a path, or makes what is no store: see
-- spec/c/lmdb/damage.c.
function M.damage(path, ...)
  local said = helper.sh(("%s/spec/damage '%s' %s 2>&1; echo $?"):format(
    build, path, table.concat({ ... }, " ")))
  assert(said == "0", said)
end


-- Contents that the page's specs put into stores.

-- A byte string, as it is read.
function M.bytes(s)
  return { bytes = s }
end

-- A payload of the queue `orders` as an item is stored.
function M.item(s)
  return { M.bytes(s), M.bytes "raw", M.NULL }
end

-- A fresh store and its queue `orders`.
function M.orders()
  local store = helper.store { journal = false }
  return store, assert(store:queue("orders", {
    lease = 30, max_attempts = 6, codec = "raw",
    retry = respool.backoff.constant { delay = 5 },
  }))
end

-- Takes one item and settles it with an outcome.
function M.settle(q, outcome, ...)
  local batch = assert(q:take())
  batch[outcome](batch, ...)
  assert(batch:settle())
end

return M
