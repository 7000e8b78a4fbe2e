-- SPDX-License-Identifier: MIT
--
-- Prints what the version that is being worked on brings, in the form of
-- since.txt, to be added to that file before the release:
--
--   lua doc/site/since.lua >>doc/site/since.txt

local annotations = require "doc.site.annotations"
local reference = require "doc.site.reference"

-- The words of a line each, broken where it becomes too long.
local function put(name, options)
  local line = "  " .. name
  for _, option in ipairs(options) do
    if #line + 1 + #option > 78 then
      print(line)
      line = "   "
    end
    line = line .. " " .. option
  end
  print(line)
end

local model = annotations.read()
print("\n" .. reference.VERSION)
for _, page in ipairs(reference.PAGES) do
  for _, entry in ipairs(reference.entries(model, page)) do
    local name, new = reference.full_name(page, entry), {}
    for _, option in ipairs(reference.options(model, entry)) do
      if reference.since(name .. " " .. option) == reference.VERSION then
        new[#new + 1] = option
      end
    end
    if new[1] or reference.since(name) == reference.VERSION then
      put(name, new)
    end
  end
end
