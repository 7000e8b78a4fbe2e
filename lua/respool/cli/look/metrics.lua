-- SPDX-License-Identifier: MIT
--
-- respool metrics: counters and figures as text for Prometheus.

local arguments = require "respool.cli.base.arguments"
local show = require "respool.cli.base.show"
local visible = require "respool.support.visible"

local M = { summary = "print metrics for Prometheus" }

function M.options(command)
  arguments.add_store(command)
  command:flag("--openmetrics", "Write OpenMetrics text, not Prometheus 0.0.4.")
  command:epilog [[
Counters are stored and include all processes. Commits are counted by each
process for itself, so they are absent here.

Example, for node_exporter's textfile collector:
  respool metrics shop.respool >respool.prom.new &&
    mv respool.prom.new respool.prom]]
end

function M.run(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local text = arguments.check(store:metrics {
    format = args.openmetrics and "openmetrics" or "prometheus",
  })
  if io.stdout:isatty() then text = text:gsub("[^\n]+", visible.clean) end
  io.stdout:write(text)
end

return M
