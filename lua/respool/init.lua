-- SPDX-License-Identifier: MIT
--
-- respool: a durable queue that lives inside a Lua program.
--
--   local respool = require "respool"
--   local store = assert(respool.open("shop.respool"))
--   local mails = assert(store:queue("mails"))
--   assert(mails:push({ to = "ada@example.org" }))
--   mails:work(function(mail) print(mail.to) end, { stop_when_empty = true })
--   store:close()
--
-- Misuse raises; what the world causes returns nil, message, code.

local core = require "respool.core"
local backoff = require "respool.support.backoff"
local maintenance = require "respool.maintenance"
local export = require "respool.transfer.export"
local file_reader = require "respool.transfer.file_reader"
local file_writer = require "respool.transfer.file_writer"
local json = require "respool.support.json"
local handlers = require "respool.consume.handlers"
local outcome = require "respool.support.outcome"
local processes = require "respool.worker_processes"
local repair = require "respool.repair"
local import = require "respool.transfer.import"
local move = require "respool.transfer.move"
local store = require "respool.store"

local M = { _VERSION = core.version }

M.open = store.open
M.compact = maintenance.compact
M.backoff = backoff

-- Outcomes that a handler may return.
M.retry, M.dead, M.drop = outcome.retry, outcome.dead, outcome.drop
M.snooze, M.release, M.hold = outcome.snooze, outcome.release, outcome.hold

-- Handlers made of handlers.
M.chain, M.fan_out = handlers.chain, handlers.fan_out

-- A handler that delivers by HTTP.
---@param given respool.http_options
---@return respool.handler
function M.http(given)
  return require "respool.http.handler".handler(given)
end

-- A tracer that sends traces and metrics to OpenTelemetry: see
-- respool/otlp/tracer.lua, loaded when asked for.
---@param given respool.otlp_options
---@return respool.otlp_tracer
function M.otlp(given)
  return require "respool.otlp.tracer".new(given)
end

-- Several processes working on one queue.
M.work_processes = processes.run

-- A new store of what can be read of a damaged one.
M.repair = repair.repair
-- Out to a storage of the user's, and in again; files are one such.
M.export, M.import = export.export, import.import
M.move = move.move
M.file_writer, M.file_reader = file_writer.new, file_reader.new

-- CBOR, as payloads use it. decode(bytes) returns nil and the reason if the
-- bytes are not CBOR.
---@class respool.cbor
---@field encode fun(value: any): string
---@field decode fun(bytes: string): any, string?
M.cbor = { encode = core.cbor.encode, decode = core.cbor.decode }

-- JSON as the command line reads and writes it; needs the module respool.json,
-- which stands on jansson. encode(value, indent) sorts keys; decode(text)
-- returns nil and the reason if the text is not JSON. Whole numbers are
-- integers, empty arrays stay arrays.
---@class respool.json
---@field encode fun(value: any, indent: integer?): string
---@field decode fun(text: string): any, string?
M.json = { encode = json.encode, decode = json.decode }

-- Stands for null in payloads.
---@type userdata
M.null = core.cbor.null

-- Marks a table as an array and returns it, so that it is stored as an array
-- even when it is empty. It gets the metatable respool.array_mt.
---@type fun(list: table): table
M.array = core.cbor.array

-- The metatable of arrays; arrays that were decoded have it.
---@type table
M.array_mt = core.cbor.array_mt

return M
