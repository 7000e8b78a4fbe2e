-- SPDX-License-Identifier: MIT
--
-- Retention of export files: of those that a writer's source has in a
-- directory, the newest are kept, and those that are young enough. A file is of
-- the source when its header says so, whatever its name.

local file_reader = require "respool.transfer.file_reader"
local files = require "respool.transfer.files"

local M = {}

-- The header of a file, read once; false: it has none that is known.
local function header_of(w, path)
  local header = w.headers[path]
  if header == nil then
    local reader = file_reader.open(path)
    header = reader and reader:start() or false
    if reader then reader:close() end
    w.headers[path] = header
  end
  return header
end

local function is_of(header, source)
  return header and header.store == source.store
    and header.kind == source.kind and header.source == source.source
end

-- The archives of a source, oldest first.
local function archives(w, source)
  local paths, message, code = files.list(w.directory)
  if not paths then return nil, message, code end
  local list = {}
  for _, path in ipairs(paths) do
    local header = header_of(w, path)
    if is_of(header, source) then
      list[#list + 1] = { path = path, made_at = header.made_at }
    end
  end
  table.sort(list, function(a, b)
    if a.made_at ~= b.made_at then return a.made_at < b.made_at end
    return a.path < b.path
  end)
  return list
end

local function is_over(w, list, i)
  return #list - i >= (w.keep_files or math.huge)
    or w.store:now() - list[i].made_at > (w.keep_for or math.huge)
end

-- Removes files beyond the bounds of a file writer, once it has published a
-- file with this header. Their paths go to w.removed.
---@param w respool.file_writer
---@param header table
---@return true?, string?, string?
function M.apply(w, header)
  if not (w.keep_files or w.keep_for) then return true end
  local list, message, code = archives(w, header)
  if not list then return nil, message, code end
  for i = 1, #list - 1 do -- never the one that was just published
    local path = list[i].path
    if is_over(w, list, i) then
      local ok, why, number = os.remove(path)
      if not ok then return files.failure("remove", path, why, number) end
      w.headers[path] = nil
      w.removed[#w.removed + 1] = path
    end
  end
  return true
end

return M
