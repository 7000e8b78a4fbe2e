-- SPDX-License-Identifier: MIT
--
-- Draws doc/cast.svg: `respool work` above and `respool top` below, as they
-- print while a queue is worked on. `make cast` runs it; what it shows is what
-- the commands have written in this run.

local FRAMES, ROWS = 9, 9        -- pictures, a second each; lines of the log
local WIDTH, LINE, CHAR = 860, 18, 13

local STYLE = [[
<style>
  text { font: %dpx ui-monospace, "DejaVu Sans Mono", monospace; fill: #d1d7e0;
         white-space: pre; }
  .typed { fill: #f0f6fc; font-weight: 600; }
  .bad { fill: #f69d50; }
  .rule { stroke: #3d444d; }
  .frame { opacity: 0; animation: show %ds step-end infinite; }
  @keyframes show { 0%% { opacity: 1 } %.3f%% { opacity: 0 } }
  @media (prefers-reduced-motion: reduce) {
    .frame { animation: none; }
    .last { opacity: 1; }
  }
</style>]]

local WORK = "respool work shop.respool mails.lua --workers 2 --until-empty"
local SCRIPT = [[
local socket = require "socket"
return {
  queue = "mails",
  options = { max_attempts = 3 },
  handle = function(mail)
    socket.sleep(0.02)
    if mail.n %% 60 == 0 then return nil, "mailbox full" end
    if mail.n %% 150 == 0 then error { message = "550", retryable = false } end
  end,
}
]]

local function sh(command, ...)
  local pipe = assert(io.popen(command:format(...)))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

local function lines_of(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

-- The pictures: what the log has by then, and what top shows.
local function record()
  local dir = sh "mktemp -d":match "%S+"
  local file = assert(io.open(dir .. "/mails.lua", "w"))
  file:write((SCRIPT:gsub("%%%%", "%%")))
  file:close()
  sh([[cd %s && seq 1 600 | sed 's/.*/{"n":&}/' |
      respool push shop.respool mails &&
    respool config shop.respool mails max_attempts=3 --yes >log 2>&1]], dir)
  sh("cd %s && { %s >log 2>&1 & }", dir, WORK)
  local frames = {}
  for i = 1, FRAMES do
    local screen = sh("cd %s && respool top shop.respool --once --interval 1s",
                      dir)
    frames[i] = { log = lines_of(sh("cat %s/log", dir)),
                  top = lines_of(screen) }
  end
  sh("rm -rf %s", dir)
  return frames
end

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }

local function text_at(row, class, text)
  return ('<text x="14" y="%d"%s>%s</text>'):format(
    row * LINE + 8, class and (' class="' .. class .. '"') or "",
    (text:gsub("[&<>]", ESCAPES)))
end

local function draw_frame(i, frame)
  local out = { ('<g class="frame%s" style="animation-delay:%ds">'):format(
    i == FRAMES and " last" or "", i - 1) }
  local from = math.max(#frame.log - ROWS + 1, 1)
  for n = from, #frame.log do
    local line = frame.log[n]
    local bad = line:find "^respool:" and "bad" or nil
    out[#out + 1] = text_at(n - from + 2, bad, line:sub(1, 104))
  end
  for n, line in ipairs(frame.top) do
    out[#out + 1] = text_at(ROWS + 3 + n, nil, line)
  end
  out[#out + 1] = "</g>"
  return table.concat(out, "\n")
end

local function draw(frames)
  local rows = ROWS + 3
  for _, frame in ipairs(frames) do
    rows = math.max(rows, ROWS + 3 + #frame.top)
  end
  local height = (rows + 1) * LINE
  local out = {
    ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" '
      .. 'xml:space="preserve" role="img" '
      .. 'aria-label="respool work and respool top in a terminal">')
      :format(WIDTH, height, WIDTH),
    STYLE:format(CHAR, FRAMES, 100 / FRAMES),
    ('<rect width="%d" height="%d" rx="8" fill="#151b23"/>'):format(
      WIDTH, height),
    text_at(1, "typed", "$ " .. WORK),
    ('<path class="rule" d="M0,%d H%d"/>'):format((ROWS + 2) * LINE, WIDTH),
    text_at(ROWS + 3, "typed", "$ respool top shop.respool"),
  }
  for i, frame in ipairs(frames) do out[#out + 1] = draw_frame(i, frame) end
  out[#out + 1] = "</svg>"
  return table.concat(out, "\n") .. "\n"
end

io.write(draw(record()))
