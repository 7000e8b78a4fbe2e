-- SPDX-License-Identifier: MIT
--
-- respool init: makes a store, above all the schema of one in a database.

local arguments = require "respool.cli.base.arguments"
local core = require "respool.core"
local location = require "respool.support.location"

local M = { summary = "make a store" }

function M.options(command)
  arguments.add_store(command)
  command:flag("--roles", "In a database, also make the roles for "
    .. "applications: SCHEMA_push, SCHEMA_work, SCHEMA_admin.")
  command:epilog [[
push, receive, import and move make a store that is missing, as this command
does: in a database by a role that may create a schema. A store that is there
stays as it is.

Examples:
  respool init postgres://postgres@localhost/shop --roles
  respool init shop.respool]]
end

function M.run(args, io)
  if args.store == "" or args.store == ":memory:" then
    arguments.misuse "name a directory or a URL"
  end
  if args.roles and not location.is_database(args.store) then
    arguments.misuse "--roles is for a store in a database"
  end
  local ok, message = core.init(args.store, args.roles or false)
  if not ok then arguments.fail(message) end
  io.stdout:write(("the store in '%s' is ready\n"):format(
    location.shown(args.store)))
end

return M
