-- SPDX-License-Identifier: MIT
--
-- What the screen of respool top is made of.

local chart = require "respool.cli.look.chart"
local dashboard = require "respool.cli.look.dashboard"
local output = require "respool.cli.base.output"

describe("a sparkline", function()
  it("is as high as each number is of the highest", function()
    assert.equal("▁▅█", chart.sparkline({ 0, 2, 4 }, 3))
    assert.equal("_=#", chart.sparkline({ 0, 2, 4 }, 3, true))
  end)

  it("shows the last numbers, the newest on the right", function()
    assert.equal("▁█", chart.sparkline({ 9, 0, 4 }, 2))
    assert.equal("  █", chart.sparkline({ 4 }, 3))
  end)

  it("of nothing is flat", function()
    assert.equal("▁▁", chart.sparkline({ 0, 0 }, 2))
  end)
end)

describe("the screen of respool top", function()
  local function queue(name, ready, rate)
    return {
      name = name, past = { rate }, pushed = rate, done = rate, failed = 0,
      stats = {
        ready = ready, leased = 0, scheduled = 0, retrying = 0,
        dead = 0, oldest_age = 0,
        paused = false, breaker = "closed",
      },
    }
  end

  local function sample(n)
    local all = {
      at = 0, groups = {}, queues = {},
      store = { used_bytes = 0, max_bytes = 1, readers = 1, max_readers = 2 },
    }
    for i = 1, n do
      all.queues[i] = queue(("queue%03d"):format(i), i, i)
    end
    return all
  end

  local function view(columns, rows)
    return {
      path = "x", columns = columns, rows = rows, interval = 1, sort = "n",
      first = 1,
    }
  end

  local function width(s)
    return select(2, s:gsub("[^\128-\191]", ""))
  end

  it("fits into every window", function()
    for _, columns in ipairs { 1, 10, 40, 80, 81, 300 } do
      for _, rows in ipairs { 1, 2, 5, 6, 7, 24, 200 } do
        local lines = dashboard.draw(sample(50), view(columns, rows))
        assert.equal(rows, #lines)
        for _, line in ipairs(lines) do
          assert.is_true(width(line.text) <= columns)
        end
      end
    end
  end)

  it("keeps columns under each other, however wide characters are", function()
    local names = { "注文の列", "e\204\129te\204\129", "🚚 express",
                    ("宛"):rep(40), "plain" }
    local all = sample(0)
    for i, name in ipairs(names) do all.queues[i] = queue(name, 7, 0) end
    for _, columns in ipairs { 40, 41, 80 } do
      local lines = dashboard.draw(all, view(columns, 20))
      local ready = lines[5].text:find "READY"
      for i = 6, 10 do
        local before, after = lines[i].text:match "^(.-)(    7 .*)$"
        assert.equal(ready - 1, output.width(before), lines[i].text)
        assert.is_true(output.width(before .. after) <= columns)
      end
    end
    assert.same({ 4, "日…", "日…", "日本" },
                { output.width "日本", output.cut("日本語", 3),
                  output.cut("日本語", 4), output.cut("日本", 4) })
  end)

  it("shows as many queues as fit and says how many more there are",
     function()
    local lines = dashboard.draw(sample(50), view(80, 12))
    assert.matches("^queue001", lines[6].text)
    assert.matches("and 45 more", lines[11].text)
  end)

  it("shows the row under the cursor where there is room for one", function()
    local page, rows = {}, { { key = 1, text = "a" }, { key = 2, text = "b" } }
    local here = view(80, 4)
    here.tabs = ""
    assert.equal("b", dashboard.draw_page(sample(1), here, page, rows, 2)[3]
      .text)
    here = view(80, 7)
    here.at = "queue020"
    assert.matches("^queue020", dashboard.draw(sample(50), here)[6].text)
  end)

  it("shows a stopped queue in yellow, one that fails in red", function()
    local all = sample(3)
    all.queues[1].stats.paused = true
    all.queues[2].failed = 1
    local lines = dashboard.draw(all, view(80, 24))
    assert.same({ "yellow", "red", "" }, {
      lines[6].style:match "%a*$", lines[7].style:match "%a*$",
      lines[8].style:match "%a*$",
    })
  end)

  it("scrolls so that the cursor is shown", function()
    local down = view(80, 12)
    down.at = "queue020"
    local lines = dashboard.draw(sample(50), down)
    assert.matches("^queue020", lines[10].text)
    assert.matches("reverse", lines[10].style)
    assert.matches("and 30 more", lines[11].text)
  end)

  it("shows rows of a page within every window", function()
    local page, rows = { head = "HEAD" }, {}
    for i = 1, 30 do
      rows[i] = { key = i, text = ("row %d "):format(i):rep(9) }
    end
    for _, columns in ipairs { 1, 40, 80 } do
      for _, n in ipairs { 1, 2, 3, 4, 5, 24, 100 } do
        local here = view(columns, n)
        here.tabs = "[1 queues] 2 at work"
        local lines = dashboard.draw_page(sample(1), here, page, rows, 17)
        assert.equal(n, #lines)
        for _, line in ipairs(lines) do
          assert.is_true(width(line.text) <= columns)
        end
      end
    end
    local here = view(80, 24)
    here.tabs = ""
    local lines, seen = dashboard.draw_page(sample(1), here, page, rows, 30)
    for _, line in ipairs(lines) do seen = seen or line.text:find "^row 30" end
    assert.is_truthy(seen)
  end)

  it("shows a sparkline at 80 columns", function()
    local all = sample(2)
    for i = 1, 20 do all.queues[1].past[i] = i end
    local lines = dashboard.draw(all, view(80, 24))
    assert.matches("DONE/S *$", lines[5].text)
    assert.matches("▄.*█$", lines[6].text)
  end)

  it("shows queues in 40 columns and 10 rows, whatever died", function()
    local all = sample(9)
    for i = 1, 9 do
      all.groups[i] = { dlq = "q", group = "g", reason = "r", count = i }
    end
    local lines = dashboard.draw(all, view(40, 10))
    assert.matches("^QUEUE.*READY.*DEAD.*DONE/S", lines[5].text)
    for i = 1, 3 do assert.matches("^queue00" .. i, lines[5 + i].text) end
  end)

  it("says that it stands still, however long the store's path", function()
    for columns = 14, 120 do
      local held = view(columns, 24)
      held.path, held.held = ("/long"):rep(40), true
      local text = dashboard.draw(sample(1), held)[1].text
      assert.matches("STANDING STILL", text)
      assert.is_true(width(text) <= columns)
    end
  end)

  it("shows a queue's name without what a terminal would obey", function()
    local all = sample(1)
    all.queues[1].name = "a\27[2Jb\nc"
    for _, line in ipairs(dashboard.draw(all, view(80, 12))) do
      assert.is_nil(line.text:find "%c")
    end
  end)
end)
