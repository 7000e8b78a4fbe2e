-- SPDX-License-Identifier: MIT
--
-- Configurations that the pages show are read by the programs they are for.

local helper = require "spec.helper"
local pages = require "spec.helper.pages"

if jit then return end -- to ask the programs once is enough

-- What systemd says of a unit; not of those that it needs.
local function complaints(text)
  local path = helper.dir() .. "/respool-page.service"
  helper.write(path, (text:gsub("/usr/local/bin/respool", "/bin/true")))
  return helper.sh(("systemd-analyze verify --man=no %s 2>&1 | "
    .. "grep respool-page"):format(path))
end

describe("The units of systemd in the pages", function()
  it("are read without a complaint", function()
    local n = 0
    for _, block in ipairs(pages.blocks "ini") do
      assert.equal("", complaints(block.text))
      assert.matches("Restrat", complaints(
        block.text:gsub("Restart=", "Restrat=")))
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
