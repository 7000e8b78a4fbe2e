-- SPDX-License-Identifier: MIT
--
-- The units for systemd: systemd reads them without a complaint, leaves their
-- services little to do harm with, and what they start are right commands.

local helper = require "spec.helper"

if jit then return end -- to ask systemd once is enough

local UNITS = { "respool-work@.service", "respool-maintain.service",
                "respool-maintain.timer" }
local MOST = 20 -- tenths of exposure, of 100

-- The units in a directory, the template with an instance. `change` changes
-- their text first.
local function copies(change)
  local dir, list = helper.dir(), {}
  for i, name in ipairs(UNITS) do
    local text = helper.read("contrib/systemd/" .. name)
      :gsub("/usr/local/bin/respool", "/bin/true")
    if change then text = change(text) end
    list[i] = dir .. "/" .. name:gsub("@", "@mails")
    helper.write(list[i], text)
  end
  return list
end

local function complaints(change)
  return helper.sh(("systemd-analyze verify --man=no %s 2>&1 "
    .. "| grep respool"):format(table.concat(copies(change), " ")))
end

local function exposed(path)
  return helper.sh(("systemd-analyze security --offline=true --no-pager "
    .. "--threshold=%d %s >/dev/null 2>&1; echo $?"):format(MOST, path)) ~= "0"
end

describe("The units of systemd", function()
  it("are read without a complaint", function()
    assert.equal("", complaints())
    assert.matches("Restrat", complaints(function(text)
      return (text:gsub("Restart=", "Restrat="))
    end))
  end)

  it("confine their services", function()
    for _, path in ipairs(copies()) do
      if path:find "service$" then assert.is_false(exposed(path), path) end
    end
    local open = copies(function(text)
      return (text:gsub("SystemCallFilter=[^\n]*\n", "")
        :gsub("CapabilityBoundingSet=\n", ""))
    end)
    assert.is_true(exposed(open[1]))
  end)

  it("start commands that are right", function()
    local dir, n = helper.dir(), 0
    helper.write(dir .. "/mails.lua", [[
      return { queue = "mails", handle = function() end }]])
    for _, name in ipairs(UNITS) do
      for words in helper.read("contrib/systemd/" .. name):gmatch
        "Exec%w+=/usr/local/bin/respool ([^\n]*)" do
        n = n + 1
        local command = words:gsub("%$%b{}", dir .. "/store")
          :gsub("/etc/respool/%%i", dir .. "/mails")
          :gsub("%$RESPOOL_WORK", "--until-empty")
        assert.equal("0", helper.sh(("bin/respool %s >/dev/null 2>&1; echo $?")
          :format(command)), words)
      end
    end
    assert.equal(3, n)
  end)
end)
