-- SPDX-License-Identifier: MIT
--
-- Children that are killed before or after one of their calls into the core,
-- the n-th of its name; or that print how often they made each.

local M = {}

---@class respool.spec.watcher
local Watcher = {}
Watcher.__index = Watcher

-- In the child: one that is to be killed `side` ("before", "after") of the
-- `nth` call of the name; without a name it is not.
function M.watcher(name, nth, side)
  return setmetatable({ name = name, nth = tonumber(nth), side = side,
                        seen = {} }, Watcher)
end

local function die(w, at, when)
  if at == w.name and w.seen[at] == w.nth and when == w.side then
    os.execute "kill -9 $PPID"
  end
end

-- The methods of a handle.
function M.methods_of(handle)
  return debug.getmetatable(handle).__index
end

-- Watches these methods; a call's name is that of `of`, a dot and its own.
function Watcher:watch(of, methods, ...)
  for _, method in ipairs { ... } do
    local at, call = of .. "." .. method, assert(methods[method])
    local function ended(...)
      die(self, at, "after")
      return ...
    end
    methods[method] = function(...)
      self.seen[at] = (self.seen[at] or 0) + 1
      die(self, at, "before")
      return ended(call(...))
    end
  end
end

function Watcher:print()
  for at, n in pairs(self.seen) do print(at, n) end
end

-- In the spec: what the text of a child begins with, to which this module is
-- `killed` then.
function M.text()
  local file = assert(io.open "spec/helper/killed.lua")
  local text = file:read "*a"
  file:close()
  return "local killed = (function()\n" .. text .. "end)()\n"
end

-- The calls that a child has printed: name and how many.
function M.calls(output)
  local list = {}
  for name, n in output:gmatch "(%S+)\t(%d+)" do
    list[#list + 1] = { name = name, n = tonumber(n) }
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- Where to kill: { name, nth, side }, both sides of the first of each kind of
-- call of `writes`, or with FAULT=long of every call there is.
function M.points(calls, writes)
  local list, long = {}, os.getenv "FAULT" == "long"
  for _, call in ipairs(calls) do
    local last = long and call.n or writes[call.name] and 1 or 0
    for nth = 1, last do
      for _, side in ipairs { "before", "after" } do
        list[#list + 1] = { call.name, nth, side }
      end
    end
  end
  return list
end

return M
