-- SPDX-License-Identifier: MIT
--
-- A server that is reached by TLS alone.

local cli = require "spec.helper.cli"
local database = require "spec.helper.database"
local free_port = require "spec.helper.servers.free_port"
local helper = require "spec.helper"

describe("a store on a server that demands TLS", function()
  if not database.installed() then
    pending "needs the package postgresql"
    return
  end

  local db

  local function with(options)
    return (db:url(function(text) return text .. options end))
  end

  local function assert_refused(words, options)
    local store, message, code = helper.open(with(options))
    assert.is_nil(store)
    assert.equal("IO", code)
    assert.matches(words, message)
    assert.not_matches("\n", message)
  end

  setup(function()
    db = database.start_tls("tls", free_port())
  end)

  teardown(database.stop)

  it("is opened so, as libpq tries that first", function()
    local store = assert(helper.open(with ""))
    assert(store:queue "orders":push "a")
    assert.equal("t", db:sql("SELECT bool_and(ssl) FROM pg_stat_ssl s JOIN "
      .. "pg_stat_activity a USING (pid) WHERE a.client_port > 0"))
  end)

  it("is refused in the clear, in one line", function()
    local words = "without encryption; sslmode=require asks for TLS"
    assert_refused(words, "&sslmode=disable")
    local run = cli.run { "ls", with "&sslmode=disable" }
    cli.assert_refused(run, 1, words)
  end)

  it("is opened where the certificate is the one that is known", function()
    assert(helper.open(with("&sslmode=verify-full&sslrootcert="
      .. db.certificate)))
  end)

  it("is refused where the certificate is another", function()
    local other = helper.dir() .. "/other.crt"
    helper.sh(("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost "
      .. "-keyout /dev/null -out '%s' 2>&1"):format(other))
    assert_refused("certificate verify failed",
                   "&sslmode=verify-full&sslrootcert=" .. other)
  end)
end)
