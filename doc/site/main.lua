-- SPDX-License-Identifier: MIT
--
-- doc/site/main.lua DIR: the pages of the tree and the reference as HTML, with
-- a search box. Markdown is rendered by cmark-gfm, as on the sites that show
-- the tree, so that one text serves both.

local annotations = require "doc.site.annotations"
local commands = require "doc.site.commands"
local header = require "doc.site.header"
local metrics = require "doc.site.metrics"
local reference = require "doc.site.reference"

local OUT = assert(arg[1], "usage: doc/site/main.lua DIR")

local function read(path)
  local file = io.open(path)
  local text = file and file:read "*a"
  if file then file:close() end
  return text
end

local function write(path, text)
  assert(os.execute(("mkdir -p '%s'"):format(path:match "^(.*)/")))
  local file = assert(io.open(path, "w"))
  assert(file:write(text))
  assert(file:close())
end


-- Pages: `source` is where the Markdown lies, or would, `path` where the HTML
-- goes.

local pages, by_source = {}, {}

local function add(source, path, text)
  local page = { source = source, path = path, text = text or read(source) }
  page.title = page.text:match "^# ([^\n]*)" or page.text:match "\n# ([^\n]*)"
  pages[#pages + 1], by_source[source] = page, page
end

local OTHERS = {
  ["README.md"] = "index.html", ["doc/README.md"] = "contents.html",
  ["CHANGELOG.md"] = "changelog.html", ["contrib/README.md"] = "contrib.html",
  ["CONTRIBUTING.md"] = "contributing.html", ["SECURITY.md"] = "security.html",
}

local function add_written()
  local list = io.popen "ls *.md contrib/*.md doc/*.md doc/guide/*.md"
  for source in list:lines() do
    add(source, OTHERS[source] or source:gsub("^doc/", "")
      :gsub("%.md$", ".html"))
  end
  list:close()
end

-- Names of modules as a configuration of nginx calls them.
local INSIDE_NGINX = {
  { 'require%("resty%.respool%.http"%)', "http" },
  { 'require%("resty%.respool%.worker"%)', "worker" },
  { 'require%("resty%.respool"%)', "resty" },
  { "%f[%w]respool%.", "resty." },
}

-- The blocks of Lua and of nginx on the pages, the shortest first; `code` is
-- where calls are looked for.
local function examples()
  local blocks = {}
  local function add_block(page, lang, text)
    local code = text
    for _, name in ipairs(lang == "nginx" and INSIDE_NGINX or {}) do
      code = code:gsub(name[1], name[2])
    end
    blocks[#blocks + 1] = {
      text = text, code = code, lang = lang, page = page.source,
      title = page.title, lines = select(2, text:gsub("\n", "")) + 1,
    }
  end
  for _, page in ipairs(pages) do
    for lang, text in page.text:gmatch "\n```(%l+)\n(.-)\n```" do
      if page.source ~= "CHANGELOG.md" and (lang == "lua" or lang == "nginx")
      then
        add_block(page, lang, text)
      end
    end
  end
  table.sort(blocks, function(a, b) return #a.text < #b.text end)
  return blocks
end

local TAKEN = {} -- names by which Lua code calls what is no queue
for _, page in ipairs(reference.PAGES) do
  for _, name in ipairs(page.vars or {}) do TAKEN[name] = true end
end

local MOST = 40 -- lines of an example

-- Whether code calls a function of a page, or names a value of it.
local function is_called(page, entry, code)
  for var, name in code:gmatch "([%w_]+)[.:]([%w_]+) ?[%({\"]" do
    if page.name == "queue" and name == entry.name and not TAKEN[var] then
      return true
    end
  end
  for _, var in ipairs(page.vars or {}) do
    if code:find("%f[%w_]" .. var .. "[.:]" .. entry.name
      .. (entry.args and " ?[%({\"]" or "%f[^%w_]")) then
      return true
    end
  end
  return false
end

local function set_examples()
  local blocks = examples()
  function reference.example(page, entry)
    for _, block in ipairs(blocks) do
      if block.lines <= MOST and is_called(page, entry, block.code) then
        return { text = block.text, lang = block.lang, title = block.title,
                 page = block.page:gsub("^doc/", "") }
      end
    end
  end
end

local function add_reference()
  reference.CODES = {}
  for code in read "include/respool.h":gmatch "\n  X%(([%u_]+), %-%d+, " do
    reference.CODES[code] = true
  end
  set_examples()
  local model = annotations.read()
  local index = { "# Reference\n", "Each function says which version brought "
    .. "it; an option does where it came later.\n", "**Lua**\n" }
  for _, page in ipairs(reference.pages(model)) do
    add("doc/reference/" .. page.name .. ".md",
        "reference/" .. page.name .. ".html", page.text)
    index[#index + 1] = ("- [%s](%s.md)"):format(page.title, page.name)
  end
  index[#index + 1] = "\n**Besides**\n"
  for _, made in ipairs {
    { "command-line", commands.page(reference.prose, reference.code_cell) },
    { "c", header.page(reference.prose) },
    { "metrics", metrics.page(reference.prose) },
  } do
    add(("doc/reference/%s.md"):format(made[1]),
        ("reference/%s.html"):format(made[1]), made[2])
  end
  for _, link in ipairs { "[The command line](command-line.md)",
    "[The C library](c.md)", "[Metrics](metrics.md)",
    "[The stored format](../format.md)", "[Archives](../archive.md)",
    "[Options and limits](../guide/options.md)",
  } do
    index[#index + 1] = "- " .. link
  end
  add("doc/reference/README.md", "reference/index.html",
      table.concat(index, "\n") .. "\n")
end


-- HTML.

local TEMPLATE = [[
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="stylesheet" href="$root/style.css">
</head>
<body data-root="$root/">
<nav>
<a href="$root/index.html">respool</a>
<a href="$root/contents.html">Guide</a>
<a href="$root/reference/index.html">Reference</a>
<a href="$root/changelog.html">Changes</a>
<input id="search" type="search" placeholder="Search" aria-label="Search"
 autocomplete="off">
</nav>
<div id="found" hidden></div>
<main>
$body</main>
<script src="$root/index.js"></script>
<script src="$root/search.js"></script>
</body>
</html>
]]

local ENTITIES = { amp = "&", lt = "<", gt = ">", quot = '"' }

local function plain(html)
  return (html:gsub("<[^>]*>", ""):gsub("&(%l+);", ENTITIES))
end

-- The anchor that GitHub gives a heading.
local function anchor_of(html)
  return (plain(html):lower():gsub("[^%w%-_ \128-\255]", ""):gsub(" ", "-"))
end

local function render(text)
  local name = os.tmpname()
  write(name, text)
  local pipe = assert(io.popen("cmark-gfm --unsafe -e table -e autolink "
    .. name))
  local html = pipe:read "*a"
  assert(pipe:close(), "cmark-gfm failed: make deps-docs")
  os.remove(name)
  return html
end

-- A path without its "." and "name/..".
local function without_dots(path)
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

local PLACES = {
  ["include/respool.h"] = "doc/reference/c.md",
  ["lua/respool"] = "doc/reference/README.md",
}

-- Where a link of a page leads: to another page, or to a copy of a file.
local function target_of(page, root, link)
  if link:find "^%a+:" or link:find "^#" then return link end
  local file, anchor = link:match "^([^#]*)(.*)$"
  local path = without_dots((page.source:match "^(.*/)" or "") .. file)
  local other = by_source[PLACES[path] or path]
  if other then return root .. "/" .. other.path .. anchor end
  local text = assert(read(path), page.source .. ": no file " .. link)
  write(("%s/files/%s"):format(OUT, path), text)
  return root .. "/files/" .. path .. anchor
end

local function put_anchors(html)
  local seen = {}
  return (html:gsub("<h(%d)>(.-)</h%d>", function(level, inner)
    local anchor = anchor_of(inner)
    local n = seen[anchor]
    seen[anchor] = (n or 0) + 1
    if n then anchor = anchor .. "-" .. n end
    return ('<h%s id="%s">%s</h%s>'):format(level, anchor, inner, level)
  end))
end

local function finish(page)
  local root = page.path:find "/" and ".." or "."
  local html = put_anchors(render(page.text))
  html = html:gsub('(%f[%w]%l+)="([^"]*)"', function(name, link)
    if name ~= "href" and name ~= "src" and name ~= "srcset" then return nil end
    return ('%s="%s"'):format(name, target_of(page, root, link))
  end)
  page.html = html
  page.name = plain(html:match "<h1[^>]*>(.-)</h1>" or page.title or page.path)
  local filled = TEMPLATE:gsub("%$(%l+)", {
    title = page.name, root = root, body = html,
  })
  write(OUT .. "/" .. page.path, filled)
end


-- The search.

local function json(text)
  return '"' .. text:gsub('[%c"\\<]', function(c)
    return ("\\u%04x"):format(c:byte())
  end) .. '"'
end

-- A record for each heading: its title, where it is, what is said below it.
local function write_index()
  local out = {}
  for _, page in ipairs(pages) do
    local at = 1
    while true do
      local anchor, inner, from = page.html:match(
        '<h%d id="([^"]*)">(.-)</h%d>()', at)
      if not anchor then break end
      local to = page.html:find('<h%d id="', from) or #page.html + 1
      local title = plain(inner)
      if title ~= page.name then title = page.name .. " › " .. title end
      out[#out + 1] = ("[%s,%s,%s]"):format(json(title),
        json(page.path .. "#" .. anchor),
        json((plain(page.html:sub(from, to - 1)):gsub("%s+", " "))))
      at = from
    end
  end
  write(OUT .. "/index.js", "const INDEX=[\n" .. table.concat(out, ",\n")
    .. "];\n")
end

assert(os.execute(("rm -rf '%s'"):format(OUT)))
add_written()
add_reference()
for _, page in ipairs(pages) do finish(page) end
write_index()
for _, name in ipairs { "style.css", "search.js" } do
  write(OUT .. "/" .. name, read("doc/site/" .. name))
end
