-- SPDX-License-Identifier: MIT
--
-- The pages as HTML, as `make docs` makes them: every link leads somewhere, and
-- every function and option that there is has its place in the reference.

local annotations = require "doc.site.annotations"
local helper = require "spec.helper"
local reference = require "doc.site.reference"
local respool = require "respool"
local testing = require "respool.testing"

if jit then return end -- the pages are the same

-- The targets of the links of a page, and its anchors.
local function links_and_anchors(html)
  local links, anchors = {}, {}
  for name, value in html:gmatch '%f[%w](%l+)="([^"]*)"' do
    if name == "href" or name == "src" or name == "srcset" then
      links[#links + 1] = value
    elseif name == "id" then
      anchors[value] = true
    end
  end
  return links, anchors
end

-- Reads the site: pages by path, with their links and anchors.
local function read_site(dir)
  local site = {}
  for path in helper.sh(("cd %s && find . -type f"):format(dir)):gmatch
    "%./([^\n]+)" do
    local page = { html = helper.read(dir .. "/" .. path) }
    if path:find "%.html$" then
      page.links, page.anchors = links_and_anchors(page.html)
    end
    site[path] = page
  end
  return site
end

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

-- Whether a link of a page leads to a file and an anchor that there are.
local function leads(site, path, link)
  if link:find "^%a+:" then return true end
  local file, anchor = link:match "^([^#]*)#?(.*)$"
  local to = file == "" and path
    or plain((path:match "^(.*/)" or "") .. file)
  local page = site[to]
  return page ~= nil
    and (anchor == "" or page.anchors ~= nil and page.anchors[anchor] == true)
end

describe("make docs", function()
  local site, model

  setup(function()
    local dir = helper.dir() .. "/docs"
    assert.equal("0", helper.sh(("%s doc/site/main.lua %s >&2; echo $?")
      :format(helper.lua(), dir)))
    site, model = read_site(dir), annotations.read()
  end)

  it("makes pages without dead links", function()
    local dead, n = {}, 0
    for path, page in pairs(site) do
      for _, link in ipairs(page.links or {}) do
        n = n + 1
        if not leads(site, path, link) then
          dead[#dead + 1] = path .. ": " .. link
        end
      end
    end
    assert.same({}, dead)
    assert.is_true(n > 1000)
    assert.is_false(leads(site, "index.html", "nothing.html"))
    assert.is_false(leads(site, "guide/http.html", "../index.html#nowhere"))
  end)

  it("needs no network", function()
    for path, page in pairs(site) do
      if page.html:find "^<!doctype" then
        for name in page.html:gmatch '<[^>]-%f[%w]src="(%a+:[^"]*)"' do
          error(path .. ": " .. name)
        end
        assert.is_nil(page.html:find '<link[^>]*href="%a+:')
      end
    end
  end)

  it("makes an index of the search whose places there are", function()
    local n = 0
    for place in site["index.js"].html:gmatch '",?\n?"([%w_/.-]+%.html#[^"]*)"'
    do
      n = n + 1
      assert.is_true(leads(site, "index.html", place), place)
    end
    for place in site["index.js"].html:gmatch '^%[".-","([^"]+)",' do
      assert.is_true(leads(site, "index.html", place), place)
    end
    assert.is_true(n > 300)
  end)

  -- The entries of the reference, by their names, such as "queue:push".
  local function entries()
    local set = {}
    for _, page in ipairs(reference.PAGES) do
      for _, entry in ipairs(reference.entries(model, page)) do
        set[reference.full_name(page, entry)] = entry
      end
    end
    return set
  end

  local function anchor_of(name)
    return (name:lower():gsub("[^%w_-]", ""))
  end

  it("has a place for each function of modules and objects", function()
    local store = testing.store()
    local queue = store:queue "q"
    queue:push(1)
    local there, missing = entries(), {}
    local function look(prefix, names)
      for name in pairs(names) do
        local full = prefix .. name
        if not name:find "^_" and not there[full] then
          missing[#missing + 1] = full
        end
      end
    end
    local function functions(of)
      local set = {}
      for name, value in pairs(of) do
        if type(value) == "function" then set[name] = true end
      end
      return set
    end
    local function methods_in(path, var)
      local set = {}
      for name in helper.read(path):gmatch(
        "\nfunction " .. var .. "[.:]([%w_]+)") do
        set[name] = true
      end
      return set
    end
    local function is_inner(set, ...)
      for _, name in ipairs { ... } do set[name] = nil end
      return set
    end
    local all = {}
    for name in pairs(respool) do all[name] = true end
    look("respool.", is_inner(all, "backoff"))
    look("respool.backoff.", is_inner(functions(respool.backoff),
      "describe", "described", "is_policy"))
    look("testing.", functions(testing))
    look("store:", functions(getmetatable(store)))
    look("queue:", functions(getmetatable(queue)))
    look("dead:", functions(getmetatable(queue.dead)))
    look("history:", functions(getmetatable(queue.history)))
    look("tx:", functions(getmetatable(assert(store:begin()))))
    look("batch:", methods_in("lua/respool/consume/batch.lua", "Methods"))
    look("item:", methods_in("lua/respool/consume/item.lua", "Methods"))
    look("resty.respool.", is_inner(methods_in("lua/resty/respool.lua", "M"),
      "store_kind", "store_of"))
    look("worker.", methods_in("lua/resty/respool/worker.lua", "M"))
    look("worker:", methods_in("lua/resty/respool/worker.lua", "Worker"))
    look("http.", methods_in("lua/resty/respool/http.lua", "M"))
    assert.same({}, missing)
    for name, entry in pairs(there) do
      local found = false
      for path, page in pairs(site) do
        found = found or path:find "^reference/" and page.anchors
          and page.anchors[anchor_of(name)]
      end
      assert.is_true(found, name .. " of " .. entry.path)
    end
  end)

  it("says something of each function and of each of its options", function()
    local silent = {}
    for name, entry in pairs(entries()) do
      if entry.text == "" then silent[#silent + 1] = name end
      for _, param in ipairs(entry.params) do
        local class = param.type:match "^(respool[%w_.]*options)%??$"
        if model.types[class] then
          for _, field in ipairs(reference.fields_of(model, class)) do
            if field.text == "" then
              silent[#silent + 1] = name .. " " .. field.name
            end
          end
        end
      end
    end
    table.sort(silent)
    assert.same({}, silent)
  end)

  it("says which version brought each function, and newer options", function()
    for _, page in ipairs(reference.PAGES) do
      local html = site["reference/" .. page.name .. ".html"].html
      local n = 0
      for since in html:gmatch "Since (%d+%.%d+%.%d+)" do
        n = n + 1
        assert.is_true(since == reference.VERSION or reference.brought[since]
          ~= nil, since)
      end
      assert.equal(#reference.entries(model, page), n, page.name)
    end
    assert.equal("0.1.0", reference.since "queue:push")
    assert.equal("0.1.0", reference.since "queue:push key")
    assert.equal("0.2.0", reference.since "queue:push partition")
    assert.equal(reference.VERSION, reference.since "queue:new_today")
    assert.truthy(site["reference/queue.html"].html:find("(since 0.2.0)", 1,
                                                         true))
  end)

  it("shows each function at work", function()
    local bare = {}
    for _, page in ipairs(reference.PAGES) do
      local html = site["reference/" .. page.name .. ".html"].html
      for at in html:gmatch "()<h2" do
        local section = html:sub(at, (html:find("<h2", at + 1, true) or 0) - 1)
        if not section:find("(from <a", 1, true) then
          bare[#bare + 1] = section:match ">([%w_.:]+)</"
        end
      end
    end
    -- it refuses to run there
    assert.same({ "resty.respool.work_processes" }, bare)
  end)

  it("has what older versions brought", function()
    local there, gone = entries(), {}
    for version, names in pairs(reference.brought) do
      for name in pairs(names) do
        local of, option = name:match "^(%S+) ?(.*)$"
        local entry = there[of]
        if not entry or option ~= ""
          and not reference.option_names(model, entry)[option] then
          gone[#gone + 1] = version .. " " .. name
        end
      end
    end
    assert.same({}, gone)
  end)

  -- The names in a table of code.
  local function names_in(code)
    local set = {}
    local flat = code:sub(2, -2):gsub("%b{}", ""):gsub("%b()", "")
    for name in flat:gmatch "%f[%w_]([%l_]+) = " do set[name] = true end
    set.of = nil
    return set
  end

  it("has each option that a function reads", function()
    local there, missing, n = entries(), {}, 0
    for path, file in pairs(model.files) do
      local text = table.concat(file, "\n")
      for code in text:gmatch "= (%b{})" do
        local of = code:match '^{%s*of = "([%w_.:]+)"'
        local entry = of and there[of]
        if entry then
          local known = reference.option_names(model, entry)
          for name in pairs(names_in(code)) do
            n = n + 1
            if not known[name] then
              missing[#missing + 1] = ("%s %s (%s)"):format(of, name, path)
            end
          end
        end
      end
    end
    table.sort(missing)
    assert.same({}, missing)
    assert.is_true(n > 150, n)
  end)

  it("has each command and option of the command line", function()
    local html = site["reference/command-line.html"].html
    for line in helper.read "doc/respool.1":gmatch "\n%.SS (%S+)" do
      assert.truthy(html:find(">respool " .. line .. "<", 1, true), line)
    end
  end)

  it("has each function of the C header", function()
    local html = site["reference/c.html"].html
    for name in helper.read "include/respool.h":gmatch
      "RESPOOL_API[^;(]-(respool_[%w_]+)%(" do
      assert.truthy(html:find(name, 1, true), name)
    end
  end)

  it("has each metric that is written", function()
    local html = site["reference/metrics.html"].html
    for name in helper.read "lua/respool/observe/metrics.lua":gmatch
      '"(respool_[%l_]+)"' do
      assert.truthy(html:find("<code>" .. name .. "</code>", 1, true), name)
    end
  end)
end)
