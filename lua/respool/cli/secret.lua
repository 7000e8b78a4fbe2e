-- SPDX-License-Identifier: MIT
--
-- The secret of signatures. It comes from a file or from the environment, not
-- from the command line, which every user who may list processes can read.

local arguments = require "respool.cli.arguments"

local M = {}

-- Adds --secret-file and --secret-env. `what` begins their description.
---@param what string
function M.add_options(command, what)
  command:mutex(
    command:option("--secret-file", what .. " with the secret in this file.")
      :argname "FILE",
    command:option("--secret-env", what .. " with the secret in this "
      .. "environment variable."):argname "NAME")
end

local function read(path)
  local file, message = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  if not text then
    arguments.misuse("cannot read the secret: "
      .. (message or path .. " is no file"))
  end
  return (text:gsub("\r?\n$", ""))
end

-- The secret that was given, if one was. The newline at the end of a file is
-- not part of it.
---@param args table
---@return string?
function M.of(args)
  if args.secret_env then
    local value = os.getenv(args.secret_env)
    if not value or value == "" then
      arguments.misuse(("the environment variable '%s' holds no secret"):format(
        args.secret_env))
    end
    return value
  end
  if not args.secret_file then return nil end
  local value = read(args.secret_file)
  if value == "" then
    arguments.misuse(("the file '%s' holds no secret"):format(
      args.secret_file))
  end
  return value
end

return M
