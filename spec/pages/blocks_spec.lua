-- SPDX-License-Identifier: MIT
--
-- What the pages show: each block runs alone, as it stands, in a fresh
-- directory, and prints what it says that it prints.

local pages = require "spec.helper.pages"

-- Languages of blocks, and those that are run here.
local KNOWN = {
  lua = true, console = true, sh = true, nginx = true, sql = true, ini = true,
  yaml = true, [""] = true,
}

-- Blocks that are not run, by their page and first line, with the reason.
local NOT_RUN = {
  ["README.md"] = {
    ["make deps && make && sudo make install        # Debian; others: "
      .. "doc/building.md"] = "installs into the machine",
  },
  ["doc/guide/postgres.md"] = {
    ['sudo -u postgres createuser "$USER"'] = "makes a role on a server",
  },
  ["doc/guide/console.md"] = {
    ["respool console shop.respool --open         # only looks: the store is "
      .. "opened read-only"] = "serves browsers until it is stopped",
  },
}

local function first_line(block)
  return block.text:match "^[^\n]*"
end

-- Whether a block talks to a server, which has a spec of its own.
local function needs_server(block)
  return block.text:find "postgres:///" or block.text:find "luasql%.postgres"
    or block.text:find "11300" or block.text:find "6379"
end

describe("The pages", function()
  local met = {}
  local here = {}
  for _, block in ipairs(pages.blocks("lua", "console", "sh")) do
    local listed = NOT_RUN[block.page] or {}
    if listed[first_line(block)] then
      met[block.page .. first_line(block)] = true
    elseif not needs_server(block) then
      here[#here + 1] = block
    end
  end

  local results

  it("have blocks of languages that are known", function()
    local odd = {}
    for _, path in ipairs(pages.paths()) do
      for _, block in ipairs((select(2, pages.read(path)))) do
        if not KNOWN[block.lang] then
          odd[#odd + 1] = block.id .. " " .. block.lang
        end
      end
    end
    assert.same({}, odd)
  end)

  it("have the blocks that are listed as not run", function()
    for page, lines in pairs(NOT_RUN) do
      for line in pairs(lines) do
        assert.is_true(met[page .. line], page .. ": " .. line)
      end
    end
  end)

  it("find a block out that does not do what it says", function()
    local wrong = {
      { lang = "lua", text = "print 'a' --> b\n", id = "1" },
      { lang = "lua", text = "print 'a' --> a\nprint 'b'\n", id = "2" },
      { lang = "console", text = "$ echo a\nb\n", id = "3" },
      { lang = "sh", text = "false\ntrue\n", id = "4" },
      { lang = "lua", text = "print 'a9b' --> a…b\n", id = "5" },
      { lang = "console", text = "$ printf 'a\\nb\\n'\na\nb\n", id = "6" },
    }
    local ran = pages.run(wrong)
    local good = {}
    for i, block in ipairs(wrong) do
      local _, fits = pages.expected(block, ran[block.id])
      good[i] = fits and ran[block.id].status == 0
    end
    assert.same({ false, false, false, false, true, true }, good)
  end)

  for _, block in ipairs(here) do
    it("show what holds: " .. block.id, function()
      results = results or pages.run(here)
      local ran = results[block.id]
      assert.equal(0, ran.status, block.id .. "\n" .. ran.out .. ran.err)
      local expected, fits = pages.expected(block, ran)
      if not fits then assert.equal(expected, ran.out, block.id) end
    end)
  end
end)
