-- SPDX-License-Identifier: MIT
--
-- A port of the loopback that is free, and stays so until a server takes it:
-- it is below those that the system gives to whoever connects.

local socket = require "socket"

local last = 20000 + math.floor(socket.gettime() * 1000) % 10000

---@return string
return function()
  local s
  repeat
    last = last < 30000 and last + 1 or 20000
    s = socket.bind("127.0.0.1", last)
  until s
  s:close()
  return ("%d"):format(last)
end
