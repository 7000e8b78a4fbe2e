-- SPDX-License-Identifier: MIT

local database = require "spec.helper.database"

describe("a database of the specs", function()
  local server = database.server

  after_each(function() database.server = server end)

  -- Its URL was empty then, and with a schema behind it the path of a
  -- directory: specs made their stores where they were run.
  it("is not had where the server does not start", function()
    database.server = "false "
    assert.has_error(function() database.start "none" end)
    assert.has_error(function() database.start_tls("none", 1) end)
  end)
end)
