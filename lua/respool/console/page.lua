-- SPDX-License-Identifier: MIT
--
-- The console's page: the files of web/, which need nothing from anywhere else
-- and are told so to the browser.

local M = {}

-- The files, and their types. Nothing else is read.
local TYPES = {
  html = "text/html; charset=utf-8", css = "text/css; charset=utf-8",
  js = "text/javascript; charset=utf-8", svg = "image/svg+xml",
  LICENSE = "text/plain; charset=utf-8",
}
M.FILES = {
  "index.html", "style.css", "icon.svg", "main.js", "api.js", "dom.js",
  "format.js", "chart.js", "trend.js", "table.js", "dialog.js", "record.js",
  "overview.js", "queue.js", "item.js", "dead.js", "workers.js",
  "schedules.js", "replays.js", "store.js", "partitions.js", "policy.js",
  "uplot.js", "uplot.css", "uplot.LICENSE",
}

local POLICY = table.concat({
  "default-src 'none'", "script-src 'self'", "style-src 'self'",
  "img-src 'self'", "connect-src 'self'", "base-uri 'none'",
  "form-action 'none'", "frame-ancestors 'none'",
  "require-trusted-types-for 'script'", "trusted-types 'none'",
}, "; ")

local HEADERS = {
  ["Content-Security-Policy"] = POLICY, ["Referrer-Policy"] = "no-referrer",
  ["Cross-Origin-Opener-Policy"] = "same-origin",
  ["Cross-Origin-Resource-Policy"] = "same-origin",
}

-- Beside lua/ in the tree, within lua/respool where it is installed.
local function folders()
  local here = debug.getinfo(1, "S").source:match "^@(.*)console/page%.lua$"
  return { here .. "web/", here .. "../../web/" }
end

local kept = {}

local function read(name)
  for _, folder in ipairs(folders()) do
    local file = io.open(folder .. name, "rb")
    if file then
      local text = file:read "*a"
      file:close()
      return text
    end
  end
  error(("the console's file '%s' is not installed"):format(name), 0)
end

local known = {}
for _, name in ipairs(M.FILES) do known[name] = true end

-- The answer with a file of the page; nil when there is none of this name.
---@param name string "": the page itself
---@return respool.console.answer?
function M.file(name)
  if name == "" then name = "index.html" end
  if not known[name] then return nil end
  kept[name] = kept[name] or read(name)
  return { status = 200, type = TYPES[name:match "%w+$"], text = kept[name],
           headers = HEADERS }
end

return M
