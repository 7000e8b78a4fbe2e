-- SPDX-License-Identifier: MIT
--
-- The C header as sections, each with pieces: a comment, and the declarations
-- below it. For a page and for a manual page.

local M = {}

-- The text of a comment, without its stars and what they indent.
local function words(comment)
  local text = comment:gsub("^/%*", ""):gsub("%s*%*/$", "")
  local indent = text:find "^\n %*" and "\n %* ?" or "\n   "
  return (text:gsub(indent, "\n"):gsub("^%s", ""))
end

---@class respool.doc.piece
---@field text string
---@field code string
---@field names string[] of its functions and types

local function names_in(code)
  local list, bare = {}, code:gsub("/%*.-%*/", "")
  for name in bare:gmatch "RESPOOL_API[^;(]-%*?(respool_[%w_]+)%(" do
    list[#list + 1] = name
  end
  local of = bare:match "^typedef struct (respool[%w_]*) {"
    or bare:match "^typedef [%w ]+%(%*(respool_[%w_]+)%)"
    or bare:match "^enum (respool_[%w_]+) {"
    or bare:match "^static inline [%w_]+ (respool_[%w_]+)%("
  if of then table.insert(list, 1, of) end
  return list
end

local function piece_of(comment, code)
  code = code:gsub("\n+$", ""):gsub("\n\n+", "\n\n")
  return { text = comment and words(comment) or "", code = code,
           names = names_in(code) }
end

-- Splits what follows a title into pieces, at the comments that begin a line
-- and at empty lines.
local function pieces_of(text)
  local list, comment, code = {}, nil, {}
  local function flush()
    local all = table.concat(code, "\n")
    if comment or all:find "%S" then
      list[#list + 1] = piece_of(comment, all)
    end
    comment, code = nil, {}
  end
  local at = 1
  while at <= #text do
    local said, after = text:match("^(/%*.-%*/)\n?()", at)
    if said then
      flush()
      comment, at = said, after
    else
      local line
      line, after = text:match("^([^\n]*)\n?()", at)
      if line == "" and #code > 0 and code[#code] ~= "" then
        code[#code + 1] = ""
      elseif line ~= "" then
        code[#code + 1] = line
      end
      at = after
    end
  end
  flush()
  return list
end

-- The words on top, and the sections.
---@return string, { title: string, pieces: respool.doc.piece[] }[]
function M.read()
  local file = assert(io.open "include/respool.h")
  local text = file:read "*a"
  file:close()
  local top = words(text:match "\n(/%*\n.-%*/)")
  local sections = {}
  for title, from in text:gmatch "/%* %-%-%-%- (.-) %-+ %*/\n()" do
    sections[#sections + 1] = { title = title, from = from }
  end
  for i, section in ipairs(sections) do
    local next_one = sections[i + 1]
    local body = text:sub(section.from, next_one and next_one.from - 1 or -1)
    body = body:gsub("/%* %-%-%-%- .-$", ""):gsub("#ifdef __cplusplus.*$", "")
      :gsub("#endif%s*$", "")
    section.pieces = pieces_of(body)
  end
  return top, sections
end

-- The page, as Markdown.
---@param prose fun(text: string): string
---@return string
function M.page(prose)
  local top, sections = M.read()
  local out = { "# The C library\n", "```", (top:gsub("\n$", "")), "```\n" }
  for _, section in ipairs(sections) do
    out[#out + 1] = "## " .. section.title:gsub("^%l", string.upper) .. "\n"
    for _, piece in ipairs(section.pieces) do
      if piece.names[1] then
        out[#out + 1] = "### " .. table.concat(piece.names, ", ") .. "\n"
      end
      out[#out + 1] = prose(piece.text) .. "\n"
      if piece.code:find "%S" then
        out[#out + 1] = "```c\n" .. piece.code:gsub("RESPOOL_API ", "")
          .. "\n```\n"
      end
    end
  end
  return table.concat(out, "\n")
end

return M
