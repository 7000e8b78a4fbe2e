-- SPDX-License-Identifier: MIT
--
-- Writes the man page. The commands' sections come from their help, so that
-- there is one text for both: `make man` after a change.

local commands = require "respool.cli.commands"
local parser = require "respool.cli.parser"

local HEAD = [[
.\" SPDX-License-Identifier: MIT
.\" Made by doc/man.lua.
.TH RESPOOL 1 "" "respool" "User Commands"
.SH NAME
respool \- a durable queue in a directory
.SH SYNOPSIS
.B respool
.I COMMAND
[\fIOPTION\fR]... \fISTORE\fR [\fIARGUMENT\fR]...
.br
.B respool help
[\fICOMMAND\fR]
.br
.B respool version
.SH DESCRIPTION
A store is a directory that holds named queues. Items are pushed into a queue,
taken from it under a lease, and settled. What fails for good becomes a dead
letter in a dead-letter queue (DLQ), which by default has the queue's name, and
stays there until it is replayed or removed. Any number of processes may work
on one store at the same time.
.PP
Durations are written 90, 90s, 5m, 2h, 3d, 1h30m or 250ms; sizes 4096, 64KiB or
1MB; times 2026\-01\-31T12:00:00Z (without a zone: local time), '2h ago', now or
@SECONDS. Progress and status lines are shown on a terminal only.
.PP
JSON input is read by RFC 8259. Whole numbers become integers. A number that Lua
cannot hold (a whole number beyond 64 bits, in LuaJIT beyond 2^53, or one beyond
a double) is refused, and so is half of a surrogate pair. If an object has a
name twice, the last one counts. JSON output has sorted keys; a string that is
not UTF\-8 becomes {"$base64": "..."}, as a key "$base64:...", and NaN and
infinities become null.
.SH COMMANDS
]]

local TAIL = [[
.SH EXIT STATUS
.TP
.B 0
Success.
.TP
.B 1
Something failed, or an item died.
.TP
.B 2
The command line is wrong.
.TP
.B 130
Stopped by SIGINT. (\fBwork\fR, \fBdeliver\fR and \fBreceive\fR, which SIGINT
ends as intended, exit with 0.)
.PP
An error is one line on stderr. It never holds a payload.
.SH ENVIRONMENT
.TP
.B PAGER
Shows long listings on a terminal; less where it is there. Empty for none.
.TP
.B RESPOOL_STORE
The store, where
.I STORE
is left out: where no argument is given, or where the first is no store, has no
slash, does not end in .respool and is not the URL of a database.
.TP
.B RESPOOL_TRACE
When set, unexpected errors are shown with their traceback.
.SH FILES
A store keeps notes: the place up to which each file has been pushed, the
options of named replays, and what has been imported. Queues whose names begin
with a dot are not listed, and the commands that change a queue refuse them. To
forget the place in a file, push it with
.BR \-\-restart ;
to forget a named replay, use
.BR "respool replay forget" ;
to import something again,
.BR "respool import \-\-again" .
.SH SEE ALSO
.BR lua (1)
]]

-- Text as roff shows it.
local function roff(text)
  return (text:gsub("\\", "\\e"):gsub("%-", "\\-")
    :gsub("\n%.", "\n\\&."):gsub("^%.", "\\&."))
end

local out = {}

local function put(...)
  out[#out + 1] = table.concat { ... } .. "\n"
end

local function element(label, text)
  put(".TP\n.B ", roff(label))
  put(roff(text))
end

local function elements(command)
  for _, argument in ipairs(command._arguments) do
    element(argument:_get_label_lines()[1], argument:_get_description())
  end
  for _, option in ipairs(command._options) do
    local label = option:_get_label_lines()[1]
    if label ~= "-h, --help" then element(label, option:_get_description()) end
  end
end

-- Paragraphs; those that follow "Example:" are shown as they are.
local function epilog(text)
  for paragraph in (text .. "\n\n"):gmatch "(.-)\n\n+" do
    local example = paragraph:match "^Examples?:\n(.*)$"
    if example then
      put(".PP\n.nf\n.RS\n", roff((("\n" .. example):gsub("\n  ", "\n")
        :gsub("^\n", ""))), "\n.RE\n.fi")
    else
      put(".PP\n", roff(paragraph))
    end
  end
end

local function words_of(command)
  return (roff(command:get_usage():gsub("^Usage: ", "")))
end

local function section(command)
  put(".nf\n", words_of(command), "\n.fi\n.PP\n", roff(command._description))
  elements(command)
  epilog(command._epilog)
end

local function nothing() end

-- The command that these words name.
local function command_of(name, sub)
  local command = parser.new({ name, sub }, nothing)._commands[1]
  if not sub then return command end
  for _, one in ipairs(command._commands) do
    if one._name == sub then return one end
  end
end

local SUBCOMMANDS = {
  dead = { "list", "show", "groups", "push", "retry", "remove", "purge" },
  worker = { "list", "stop" },
  schedule = { "list", "set", "run", "pause", "resume", "remove" },
  item = { "run", "kill", "move", "edit" },
  replay = { "list", "show", "cancel", "resume", "forget" },
}

for _, name in ipairs(commands.NAMES) do
  put(".SS ", name)
  section(command_of(name))
  for _, sub in ipairs(SUBCOMMANDS[name] or {}) do
    put ".PP"
    section(command_of(name, sub))
  end
end

io.write(HEAD, table.concat(out), TAIL)
