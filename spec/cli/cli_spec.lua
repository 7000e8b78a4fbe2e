-- SPDX-License-Identifier: MIT
--
-- The command line as a whole: what holds for every command, what its
-- arguments may look like, and that page and install leave nothing out.

local arguments = require "respool.cli.base.arguments"
local cli = require "spec.helper.cli"
local commands = require "respool.cli.commands".NAMES
local helper = require "spec.helper"
local json = require "respool.support.json"
local output = require "respool.cli.base.output"
local respool = require "respool"

-- The lines of a help, and the commands below it.
local function help_of(...)
  local words = { ... }
  words[#words + 1] = "--help"
  local run = cli.run(words)
  assert.same({ 0, "" }, { run.status, run.err })
  return run.out
end

-- Calls with the words of every command and its help.
local function each_help(fn)
  for _, name in ipairs(commands) do
    local text = help_of(name)
    fn(name, text)
    for line in (text:match "\nCommands:\n(.-)\n\n" or ""):gmatch "[^\n]+" do
      local sub = line:match "^   (%l+)"
      if sub then fn(name .. " " .. sub, help_of(name, sub)) end
    end
  end
  for _, sub in ipairs { "list", "show", "cancel", "resume", "forget" } do
    fn("replay " .. sub, help_of("replay", sub))
  end
end

describe("respool", function()
  it("tells its version", function()
    assert.equal(("respool %s\n"):format(respool._VERSION),
                 cli.run { "--version" }.out)
  end)

  it("lists every command in its help", function()
    local text = help_of()
    for _, name in ipairs(commands) do
      assert.matches(("\n   %s +%%l[^\n]+\n"):format(name), text)
    end
    assert.equal(text, cli.run { "help" }.out)
  end)

  it("shows the help of a command", function()
    assert.equal(help_of "push", cli.run { "help", "push" }.out)
    assert.equal(help_of "push", cli.run { "--", "push", "--help" }.out)
  end)

  it("takes RESPOOL_STORE where STORE is left out", function()
    local dir = helper.dir()
    local getenv = stub(os, "getenv").by_default.returns(dir .. "/default")
    finally(function() getenv:revert() end)
    local function out(...)
      local run = cli.run { input = "1\n", ... }
      assert.same({ 0, "" }, { run.status, run.err })
      return run.out
    end
    out("push", "mails")
    out("push", dir .. "/other", "orders")
    assert.matches("mails", out "ls")
    assert.matches("%f[%w]1%f[%W]", out("peek", "mails"))
    assert.matches("%f[%w]1%f[%W]", out("ls", "--state", "ready", "mails"))
    assert.matches("orders", out("ls", dir .. "/other"))
    assert.equal("", out("dead", "list", "mails", "--json"))
    assert.same({ 1, "respool: there is no queue 'orders' in '" .. dir
                  .. "/default'\n" },
                { cli.run { "peek", "orders" }.status,
                  cli.run { "peek", "orders" }.err })
  end)

  -- It became the value of the option, and was shown with its password.
  it("does not take RESPOOL_STORE for a value that is missing", function()
    local getenv = stub(os, "getenv").by_default.returns
      "postgres://ada:secret@localhost/shop"
    finally(function() getenv:revert() end)
    for _, option in ipairs { "-n", "--limit", "--state" } do
      assert.same({ 2, ("respool: option '%s' requires an argument (see "
                        .. "respool ls --help)\n"):format(option) },
                  { cli.run { "ls", option }.status,
                    cli.run { "ls", option }.err })
    end
  end)

  it("shows what may be long by a pager, on a terminal only", function()
    local dir = helper.dir()
    assert(respool.open(dir .. "/s")):queue "mails"
    local getenv = stub(os, "getenv").by_default.returns "more -s"
    finally(function() getenv:revert() end)
    local function pager(words)
      local run = cli.run(words)
      assert.equal(0, run.status)
      return run.pager
    end
    assert.matches("PAGER", pager { columns = 80, "ls", dir .. "/s" })
    assert.matches("PAGER", pager { columns = 80, "ls", dir .. "/s", "mails" })
    assert.matches("PAGER", pager { columns = 80, "dead", "list", dir .. "/s",
                                    "mails" })
    assert.is_nil(pager { "ls", dir .. "/s" })
    assert.is_nil(pager { columns = 80, "pause", dir .. "/s", "mails" })
    getenv.by_default.returns ""
    assert.is_nil(pager { columns = 80, "ls", dir .. "/s" })
  end)

  it("waits for its pager, and ends when that does", function()
    local dir = helper.dir()
    local q = assert(assert(respool.open(dir)):queue "mails")
    q:push(("x"):rep(300000)) -- more than a pipe holds
    local function on_terminal(pager, ...)
      helper.write(dir .. "/run", cli.line_of { ... } .. "\necho $?\n")
      return helper.sh(([[PAGER=%s script -qec "sh %s/run" /dev/null \
        </dev/null]]):format(cli.quote(pager), dir))
    end
    assert.matches("^shown QUEUE.-\nshown mails.-\n0\r?\n?$",
                   on_terminal("sed 's/^/shown /'", "ls", dir))
    assert.matches("^141\r?\n?$",
                   on_terminal("head -c 1 >/dev/null", "get", "--full", dir,
                               "mails", 1))
  end)

  it("says in one line that a database has no files", function()
    for _, words in ipairs { { "compact", "postgres://x@h/y" },
                             { "repair", "postgres://x@h/y", "new" } } do
      assert.equal(("respool: the store is not in files of its own: "
        .. "there is nothing to %s\n"):format(words[1]),
                   cli.run(words).err)
    end
  end)

  it("wants a command", function()
    local run = cli.run {}
    assert.same({ 2, "respool: a command is required (see respool --help)\n" },
                { run.status, run.err })
  end)

  it("suggests what was meant", function()
    local run = cli.run { "pus" }
    assert.equal(2, run.status)
    assert.matches("^respool: unknown command 'pus'; did you mean 'push'%?",
                   run.err)
    run = cli.run { "push", "--resme", "a", "b" }
    assert.matches("^respool: unknown option '%-%-resme'; did you mean "
      .. "'%-%-resume'%? %(see respool push %-%-help%)\n$", run.err)
  end)

  it("names the help of the action that is wrong", function()
    for words, of in pairs {
      [{ "dead", "list", "s", "q", "--nonesuch" }] = "dead list",
      [{ "replay", "cancel", "s" }] = "replay cancel",
      [{ "item", "run", "--key", "kill" }] = "item run",
      [{ "item", "nonesuch" }] = "item",
    } do
      assert.matches(("%%(see respool %s %%-%%-help%%)\n$"):format(of),
                     cli.run(words).err)
    end
  end)

  it("names what is missing as the usage does", function()
    for words, name in pairs {
      [{ "push" }] = "STORE", [{ "get", "s" }] = "QUEUE",
      [{ "dead", "show", "s" }] = "DLQ", [{ "dead", "show", "s", "q" }] =
      "NUMBER", [{ "replay", "cancel", "s" }] = "NAME",
    } do
      local run = cli.run(words)
      assert.equal(2, run.status)
      assert.matches("^respool: missing argument " .. name .. " %(see respool ",
                     run.err)
    end
  end)

  it("says in one line what it cannot open", function()
    local dir = helper.dir()
    helper.write(dir .. "/file", "")
    for _, place in ipairs { dir .. "/none", dir .. "/file", dir } do
      local run = cli.run { "ls", place }
      assert.equal(1, run.status)
      assert.matches("^respool: [^\n]+\n$", run.err)
    end
    assert.equal("file", helper.sh("ls " .. dir))
  end)

  it("ends quietly when nobody reads what it writes", function()
    local place, dir = helper.location(), helper.dir()
    local store = assert(helper.open(place))
    assert(store:queue("q"):push_many { ("x"):rep(300000), 2 })
    for _, trap in ipairs { "", "trap '' PIPE; " } do
      helper.sh(([[{ %s%s bin/respool peek %s q --full 2>%s/err
        echo $? >%s/status; } | true]]):format(
        trap, helper.lua(), place, dir, dir))
      assert.equal("141\n", helper.read(dir .. "/status"))
      assert.equal("", helper.read(dir .. "/err"))
    end
  end)

  it("says which module is missing", function()
    local run = cli.run { "ls", "x", env = "LUA_PATH=" .. cli.quote(
      helper.sh "pwd" .. "/lua/?.lua") }
    assert.same({ 1, "respool: the Lua module 'argparse' is missing "
      .. "(Debian package lua-argparse)\n" }, { run.status, run.err })
  end)
end)

-- Specs run most commands within their own process; here each is one.
describe("Each command, as a process,", function()
  local dir, store

  setup(function()
    dir = helper.sh "mktemp -d"
    local s = assert(respool.open(dir .. "/store"))
    local q = assert(s:queue("q", { max_attempts = 1 }))
    assert(s:queue "words")
    assert(q:push_many { 1, 2, 3 })
    assert(q:push(4, { delay = 3600 }))
    q:work(function() return respool.dead() end, { limit = 3 })
    local kept = assert(s:queue("kept", { keep_done = 3600 }))
    assert(kept:push(1))
    kept:work(function() return 2 end, { limit = 1 })
    assert(s:close())
    helper.write(dir .. "/worker.lua",
                 "return { queue = 'q', handle = function() end }")
    store = dir .. "/store"
  end)

  teardown(function() helper.sh("rm -rf " .. dir) end)

  local function words_of(name)
    local words = {
      get = { store, "q", 4 }, result = { store, "kept", 1 },
      peek = { store, "q" }, stats = { store, "q" },
      top = { store, "--once", "--interval", "100ms" },
      schedule = { "list", store }, worker = { "list", store },
      dead = { "retry", store, "q", 1 }, item = { "run", store, "q", 4 },
      remove = { store, "q", 4 },
      purge = { store, "q", "--yes" }, drop = { store, "words", "--yes" },
      history = { store, "q" }, config = { store, "q" },
      pause = { store, "q" }, resume = { store, "q" },
      hold = { store, "q", "0" }, partitions = { store, "q" },
      push = { store, "q" }, replay = { store, "q", "--dry-run" },
      work = { store, dir .. "/worker.lua", "--until-empty" },
      export = { store, "q", "--dead" }, import = { store, "q" },
      repair = { store, dir .. "/repaired" },
      move = { store, dir .. "/other", "q" },
      deliver = { "--help" }, receive = { "--help" },
      console = { "--help" }, -- see their own specs
      completion = { "bash" },
    }
    return words[name] or { store }
  end

  for _, name in ipairs(commands) do
    it(name .. " does its work", function()
      local words = words_of(name)
      table.insert(words, 1, name)
      if name == "import" then
        words.input = cli.run { "export", store, "q", "--dead" }.out
      end
      local run = cli.process(words)
      if name == "health" then
        run = cli.until_healthy(function() return cli.process(words) end)
      end
      assert.equal(0, run.status, run.err)
      assert.is_nil(run.err:find("respool: ", 1, true), run.err)
    end)
  end
end)

describe("The help of each command", function()
  it("has an example", function()
    each_help(function(name, text)
      assert.truthy(text:find("\nExamples?[:,][^\n]*\n  "), name)
      assert.truthy(text:find("respool " .. name:match "^%l+", 1, true), name)
    end)
  end)

  it("fits 80 columns", function()
    each_help(function(name, text)
      for line in text:gmatch "[^\n]+" do
        assert.is_true(#line <= 80, name .. ": " .. line)
      end
    end)
  end)

  it("is what the man page is made of", function()
    assert.equal(helper.read "doc/respool.1", helper.sh(
      ("LUA_PATH=%s LUA_CPATH=%s %s doc/man.lua"):format(
        cli.quote(package.path), cli.quote(package.cpath), helper.lua()))
      .. "\n")
  end)

  it("is in the man page with all its options", function()
    local page = helper.read "doc/respool.1":gsub("\\%-", "-"):gsub("\\f.", "")
    each_help(function(name, text)
      local section = page:match(
        ("\n%%.SS \"?%s[ \"\n](.-)\n%%.S[SH] "):format(
          name:match "^replay" or name:match "^%l+"))
      assert.truthy(section, name)
      for option in text:gmatch "%f[%-]%-%-[%l%-]+" do
        assert.truthy(option == "--help" or section:find(option, 1, true),
                      name .. " " .. option)
      end
      local sub = name:match " (%l+)$"
      assert.truthy(not sub or section:find(("\nrespool %s "):format(name),
                                            1, true), name)
    end)
  end)
end)

describe("Each manual page", function()
  it("is what `make man` writes", function()
    for _, n in ipairs { 1, 3, 5 } do
      assert.equal(helper.read(("doc/respool.%d"):format(n)),
                   helper.sh(("%s doc/man.lua %d"):format(helper.lua(), n))
                     .. "\n")
    end
  end)
end)

describe("make install", function()
  local dir

  setup(function()
    dir = helper.sh "mktemp -d"
    helper.sh(("env -u MAKEFLAGS make -s install PREFIX=%s"):format(dir))
  end)

  teardown(function()
    helper.sh("rm -rf " .. dir)
  end)

  it("installs every module", function()
    local find = "cd %s && find respool* -name '*.lua' | sort"
    assert.equal(helper.sh(find:format "lua"),
                 helper.sh(find:format(dir .. "/share/lua/5.4")))
  end)

  it("installs a command that finds its modules from anywhere", function()
    helper.sh(("ln -s %s/bin/respool %s/link"):format(dir, dir))
    assert.equal("respool " .. respool._VERSION, helper.sh(
      ("cd /; env -u LUA_PATH -u LUA_CPATH %s/link --version"):format(dir)))
  end)

  it("installs the manual pages", function()
    for _, n in ipairs { 1, 3, 5 } do
      assert.equal("", helper.sh(("diff doc/respool.%d %s/share/man/man%d/")
        :format(n, dir, n)))
    end
  end)

  it("installs what `respool completion` prints, where shells look", function()
    for shell, path in pairs {
      bash = "bash-completion/completions/respool",
      zsh = "zsh/site-functions/_respool",
      fish = "fish/vendor_completions.d/respool.fish",
    } do
      assert.equal(cli.run { "completion", shell }.out,
                   helper.read(dir .. "/share/" .. path))
    end
  end)

  it("installs units that start what it has installed", function()
    local units = dir .. "/lib/systemd/system"
    assert.equal("respool-maintain.service\nrespool-maintain.timer\n"
      .. "respool-work@.service", helper.sh("ls " .. units))
    local said = helper.sh(("grep -ho '[^ =]*/bin/respool' %s/*.service "
      .. "| sort -u"):format(units))
    assert.equal(dir .. "/bin/respool", said)
    assert.equal("", helper.sh(("diff contrib/systemd/respool.sysusers "
      .. "%s/lib/sysusers.d/respool.conf"):format(dir)))
  end)

  it("installs an addon for lua-language-server", function()
    assert.equal(helper.read "lua/respool/store.lua", helper.read(
      dir .. "/share/respool/luals/respool/library/respool/store.lua"))
    assert.equal("respool", json.decode(helper.read(
      dir .. "/share/respool/luals/respool/config.json")).name)
  end)

  it("installs a stripped library that pkg-config knows", function()
    helper.write(dir .. "/main.c", [[
      #include <respool.h>
      int main(void) { return respool_errname(0) == 0; }
    ]])
    assert.equal("0", helper.sh(([[cd %s
      export PKG_CONFIG_PATH=$PWD/lib/pkgconfig
      cc main.c $(pkg-config --cflags --libs respool) -o main 2>&1 &&
      LD_LIBRARY_PATH=lib ./main; echo $?]]):format(dir)))
    assert.equal(("%s %s/lib %s/lib -llmdb -lcbor"):format(dir, dir, dir),
      helper.sh(([[export PKG_CONFIG_PATH=%s/lib/pkgconfig
        echo $(pkg-config --variable=prefix respool) \
          $(pkg-config --variable=libdir respool) \
          $(pkg-config --define-variable=prefix=%s --variable=libdir respool) \
          $(pkg-config --static --libs respool | grep -o -e -llmdb -e -lcbor)
        ]]):format(dir, dir)))
    local library = dir .. "/lib/librespool.so"
    assert.equal(library .. "." .. respool._VERSION,
                 helper.sh("readlink -f " .. library))
    assert.equal("", helper.sh("nm " .. library .. " 2>/dev/null"))
  end)

  it("is undone by make uninstall", function()
    helper.sh(("env -u MAKEFLAGS make -s uninstall PREFIX=%s"):format(dir))
    helper.sh(("rm %s/main %s/main.c %s/link"):format(dir, dir, dir))
    assert.equal("", helper.sh(("find %s -name '*respool*' -o -type f "
      .. "-o -type l"):format(dir)))
  end)
end)

describe("Arguments", function()
  it("may be durations", function()
    for text, seconds in pairs {
      ["90"] = 90, ["90s"] = 90, ["5m"] = 300, ["2h"] = 7200, ["3d"] = 259200,
      ["1w"] = 604800, ["1h30m"] = 5400, ["250ms"] = 0.25, ["1.5h"] = 5400,
      ["0"] = 0,
    } do
      assert.equal(seconds, arguments.duration(text))
    end
    for _, text in ipairs { "", "h", "-5m", "5x", "1h30", "5 m", "1e3", "." } do
      assert.is_nil((arguments.duration(text)))
    end
  end)

  it("may be sizes", function()
    for text, bytes in pairs {
      ["4096"] = 4096, ["64KiB"] = 65536, ["1MB"] = 1e6, ["2k"] = 2048,
      ["1G"] = 2^30, ["1.5M"] = 1572864,
    } do
      assert.equal(bytes, arguments.size(text))
    end
    for _, text in ipairs { "", "K", "-1", "1X", "0" } do
      assert.is_nil((arguments.size(text)))
    end
  end)

  it("may be moments", function()
    for text, t in pairs {
      ["2001-09-09T01:46:40Z"] = 1e9, ["2001-09-09 01:46:40Z"] = 1e9,
      ["2001-09-09T03:46:40+02:00"] = 1e9, ["2001-09-08T21:16:40-0430"] = 1e9,
      ["2001-09-09T01:46:40.5Z"] = 1e9 + 0.5, ["@1000000000"] = 1e9,
      ["2024-02-29T00:00Z"] = 1709164800, ["1970-01-01T00:00:00Z"] = 0,
      ["2001-09-09"] = os.time { year = 2001, month = 9, day = 9, hour = 0 },
    } do
      assert.equal(t, arguments.moment(text))
    end
    for text, age in pairs { ["2h ago"] = 7200, now = 0 } do
      local before = os.time()
      local t = arguments.moment(text) + age
      assert.is_true(t >= before - 1 and t <= os.time() + 1, text)
    end
    for _, text in ipairs { "", "2023-02-29", "2001-13-01", "2001-01-01T25:00",
                            "yesterday", "2001-01-01X", "@" } do
      assert.is_nil((arguments.moment(text)))
    end
  end)
end)

describe("Output", function()
  it("shows what a terminal would obey", function()
    assert.equal([[a\x1b[2J\nb\x7f]], output.clean "a\27[2J\nb\127")
    assert.equal([[é\u009b]], output.clean "é\194\155")
    assert.equal([[\xffx]], output.clean "\255x")
  end)

  it("cuts by characters", function()
    assert.equal("ääää", output.cut("ääää", 4))
    assert.equal("äää…", output.cut("äääää", 4))
  end)

  it("writes figures to be read at a glance", function()
    assert.equal("1,234,567", output.number(1234567))
    assert.equal("-123", output.number(-123))
    assert.equal("4.2 KiB", output.bytes(4300))
    assert.equal("512 B", output.bytes(512))
    assert.equal("12k", output.short(12345))
    assert.equal("350ms", output.duration(0.35))
    assert.equal("4.2s", output.duration(4.2))
    assert.equal("3m05s", output.duration(185))
    assert.equal("1h00m", output.duration(3599.9))
    assert.equal("4d15h", output.duration(400000))
    assert.equal("2001-09-09T01:46:40Z", output.time(1e9, true))
  end)
end)
