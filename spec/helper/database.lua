-- SPDX-License-Identifier: MIT
--
-- A database of its own on the private server, for specs of what only stores
-- in PostgreSQL have: `base` is its URL, `pooler` that through PgBouncer.

local helper = require "spec.helper"

local M = {}
M.__index = M

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
M.home = os.getenv "RESPOOL_POSTGRES" or build .. "/postgres"
M.server = "RESPOOL_POSTGRES=" .. M.home .. " spec/postgres/server "

function M.installed()
  return helper.sh "ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null" ~= ""
end

-- Starts the server, and makes the database anew.
function M.start(name)
  local base = helper.sh(M.server .. "database " .. name)
  return setmetatable({ base = base, name = name, n = 0 }, M)
end

-- Starts PgBouncer too.
function M:start_pooler()
  self.pooler = helper.sh(M.server .. "pooler")
    :gsub("/postgres%?", "/" .. self.name .. "?")
end

-- The same of a server that is reached by TLS alone; `certificate` is its own.
function M.start_tls(name, port)
  local base = helper.sh(("%stls %d %s"):format(M.server, port, name))
  return setmetatable({
    base = base, name = name, n = 0,
    certificate = M.home .. "/data/server.crt",
  }, M)
end

function M.stop()
  helper.sh(M.server .. "stop")
end

-- The command that runs SQL as the owner of the database.
function M:psql(text)
  local psql = helper.sh "ls /usr/lib/postgresql/*/bin/psql | tail -n 1"
  local path = helper.dir() .. "/text.sql"
  helper.write(path, text)
  return ("%s -qAtX -v ON_ERROR_STOP=1 '%s' -f %s 2>&1")
    :format(psql, self.base, path)
end

-- Runs SQL; returns its output.
function M:sql(text)
  return helper.sh(self:psql(text))
end

-- The URL of a schema that is not there yet, with other words in it; and the
-- schema's name.
function M:url(change, of)
  self.n = self.n + 1
  local schema = self.name .. "_" .. self.n
  local text = ("%s&schema=%s"):format(of or self.base, schema)
  return change and change(text) or text, schema
end

return M
