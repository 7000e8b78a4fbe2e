-- SPDX-License-Identifier: MIT
--
-- The secrets of signatures. They come from files or from the environment, not
-- from the command line, which every user who may list processes can read.

local arguments = require "respool.cli.base.arguments"
local sign = require "respool.http.sign"

local M = {}

-- Adds --secret-file, --secret-env and --signature. `what` begins their
-- description.
---@param command table
---@param what string
function M.add_options(command, what)
  command:option("--secret-file", what .. " with the secrets in this file, one "
    .. "a line; may be given more than once."):argname "FILE":count "*"
  command:option("--secret-env", what .. " with the secret in this environment "
    .. "variable; may be given more than once."):argname "NAME":count "*"
  command:option("--signature", "standard: webhook-id, webhook-timestamp and "
    .. "webhook-signature, as Standard Webhooks has them; respool: "
    .. "Respool-Timestamp and Respool-Signature.")
    :choices { "standard", "respool" }:default "standard"
end

local function lines_of(path)
  local file, message = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  if not text then
    arguments.misuse("cannot read the secret: "
      .. (message or path .. " is no file"))
  end
  return text:gmatch "[^\r\n]+"
end

local function add_file(secrets, path)
  local before = #secrets
  for line in lines_of(path) do secrets[#secrets + 1] = line end
  if #secrets == before then
    arguments.misuse(("the file '%s' holds no secret"):format(path))
  end
end

local function add_variable(secrets, name)
  local value = os.getenv(name)
  if not value or value == "" then
    arguments.misuse(("the environment variable '%s' holds no secret"):format(
      name))
  end
  secrets[#secrets + 1] = value
end

-- The secrets that were given; nil when none was.
---@param args table
---@return string[]?
function M.of(args)
  local secrets = {}
  for _, name in ipairs(args.secret_env) do add_variable(secrets, name) end
  for _, path in ipairs(args.secret_file) do add_file(secrets, path) end
  for _, secret in ipairs(secrets) do
    if not sign.key(secret) then
      arguments.misuse("a secret begins with whsec_ and is not base64 "
        .. "behind it")
    end
  end
  return secrets[1] and secrets
end

-- Adds --token-file and --token-env. `what` begins their description.
---@param command table
---@param what string
function M.add_token(command, what)
  command:mutex(
    command:option("--token-file", what .. " in this file."):argname "FILE",
    command:option("--token-env", what .. " in this environment variable.")
      :argname "NAME")
end

-- The token that was given; nil when none was.
---@param args table
---@return string?
function M.token_of(args)
  local found = {}
  if args.token_file then add_file(found, args.token_file) end
  if args.token_env then add_variable(found, args.token_env) end
  return found[1]
end

return M
