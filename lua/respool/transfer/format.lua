-- SPDX-License-Identifier: MIT
--
-- Archives: exported dead letters or items as bytes, drawn in doc/archive.md. A
-- header, records, and an end that counts them, as JSON Lines or as a CBOR
-- sequence (RFC 8742). Each bears a checksum of itself and of all before it,
-- so that a change, a gap, a double or a cut is found where it is.
--
-- A record is a dead letter or an item as the store lists them, with
-- `bytes`, `header_bytes` and `original_bytes` as stored. The CBOR form keeps
-- these; the JSON form shows what they mean where nothing is lost by it.

local core = require "respool.core"
local compat = require "respool.support.compat"
local json = require "respool.support.json"

local cbor, sum = core.cbor, core.file.sum

local M = {}

M.FORMAT = 1

---@class respool.archive_header
---@field format integer
---@field kind "dead_letters"|"items"
---@field codec string of the payloads
---@field version integer of the payloads; a record may say another
---@field store string id of the store they come from
---@field source string the dlq, or the queue
---@field moved boolean whether the export was to remove them from there
---@field first integer number or id of the first record
---@field made_at number

local FIELDS = {
  "number", "id", "queue", "reason", "group", "error", "state", "priority",
  "key", "partition", "version", "pushed_at", "visible_at", "expires_at",
  "died_at", "first_failed_at", "attempts", "deliveries", "crashes", "replays",
  "failures", "items", "memo",
}


-- Records as they are written.

-- The origin of a record, where that is not the record itself.
local function foreign_origin(record)
  local o = record.origin
  if o == nil or o.queue == record.queue and o.id == record.id
     and o.pushed_at == record.pushed_at then
    return nil
  end
  return o
end

-- The fields that both forms write as well as FIELDS; `codec` is the archive's.
local function others(record, codec)
  local out = { origin = foreign_origin(record) }
  local own = record.codec or "cbor"
  if own ~= codec then out.codec = own end
  if record.original_bytes and record.original_codec ~= record.codec then
    out.original_codec = record.original_codec or "cbor"
  end
  if record.history and record.history[1] then
    out.history = cbor.array(record.history)
  end
  out.damaged = record.damaged or nil
  return out
end

local PLAIN = { lossless = true, whole = true } -- seconds that are whole

-- A table as JSON, and back.
local function to_note(value)
  return json.native.from_cbor(cbor.encode(value), PLAIN)
end

local function from_note(text)
  local fields, why = json.native.split(text)
  if not fields then return nil, why end
  return cbor.decode(fields)
end

-- The names of a record's parts in the JSON form, where their meaning is shown
-- and where only their bytes; the field that names a codec.
local PARTS = {
  { "bytes", "payload", "body", "codec" },
  { "header_bytes", "headers", "header_bytes" },
  { "original_bytes", "original", "original_body", "original_codec" },
}

-- The bytes of a part that can be shown; others go into `out`.
local function to_be_shown(record, part, out)
  local bytes = record[part[1]]
  if not record.damaged and not (part[4] and record[part[4]]) then
    return bytes
  end
  out[part[3]] = bytes
end

-- Bytes are shown as what they mean where the same bytes can be made of that
-- again.
local function to_json(record, codec)
  local out, join = others(record, codec), json.native.join
  local payload = to_be_shown(record, PARTS[1], out)
  local headers = to_be_shown(record, PARTS[2], out)
  local original = to_be_shown(record, PARTS[3], out)
  while true do
    local text, lossy = join(cbor.members(record, FIELDS, out), "payload",
      payload, "headers", headers, "original", original)
    if text then return text end
    out[PARTS[lossy][3]] = record[PARTS[lossy][1]]
    if lossy == 1 then payload = nil end
    if lossy == 2 then headers = nil end
    if lossy == 3 then original = nil end
  end
end

local function from_json(text)
  local fields, payload, headers, original =
    json.native.split(text, "payload", "headers", "original")
  if not fields then return nil, payload end
  local record, why = cbor.decode(fields)
  if not record then return nil, why end
  local bytes = {
    payload or record.body, headers or record.header_bytes,
    original or record.original_body,
  }
  for i, part in ipairs(PARTS) do
    record[part[3]] = nil
    record[part[1]] = bytes[i]
  end
  return record
end

local function to_cbor(record, codec)
  local out = others(record, codec)
  out.body, out.headers = record.bytes, record.header_bytes
  out.original = record.original_bytes
  return cbor.members(record, FIELDS, out)
end

