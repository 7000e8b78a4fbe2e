-- SPDX-License-Identifier: MIT
--
-- respool receive: an HTTP server that pushes the bodies posted to it. The
-- answers are in respool/server/receiver.lua, the server in
-- respool/server/server.lua.

local arguments = require "respool.cli.base.arguments"
local headers = require "respool.http.headers"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"
local secret = require "respool.cli.http.secret"
local receiver_of = require "respool.server.receiver"
local server_of = require "respool.server.server"
local serving = require "respool.cli.http.serving"

local M = { summary = "take items in by HTTP" }

local function header_name(text)
  if headers.is_name(text) then return text end
  return nil, ("'%s' is not a name of a header"):format(output.clean(text))
end

local function add_limits(command)
  command:option("--max-bytes", "Size of the store; when it is full the answer "
    .. "is 503.", "16GiB"):argname "SIZE":convert(arguments.size)
  command:option("--max-body", "Refuse larger bodies with 413.", "1MiB")
    :argname "SIZE":convert(arguments.size)
  command:option("--max-header", "Refuse larger headers with 431.", "16KiB")
    :argname "SIZE":convert(arguments.size)
  command:option("--max-connections", "Refuse more connections with 503.",
                 "256")
    :argname "N":convert(arguments.whole(1, server_of.MOST_CONNECTIONS))
  command:option("--timeout", "Refuse requests that take longer to arrive with "
    .. "408.", "30s"):argname "TIME":convert(arguments.duration)
  command:option("--idle", "Close unused connections after so long.", "60s")
    :argname "TIME":convert(arguments.duration)
  command:option("--deadline", "After a signal, let requests under way go on "
    .. "for so long.", "10s"):argname "TIME":convert(arguments.duration)
end

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:option("--listen", "Listen there; port 0 is any free one.",
                 "127.0.0.1:9876"):argname "ADDRESS:PORT"
    :convert(serving.address):show_default(true)
  command:flag("--json", "Decode bodies as JSON, and refuse others with 400. "
    .. "By default a body is stored as it is.")
  command:option("--keep-header", "Also store this header with the item. "
    .. "traceparent, tracestate, idempotency-key and, without --json, "
    .. "content-type and content-encoding are always stored; may be given "
    .. "more than once.")
    :argname "NAME":count "*":convert(header_name)
  command:option("--dedup", "Recognise an Idempotency-Key for at least so "
    .. "long.", "1h"):argname "TIME":convert(arguments.duration)
  secret.add_options(command, "Accept only requests signed")
  command:flag("--signed-headers", "Store only headers that are signed, as "
    .. "respool deliver signs them; and the trace context.")
  secret.add_token(command, "Answer GET /health and /metrics only to requests "
    .. "with the bearer token")
  add_limits(command)
  command:epilog [[
A POST to any path is pushed, and answered 202 with {"id":N} once it is on disk.
The body is the payload, a string, and its Content-Type is stored as a header of
the item, so that respool deliver sends the same bytes on. A client that got no
answer repeats its request with the same Idempotency-Key: it is pushed once. The
answer is 429 when the queue is full and 503 when the store is, with
Retry-After; 422 when the key is that of an item with another body. Of signed
requests the webhook-id is the key, so that each is accepted once. GET /health
and /metrics report on the store. The store and the queue are made when missing.

There is no TLS, and only a secret keeps strangers out: listen on the loopback,
and put nginx in front on the open internet. Ctrl-C or SIGTERM stops it after
the requests under way.

Example:
  respool receive shop.respool hooks --listen 127.0.0.1:9876 &
  curl -d '{"to":"ada@example.org"}' -H 'Content-Type: application/json' \
    http://127.0.0.1:9876/]]
end


-- Serving.

local function new_receiver(args, io)
  local store = arguments.open(io, args.store, {
    create = true, max_bytes = args.max_bytes,
  })
  local queue = arguments.check(store:queue(args.queue))
  return receiver_of.new {
    queue = queue, json = args.json, keep = args.keep_header,
    dedup = args.dedup,
    secret = secret.of(args), signature = args.signature,
    signed_headers = args.signed_headers,
    token = secret.token_of(args),
  }
end

local function listen(args, io, receiver)
  local server = serving.listen(io, args.listen, {
    max_head = args.max_header, max_body = args.max_body,
    max_connections = args.max_connections,
    timeout = args.timeout, idle = args.idle,
    admit = function(request) return receiver:admit(request) end,
    answer = function(request) return receiver:answer(request) end,
    round = function() return receiver:commit() end,
  })
  receiver.loop = server.loop
  return server
end

local function announce(io, server, is_signed)
  if not server:is_local() then
    io.stderr:write(("respool: warning: %s can be reached from other machines"
      .. "%s\n"):format(server.url, is_signed and ""
      or ", and anybody may push"))
  end
  io.stdout:write(("listening on %s\n"):format(server.url))
  io.stdout:flush()
end

local function serve(args, io, server, receiver)
  local bar = progress.new(io, { noun = "request" })
  serving.run(server, args.deadline, function()
    bar:update(receiver.accepted, nil, ("%s refused, %d connections"):format(
      output.short(server.refused), server.connections))
  end)
  bar:clear()
end

function M.run(args, io)
  local receiver = new_receiver(args, io)
  local server = listen(args, io, receiver)
  announce(io, server, receiver.o.secret ~= nil)
  serve(args, io, server, receiver)
  output.fields(io, {
    { "accepted", output.number(receiver.accepted) },
    { "refused", output.number(server.refused) },
    { "unanswered", output.number(server.active) },
  })
  return server.active > 0 and 1 or 0
end

return M
