-- SPDX-License-Identifier: MIT
--
-- Behaviour specs that are not run on stores in PostgreSQL: by file and words,
-- with the reason. All others are, see spec/helper/not_here.lua.

local FILES = "of files and pages"
local ROOM = "a server gives the room of what is over back in its own time"
local IDS = "are the store's, in blocks for each process: a second queue "
  .. "or a second opening does not go on from the next number"
local BYTES = "sizes of bounds, counted as LMDB stores items"
local MAX_BYTES = "max_bytes is a bound of files"
local CLOCK = "the server's clock is its administrator's to keep: see "
  .. "doc/guide/postgres.md"
local COMMITS = "last_txn counts all transactions of the server"
local LOCATIONS = "the schema of a spec is emptied, so the store is there"
local DUE = "what is due is ready by itself"
local RELEASED = "an item is ready since its release"
local NAMES = "names are UTF-8 in a database"

local function all(names, reason)
  local list = {}
  for _, name in ipairs(names) do list[name] = reason end
  return list
end

return {
  ["spec/consume/progress_spec.lua"] = {
    ["is removed by maintenance where its lease has ended"] = COMMITS,
  },
  ["spec/partitions/lone_items_spec.lua"] = {
    ["goes with a queue that is dropped, and comes through a repair"] = FILES,
  },
  ["spec/partitions/partitions_spec.lua"] = {
    ["comes back in parts where much is due"] = DUE,
    ["has them after a repair"] = FILES,
    ["tells it of one that was released since its push"] = RELEASED,
  },
  ["spec/produce/buffer_flush_spec.lua"] = {
    ["does so by bytes, and for what came before it"] = BYTES,
    ["ends with it while another process writes, and goes on"] = FILES,
  },
  ["spec/produce/buffer_spec.lua"] = {
    ["refuses pushes while it cannot be flushed"] = MAX_BYTES,
  },
  ["spec/produce/keys_spec.lua"] = all({
    "is one queue's own",
    "is held in the queue that it goes to",
  }, IDS),
  ["spec/produce/large_spec.lua"] = all({
    "when they are done",
    "as soon as the item itself is done",
    "when they are done after failures",
    "when they are dropped",
    "when they are removed",
    "when they are purged",
    "when they expire and are dropped",
    "when their dead letters are removed or purged",
    "when they come back from the DLQ and are done",
    "when their queue is dropped",
  }, ROOM),
  ["spec/produce/origin_spec.lua"] = {
    ["stays through repair, with the codec"] = FILES,
  },
  ["spec/produce/queue_spec.lua"] = {
    ["range the items of a queue from 1 on"] = IDS,
    ["puts many items into one commit"] = COMMITS,
    ["rise further when the store is opened again"] = IDS,
    ["is only looked at when its policy is what the options ask for"] =
      COMMITS,
    ["gets what differs, and keeps the rest"] = COMMITS,
    ["waits for no other process that writes"] = FILES,
    ["are listed in the order of their bytes"] = NAMES,
  },
  ["spec/dead/dead_letters_spec.lua"] = {
    ["does not grow with the number of failures"] = ROOM,
    ["take the dead letters of several queues"] = IDS,
  },
  ["spec/dead/history_spec.lua"] = {
    ["goes with the queue, and gives its room back"] = ROOM,
  },
  ["spec/observe/health_spec.lua"] = {
    ["finds it unhealthy when the readers run out"] = FILES,
    ["leaves no trace of that but a commit"] = COMMITS,
    ["answers within its bound while another process holds the writer lock"]
      = FILES,
  },
  ["spec/observe/metrics_spec.lua"] = {
    ["makes no queue and writes nothing"] = COMMITS,
    ["gives each queue and DLQ a series of its own"] = NAMES,
    ["escapes what a queue may be called"] = NAMES,
    ["tells of the store, and of this process's commits"] = FILES,
    ["is right at once after the store is opened again"] = CLOCK,
    ["tells of a disk only where the store has one"] = FILES,
  },
  ["spec/core/model_spec.lua"] = {
    ["does so with its journal before it"] = FILES,
    ["does so when some handles use the journal, and some do not"] = FILES,
    ["does so when it is opened again and again"] = IDS,
  },
  ["spec/store/clock_spec.lua"] = { ["*"] = CLOCK },
  ["spec/store/full_spec.lua"] = { ["*"] = MAX_BYTES },
  ["spec/store/maintenance_spec.lua"] = {
    ["frees the reader slots of dead processes"] = FILES,
  },
  ["spec/store/open_spec.lua"] = all({
    "finds all that is there when the first to open it is killed",
    "finds all that is there when the first one's call fails",
    "finds all that is there when another program is killed",
    "finds that commit, and goes on behind it",
    "finds the one before where nothing may be written",
    "is told why it cannot open the store",
  }, FILES),
  ["spec/store/planted_spec.lua"] = { ["*"] = FILES },
  ["spec/console/cost_spec.lua"] = { ["*"] = FILES },
  ["spec/store/replaced_spec.lua"] = { ["*"] = FILES },
  ["spec/store/stopped_spec.lua"] = { ["*"] = FILES },
  ["spec/store/read_only_spec.lua"] = {
    ["keeps every byte, and its number of commits"] = FILES,
    ["is shared in a process, but not to be written to there"] = FILES,
    ["does not make a store that is missing"] = LOCATIONS,
  },
  ["spec/store/results_spec.lua"] = {
    ["compaction and repair"] = FILES,
    ["what is not there"] = IDS,
  },
}