local function from_cbor(bytes)
  local record, why = cbor.decode(bytes)
  if type(record) ~= "table" then return nil, why or "no map" end
  record.bytes, record.header_bytes = record.body, record.headers
  record.original_bytes = record.original
  record.body, record.headers, record.original = nil, nil, nil
  return record
end


-- Frames: each of a form's entries with its sum. read() returns the text of the
-- next entry, which is `most` bytes long at most, and its sum as bytes or
-- digits; nil at the end of the input; or nil and what is wrong.

local JSON = { name = "json", suffix = ".jsonl" }

function JSON.frame(text, _, digits)
  return text:sub(1, -2) .. ',"sum":"' .. digits .. '"}\n'
end

local NO_SUM = "it has no checksum"

function JSON.read(input, most)
  local line, why = input:line(most)
  if not line then return nil, why end
  local text, check = line:match '^(.*),"sum":"(%x+)"}$'
  if not text or #check ~= 16 then return nil, NO_SUM end
  return text .. "}", check:lower()
end

JSON.record, JSON.parse = to_json, from_json
JSON.note, JSON.parse_note = to_note, from_note

local CBOR = { name = "cbor", suffix = ".cbor" }

local HEAD = "^\130\72(........)\90(....)$" -- [ sum, a byte string ]

local function number32(n)
  return string.char(math.floor(n / 2^24) % 256, math.floor(n / 2^16) % 256,
                     math.floor(n / 2^8) % 256, n % 256)
end

