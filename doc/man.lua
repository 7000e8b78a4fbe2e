-- SPDX-License-Identifier: MIT
--
-- Writes a manual page: of section 1, whose commands come from their help; of
-- section 3, which is the C header; or of section 5, worker scripts, whose
-- fields come from the annotations. `make man` after a change.

local annotations = require "doc.site.annotations"
local commands = require "respool.cli.commands"
local header = require "doc.site.header"
local help = require "doc.site.commands"
local reference = require "doc.site.reference"

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
taken from it under a lease, and settled. An item that fails for good becomes a
dead letter in a dead-letter queue (DLQ), which by default has the queue's name,
and stays there until it is replayed or removed. Any number of processes may
work on one store at the same time.
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
.BR respool (3),
.BR respool (5),
.BR lua (1)
]]

local LIBRARY = [[
.\" SPDX-License-Identifier: MIT
.\" Made by doc/man.lua.
.TH RESPOOL 3 "" "respool" "Library Functions"
.SH NAME
respool \- a durable queue that lives inside a program
.SH SYNOPSIS
.nf
.B #include <respool.h>
.sp
.RB $( "pkg\-config \-\-cflags \-\-libs respool" )
.fi
.SH DESCRIPTION
]]

local SCRIPT = [[
.\" SPDX-License-Identifier: MIT
.\" Made by doc/man.lua.
.TH RESPOOL 5 "" "respool" "File Formats"
.SH NAME
respool \- worker scripts
.SH DESCRIPTION
A worker script is a Lua file that returns a table: which queue is worked on,
with which options, and the function that is called for each of its items. The
same file serves
.BR "respool work" ,
respool.work_processes in a program, and nginx;
.B respool replay
reads its field replay. It is run once in each worker process. It may require
modules that lie in its own folder. An unknown field is an error.
.SH EXAMPLE
]]

local EXAMPLE = [[
local respool = require "respool"

return {
  queue = "mails",
  options = {
    max_attempts = 10,
    retry = respool.backoff.exponential { initial = 5, max = "4h" },
  },
  handle = function(mail, item)
    if not mail.to then return respool.dead { group = "no address" } end
    print(item.id, mail.to)
  end,
}]]

local OUTCOMES = [[
.SH OUTCOMES
A handler that returns has done its item. One that raises an error, or returns
nil and an error, or false, has failed: the item is tried again by the policy of
its queue. Other outcomes are returned:
.TP
.B respool.retry { delay =, error =, group = }
The item is tried again then; an attempt is spent.
.TP
.B respool.dead { error =, group =, dlq = }
The item becomes a dead letter.
.TP
.B respool.drop()
The item is removed.
.TP
.B respool.release()
The item is ready again; nothing is spent.
.TP
.B respool.snooze(seconds)
The item is scheduled for later; nothing is spent.
.TP
.B respool.hold(seconds, reason)
The item is ready again, and its queue, or its partition, waits so long.
]]

-- Text as roff shows it.
local function roff(text)
  return (text:gsub("\\", "\\e"):gsub("%-", "\\-")
    :gsub("\n([.'])", "\n\\&%1"):gsub("^([.'])", "\\&%1"))
end

local out = {}

local function put(...)
  out[#out + 1] = table.concat { ... } .. "\n"
end

-- Lines as they are.
local function put_lines(text)
  put(".PP\n.nf\n.RS\n", roff(text), "\n.RE\n.fi")
end

local function put_command(one)
  put(".nf\n", roff(one.usage), "\n.fi\n.PP\n", roff(one.text))
  for _, element in ipairs(one.elements) do
    put(".TP\n.B ", roff(element.label))
    put(roff(element.text))
  end
  for _, paragraph in ipairs(one.epilog) do
    if paragraph.is_example then
      put_lines(paragraph.text)
    else
      put(".PP\n", roff(paragraph.text))
    end
  end
end

local function put_commands()
  for _, name in ipairs(commands.NAMES) do
    put(".SS ", name)
    for i, one in ipairs(help.of(name)) do
      if i > 1 then put ".PP" end
      put_command(one)
    end
  end
end

local function put_header()
  local top, sections = header.read()
  put_lines((top:gsub("\n+$", "")))
  for _, section in ipairs(sections) do
    put(".SH ", section.title:upper())
    for _, piece in ipairs(section.pieces) do
      if piece.code:find "%S" then
        put_lines((piece.code:gsub("RESPOOL_API ", "")))
      end
      for paragraph in (piece.text .. "\n\n"):gmatch "(.-%S.-)\n\n+" do
        put(".PP\n", roff(paragraph))
      end
    end
  end
end

local function put_fields(model, class)
  for _, field in ipairs(reference.fields_of(model, class)) do
    local text = roff((field.text:gsub("`", "")))
    put(".TP\n.B ", roff(field.name), "\n",
        (text:gsub("^%l", string.upper)), ".")
  end
end

local function put_script()
  local model = annotations.read()
  put_lines(EXAMPLE)
  put ".SH FIELDS"
  put_fields(model, "respool.worker_script")
  io.write(SCRIPT, table.concat(out), OUTCOMES)
  out = {}
  put(".SH OPTIONS OF A QUEUE\nAn option that is not given stays as it is ",
      "stored. A new queue has the default, which is named\nbehind the colon.")
  put_fields(model, "respool.queue_options")
  io.write(table.concat(out), ".SH SEE ALSO\n.BR respool (1),\n",
           ".BR respool (3)\n")
end

if arg[1] == "5" then
  put_script()
elseif arg[1] == "3" then
  put_header()
  io.write(LIBRARY, table.concat(out), ".SH SEE ALSO\n.BR respool (1),\n",
           ".BR respool (5)\n")
else
  put_commands()
  io.write(HEAD, table.concat(out), TAIL)
end
