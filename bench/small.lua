-- SPDX-License-Identifier: MIT
-- Small pushes and lives of items by several processes, beside SQLite: see
-- small.c, which measures and prints its own table.

local report = require "report"
local rounds = require "rounds"

local M = {}

function M.run(o)
  report.progress "small items"
  local dir = o.dir .. "/respool-bench-small"
  rounds.capture(('mkdir -p "%s"'):format(dir))
  report.line("\nSmall items, durable, each alone or in groups of 10\n")
  report.line("%s", rounds.capture(('"%s/small" "%s" %g'):format(
    o.bin, dir, 2 * o.seconds)))
  rounds.capture(('rm -r "%s"'):format(dir))
end

return M
