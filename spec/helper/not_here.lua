-- SPDX-License-Identifier: MIT
--
-- busted's helper for a run of the behaviour specs on an engine other than
-- LMDB: leaves out what spec/ENGINE/not_here.lua lists, by the file and the
-- words of each `it` ("*": all of them), with the reason. A line of it that
-- fits no spec fails the run, so that none stays behind.

local busted = require "busted"

local engine = assert(os.getenv "RESPOOL_SPEC_ENGINE")
local list = dofile(("spec/%s/not_here.lua"):format(engine))
local met, files = {}, {}

-- The spec file that is being loaded.
local function file_of()
  for level = 3, math.huge do
    local info = debug.getinfo(level, "S")
    if not info then return nil end
    local file = info.source:match "^@%.?/?(.*_spec%.lua)$"
    if file then return file end
  end
end

local function is_listed(name)
  local file = file_of()
  if not file then return false end
  files[file] = true
  for entry in pairs(list[file] or {}) do
    if entry == name or entry == "*" then
      met[file .. "\0" .. entry] = true
      return true
    end
  end
  return false
end

busted.subscribe({ "register", "it" }, function() return nil, false end,
  { priority = 1, predicate = is_listed })

busted.subscribe({ "suite", "end" }, function()
  for file, entries in pairs(list) do
    for entry in pairs(entries) do
      if files[file] and not met[file .. "\0" .. entry] then
        io.stderr:write(("spec/%s/not_here.lua: no spec of %s is '%s'\n")
          :format(engine, file, entry))
        os.exit(1)
      end
    end
  end
  return nil, true
end)
