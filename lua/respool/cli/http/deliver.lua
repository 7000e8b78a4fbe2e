-- SPDX-License-Identifier: MIT
--
-- respool deliver: the items of a queue to URLs, several at a time. Requests
-- and answers are respool.http's; the loop is respool/consume/concurrent.lua.

local arguments = require "respool.cli.base.arguments"
local failure_log = require "respool.cli.base.failure_log"
local compat = require "respool.support.compat"
local core = require "respool.core"
local answer = require "respool.http.answer"
local backoff = require "respool.support.backoff"
local client = require "respool.http.client"
local concurrent = require "respool.consume.concurrent"
local form = require "respool.http.options"
local header_form = require "respool.http.headers"
local http = require "respool.http.handler"
local otlp = require "respool.cli.base.otlp"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"
local secret = require "respool.cli.http.secret"
local url_of = require "respool.http.url"

local process = core.process

local M = { summary = "deliver items by HTTP" }

local CONCURRENCY_MOST = 10000
local WEBHOOK_ATTEMPTS = 10 -- of backoff.webhooks()

local function url(text)
  local parsed, expected = url_of.parse(text)
  if parsed then return text end
  return nil, ("'%s' is not %s"):format(output.clean(text), expected)
end

local function statuses(text)
  if answer.statuses(text) then return text end
  return nil, ("'%s' is not a list of statuses such as 200-299,409"):format(
    output.clean(text))
end

-- Its password would be seen in the list of processes.
local function proxy(text)
  if not text:find("@", 1, true) then return text end
  return nil, "a proxy with a password comes from the environment: "
    .. "https_proxy, http_proxy, ALL_PROXY"
end