function CBOR.frame(bytes, check)
  return "\130\72" .. check .. "\90" .. number32(#bytes) .. bytes
end

function CBOR.read(input, most)
  local head, why = input:take(15, most)
  if not head then return nil, why end
  local check, length = head:match(HEAD)
  if not check then return nil, "it does not begin as one" end
  local a, b, c, d = length:byte(1, 4)
  local bytes
  bytes, why = input:take(((a * 256 + b) * 256 + c) * 256 + d, most)
  if not bytes then return nil, why or "it is cut off" end
  return bytes, check
end

CBOR.record, CBOR.parse = to_cbor, from_cbor
CBOR.note, CBOR.parse_note = cbor.encode, cbor.decode

M.forms = { json = JSON, cbor = CBOR }


-- Writing.

---@class respool.archive_writer
---@field count integer records so far
local Writer = {}
Writer.__index = Writer

local function framed(self, text)
  local check, digits = sum(text, self.sum)
  self.sum = check
  return self.form.frame(text, check, digits)
end

-- An archive in a form ("json", "cbor"); each function returns the bytes to
-- be written next.
---@param form string
---@param header table without `format`
---@return respool.archive_writer
function M.write(form, header)
  return setmetatable({
    form = M.forms[form], header = header, count = 0, sum = nil,
  }, Writer)
end

---@return string
function Writer:start()
  local header = { respool = "archive", format = M.FORMAT }
  for name, value in pairs(self.header) do header[name] = value end
  return framed(self, self.form.note(header))
end

---@return string
function Writer:record(record)
  self.count = self.count + 1
  return framed(self, self.form.record(record, self.header.codec))
end

---@return string
function Writer:finish()
  return framed(self, self.form.note { ["end"] = self.count })
end


-- Reading.

---@class respool.archive_reader
---@field header respool.archive_header? of the archive it is in
---@field count integer records of that archive read so far
local Reader = {}
Reader.__index = Reader

local HEADER = 2^20 -- bytes of a header at most

-- Archives, one behind the other, in an input with functions take(n, most) and
-- line(most), which return nil at its end, and the reason if that is in the
-- middle, or if more than `most` bytes would be returned.
---@param form string
---@param input table
---@param most integer bytes of a record at most
---@return respool.archive_reader
function M.read(form, input, most)
  return setmetatable({
    form = M.forms[form], input = input, count = 0, most = most,
  }, Reader)
end

local function corrupt(text, ...)
  return nil, text:format(...), "CORRUPT"
end

M.PLAIN = "this is no respool archive (`respool push` reads JSON Lines and "
  .. "CBOR sequences)"

-- The text of the next entry, once its sum has been found right. `what` names
-- it in the error.
local function entry(self, what, most)
  local text, check = self.form.read(self.input, most)
  if not text then
    if not check then return nil end
    if what == "the header" and check == NO_SUM then return corrupt(M.PLAIN) end
    return corrupt("%s is damaged: %s", what, check)
  end
  local right, digits = sum(text, self.sum)
  if check ~= right and check ~= digits then
    return corrupt("%s is damaged: its checksum does not hold", what)
  end
  self.sum = right
  return text
end

local KINDS = { dead_letters = true, items = true }

local function check_header(header)
  if type(header) ~= "table" or header.respool ~= "archive"
     or type(header.format) ~= "number" then
    return corrupt "this is no respool archive"
  elseif header.format > M.FORMAT then
    return nil, ("archive format %.0f is newer than %d, which this program "
      .. "knows"):format(header.format, M.FORMAT), "VERSION"
  elseif not KINDS[header.kind] or type(header.source) ~= "string"
     or type(header.store) ~= "string" or type(header.codec) ~= "string" then
    return corrupt "the header is damaged: it does not say what this is"
  end
  return header
end

-- The header of the next archive; nil when there is none.
local function read_header(self)
  self.sum, self.count, self.header = nil, 0, nil
  local text, message, code = entry(self, "the header", HEADER)
  if not text then return nil, message, code end
  local header
  header, message, code = check_header(self.form.parse_note(text))
  self.header = header
  return header, message, code
end
Reader.start = read_header

local function read_end(self, note)
  if note["end"] ~= self.count then
    return corrupt("the end counts %s records, not %d",
                   tostring(note["end"]), self.count)
  end
  self.header = nil
  local header, message, code = read_header(self)
  if header then return self:next() end
  return nil, message, code
end

local function is_number(value)
  return type(value) == "number" and value >= 0
end

local function is_text(value)
  return value == nil or type(value) == "string"
end

-- Whether a record can be distinguished from others. A dead letter that is
-- damaged may have nothing but its number.
local function is_named(r)
  return is_number(r.number) and (r.pushed_at == nil or is_number(r.pushed_at))
    or is_number(r.id) and is_number(r.pushed_at)
end

local function is_record(r)
  return type(r.bytes) == "string" and is_named(r) and is_text(r.key)
    and is_text(r.header_bytes) and is_text(r.codec)
    and is_text(r.original_codec)
    and (r.died_at == nil or is_number(r.died_at))
end

local function parse(self, text)
  local ok, record, why = compat.pcall(self.form.parse, text)
  if not ok then return nil, tostring(record) end
  if record and not record["end"] and not is_record(record) then
    return nil, "it lacks what a record must have"
  end
  return record, why
end

-- Names the codecs of a record; nil: CBOR.
local function name_codecs(record, codec)
  if record.codec == nil then record.codec = codec end
  if record.original_codec == nil then record.original_codec = record.codec end
  if record.codec == "cbor" then record.codec = nil end
  if record.original_codec == "cbor" or not record.original_bytes then
    record.original_codec = nil
  end
end

-- The next record; nil at the end of the last archive; nil, message, code
-- when no record follows: all before it was right. The fourth result is true
-- when it is as it was written, but no record here: the next one may be.
---@return table?, string?, string?, boolean?
function Reader:next()
  if not self.header then
    local header, message, code = read_header(self)
    if not header then return nil, message, code end
  end
  local what = ("record %d"):format(self.count + 1)
  local text, message, code = entry(self, what, self.most)
  if not text and message then return nil, message, code end
  if not text then
    return corrupt("it is cut off behind record %d", self.count)
  end
  local record, why = parse(self, text)
  if record and record["end"] then return read_end(self, record) end
  self.count = self.count + 1
  if not record then
    return nil, ("%s cannot be read: %s"):format(what, why), "CORRUPT", true
  end
  if record.version == nil then record.version = self.header.version end
  name_codecs(record, self.header.codec)
  return record
end


-- Records that cannot become items again.

local function is_set_aside(record)
  return type(record.items) == "number" and record.items > 1
    or record.number and record.reason == "undecodable"
    and record.pushed_at == nil
end

-- Why a record cannot be pushed, if it is one of a dead letter whose payload is
-- lost. Archives that do not say `damaged` are older.
---@param record table
---@return string?
function M.problem(record)
  if is_set_aside(record) then
    return "it is a damaged segment that was set aside"
  elseif record.damaged or record.reason == "damaged" then
    return "it is damaged"
  end
end


-- Identity.

local function milliseconds(seconds)
  return seconds and ("%.0f"):format(seconds * 1000) or ""
end

-- The 8 bytes that distinguish a dead letter or item from all others of its
-- store, also after the store was repaired or compacted.
---@param record table
---@return string
function M.print(record)
  return (sum(table.concat({
    record.number and "dead_letter" or "item", record.queue or "",
    ("%.0f"):format(record.number or 0), ("%.0f"):format(record.id or 0),
    milliseconds(record.pushed_at), milliseconds(record.died_at),
  }, "\0")))
end

return M
