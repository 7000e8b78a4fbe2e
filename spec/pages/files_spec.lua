-- SPDX-License-Identifier: MIT
--
-- Configurations that the pages show are read by the programs they are for.

local helper = require "spec.helper"
local pages = require "spec.helper.pages"

if jit then return end -- to ask the programs once is enough

describe("The units of systemd in the pages", function()
  it("are read without a complaint", function()
    local n = 0
    for _, block in ipairs(pages.blocks "ini") do
      local dir = helper.dir()
      local text = block.text:gsub("/usr/local/bin/respool", "/bin/true")
      helper.write(dir .. "/respool-page.service", text)
      assert.equal("", helper.sh(("systemd-analyze verify --man=no "
        .. "%s/respool-page.service 2>&1"):format(dir)))
      n = n + 1
    end
    assert.is_true(n > 0)
  end)

  it("start a command line that is right", function()
    for _, block in ipairs(pages.blocks "ini") do
      local words = block.text:match "ExecStart=/usr/local/bin/respool ([^\n]*)"
      local dir = helper.dir()
      helper.write(dir .. "/mails.lua", [[
        return { queue = "mails", handle = function() end }]])
      local command = words:gsub("/etc/respool", dir)
        :gsub("/var/lib/respool", dir)
      helper.sh(("bin/respool init %s/jobs"):format(dir))
      assert.equal("0", helper.sh(("bin/respool %s --until-empty "
        .. ">/dev/null 2>&1; echo $?"):format(command)))
    end
  end)
end)

describe("The configuration of Prometheus in the pages", function()
  it("is read without a complaint", function()
    for _, block in ipairs(pages.blocks "yaml") do
      local dir = helper.dir()
      helper.write(dir .. "/prometheus.yml", block.text)
      helper.sh("cp contrib/prometheus/respool.rules.yml " .. dir)
      assert.matches("SUCCESS", helper.sh(
        ("promtool check config %s/prometheus.yml 2>&1"):format(dir)))
    end
  end)
end)
