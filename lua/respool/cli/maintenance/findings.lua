-- SPDX-License-Identifier: MIT
--
-- The findings of respool check: each kind with its meaning and what to do. The
-- kind of a finding is recognised by the words of the core's check.

local M = {}

---@class respool.cli.finding
---@field kind string
---@field text string the finding and its place
---@field meaning string
---@field advice string

local SET_ASIDE = "Go on working: what meets the damage sets it aside as a "
  .. "dead letter with its bytes, and the rest of the queue goes on. Then see "
  .. "`respool dead list`. Look for a failing disk."
local COUNTED = "Nothing is lost by it, but figures and limits are wrong. "
  .. "`respool repair` makes a new store where they are right. Report it: a "
  .. "program error is likely."
local REPORT = "Keep a copy of the store and report it: this is a program "
  .. "error, or the disk gave back something old."
local RESTORE = "Stop what uses the store and keep a copy of it. Restore a "
  .. "backup, or save what can be read with `respool repair`. Look for a "
  .. "failing disk, and for programs that touch the file."
local REBUILD = "`respool repair` makes a new store, in which the records of "
  .. "partitions are made anew from their items. Look for a failing disk."
local LOST =
  "Records are no longer found by their keys: items or dead letters may "
  .. "be lost."

-- In this order: the first whose words are in a finding is its kind.
---@type { [1]: string, [2]: string, [3]: string, [4]: string }[]
M.KINDS = {
  { "segment-damaged", "the segment at .* is damaged",
    "Up to some hundred items were stored together; their bytes have changed.",
    SET_ASIDE },
  { "item-malformed", "item .* is malformed",
    "An item's bytes cannot be read, nor can those behind it.",
    SET_ASIDE },
  { "blob-damaged", "blob .* is damaged",
    "A large payload has changed or parts of it are missing.", SET_ASIDE },
  { "item-lost", "item .* is not in a claim",
    "An item is stored but will never be delivered.", RESTORE },
  { "item-twice", "item .* is new but in a claim",
    "An item may be delivered twice at once.", REPORT },
  { "segments-overlap", "segments overlap",
    "Two runs of items claim the same ids; some may be delivered twice.",
    REPORT },
  { "segment-empty", "has no unsettled item",
    "A run of items is done but still takes room.", REPORT },
  { "id-ahead", "lies beyond the next id",
    "New items may get ids that are taken.", REPORT },
  { "claim-damaged", "the claim at .* is damaged",
    "Its items come back when they are due, without their attempts and errors.",
    "Nothing: the next take sets it right. Look for a failing disk." },
  { "claim-count", "the claim at .* counts",
    "A lease or delay covers more items than it says.",
    COUNTED },
  { "claim-undue", "the claim at .* has no due time",
    "Leased, scheduled or retrying items will not come back.", RESTORE },
  { "claim-parked", "is parked but has a due time",
    "An item of a partition is looked at for nothing.", REPORT },
  { "claim-ahead", "has a token from the future",
    "A lease may be taken for another one.", REPORT },
  { "claims-overlap", "claims overlap",
    "An item may be delivered twice at once.", REPORT },
  { "due-stray", "a due time .* belongs to no claim",
    "The queue wakes up for nothing.", REPORT },
  { "bitmap-damaged", "the bitmap at .* is damaged",
    "Items of a run that are done may be delivered again.", RESTORE },
  { "bitmap-stray", "a bitmap .* belongs to no segment",
    "A little room is lost.", REPORT },
  { "priority-count", "priority .* counts",
    "A queue's counts do not agree with its items.", COUNTED },
  { "partition-damaged", "partition.* damaged",
    "Pushes to a partition, and takes from its queue, fail: CORRUPT.",
    REBUILD },
  { "turns-damaged", "^turns of queue .* are damaged",
    "Takes from the queue fail: CORRUPT.", REBUILD },
  { "partition-count", "counts .* partitions",
    "The number of a queue's partitions is wrong.", REBUILD },
  { "partition-count", "counts .* lone items in a run",
    "Pushes may take a partition that has an item for a new one: its "
      .. "concurrency or its order may be wrong.", REBUILD },
  { "partition-count", "partition.* counts?",
    "What a partition counts does not agree with its items or turns: its "
      .. "concurrency or its order may be wrong.", REBUILD },
  { "partition-stuck", "partition.* has no ",
    "Items of a partition may not be delivered.", REBUILD },
  { "item-lost", "item .* is alone without a claim",
    "An item is stored but will never be delivered.", REBUILD },
  { "partition-item", "partition",
    "An item and its partition do not agree: it may not be delivered, or out "
      .. "of turn.", REBUILD },
  { "partition-item", "item .* is parked among others",
    "An item and its partition do not agree: it may not be delivered, or out "
      .. "of turn.", REBUILD },
  { "item-passed", "item .* lies before the first that is listed",
    "The age of the oldest item, and drop_oldest, pass an item by.", REBUILD },
  { "balance", "was pushed .* are gone and",
    "Items have come without being counted.", COUNTED },
  { "dead-letter-damaged", "dead letters? .* damaged:",
    "A dead letter's bytes have changed.",
    "`respool dead remove` removes it. Look for a failing disk." },
  { "DLQ-damaged", "the record of DLQ .* is damaged",
    "The dead letters of a DLQ cannot be found by its name.", RESTORE },
  { "DLQ-count", "DLQ .* counts",
    "A DLQ holds more dead letters than it says.", COUNTED },
  { "record-damaged", "^table .* has damaged records",
    "A key, note, replay, finished item or number of the store is lost.",
    RESTORE },
  { "key-damaged", "has a key that is in no table",
    "A record is not found any more.", RESTORE },
  { "nameless", "has no name that",
    "There is a queue or a DLQ that cannot be opened.", RESTORE },
  { "tree-damaged", "^database .* counts",
    LOST .. " A page of LMDB's file is one of an earlier time. Nothing else "
      .. "was looked at.", RESTORE },
  { "tree-disorder", "^database .* is out of order",
    LOST .. " A page of LMDB's file lies in the place of another. Nothing "
      .. "else was looked at.", RESTORE },
  { "crash", "reading the store ended the process",
    "LMDB's file is cut off, or its pages point to where nothing is. Any "
      .. "program that works with it may crash in the same way.", RESTORE },
  { "unreadable", "the store cannot be read through",
    "A page of LMDB's file is not what it should be.", RESTORE },
}

