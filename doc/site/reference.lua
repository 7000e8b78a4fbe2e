-- SPDX-License-Identifier: MIT
--
-- The reference of the Lua modules as Markdown, made of their annotations: a
-- page for each object, with a section for each function, and one of types.

local annotations = require "doc.site.annotations"
local core = require "respool.core"

local M = {}

-- The pages: what leads to a function, where its functions are (the exports of
-- a module, or the methods of a variable in a file), the class that it is of,
-- and what Lua code calls such a thing.
M.PAGES = {
  { name = "respool", title = "The module respool", prefix = "respool.",
    module = "respool", vars = { "respool" } },
  { name = "backoff", title = "Backoff policies", prefix = "respool.backoff.",
    module = "respool.support.backoff", class = "respool.backoff.policy",
    methods = "Policy", vars = { "backoff", "policy" } },
  { name = "store", title = "Stores", prefix = "store:",
    path = "lua/respool/store.lua", methods = "Store",
    class = "respool.store", vars = { "store", "shop" } },
  { name = "queue", title = "Queues", prefix = "queue:",
    path = "lua/respool/queue.lua", methods = "Queue",
    class = "respool.queue" },
  { name = "batch", title = "Batches", prefix = "batch:",
    path = "lua/respool/consume/batch.lua", methods = "Methods",
    class = "respool.batch", vars = { "batch" } },
  { name = "item", title = "Items", prefix = "item:",
    path = "lua/respool/consume/item.lua", methods = "Methods",
    class = "respool.item", vars = { "item" } },
  { name = "dead", title = "Dead letters", prefix = "dead:",
    path = "lua/respool/dead.lua", methods = "Dead", class = "respool.dead",
    vars = { "dead" } },
  { name = "history", title = "Finished items", prefix = "history:",
    path = "lua/respool/history.lua", methods = "History",
    class = "respool.history", vars = { "history" } },
  { name = "transaction", title = "Transactions", prefix = "tx:",
    path = "lua/respool/transaction.lua", methods = "Transaction",
    class = "respool.transaction", vars = { "tx" } },
  { name = "background", title = "Replays in the background",
    prefix = "background:", path = "lua/respool/replay/background.lua",
    methods = "Background", class = "respool.background",
    vars = { "background" } },
  { name = "testing", title = "The module respool.testing",
    prefix = "testing.", module = "respool.testing", vars = { "testing" } },
  { name = "resty", title = "The module resty.respool",
    prefix = "resty.respool.", module = "resty.respool",
    class = "resty.respool", vars = { "resty" } },
  { name = "resty-worker", title = "The module resty.respool.worker",
    prefix = "worker.", module = "resty.respool.worker",
    class = "respool.worker", methods = "Worker", vars = { "worker" } },
  { name = "resty-http", title = "The module resty.respool.http",
    prefix = "http.", module = "resty.respool.http", vars = { "http" } },
}

-- Of modules, what only other modules of respool call.
local INNER = {
  backoff = { is_policy = true, described = true, describe = true },
  resty = { store_kind = true, store_of = true },
}


-- Words.

