-- SPDX-License-Identifier: MIT
--
-- What is typed at a terminal, as keys.

local terminal = require "respool.core".terminal

local M = {}

local SPLIT = 0.05 -- seconds that an escape sequence may be under way
local PASTING = 1  -- and the rest of a pasted text

-- How long what was typed may be in the middle of something: an escape
-- sequence, or a text that is pasted (bracketed, as xterm does it); else nil.
local function is_partial(typed)
  local pasted = typed:match ".*\27%[200~(.*)"
  if pasted and not pasted:find("\27[201~", 1, true) then return PASTING end
  return typed:find "\27[%[O]?[0-?]*$" and SPLIT or nil
end

-- A text that was typed, to the end of what it ends in: a read may end within.
function M.whole(typed)
  local wait = is_partial(typed)
  while wait do
    local more = terminal.key(wait)
    if not more or more == "" then break end
    typed = typed .. more
    wait = is_partial(typed)
  end
  return typed
end

-- The keys in a text that was typed; an escape sequence is one key, and so is
-- a pasted text, which comes second.
function M.each(typed)
  local at = 1
  return function()
    if at > #typed then return nil end
    local key = typed:match("^\27[%[O][0-?]*[@-~]", at) or typed:sub(at, at)
    at = at + #key
    if key ~= "\27[200~" then return key end
    local last, after = typed:find("\27[201~", at, true)
    local pasted = typed:sub(at, (last or 0) - 1)
    at = (after or #typed) + 1
    return key, pasted
  end
end

-- Forgets what was typed by now.
function M.discard()
  repeat local typed = terminal.key(0) until not typed or typed == ""
end

return M
