-- SPDX-License-Identifier: MIT
--
-- A queue inside Tarantool, for bench/peers.lua: an index by the time from
-- which an item may be taken. A group is one transaction, which the log has
-- when it is committed.
--
--   tarantool bench/peers/queue.lua DIR PORT

local box, fiber = box, require "fiber" -- luacheck: read globals box
local dir, port = arg[1], arg[2]

box.cfg { -- only what is not the default
  listen = "127.0.0.1:" .. port, wal_mode = "fsync", wal_dir = dir,
  memtx_dir = dir, vinyl_dir = dir, log = dir .. "/tarantool.log",
}
local items = box.schema.space.create("items")
items:create_index("id", { sequence = true })
items:create_index("due", { parts = { { 2, "number" }, { 1, "unsigned" } } })
box.schema.user.grant("guest", "execute", "universe")
box.schema.user.grant("guest", "read,write", "space", "items")
box.schema.user.grant("guest", "read,write", "universe")

-- Bodies, each with a newline behind it.
function _G.push(bodies)
  box.atomic(function()
    for body in bodies:gmatch "[^\n]+" do items:insert { nil, 0, body } end
  end)
  return ""
end

-- The ids of up to n items, leased for a minute.
function _G.take(n)
  local now, ids = fiber.time(), {}
  box.atomic(function()
    for _, item in items.index.due:pairs({ now }, { iterator = "LT" }) do
      if #ids == tonumber(n) then break end
      ids[#ids + 1] = item[1]
    end
    for _, id in ipairs(ids) do items:update(id, { { "=", 2, now + 60 } }) end
  end)
  return table.concat(ids, " ")
end

function _G.done(ids)
  box.atomic(function()
    for id in ids:gmatch "%d+" do items:delete(tonumber(id)) end
  end)
  return ""
end
