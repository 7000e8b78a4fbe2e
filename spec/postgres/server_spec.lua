-- SPDX-License-Identifier: MIT
-- What runs in the server, without the engine on top of it: verbs, races and
-- plans in C programs, on a cluster of their own.

local database = require "spec.helper.database"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

local function run(command)
  local pipe = assert(io.popen(command .. "; echo $?"))
  local said = pipe:read "*a"
  pipe:close()
  return said
end

local server = database.server

describe("the server half of a store in PostgreSQL", function()
  if not database.installed() then
    pending "needs the package postgresql"
    return
  end

  local url

  setup(function()
    url = run(server .. "start 2>&1"):match "^(postgres://%S+)"
    assert.is_string(url)
  end)

  teardown(function() run(server .. "stop") end)

  it("declares libpq as it is", function()
    assert.equal("0\n", run(build .. "/spec/libpq_abi 2>&1"))
  end)

  for _, subject in ipairs { "take", "settle", "bounds", "races", "schema" } do
    it("has the semantics of the verbs: " .. subject, function()
      assert.equal("0\n", run(("%s/spec/postgres_%s '%s' 2>&1"):format(
                              build, subject, url)))
    end)
  end

  it("keeps its invariants under eight connections", function()
    local said = run(build .. "/spec/postgres_model '" .. url ..
                     "' 8 5 2>&1")
    assert.matches("^seed %d+\n%d+ pushed[^\n]*\n0\n$", said)
  end)

  it("loses nothing and does nothing twice while the server crashes", function()
    local crash = server .. "crash && " .. server .. "start >/dev/null"
    local said = run(build .. "/spec/postgres_model '" .. url ..
                     "&patience=60' 8 8 " .. (os.getenv "RESPOOL_SEED" or 1) ..
                     " '" .. crash .. "' 2>&1") -- which may take its time
    assert.matches("^seed %d+\n%d+ pushed[^\n]*\n0\n$", said)
  end)

  it("pushes and settles once, wherever a conversation is cut", function()
    local said = run(build .. "/spec/postgres_cut '" .. url .. "' 2>&1")
    assert.matches("^push: %d+ cuts .*\ntake: %d+ cuts .*\n" ..
                   "dead: %d+ cuts [^\n]*\n0\n$", said)
  end)
end)