local OTHER = { "other", "", "Something in the store is not as it should be.",
                REPORT }

-- Where fewer are there than were counted, the others are gone.
local MISSING = {
  ["DLQ-count"] = { "dead-letters-missing", "",
    "Dead letters that were counted are not there: they may be lost.",
      RESTORE },
  ["priority-count"] = { "items-missing", "",
    "Items that were counted are not there: they may be lost.", RESTORE },
}
MISSING["claim-count"] = MISSING["priority-count"]
MISSING.balance = MISSING["priority-count"]

-- The sum of the whole numbers in a text.
local function sum(text)
  local n = 0
  for digits in text:gmatch "%d+" do n = n + tonumber(digits) end
  return n
end

-- Whether a line counts more than it finds. The count comes first.
local function counts_more(text)
  local counted, found = text:match "counts (.*) there are (.*)"
  if not counted then
    counted, found = text:match "was pushed (.-) items; (.*)"
  end
  return counted ~= nil and sum(counted) > sum(found)
end

-- Names stand in quotes, and may say anything.
local function kind_of(text)
  text = text:gsub("'.*'", "''")
  for _, kind in ipairs(M.KINDS) do
    if text:find(kind[2]) then
      local missing = MISSING[kind[1]]
      return missing and counts_more(text) and missing or kind
    end
  end
  return OTHER
end

-- A line of the check with its meaning.
---@param text string
---@return respool.cli.finding
function M.explain(text)
  local kind = kind_of(text)
  return { kind = kind[1], text = text, meaning = kind[3], advice = kind[4] }
end

return M
