-- SPDX-License-Identifier: MIT
--
-- respool dead: dead letters looked at and taken out by hand.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"

-- A store whose queue "mails" has five dead letters in DLQ "lost"; its path.
local function filled()
  local path = helper.location()
  local store = assert(helper.open(path))
  local mails = store:queue("mails", {
    max_attempts = 2, dead_letter = "lost",
    retry = require "respool".backoff.constant { delay = 0 },
  })
  for i = 1, 5 do mails:push({ n = i }, { headers = { trace = i } }) end
  mails:work(function(mail)
    error({ message = ("refused %d\27[2J"):format(mail.n),
            group = mail.n % 2 == 1 and "odd" or "even" })
  end, { stop_when_empty = true })
  store:queue "other"
  store:close()
  return path
end

local function dead(...)
  return cli.run { "dead", ... }
end

local function numbers(...)
  local list = {}
  for i, dead_letter in ipairs(cli.values(dead("list", ...))) do
    list[i] = dead_letter.number
  end
  return list
end

local function refused(status, pattern, ...)
  cli.assert_refused(dead(...), status, pattern)
end

describe("respool dead push", function()
  it("pushes a failure that happened elsewhere", function()
    local path = filled()
    local run = dead("push", path, "mails", '{"to":"ada"}', "--error", "why",
                     "--group", "smtp", "--attempts", "3", "--key", "k",
                     "--priority", "7")
    assert.equal("dead letter 6 pushed\n", run.out)
    local letter = cli.values(dead("show", path, "lost", "6", "--json"))[1]
    assert.same({ "mails", "rejected", "why", "smtp", 3, "k", 7, "ada" },
                { letter.queue, letter.reason, letter.error, letter.group,
                  letter.attempts, letter.key, letter.priority,
                  letter.payload.to })
  end)

  it("pushes to another DLQ, and text as it is", function()
    local path = filled()
    assert.equal(0, dead("push", path, "mails", "{", "--raw", "--dlq",
                         "elsewhere").status)
    assert.same({ 1 }, numbers(path, "elsewhere", "--json"))
    assert.same({ { dlq = "elsewhere", number = 2 } },
                cli.values(dead("push", path, "mails", "2", "--dlq",
                                "elsewhere", "--json")))
  end)

  it("refuses what is wrong", function()
    local path = filled()
    refused(2, "cannot be read as JSON", "push", path, "mails", "{")
    refused(1, "there is no queue 'mail'", "push", path, "mail", "1")
    refused(2, "'x' is not a whole number", "push", path, "mails", "1",
            "--attempts", "x")
  end)
end)

describe("respool dead list", function()
  it("lists dead letters in a table, by DLQ or by queue", function()
    local path = filled()
    local run = dead("list", path, "lost")
    assert.matches("^NUMBER +QUEUE +ID +REASON +GROUP", run.out)
    assert.matches("\n +1 +mails +1 +exhausted +odd .*{\"n\":1}\n", run.out)
    assert.is_nil(run.out:find "\27")
    local function timeless(text)
      return (text:gsub("%S+ ago", ""):gsub(" +", " "))
    end
    assert.equal(timeless(run.out),
                 timeless(dead("list", path, "mails").out))
  end)

  it("fits a terminal", function()
    local run = cli.run { "dead", "list", filled(), "lost", columns = 80 }
    for line in run.out:gmatch "[^\n]+" do
      assert.is_true(select(2, line:gsub("[^\128-\191]", "")) <= 80, line)
    end
    assert.matches("{\"n\":1}", run.out)
  end)

  it("lists some of them", function()
    local path = filled()
    assert.same({ 1, 2, 3, 4, 5 }, numbers(path, "lost", "--json"))
    assert.same({ 1, 3, 5 }, numbers(path, "lost", "--json", "--group", "odd"))
    assert.same({ 1, 2 }, numbers(path, "lost", "--json", "-n", "2"))
    assert.same({ 4, 5 }, numbers(path, "lost", "--json", "--after", "3"))
    assert.same({ 5, 4 }, numbers(path, "lost", "--json", "--newest", "-n",
                                  "2"))
  end)

  it("says so when there are none", function()
    local run = dead("list", filled(), "other")
    assert.equal(0, run.status)
    assert.equal("no dead letters\n", run.out)
  end)

  it("says that there is no such DLQ", function()
    refused(1, "no DLQ 'losd' in .*did you mean 'lost'", "list", filled(),
            "losd")
  end)
end)

