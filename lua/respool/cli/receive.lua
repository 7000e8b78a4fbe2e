-- SPDX-License-Identifier: MIT
--
-- respool receive: an HTTP server that pushes what is posted to it. What it
-- answers is in respool/http/intake.lua, how it serves in
-- respool/http/server.lua.

local arguments = require "respool.cli.arguments"
local core = require "respool.core"
local receive = require "respool.http.receive"
local message = require "respool.http.message"
local output = require "respool.cli.output"
local progress = require "respool.cli.progress"
local secret = require "respool.cli.secret"
local server_of = require "respool.http.server"

local process = core.process

local M = { summary = "take items in by HTTP" }

local SLICE = 0.1 -- seconds in which a signal is heeded

-- HOST:PORT, [ADDRESS]:PORT, or a port of this machine's own.
local function address(text)
  local host, port = text:match "^%[([%x:.]+)%]:(%d+)$"
  if not host then host, port = text:match "^([^:%s%[%]]+):(%d+)$" end
  if not host then host, port = "127.0.0.1", text:match "^(%d+)$" end
  port = tonumber(port)
  if port and port <= 65535 then return { host = host, port = port } end
  return nil, ("'%s' is no address such as 127.0.0.1:9876"):format(
    output.clean(text))
end

local function header_name(text)
  if message.is_token(text) then return text end
  return nil, ("'%s' is no name of a header"):format(output.clean(text))
end

local function add_limits(command)
  command:option("--max-bytes", "Of the store; beyond: 503.", "16GiB")
    :argname "SIZE":convert(arguments.size)
  command:option("--max-body", "Of a request; beyond: 413.", "1MiB")
    :argname "SIZE":convert(arguments.size)
  command:option("--max-header", "Of a request; beyond: 431.", "16KiB")
    :argname "SIZE":convert(arguments.size)
  command:option("--max-connections", "At a time; beyond: 503.", "256")
    :argname "N":convert(arguments.whole(1, server_of.MOST_CONNECTIONS))
  command:option("--timeout", "For a request to come; beyond: 408.", "30s")
    :argname "TIME":convert(arguments.duration)
  command:option("--idle", "How long an unused connection is kept.", "60s")
    :argname "TIME":convert(arguments.duration)
  command:option("--deadline", "For requests in hand, once it is to stop.",
                 "10s"):argname "TIME":convert(arguments.duration)
end

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:option("--bind", "Where to listen; port 0 is any that is free.",
                 "127.0.0.1:9876"):argname "ADDRESS:PORT":convert(address)
    :show_default(true)
  command:flag("--json", "Bodies are JSON: decoded, and 400 when they are not. "
    .. "Without it a body is kept byte by byte.")
  command:option("--keep", "Header to be kept with the item, besides "
    .. "traceparent, tracestate, idempotency-key and, without --json, "
    .. "content-type; may be given again.")
    :argname "NAME":count "*":convert(header_name)
  command:option("--dedup", "How long an Idempotency-Key is known, at least.",
                 "1h"):argname "TIME":convert(arguments.duration)
  secret.add_options(command, "Take in only what is signed")
  add_limits(command)
  command:epilog [[
Any POST is pushed, whatever its path, and answered 202 with {"id":N} once it
is on disk. The body is the payload, a string, and its Content-Type a header of
the item, so that respool deliver sends the same bytes on. A client that got no
answer repeats its request with the same Idempotency-Key: it is pushed once.
429 says that the queue is full, 503 that the store is, with Retry-After. GET
/health and /metrics tell how it is. The store and the queue are made when
missing.

There is no TLS, and nothing but --secret-file to keep strangers out: listen on
the loopback, behind a proxy. Stops on Ctrl-C or SIGTERM when the requests in
hand are answered.

Example:
  respool receive shop.respool hooks --bind 127.0.0.1:9876 &
  curl -d '{"to":"ada@example.org"}' -H 'Content-Type: application/json' \
    http://127.0.0.1:9876/]]
end


-- Serving.

local function new_receiver(args, io)
  local store = arguments.open(io, args.store, {
    create = true, max_bytes = args.max_bytes,
  })
  local queue = arguments.check(store:queue(args.queue))
  return receive.new {
    queue = queue, json = args.json, keep = args.keep, dedup = args.dedup,
    secret = secret.of(args),
  }
end

local function listen(args, io, receiver)
  local server, why = server_of.listen {
    host = args.bind.host, port = args.bind.port,
    max_head = args.max_header, max_body = args.max_body,
    max_connections = args.max_connections,
    timeout = args.timeout, idle = args.idle,
    admit = function(request) return receiver:admit(request) end,
    answer = function(request) return receiver:answer(request) end,
    round = function() return receiver:commit() end,
    on_error = function(err)
      io.stderr:write(("respool: a request failed: %s\n"):format(
        output.clean(tostring(err))))
    end,
  }
  if not server then
    arguments.fail(("cannot listen on %s:%d: %s"):format(
      args.bind.host, args.bind.port, why))
  end
  receiver.loop = server.loop
  return server
end

local function announce(args, io, server)
  if not server:is_local() then
    io.stderr:write(("respool: warning: %s can be reached from other machines"
      .. "%s\n"):format(server.url, args.secret_file or args.secret_env
      and "" or ", and anybody may push"))
  end
  io.stdout:write(("listening on %s\n"):format(server.url))
  io.stdout:flush()
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

local function serve(args, io, server, receiver)
  local bar = progress.new(io, { noun = "request" })
  local state = { signals = process.signals() }
  process.watch()
  local ok, err = pcall(function()
    while not is_over(state, server, args.deadline) do
      server:step(SLICE)
      bar:update(receiver.accepted, nil, ("%s refused, %d connections"):format(
        output.short(server.refused), server.connections))
    end
  end)
  process.unwatch()
  bar:clear()
  if not ok then error(err, 0) end
end

function M.run(args, io)
  local receiver = new_receiver(args, io)
  local server = listen(args, io, receiver)
  announce(args, io, server)
  serve(args, io, server, receiver)
  output.fields(io, {
    { "accepted", output.number(receiver.accepted) },
    { "refused", output.number(server.refused) },
    { "unanswered", output.number(server.active) },
  })
  return server.active > 0 and 1 or 0
end

return M
