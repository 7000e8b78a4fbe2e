-- SPDX-License-Identifier: MIT
-- A worker script: hands the items of a queue over to RabbitMQ, so that the
-- store is the broker's outbox. An item is done when the broker has confirmed
-- that it has the message; else it stays and is sent again. See
-- doc/guide/rabbitmq.md.

local respool = require "respool"
local stomp = require "stomp"

local function env(name, default)
  return os.getenv("RABBITMQ_" .. name) or default
end

local BROKER = {
  host = env("HOST", "127.0.0.1"), port = tonumber(env("PORT", "61613")),
  vhost = env("VHOST", "/"), login = env("LOGIN", "guest"),
  passcode = env("PASSCODE", "guest"), timeout = 30,
}
local DESTINATION = env("DESTINATION", "/queue/orders")
local AWAY = 5 -- seconds until a broker that is away is tried again

local connection, receipts = nil, 0

local function close()
  if connection then connection:close() end
  connection = nil
end

-- What tells a message from all others, also when it is sent again or comes
-- back from a dead-letter queue.
local function identity(item)
  local origin = item.origin
  return ("%s/%d/%.3f"):format(origin.queue, origin.id, origin.pushed_at)
end

-- Text as it is, all else as JSON.
local function message_of(payload)
  if type(payload) == "string" then return payload, "text/plain" end
  return respool.json.encode(payload), "application/json"
end

-- Sends a message and waits until the broker has confirmed it: true; nil, why,
-- and whether the broker has refused it.
local function publish(body, headers)
  local err
  if not connection then connection, err = stomp.connect(BROKER) end
  if not connection then return nil, err end
  receipts = receipts + 1
  headers.receipt = receipts
  local ok
  ok, err = connection:send("SEND", headers, body)
  while ok do
    local command, answer = connection:next()
    if command == "RECEIPT" and answer["receipt-id"] == tostring(receipts) then
      return true
    elseif command == "ERROR" then
      close()
      return nil, answer.message or "the broker refused it", true
    elseif not command then
      ok, err = nil, answer
    end
  end
  close()
  return nil, err
end

local function handle(payload, item)
  local body, kind = message_of(payload)
  local ok, err, refused = publish(body, {
    destination = DESTINATION, persistent = "true", ["content-type"] = kind,
    ["x-respool-id"] = identity(item),
  })
  if ok then return end
  if refused then return nil, { message = err, group = "refused" } end
  return respool.hold(AWAY, err) -- nobody's attempt is spent
end

return {
  queue = env("QUEUE", "orders"),
  options = { lease = 60 },
  handle = handle,
}
