-- SPDX-License-Identifier: MIT
--
-- respool metrics: everything counted, as text for a scraper.

local arguments = require "respool.cli.arguments"
local show = require "respool.cli.show"

local M = { summary = "print metrics for Prometheus" }

function M.options(command)
  arguments.add_store(command)
  command:flag("--openmetrics", "OpenMetrics text, not Prometheus 0.0.4.")
  command:epilog("Counters are those of the store, whoever has counted. "
    .. "Commits are counted by the process that makes them, so here they are "
    .. "none.\n\n"
    .. "Example, for node_exporter's textfile collector:\n"
    .. "  respool metrics shop.respool >respool.prom.new &&\n"
    .. "    mv respool.prom.new respool.prom")
end

function M.run(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  io.stdout:write((arguments.check(store:metrics {
    format = args.openmetrics and "openmetrics" or "prometheus",
  })))
end

return M
