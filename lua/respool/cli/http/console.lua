-- SPDX-License-Identifier: MIT
--
-- respool console: a page in the browser that shows a store. Its answers are
-- made in respool/console/ and served by respool/server/server.lua.

local answer = require "respool.console.answer"
local arguments = require "respool.cli.base.arguments"
local compat = require "respool.support.compat"
local core = require "respool.core"
local json = require "respool.support.json"
local loop_of = require "respool.support.loop"
local parameters = require "respool.console.parameters"
local routes = require "respool.console.routes"
local secret = require "respool.cli.http.secret"
local serving = require "respool.cli.http.serving"
local timing = require "respool.support.timing"

local process = core.process

local M = { summary = "show a store in the browser" }

local MAX_HEAD, MAX_BODY = 2^14, 2^20 -- bytes
local CONNECTIONS, TIMEOUT, IDLE, DEADLINE = 256, 30, 60, 2

function M.options(command)
  arguments.add_store(command)
  command:option("--listen", "Listen there; port 0 is any free one.",
                 "127.0.0.1:9877"):argname "ADDRESS:PORT"
    :convert(serving.address):show_default(true)
  command:flag("--writable", "Let the page change something: pause, push, "
    .. "replay, remove, purge.")
  command:mutex(
    command:option("--token-file", "Who changes something gives the token in "
      .. "this file. By default one is made and printed."):argname "FILE",
    command:option("--token-env", "The same, in this environment variable.")
      :argname "NAME")
  command:option("--host", "A name of this machine by which browsers may ask, "
    .. "besides localhost; may be given more than once."):argname "NAME"
    :count "*"
  command:flag("--open", "Open the page in the browser.")
  command:epilog [[
Without --writable the store is opened for looking only. Listening on an address
that other machines reach needs --token-file or --token-env, and the page then
asks for the token before it shows anything; there is no TLS. Ctrl-C stops it.

Examples:
  respool console shop.respool --open
  respool console shop.respool --writable]]
end


-- The token.

local function random_token()
  local file = io.open("/dev/urandom", "rb")
  local bytes = file and file:read(16)
  if file then file:close() end
  if not bytes then arguments.fail "cannot read /dev/urandom" end
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- The token, and whether it was made here.
local function token_of(args)
  local given = secret.token_of(args)
  if given or not args.writable then return given, false end
  return random_token(), true
end


-- Answers, as the server sends them.

local function request_of(request)
  local segments = {}
  for segment in request.path:gmatch "[^/]+" do
    segments[#segments + 1] = parameters.unescape(segment)
  end
  return {
    method = request.method == "HEAD" and "GET" or request.method,
    segments = segments, query = request.query, headers = request.headers,
    body = function() return request.body end,
  }
end

local function list_reply(told, reply)
  local next_piece = answer.pieces(told)
  local first, message, code = next_piece()
  if not first then return answer.fail(message, code) end
  reply.status = 200
  function reply.write(send)
    local text = first
    while text and send(text) do text = next_piece() end
  end
end

local HEADERS = {
  ["Cache-Control"] = "no-store", ["X-Content-Type-Options"] = "nosniff",
}

local function reply_of(told)
  local reply = { headers = {} }
  if told.list then told = list_reply(told, reply) or told end
  for name, value in pairs(HEADERS) do reply.headers[name] = value end
  for name, value in pairs(told.headers or {}) do
    reply.headers[name] = value
  end
  if reply.write then return reply end
  reply.status, reply.type = told.status or 200, told.type
  if told.events then
    reply.type, reply.write = "text/event-stream", told.events
  else
    reply.text = told.text or json.encode(told.value) .. "\n"
  end
  return reply
end


-- Serving.

-- Waits let other requests be served.
local function let_others_run(signals)
  timing.set_pause(function(seconds)
    local loop = loop_of.current()
    if not loop then return process.nap(seconds) end
    loop:sleep(loop_of.now() + seconds)
  end)
  timing.set_breath(function()
    local loop = loop_of.current()
    if loop then loop:sleep(loop_of.now()) end
  end)
  timing.set_ending(function() return process.signals() > signals end)
end

local function listen(args, io, console)
  local server = serving.listen(io, args.listen, {
    max_head = MAX_HEAD, max_body = MAX_BODY, max_connections = CONNECTIONS,
    timeout = TIMEOUT, idle = IDLE,
    admit = function() end, round = function() return false end,
    answer = function(request)
      return reply_of(routes.answer(console, request_of(request)))
    end,
  })
  function console.spawn(fn)
    server.loop:spawn(function()
      local ok, err = compat.task_pcall(fn)
      if not ok then server.o.on_error(err) end
    end)
  end
  return server
end

local function announce(args, io, server, token)
  local url = server.url .. "/" .. (token and "#token=" .. token or "")
  if not server:is_local() then
    io.stderr:write(("respool: warning: %s can be reached from other machines "
      .. "and has no TLS\n"):format(server.url))
  end
  io.stdout:write(("the console is at %s\n"):format(url))
  io.stdout:flush()
  if args.open then
    os.execute(("xdg-open '%s' >/dev/null 2>&1 &"):format(url))
  end
end

function M.run(args, io)
  local token, is_made = token_of(args)
  local console = routes.new {
    store = arguments.open(io, args.store, { read_only = not args.writable }),
    page = true, writable = args.writable or false, token = token,
    hosts = args.host,
  }
  local server = listen(args, io, console)
  console.closed = not server:is_local()
  if console.closed and (not token or is_made) then
    arguments.misuse("other machines can reach this address: --token-file or "
      .. "--token-env must be given")
  end
  let_others_run(process.signals())
  announce(args, io, server, is_made and token)
  serving.run(server, DEADLINE, function() end)
  return 0
end

return M