-- A text of a comment as Markdown: nothing in it is markup but `code`.
local function prose(text)
  local parts, code = {}, false
  for part in (text .. "`"):gmatch "([^`]*)`" do
    if not code then part = part:gsub("[\\*_<>%[%]#|]", "\\%0") end
    parts[#parts + 1] = code and "`" .. part .. "`" or part
    code = not code
  end
  return table.concat(parts)
end
M.prose = prose

-- Text in a cell of a table, and code there.
local function cell(text)
  return (prose(text):gsub("\n", " "))
end

local function code(text)
  return text == "" and "" or "`" .. text .. "`"
end

local function code_cell(text)
  return code((text:gsub("|", "\\|")))
end
M.code_cell = code_cell


-- Types.

local function short(name)
  return (name:gsub("%f[%w]respool%.", ""))
end

local function link_to(name)
  return ("[%s](%s)"):format(prose(short(name)), M.place_of(name))
end

-- A type, with links to what it names: one that is a name is a link itself.
local function type_of(model, text)
  local alone, optional = text:match "^(respool%.[%w_.]+)(%??)$"
  if model.types[alone] then return link_to(alone) .. optional end
  local links, seen = {}, {}
  for name in text:gmatch "%f[%w]respool%.[%w_.]+" do
    if model.types[name] and not seen[name] then
      seen[name] = true
      links[#links + 1] = link_to(name)
    end
  end
  return code(short(text))
    .. (links[1] and (" (%s)"):format(table.concat(links, ", ")) or "")
end

local function type_cell(model, text)
  return (type_of(model, text):gsub("|", "\\|"))
end

local function fields_of(model, name, list)
  list = list or {}
  local class = model.types[name]
  for parent in (class.parents or ""):gmatch "[%w_.]+" do
    if model.types[parent] and parent ~= "respool" then
      fields_of(model, parent, list)
    end
  end
  for _, field in ipairs(class.fields) do list[#list + 1] = field end
  return list
end
M.fields_of = fields_of

-- `newer`: says of a field since when it is there, if it came later.
local function put_fields(out, model, fields, head, newer)
  if not fields[1] then return end
  out:put(("| %s | type | |\n|---|---|---|"):format(head))
  for _, f in ipairs(fields) do
    out:put(("| %s | %s | %s%s |"):format(code_cell(f.name),
      type_cell(model, f.type), cell(f.text), newer and newer(f.name) or ""))
  end
  out:put ""
end


-- Since when.

-- What each version brought, as since.txt says: a set of "queue:push" and
-- "queue:push delay" by version, and the versions in their order.
local function read_since(path)
  local brought, order, name = {}, {}, nil
  for line in io.lines(path) do
    local indent, words = line:match "^(%s*)([^#]*)"
    if #indent == 0 and words ~= "" then
      order[#order + 1], brought[words] = words, {}
    elseif #indent > 0 then
      if #indent == 2 then name, words = words:match "^(%S+)(.*)$" end
      local set = brought[order[#order]]
      set[name] = true
      for option in words:gmatch "%S+" do set[name .. " " .. option] = true end
    end
  end
  return brought, order
end

M.VERSION = require("respool")._VERSION:match "%d+%.%d+%.%d+"
local brought, versions = read_since "doc/site/since.txt"
M.brought = brought

-- The version that brought a function, or an option of one.
---@param name string "queue:push", "queue:push delay"
---@return string
function M.since(name)
  for _, version in ipairs(versions) do
    if brought[version][name] then return version end
  end
  return M.VERSION
end

-- A note for options that came later than their function.
local function newer_than(name)
  return function(option)
    local since = M.since(name .. " " .. option)
    return since ~= M.since(name) and (" (since %s)"):format(since) or ""
  end
end


-- Functions.

-- The class of options that a parameter is, or the fields of a table that is
-- written out.
local function options_in(model, param)
  local written = param.type:match "^(%b{})%??$"
  if not written then
    local name = param.type:match "^(respool[%w_.]*options)%??$"
      or param.type:match "^(respool%.store_of)%??$"
      or param.type:match "^(respool%.health_page)%??$"
    return name and model.types[name] and fields_of(model, name), name
  end
  local fields = {}
  local rest = written:sub(2, -2)
  while rest:find "%S" do
    local name, more = rest:match "^%s*([%w_]+):%s*(.*)$"
    if not name then break end
    local of, behind = annotations.split(more)
    fields[#fields + 1] = { name = name, type = of, text = "" }
    rest = behind:gsub("^,", "")
  end
  return fields, nil
end

-- The names of the options of a function, in order.
---@return string[]
function M.options(model, entry)
  local list = {}
  for _, param in ipairs(entry.params) do
    for _, field in ipairs(options_in(model, param) or {}) do
      list[#list + 1] = field.name
    end
  end
  table.sort(list)
  return list
end

-- The names of the options of a function, as a set; those of tables in its
-- options, and of an argument that may be a table, are among them.
---@return table<string, true>
function M.option_names(model, entry)
  local set = {}
  local function add(field)
    set[field.name] = true
    for name in field.type:gmatch "respool%.[%w_.]+" do
      for _, inner in ipairs(model.types[name] and fields_of(model, name)
        or {}) do
        set[inner.name] = true
      end
    end
  end
  for _, param in ipairs(entry.params) do
    for _, field in ipairs(options_in(model, param) or {}) do add(field) end
    local alias = model.types[param.type]
    for name in (alias and alias.is or ""):gmatch "[{,] ([%w_]+):" do
      set[name] = true
    end
  end
  return set
end

-- The name of a function as code calls it: "queue:push".
---@return string
function M.full_name(page, entry)
  local prefix = entry.method and page.class:match "(%l+)$" .. ":"
    or page.prefix
  return prefix .. entry.name
end

-- How a function is written: its optional arguments are in brackets.
local function syntax_of(page, entry)
  local parts = {}
  for i, param in ipairs(entry.params) do
    local form = param.type:find "%?$" and "[%s]" or "%s"
    parts[i] = form:format(param.name == "given" and "options" or param.name)
  end
  if entry.args and entry.args:find "%.%.%." and #parts == 0 then
    parts[1] = "..."
  end
  return ("%s(%s)"):format(M.full_name(page, entry), table.concat(parts, ", "))
end

-- Whether it returns nil, message, code when the world is against it.
local function fails(entry)
  for _, text in ipairs(entry.returns) do
    local first = annotations.split(text)
    if text:find ", .*string%?" and (first:find "[?]$" or first:find "nil"
       or first == "any") then
      return true
    end
  end
  return false
end

-- Error codes that a text names.
local function codes_in(text)
  local list, seen = {}, {}
  for name in text:gmatch "%f[%w_]%u[%u_]+%f[^%w_]" do
    if M.CODES[name] and not seen[name] then
      seen[name] = true
      list[#list + 1] = ("[%s](../guide/troubleshooting.md#%s)"):format(
        name, name:lower())
    end
  end
  return table.concat(list, ", ")
end

-- Whether a function only asks handles for what needs no waiting: the core has
-- no verb for it that could be begun and waited for.
local function never_waits(entry)
  local calls = false
  for name in entry.body:gmatch "[%.]?handle:([%l_]+)%(" do
    calls = true
    for _, starters in pairs(core.start) do
      if starters[name] then return false end
    end
  end
  return calls
end

-- The phases of nginx, as of resty/respool/waiting.lua.
local YIELDS = "rewrite, access, content, timer, ssl\\_certificate; elsewhere "
  .. "[PHASE](../guide/nginx.md#phases)"
local IN_PLACE, OPENS = "init, init\\_worker, exit\\_worker, " .. YIELDS,
  "init\\_worker, exit\\_worker, " .. YIELDS
local NOT = "not inside nginx"
local CONTEXTS = {
  ["respool.open"] = OPENS, ["resty.respool.open"] = OPENS,
  ["resty.respool.shared"] = OPENS, ["resty.respool.exit"] = "exit\\_worker",
  ["store:queue"] = OPENS, ["store:stats"] = OPENS,
  ["store:schedule"] = OPENS, ["store:schedules"] = OPENS,
  ["store:close"] = OPENS, ["worker.start"] = "init\\_worker",
  ["respool.compact"] = IN_PLACE, ["respool.repair"] = IN_PLACE,
  ["respool.export"] = IN_PLACE, ["respool.import"] = IN_PLACE,
  ["respool.file_writer"] = IN_PLACE, ["respool.file_reader"] = IN_PLACE,
  ["respool.work_processes"] = NOT, ["resty.respool.work_processes"] = NOT,
}

local function context_of(page, entry)
  local known = CONTEXTS[page.prefix .. entry.name]
  if known then return known end
  if page.name == "resty-http" then return "content" end
  if page.name == "testing" then return NOT end
  if not fails(entry) or never_waits(entry) then return "everywhere" end
  return YIELDS .. (page.name .. entry.name == "queuepush"
    and "; with a `buffer` everywhere" or "")
end

local function put_example(out, page, entry)
  local example = M.example and M.example(page, entry)
  if not example then return end
  out:put("```" .. example.lang, (example.text:gsub("\n$", "")), "```",
    ("(from [%s](../%s))"):format(example.title, example.page), "")
end

local function put_entry(out, model, page, entry, shown)
  out:put("## " .. M.full_name(page, entry), "")
  if not entry.args then
    out:put(prose(entry.text), "")
    if entry.type then
      out:put("Type: " .. type_cell(model, entry.type) .. "  ")
    end
    out:put("Since " .. M.since(M.full_name(page, entry)), "")
    put_example(out, page, entry)
    return
  end
  out:put("```lua", syntax_of(page, entry), "```", "", prose(entry.text), "")
  local arguments = {}
  for _, param in ipairs(entry.params) do
    if not options_in(model, param) then arguments[#arguments + 1] = param end
  end
  put_fields(out, model, arguments, "argument")
  for _, param in ipairs(entry.params) do
    local fields, name = options_in(model, param)
    if name and shown[name] then
      out:put("Options: " .. link_to(name), "")
    elseif fields then
      put_fields(out, model, fields, "option",
                 newer_than(M.full_name(page, entry)))
      if name then shown[name] = true end
    end
  end
  for _, text in ipairs(entry.returns) do
    out:put("Returns " .. type_of(model, text) .. "  ")
  end
  if fails(entry) then
    local codes = codes_in(entry.text)
    out:put("Errors: `nil, message, code`"
      .. (codes ~= "" and "; among them " .. codes or "") .. "  ")
  end
  out:put("In nginx: " .. context_of(page, entry) .. "  ",
    "Since " .. M.since(M.full_name(page, entry)), "")
  put_example(out, page, entry)
end

---@return respool.doc.entry[]
function M.entries(model, page)
  local list, inner = {}, INNER[page.name] or {}
  if page.module then
    for _, entry in ipairs(annotations.exports(model, page.module)) do
      if not inner[entry.name] then list[#list + 1] = entry end
    end
  end
  if page.methods then
    local path = page.path or annotations.path_of(page.module)
    for _, entry in ipairs(annotations.methods(model, path, page.methods)) do
      list[#list + 1] = setmetatable({ method = page.module ~= nil },
                                     { __index = entry })
    end
  end
  return list
end


-- Pages.

local function new_out()
  return { put = function(self, ...)
    for _, line in ipairs { ... } do self[#self + 1] = line end
  end }
end

local function slug(name)
  return (name:lower():gsub("[^%w_-]", ""))
end

-- Where a type is described.
function M.place_of(name)
  for _, page in ipairs(M.PAGES) do
    if page.class == name then return page.name .. ".md" end
  end
  return "types.md#" .. slug(name:gsub("^respool%.", ""))
end

-- The types that texts lead to, and those that these lead to.
local function reach(model, text, set)
  for name in text:gmatch "%f[%w]respool%.[%w_.]+" do
    local class = model.types[name]
    if class and not set[name] then
      set[name] = true
      for _, field in ipairs(fields_of(model, name)) do
        reach(model, field.type, set)
      end
      reach(model, (class.is or "") .. " " .. class.parents, set)
    end
  end
end

local function put_types(out, model, set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  out:put("# Types", "", "Tables that functions take and return, and what "
    .. "stands for others in their types.", "")
  for _, name in ipairs(names) do
    local class = model.types[name]
    if M.place_of(name):find "^types" then
      out:put("## " .. prose(name:gsub("^respool%.", "")), "",
        prose(class.text), "")
      if class.is then
        out:put(type_of(model, (class.is:gsub("^[| ]+", ""))), "")
      end
      put_fields(out, model, fields_of(model, name), "field")
    end
  end
end

-- The pages by their name, as Markdown, in the order of PAGES.
---@return { name: string, title: string, text: string }[]
function M.pages(model)
  local pages, set = {}, {}
  reach(model, "respool.worker_script", set)
  for _, page in ipairs(M.PAGES) do
    local out, shown = new_out(), {}
    local class = page.class and model.types[page.class]
    out:put("# " .. page.title, "")
    if class then
      out:put(prose(class.text), "")
      put_fields(out, model, fields_of(model, page.class), "field")
      reach(model, page.class, set)
    end
    for _, entry in ipairs(M.entries(model, page)) do
      put_entry(out, model, page, entry, shown)
      for _, param in ipairs(entry.params) do reach(model, param.type, set) end
      for _, text in ipairs(entry.returns) do reach(model, text, set) end
      reach(model, entry.type or "", set)
    end
    pages[#pages + 1] = { name = page.name, title = page.title,
                          text = table.concat(out, "\n") }
  end
  local out = new_out()
  put_types(out, model, set)
  pages[#pages + 1] = { name = "types", title = "Types",
                        text = table.concat(out, "\n") }
  return pages
end

return M
