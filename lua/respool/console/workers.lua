-- SPDX-License-Identifier: MIT
--
-- Workers in the console: looking, asking them to stop.

local answer = require "respool.console.answer"
local core = require "respool.core"

local M = {}

function M.list(console)
  local all, message, code = console.store:workers()
  if not all then return answer.fail(message, code) end
  return answer.json { workers = core.cbor.array(all) }
end

function M.stop(console, r)
  local ok, message, code = console.store:stop_worker(r.number)
  if not ok then return answer.fail(message, code) end
  return answer.json { number = r.number, stopping = true }
end

return M
