-- SPDX-License-Identifier: MIT
--
-- Shared by the commands that serve HTTP: the address to listen on, and serving
-- until a signal comes.

local arguments = require "respool.cli.base.arguments"
local core = require "respool.core"
local output = require "respool.cli.base.output"
local server_of = require "respool.server.server"

local process = core.process

local M = {}

local SLICE = 0.1 -- seconds in which a signal is heeded

-- HOST:PORT, [ADDRESS]:PORT, or a port of this machine's own.
---@param text string
---@return { host: string, port: integer }?, string?
function M.address(text)
  local host, port = text:match "^%[([%x:.]+)%]:(%d+)$"
  if not host then host, port = text:match "^([^:%s%[%]]+):(%d+)$" end
  if not host then host, port = "127.0.0.1", text:match "^(%d+)$" end
  port = tonumber(port)
  if port and port <= 65535 then return { host = host, port = port } end
  return nil, ("'%s' is not an address such as 127.0.0.1:9876"):format(
    output.clean(text))
end

-- A server as the options ask for; its errors go to stderr.
---@param io respool.cli.io
---@param address { host: string, port: integer }
---@param o table options of respool.server
---@return respool.server
function M.listen(io, address, o)
  o.host, o.port = address.host, address.port
  function o.on_error(err)
    io.stderr:write(("respool: a request failed: %s\n"):format(
      output.clean(tostring(err))))
  end
  local server, why = server_of.listen(o)
  if server then return server end
  arguments.fail(("cannot listen on %s:%d: %s"):format(
    address.host, address.port, why))
end

-- Whether it is to end: everything is answered, or it takes too long.
local function is_over(state, server, deadline)
  local signals = process.signals() - state.signals
  if signals == 0 then return false end
  if not server.stopping then
    server:stop()
    state.ends = core.mono() / 1e6 + deadline
  end
  return server.active == 0 or signals > 1
    or core.mono() / 1e6 >= state.ends
end

-- Serves until a signal comes, and then for up to `deadline` seconds what is
-- under way. Calls each() now and then.
---@param server respool.server
---@param deadline number
---@param each function
function M.run(server, deadline, each)
  local state = { signals = process.signals() }
  process.watch()
  local ok, err = pcall(function()
    while not is_over(state, server, deadline) do
      server:step(SLICE)
      each()
    end
  end)
  process.unwatch()
  if not ok then error(err, 0) end
end

return M
