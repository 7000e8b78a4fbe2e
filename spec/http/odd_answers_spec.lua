-- SPDX-License-Identifier: MIT
--
-- Answers of servers that are not as the standard has them: read as curl reads
-- them, or over in time.

local helper = require "spec.helper"
local odd_server = require "spec.helper.servers.odd_server"
local respool = require "respool"

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue("hooks", { max_attempts = 1 }))
end)

-- Delivers an item; "done", or its dead letter.
local function deliver(bytes, how, options)
  local server = odd_server.start(bytes, how)
  local o = { url = server.base .. "/", timeout = 60 }
  for name, value in pairs(options or {}) do o[name] = value end
  q:push "x"
  local counts = q:work(respool.http(o), { limit = 1 })
  return counts.done == 1 and "done" or q.dead:oldest()
end

describe("An odd answer", function()
  -- These were "not HTTP/1.1": the receiver had the item, was posted it again
  -- and again, and it died.
  it("is read as curl reads it", function()
    for _, bytes in ipairs {
      "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
      "HTTP/1.1 200 OK\r\nX: a\r\n  folded\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nServer : x\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.0 200 OK\r\n\r\nuntil the end",
      "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
        .. "HTTP/1.1 202 Fine\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
      "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4"
        .. "\r\n\r\nnone",
    } do
      assert.equal("done", deliver(bytes))
    end
  end)

  it("without length on a connection that stays open is over soon", function()
    assert.equal("done", deliver("HTTP/1.1 200 OK\r\n\r\nhello",
                                 { stays = true }, { timeout = 50 }))
  end)

  it("that never ends is over when it is long, or late", function()
    assert.equal("done", deliver("HTTP/1.1 200 OK\r\n\r\n" .. ("x"):rep(70000),
                                 { stays = true }, { timeout = 50 }))
    local dead = deliver("HTTP/1.1 100 Continue\r\n\r\n", { again = true },
                         { timeout = 50 })
    assert.same({ "malformed", true },
                { dead.group, dead.error:find "header is too long" ~= nil })
    q.dead:purge()
    dead = deliver("HTTP/1.1 100 Continue\r\n\r\n", { stays = true },
                   { timeout = 0.2 })
    assert.equal("timeout", dead.group)
  end)

  it("is a failure when it is no HTTP, or none", function()
    for _, case in ipairs {
      { "220 smtp.example.org\r\n\r\n", "malformed" }, { "", "closed" },
      { "HTTP/1.1 20", "closed" },
    } do
      assert.equal(case[2], deliver(case[1]).group, case[1])
      q.dead:purge()
    end
  end)
end)

describe("The text of an answer", function()
  local function error_of(head, text)
    -- not by format(): that of 5.1 ends a string at a NUL
    local dead = deliver(("HTTP/1.1 422 No\r\n%sContent-Length: %d\r\n\r\n")
      :format(head, #text) .. text)
    q.dead:purge()
    return (dead.error:match "HTTP 422:? ?(.*)$")
  end

  it("is told from its beginning, in whole characters", function()
    local page = "xx" .. ("日本語\n"):rep(30000)
    assert.equal("xx" .. ("日本語 "):rep(19) .. "日本", error_of("", page))
    assert.equal("no caf? here", error_of("", "no caf\233 here\n"))
  end)

  it("is not told when it is no text", function()
    assert.equal("", error_of("", "\137PNG\r\n\26\n\0\0\0"))
  end)

  it("may be compressed, and is read no further than needed", function()
    local function gzip(command)
      local file = helper.dir() .. "/gz"
      helper.sh(("%s | gzip -c >%s"):format(command, file))
      return helper.read(file)
    end
    local head = "Content-Encoding: gzip\r\n"
    assert.equal("the number is missing",
                 error_of(head, gzip "echo the number is missing"))
    local function memory()
      return tonumber(helper.sh "grep VmHWM /proc/$PPID/status":match "%d+")
    end
    local before = memory()
    local bomb = gzip "head -c 200000000 /dev/zero | tr '\\0' a"
    assert.equal(("a"):rep(200), error_of(head, bomb))
    assert.is_true(memory() - before < 50000)
  end)
end)