describe("respool dead show", function()
  it("shows a dead letter with its failures and payload", function()
    local run = dead("show", filled(), "lost", "2")
    assert.equal(0, run.status)
    assert.matches("item +2 of mails", run.out)
    assert.matches("attempts +2", run.out)
    assert.matches("failures\n.*even: refused 2\\x1b%[2J.*even: refused 2",
                   run.out)
    assert.matches('payload\n  {\n    "n": 2\n  }\n', run.out, 1, true)
  end)

  it("gives dead letters as JSON", function()
    local list = cli.values(dead("show", filled(), "lost", "1", "2", "--json"))
    assert.same({ n = 2 }, list[2].payload)
    assert.same({ trace = 2 }, list[2].headers)
    assert.equal(2, #list[2].history)
  end)

  it("says that there is no such dead letter", function()
    refused(1, "dead letter 9", "show", filled(), "lost", "9")
    refused(2, "not a whole number", "show", filled(), "lost", "first")
  end)
end)

describe("respool dead groups", function()
  it("counts dead letters by group, of a DLQ or of all", function()
    local path = filled()
    local run = dead("groups", path)
    assert.matches("\nlost +odd +exhausted +3 +3 +%S+ ago +5\n"
      .. "lost +even +exhausted +2 +2 +%S+ ago +4\n$", run.out)
    local list = cli.values(dead("groups", path, "lost", "--json"))
    local g = list[1]
    assert.same({ "lost", "odd", "exhausted", 3, 5 },
                { g.dlq, g.group, g.reason, g.count, g.newest })
    assert.equal(3, g.hours[24])
    assert.is_true(g.first_died_at <= g.last_died_at)
  end)
end)

describe("respool dead retry", function()
  it("moves dead letters back to their queue", function()
    local path = filled()
    local run = dead("retry", path, "lost", "1", "3")
    assert.equal(0, run.status)
    assert.equal("2 retried\n", run.out)
    local store = assert(helper.open(path))
    local mails = store:queue "mails"
    assert.equal(2, mails:length().ready)
    assert.equal(0, mails:peek()[1].attempts)
    assert.equal(3, mails.dead:count())
  end)

  it("moves them to another, and keeps attempts when asked", function()
    local path = filled()
    assert.equal(0, dead("retry", path, "lost", "1", "--to", "other",
                         "--keep-attempts").status)
    local store = assert(helper.open(path))
    assert.equal(2, store:queue("other"):peek()[1].attempts)
  end)

  it("does what it can, and tells what it could not", function()
    local path = filled()
    local run = dead("retry", path, "lost", "9", "1")
    assert.equal(1, run.status)
    assert.equal("1 retried\n", run.out)
    assert.matches("^respool: there is no dead letter 9[^\n]*\n$", run.err)
    refused(1, "no queue 'nowhere'", "retry", path, "lost", "2", "--to",
            "nowhere")
  end)
end)

describe("respool dead remove", function()
  it("removes dead letters by number", function()
    local path = filled()
    assert.equal("2 removed\n", dead("remove", path, "lost", "2", "4").out)
    assert.same({ 1, 3, 5 }, numbers(path, "lost", "--json"))
  end)
end)

describe("respool dead purge", function()
  it("wants to be told which dead letters", function()
    local path = filled()
    refused(2, "%-%-all", "purge", path, "lost")
    assert.same({ 1, 2, 3, 4, 5 }, numbers(path, "lost", "--json"))
  end)

  it("removes those of a group, those of an age, or all", function()
    local path = filled()
    assert.equal("3 removed\n",
                 dead("purge", path, "lost", "--group", "odd").out)
    assert.equal("0 removed\n",
                 dead("purge", path, "lost", "--older-than", "1h").out)
    assert.equal("2 removed\n", dead("purge", path, "lost", "--all").out)
    assert.same({}, numbers(path, "lost", "--json"))
  end)

  it("only counts them with --dry-run", function()
    local path = filled()
    assert.equal("2 would be removed\n", dead(
      "purge", path, "lost", "--group", "even", "--dry-run").out)
    assert.same({ 1, 2, 3, 4, 5 }, numbers(path, "lost", "--json"))
  end)
end)

describe("respool dead", function()
  it("wants a command, and one that there is", function()
    refused(2, "a command is required")
    refused(2, "unknown command 'bury'", "bury")
  end)

  it("has commands whose help has an example", function()
    for _, name in ipairs { "list", "show", "groups", "retry", "remove",
                            "purge" } do
      local run = dead(name, "--help")
      assert.equal(0, run.status)
      assert.matches("Example:\n  respool dead " .. name, run.out)
    end
  end)
end)
