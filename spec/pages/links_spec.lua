-- SPDX-License-Identifier: MIT
--
-- Links between the pages, to files of the tree and to headings: none is dead.
-- What leads out of the tree is not looked up.

local helper = require "spec.helper"
local pages = require "spec.helper.pages"

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

-- A path without its "." and "name/..".
local function plain(path)
  local parts = {}
  for part in path:gmatch "[^/]+" do
    if part == ".." then
      table.remove(parts)
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  return table.concat(parts, "/")
end

-- Why a link of a page leads nowhere; nil when it does not.
local function problem(page, target)
  if target:find "^%a+:" then return nil end
  local file, anchor = target:match "^([^#]*)#?(.*)$"
  local folder = page:match "^(.*/)" or ""
  local path = file == "" and page or plain(folder .. file)
  if not exists(path) then return "no such file" end
  if anchor == "" then return nil end
  if not path:find "%.md$" then return nil end
  return not pages.anchors(path)[anchor] and "no such heading" or nil
end

describe("The pages", function()
  it("have no dead links", function()
    local dead, n = {}, 0
    for _, path in ipairs(pages.paths()) do
      for _, link in ipairs(pages.links(path)) do
        local why = problem(path, link.target)
        n = n + 1
        if why then
          dead[#dead + 1] = ("%s:%d %s: %s"):format(
            path, link.line, link.target, why)
        end
      end
    end
    assert.same({}, dead)
    assert.is_true(n > 100)
  end)

  it("would be found out if they had", function()
    assert.equal("no such file", problem("doc/guide/http.md", "../nothing.md"))
    assert.equal("no such heading", problem("README.md", "#nowhere"))
    assert.equal("no such heading",
                 problem("doc/guide/nginx.md", "../format.md#nowhere"))
    assert.is_nil(problem("doc/guide/nginx.md", "../format.md"))
    assert.is_nil(problem("README.md", "https://example.org/"))
  end)

  it("are all reached from the index", function()
    local seen, todo = { ["README.md"] = true }, { "README.md" }
    while todo[1] do
      local page = table.remove(todo)
      for _, link in ipairs(pages.links(page)) do
        local file = link.target:match "^([^#:]+%.md)"
        local path = file and plain((page:match "^(.*/)" or "") .. file)
        if path and not seen[path] then
          seen[path] = true
          todo[#todo + 1] = path
        end
      end
    end
    local alone = {}
    for _, path in ipairs(pages.paths()) do
      if not seen[path] then alone[#alone + 1] = path end
    end
    assert.same({}, alone)
  end)
end)

describe("The tree", function()
  it("names pages that there are", function()
    local dead = {}
    local found = helper.sh("grep -rnoE 'doc/[a-z/_-]+\\.(md|1|svg|png|lua)' "
      .. "Makefile .ci bench bin contrib core examples include lua spec web")
    for line in found:gmatch "[^\n]+" do
      local path = line:match "(doc/[%w/_-]+%.%w+)$"
      if path and not exists(path) then dead[#dead + 1] = line end
    end
    assert.same({}, dead)
  end)
end)