-- 5s,5m,1h: each delay in turn, the last again and again.
local function delays(text)
  local list = { jitter = 0.1 }
  for part in (text .. ","):gmatch "([^,]*)," do
    local seconds = arguments.duration(part)
    if not seconds then
      return nil, ("'%s' is not a list of delays such as 5s,5m,1h"):format(
        output.clean(text))
    end
    list[#list + 1] = seconds
  end
  return backoff.list(list)
end

local function add_request(command)
  command:option("--url", "Deliver to this URL; may be given more than once.")
    :argname "URL":count "+":convert(url)
  command:option("--mode", "With several URLs. all: deliver to every URL, once "
    .. "to each; any: until one accepts, starting at another URL for each "
    .. "item; first: until one accepts, in the order given.")
    :choices { "all", "any", "first" }:default "all"
  command:option("--method", "Send so."):choices { "POST", "PUT", "PATCH" }
    :default "POST"
  command:option("--success", "Take these statuses for accepted.", "200-299")
    :argname "STATUSES":convert(statuses):show_default(true)
  command:option("--body", "Send payloads so. auto: the bytes that receive "
    .. "stored, other payloads as JSON.")
    :choices { "auto", "json", "cbor", "raw" }:default "auto"
  command:flag("--raw", "Send payloads as the bytes that are stored.")
  command:option("--content-type", "Send this Content-Type.")
    :argname "TYPE"
  command:option("--header", "Add this header; may be given more than once.")
    :argname "'NAME: VALUE'":count "*"
  command:option("--forward-header", "Also send this header of the item. "
    .. "traceparent, tracestate and idempotency-key are always sent; may be "
    .. "given more than once."):argname "NAME":count "*"
end

local function add_trust(command)
  secret.add_options(command, "Sign requests")
  command:option("--ca-file", "Trust these certificates, not the system's.")
    :argname "FILE"
  command:option("--cert-file", "Show this certificate.")
    :argname "FILE"
  command:option("--key-file", "The key of --cert-file, unless it holds that.")
    :argname "FILE"
  command:option("--min-tls", "Speak no older TLS."):choices { "1.2", "1.3" }
    :default "1.2"
end

local function add_network(command)
  command:option("--proxy", "Send through this proxy; empty: through none. By "
    .. "default the environment says: https_proxy, http_proxy, ALL_PROXY, "
    .. "NO_PROXY."):argname "URL":convert(proxy)
  command:option("--redirects", "Follow so many redirects, each with the same "
    .. "request; to another host without --header and --forward-header.", "0")
    :argname "N":convert(arguments.whole(0, 20))
  command:option("--deny", "Connect to no address in this network, such as "
    .. "10.0.0.0/8; private: all that are private, loopback or link-local; "
    .. "may be given more than once. There is no proxy then.")
    :argname "NETWORK":count "*"
  command:option("--allow", "Connect to this network although --deny covers "
    .. "it; without --deny to no other; may be given more than once.")
    :argname "NETWORK":count "*"
end

local function add_times(command)
  command:option("--connect-timeout", "Give up connecting after so long.",
                 "5s")
    :argname "TIME":convert(arguments.duration)
  command:option("--timeout", "Wait so long for an answer.", "30s")
    :argname "TIME":convert(arguments.duration)
  command:option("--max-retry-after", "Wait at most so long when an answer "
    .. "asks for it by Retry-After.", "1h")
    :argname "TIME":convert(arguments.duration)
end

local function add_work(command)
  command:option("--concurrency", "Deliver so many items at once.", "16")
    :argname "N":convert(arguments.whole(1, CONCURRENCY_MOST))
  command:option("--per-url", "In mode all, send at most so many requests to "
    .. "one URL at once, so that a slow one does not delay the others. By "
    .. "default three quarters of --concurrency.")
    :argname "N":convert(arguments.whole(1, CONCURRENCY_MOST))
  command:option("--rate", "Begin at most so many items a second.")
    :argname "N":convert(arguments.positive)
  command:option("--retry", "Try again after these delays, the last of them "
    .. "again and again; a tenth more or less. This is stored with the queue. "
    .. "A queue without a policy of its own is given ten tries in about three "
    .. "days: 5s,5m,30m,2h,5h,10h,14h,20h,24h.")
    :argname "DELAYS":convert(delays)
  command:option("--max-attempts", "Dead-letter an item after so many failed "
    .. "attempts. This is stored with the queue.")
    :argname "N":convert(arguments.whole(1, 2^31))
  command:option("--breaker", "After so many failures in a row that mean that "
    .. "nobody is there (no answer, or 5xx), hold the queue for a minute, then "
    .. "deliver one item first; such failures spend no attempt. 0: never. This "
    .. "is stored with the queue. A queue without a policy of its own is "
    .. "given 5."):argname "N":convert(arguments.whole(0, 100))
  command:flag("--until-empty", "Stop when nothing is left to deliver.")
  command:option("--deadline", "After a signal, let deliveries under way go on "
    .. "for so long.", "10s"):argname "TIME":convert(arguments.duration)
end

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  add_request(command)
  add_trust(command)
  add_network(command)
  add_times(command)
  add_work(command)
  otlp.add_options(command)
  failure_log.add_options(command)
  command:epilog [[
Each item is sent with the headers Respool-Queue, Respool-Id, Respool-Attempt,
Idempotency-Key and, given a secret, a signature by each secret. 2xx accepts the
item. After 408, 425, 5xx or no answer it is retried by the queue's policy.
429 and 503 with Retry-After spend no attempt: with one URL the queue is held
for that time, with several nothing is sent to that host.
After any other answer, 3xx included, it is not sent to that URL again; it is a
dead letter, whose group is the status, when every URL has accepted or refused
it. Delivery is at least once: a receiver recognises a repeated item by its
Idempotency-Key, which is also the webhook-id.

Ctrl-C or SIGTERM stops it after the deliveries under way; a second signal stops
it at once. The exit status is 1 when an item died.

Example:
  respool deliver shop.respool hooks --url https://example.org/hook \
    --secret-env HOOK_SECRET --concurrency 32]]
end


-- The options of the handler.

local function headers_of(args)
  local headers = {}
  for _, line in ipairs(args.header) do
    local name, value = line:match "^([^:%s]+):%s*(.-)%s*$"
    if not name then
      arguments.misuse(("'%s' is not a header such as 'Name: value'"):format(
        output.clean(line:match "^[^:]*")))
    elseif not form.headers { [name] = value } then
      arguments.misuse(("--header: '%s' cannot be sent, or is set by the "
        .. "request itself"):format(output.clean(name)))
    end
    headers[name] = value
  end
  return headers
end

local function forwarded(args)
  for _, name in ipairs(args.forward_header) do
    if not header_form.is_name(name) then
      arguments.misuse(("--forward-header: '%s' is not a name of a header")
        :format(output.clean(name)))
    end
  end
  return args.forward_header
end

-- An error of the handler about an option, with the name it has here.
local function in_words(text)
  return (text:gsub("^respool%.http: ", "")
    :gsub("^option '([%w_]+)'", function(name)
      return "--" .. name:gsub("_", "-")
    end))
end

-- The handler; options that it refuses are wrong input.
local function handler_of(args, on_request)
  local ok, handler = pcall(http.handler, {
    url = args.url, mode = args.mode, body = args.raw and "raw" or args.body,
    content_type = args.content_type, headers = headers_of(args),
    pass = forwarded(args), method = args.method, success = args.success,
    secret = secret.of(args), signature = args.signature,
    cert_file = args.cert_file, key_file = args.key_file,
    min_tls = args.min_tls, proxy = args.proxy, redirects = args.redirects,
    allow = args.allow[1] and args.allow, deny = args.deny[1] and args.deny,
    connect_timeout = args.connect_timeout, timeout = args.timeout,
    max_retry_after = args.max_retry_after, ca_file = args.ca_file,
    per_url = args.per_url or math.max(1, math.floor(args.concurrency * 0.75)),
    on_request = on_request,
  })
  if ok then return handler end
  if arguments.is_failure(handler) then error(handler, 0) end
  arguments.misuse(in_words(arguments.text_of(handler)))
end


-- Progress.

-- Requests by URL, in the order of their first.
local function new_figures()
  return { died = 0 }
end

local function note(figures, request)
  local f = figures[request.url]
  if not f then
    f = { url = request.url, accepted = 0, refused = 0, failed = 0,
          seconds = 0 }
    figures[request.url] = f
    table.insert(figures, f)
  end
  f.seconds = f.seconds + request.seconds
  local status = request.status
  local name = not status and "failed" or request.accepted and "accepted"
    or "refused"
  f[name] = f[name] + 1
  f.last = name ~= "accepted" and (status or request.error) or f.last
end

local function mean(f)
  return output.duration(f.seconds / (f.accepted + f.refused + f.failed))
end

local function of_url(f)
  return ("%s %s ok %s not %s"):format(
    f.url:gsub("^%a+://", ""):gsub("/$", ""), output.short(f.accepted),
    output.short(f.refused + f.failed), mean(f))
end

local function more(figures, counts)
  local parts = {
    ("%s failed, %s dead"):format(output.short(counts.failed),
                                  output.short(figures.died)),
  }
  for _, f in ipairs(figures) do parts[#parts + 1] = of_url(f) end
  return table.concat(parts, " | ")
end

local function summary(io, counts, figures)
  output.fields(io, {
    { "delivered", output.number(counts.done) },
    { "failed attempts", output.number(counts.failed) },
    { "dead", output.number(figures.died) },
    { "released", output.number(counts.released + counts.snoozed) },
    { "leases lost", output.number(counts.lost) },
  })
  if #figures == 0 then return end
  local rows = {}
  for i, f in ipairs(figures) do
    rows[i] = { f.url, output.number(f.accepted), output.number(f.refused),
                output.number(f.failed), mean(f), f.last }
  end
  io.stdout:write "\n"
  output.table(io, {
    { title = "URL" }, { title = "ACCEPTED", right = true },
    { title = "REFUSED", right = true }, { title = "NO ANSWER", right = true },
    { title = "MEAN", right = true }, { title = "LAST TROUBLE" },
  }, rows)
end


-- The whole.

-- Whether a queue has the policy of any queue.
local function is_plain(queue)
  local c = arguments.check(queue:config())
  local r = c.retry
  return c.max_attempts == 5 and r.name == "exponential" and r.initial == 1
    and r.factor == 2 and r.jitter == "full" and r.max == 3600
end

local function queue_of(args, io, figures)
  local log = failure_log.new(io, failure_log.form_of(args))
  local make = otlp.maker(args, log)
  local store = arguments.open(io, args.store, {
    log = log, tracer = make and make(),
  })
  local o = {
    codec = args.raw and "raw" or nil, max_attempts = args.max_attempts,
    retry = args.retry,
    on_dead = function() figures.died = figures.died + 1 end,
  }
  if args.breaker then
    o.breaker = args.breaker > 0 and { failures = args.breaker }
  end
  local queue = arguments.queue(store, args.queue, o)
  if o.retry or not is_plain(queue) then return queue end
  o.retry = backoff.webhooks()
  o.max_attempts = o.max_attempts or WEBHOOK_ATTEMPTS
  if o.breaker == nil then o.breaker = true end
  return arguments.queue(store, args.queue, o)
end

-- Works until a signal, or until the queue is empty.
local function deliver(args, io, queue, handler, figures)
  local bar = progress.new(io, { noun = "item", silent = args.quiet })
  local function tick(counts)
    bar:update(counts.done, nil, more(figures, counts))
  end
  client.allow_files(args.concurrency * (#args.url + 1))
  process.watch()
  local results = { pcall(concurrent.run, queue, handler, {
    poll = client.poll, cancel = client.cancel_all,
    concurrency = args.concurrency, until_empty = args.until_empty,
    deadline = args.deadline, rate = args.rate, tick = tick,
  }) }
  process.unwatch()
  local tracer = queue.store.tracer
  if tracer then tracer.close() end
  bar:clear()
  if not results[1] then error(results[2], 0) end
  return (arguments.check(compat.unpack(results, 2, 4)))
end

function M.run(args, io)
  local figures = new_figures()
  local handler = handler_of(args, function(r) note(figures, r) end)
  local queue = queue_of(args, io, figures)
  local counts = deliver(args, io, queue, handler, figures)
  if not args.quiet then summary(io, counts, figures) end
  return figures.died > 0 and 1 or 0
end

return M
