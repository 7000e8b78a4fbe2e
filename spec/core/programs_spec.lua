-- SPDX-License-Identifier: MIT
--
-- C programs that check what Lua cannot reach, or not at the same time. Each
-- writes a line for each of its checks.

local helper = require "spec.helper"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

-- What each program is about, and how many checks it has.
local PROGRAMS = {
  { "leaves", "errors, clocks, random numbers and backoff", 14 },
  { "schedule", "cron expressions, time zones and dates", 5 },
  { "partitions", "lists of ids of a partition", 6 },
  { "recent", "tables that share their trees", 3 },
  { "lones", "runs of lone items", 4 },
  { "cbor", "the core's CBOR", 17 },
  { "threads", "threads on one store", 2 },
  { "tickets", "tickets", 21 },
  { "buffers", "the buffers of a store", 8 },
  { "fork", "a fork of a process that has a store open", 3 },
  { "journal_items", "items in the journal", 17 },
  { "journal_applying", "the journal that is applied to LMDB", 8 },
  { "journal_opening", "a journal that is opened", 11 },
  { "journal_failing", "calls that fail below the journal", 6 },
  { "journal_looking", "looks at the journal", 5 },
  { "journal_several", "several at one journal", 4 },
  { "flushes", "what is flushed", 5 },
  { "brim", "a store whose map is full", 1 },
  { "wait", "takes that wait in one process", 2 },
  { "seam", "the verbs on another engine", 12 },
}

describe("the program about", function()
  for _, program in ipairs(PROGRAMS) do
    local name, subject, n = program[1], program[2], program[3]
    it(subject .. " holds", function()
      local said = helper.sh(("%s/spec/%s 2>&1; echo $?"):format(build, name))
      local status = said:match "(%d+)$"
      local _, held = said:gsub("holds: ", "")
      assert.same({ "0", n }, { status, held }, said)
      assert.is_nil(said:match "WRONG: [^\n]+", said)
    end)
  end
end)
