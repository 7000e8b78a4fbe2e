-- SPDX-License-Identifier: MIT
--
-- The module runs on every Lua, the rest on 5.4 and LuaJIT.
std = "min"
max_line_length = 80
read_globals = {
  "jit", "unpack",
  math = { fields = { "type", "tointeger", "maxinteger", "mininteger" } },
  table = { fields = { "move", "pack", "unpack" } },
}
files["spec"] = { std = "min+busted" }
files["bench"] = { std = "lua54" }
files["lua/resty"] = { globals = { "ngx" } }
