-- SPDX-License-Identifier: MIT
--
-- respool completion: what may stand for a word, and the scripts in the shells
-- that they are for.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local respool = require "respool"

local store

before_each(function()
  store = helper.dir() .. "/store"
  local s = assert(respool.open(store))
  for _, name in ipairs { "mails", "mail out", "orders", "-n" } do
    assert(s:queue(name, { max_attempts = 1 }))
  end
  s:queue "orders":push(1)
  s:queue "orders":work(function() return respool.dead() end, { limit = 1 })
  s:close()
end)

-- The words that may stand for the last one.
local function words(...)
  local run = cli.run { "completion", "words", "--", ... }
  assert.same({ 0, "" }, { run.status, run.err })
  local list = {}
  for line in run.out:gmatch "[^\n]+" do list[#list + 1] = line end
  table.sort(list)
  return list
end

describe("respool completion words", function()
  it("lists commands, subcommands, options and their choices", function()
    assert.same({ "partitions", "pause", "peek", "purge", "push" },
                words "p")
    assert.same({ "remove", "retry" }, words("dead", "re"))
    assert.same({ "--state" }, words("ls", "--st"))
    assert.same({ "leased" }, words("ls", "s", "q", "--state", "l"))
    assert.same({ "--keep-attempts" }, words("dead", "retry", "--k"))
  end)

  it("lists the queues and DLQs of the store on the line", function()
    assert.same({ "mail out", "mails" }, words("ls", store, "m"))
    assert.same({ "mails" }, words("push", "--key", "id", store, "mails"))
    assert.same({ "orders" }, words("dead", "retry", store, ""))
    assert.same({ "orders" }, words("dead", "retry", store, "orders", "1",
                                    "--to", "o"))
  end)

  it("lists those of RESPOOL_STORE where the line names no store", function()
    local getenv = stub(os, "getenv").by_default.returns(store)
    finally(function() getenv:revert() end)
    assert.same({ "mail out", "mails" }, words("ls", "m"))
    assert.same({ "orders" }, words("push", "--key", "id", "o"))
    assert.same({}, words("ls", store .. ".new", ""))
  end)

  it("lists nothing where files stand, and makes no store", function()
    assert.same({}, words("ls", ""))
    assert.same({}, words("ls", store .. ".new", ""))
    assert.equal("", helper.sh("ls -d " .. store .. ".new 2>/dev/null"))
    assert.same({}, words("nonesuch", ""))
  end)
end)

describe("The script of a shell", function()
  -- What the shell makes of the script and then of `code`.
  local function shell(command, name, code)
    local dir = helper.dir()
    helper.write(dir .. "/code", ("%s\n%s"):format(
      cli.run { "completion", name }.out, code))
    return helper.sh(([[mkdir %s/bin && printf '#!/bin/sh\nexec %s %s "$@"' \
      >%s/bin/respool && chmod +x %s/bin/respool && PATH=%s/bin:$PATH \
      STORE=%s %s %s/code 2>&1]]):format(dir, helper.lua(),
      helper.sh "pwd" .. "/bin/respool", dir, dir, dir, store, command, dir))
  end

  it("completes in bash", function()
    assert.equal([[mail\ out
mails]], (shell("bash", "bash", [[
      COMP_WORDS=(respool ls "$STORE" m) COMP_CWORD=3
      _respool
      printf '%s\n' "${COMPREPLY[@]}" | sort]])))
  end)

  it("completes in zsh", function()
    assert.equal("mail out\nmails", (shell("zsh -f", "zsh", [[
      compadd() { print -rl -- "${found[@]}" | sort }
      words=(respool ls "$STORE" m) CURRENT=4
      _respool]]):gsub("^[^\n]*compdef[^\n]*\n", "")))
  end)

  it("completes in fish", function()
    assert.equal("mail out\nmails", shell("fish", "fish", [[
      complete -C "respool ls $STORE m" | string match 'mail*' | sort]]))
  end)
end)
