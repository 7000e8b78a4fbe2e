-- SPDX-License-Identifier: MIT
-- Draws what `bench/run.lua --out` wrote: items a second by the size of the
-- group, both axes logarithmic, a panel for each size of item. The colours
-- are read on light and on dark alike.

local usage = [[
usage: lua bench/plot.lua SPEED.tsv >doc/speed.svg
]]

local W, H = 380, 250           -- of a panel's field
local LEFT, TOP, GAP = 62, 52, 72
local KEY = 30                  -- below the panels
local DEAD_LETTER = 6.6              -- how wide one is, about

local SUBJECTS = {
  { "pipelined", "respool, pipelined", "#d9480f", 3 },
  { "alone", "respool, one thread", "#f08c00", 3 },
  { "append", "append-only file", "#7a7f87", 2 },
  { "record", "LMDB, one record an item", "#1c7ed6", 2 },
  { "sqlite", "SQLite, a job table", "#2f9e44", 2 },
}

local STYLE = [[
<style>
  text { font: 12px system-ui, sans-serif; fill: #768390; }
  .title { font-weight: 600; }
  .grid { stroke: #8c959f; stroke-opacity: 0.35; stroke-width: 1; }
  .line { fill: none; stroke-linejoin: round; }
</style>]]

local function fail(...)
  io.stderr:write(string.format(...), "\n")
  os.exit(1)
end

-- { { size =, rates = { [subject] = { { group, rate }, ... } } }, ... } and
-- the bounds of all.
local function read(path)
  local sizes, by_size = {}, {}
  local bound = { low = math.huge, high = 0, groups = 1 }
  for line in io.lines(path) do
    local size, group, key, rate = line:match "^(%d+)\t(%d+)\t(%S+)\t(%d+)$"
    if not size then fail("%s: not understood: %s", path, line) end
    size, group, rate = tonumber(size), tonumber(group), tonumber(rate)
    if not by_size[size] then
      by_size[size] = { size = size, rates = {} }
      table.insert(sizes, by_size[size])
    end
    local rates = by_size[size].rates
    rates[key] = rates[key] or {}
    table.insert(rates[key], { group, rate })
    bound.low, bound.high = math.min(bound.low, rate),
      math.max(bound.high, rate)
    bound.groups = math.max(bound.groups, group)
  end
  if #sizes == 0 then fail("%s: nothing to draw", path) end
  return sizes, bound
end

local function log10(x)
  return math.log(x) / math.log(10)
end

-- The axes: whole decades.
local function scale(bound)
  local low = math.floor(log10(bound.low))
  local high = math.ceil(log10(bound.high))
  local right = math.max(log10(bound.groups), 1)
  return {
    low = low, high = high, right = right,
    x = function(group) return log10(group) / right * W end,
    y = function(rate) return H - (log10(rate) - low) / (high - low) * H end,
  }
end

local function grouped(n)
  local s = ("%.0f"):format(n)
  return (s:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
end

local function power(exponent)
  local names = { [3] = "1 k", [4] = "10 k", [5] = "100 k", [6] = "1 M",
                  [7] = "10 M" }
  return names[exponent] or grouped(10 ^ exponent)
end

local out = {}
local function put(...)
  out[#out + 1] = string.format(...)
end

local function draw_grid(s)
  for e = s.low, s.high do
    local y = s.y(10 ^ e)
    put('<line class="grid" x1="0" x2="%d" y1="%.1f" y2="%.1f"/>', W, y, y)
    put('<text x="-8" y="%.1f" text-anchor="end">%s</text>', y + 4, power(e))
  end
  for e = 0, math.floor(s.right) do
    local x = s.x(10 ^ e)
    put('<line class="grid" x1="%.1f" x2="%.1f" y1="0" y2="%d"/>', x, x, H)
    put('<text x="%.1f" y="%d" text-anchor="middle">%s</text>', x, H + 18,
        grouped(10 ^ e))
  end
end

local function draw_line(s, points, colour, width)
  table.sort(points, function(a, b) return a[1] < b[1] end)
  local path = {}
  for i, p in ipairs(points) do
    path[i] = ("%.1f,%.1f"):format(s.x(p[1]), s.y(p[2]))
    put('<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"/>', s.x(p[1]),
        s.y(p[2]), width + 0.5, colour)
  end
  put('<polyline class="line" stroke="%s" stroke-width="%d" points="%s"/>',
      colour, width, table.concat(path, " "))
end

local function draw_panel(s, panel, i)
  put('<g transform="translate(%d %d)">', LEFT + (i - 1) * (W + GAP), TOP)
  put('<text class="title" x="0" y="-14">%s-byte items, items a second by '
      .. 'items a commit</text>', grouped(panel.size))
  draw_grid(s)
  for j = #SUBJECTS, 1, -1 do
    local key, _, colour, width = table.unpack(SUBJECTS[j])
    if panel.rates[key] then
      draw_line(s, panel.rates[key], colour, width)
    end
  end
  put "</g>"
end

local function draw_key()
  local x, y = 24, TOP + H + 18 + KEY
  for _, subject in ipairs(SUBJECTS) do
    put('<line x1="%.0f" x2="%.0f" y1="%d" y2="%d" stroke="%s" '
        .. 'stroke-width="%d"/>', x, x + 20, y, y, subject[3], subject[4])
    put('<text x="%.0f" y="%d">%s</text>', x + 26, y + 4, subject[2])
    x = x + 26 + DEAD_LETTER * #subject[2] + 20
  end
end

local function draw(panels, bound)
  local width = LEFT + #panels * (W + GAP) - GAP + 24
  local height = TOP + H + 18 + KEY + 24
  put('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
      .. 'viewBox="0 0 %d %d" role="img">', width, height, width, height)
  put("<title>Durable push, take and done: items a second</title>")
  put("%s", STYLE)
  local s = scale(bound)
  for i, panel in ipairs(panels) do draw_panel(s, panel, i) end
  draw_key()
  put "</svg>"
end

if #arg ~= 1 or arg[1] == "--help" then
  io.write(usage)
  os.exit(arg[1] == "--help" and 0 or 1)
end
draw(read(arg[1]))
io.write(table.concat(out, "\n"), "\n")
