-- SPDX-License-Identifier: MIT
--
-- A database of its own on the private server, for specs of what only stores
-- in PostgreSQL have: `base` is its URL, `pooler` that through PgBouncer.

local busted = require "busted"
local helper = require "spec.helper"

local M = {}
M.__index = M

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
M.home = os.getenv "RESPOOL_POSTGRES" or build .. "/postgres"
M.server = "RESPOOL_POSTGRES=" .. M.home .. " spec/postgres/server "

function M.installed()
  return helper.sh "ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null" ~= ""
end

-- A database whose URL the server's script says. Without this check a URL that
-- is empty would be the path of a directory.
local function made(name, base)
  assert(base:find("^postgres://"), base)
  return setmetatable({ base = base, name = name, n = 0 }, M)
end

-- Starts the server, and makes the database anew.
function M.start(name)
  return made(name, helper.sh(M.server .. "database " .. name))
end

-- Starts PgBouncer too.
function M:start_pooler()
  self.pooler = helper.sh(M.server .. "pooler")
    :gsub("/postgres%?", "/" .. self.name .. "?")
end

-- The same of a server that is reached by TLS alone; `certificate` is its own.
function M.start_tls(name, port)
  local db = made(name, helper.sh(("%stls %d %s"):format(M.server, port, name)))
  db.certificate = M.home .. "/data/server.crt"
  return db
end

function M.stop()
  helper.sh(M.server .. "stop")
end

-- A describe whose specs have a database of this name, which `body` gets: there
-- once the first of them begins. Pending where there is no PostgreSQL.
function M.describe(title, name, body)
  busted.describe(title, function()
    if not M.installed() then
      busted.pending "needs the package postgresql"
      return
    end
    local db = setmetatable({}, M)
    busted.setup(function()
      for key, value in pairs(M.start(name)) do db[key] = value end
    end)
    busted.teardown(M.stop)
    body(db)
  end)
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

-- Opens a store in a schema of its own; `words` are added to its URL.
function M:open(words)
  local location
  location, self.schema = self:url()
  return assert(helper.open(location .. (words or "")))
end

-- Runs SQL in the schema of the store that was opened last; returns its output.
function M:run(text)
  return self:sql(("SET search_path = %s;%s"):format(self.schema, text))
end

return M
