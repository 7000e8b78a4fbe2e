/* SPDX-License-Identifier: MIT */
/*
 * The embedded engine's face at the seam.
 */
#include "engine.h"
#include "lmdb/dead/dead_letters.h"
#include "lmdb/dead/groups.h"
#include "lmdb/dead/named_replay.h"
#include "lmdb/env/env.h"
#include "lmdb/maintain.h"
#include "lmdb/queue/append.h"
#include "lmdb/queue/browse.h"
#include "lmdb/queue/history.h"
#include "lmdb/queue/policy.h"
#include "lmdb/queue/purge.h"
#include "lmdb/queue/replay.h"
#include "lmdb/queue/settle.h"
#include "lmdb/queue/take.h"
#include "lmdb/queue/unit.h"
#include "lmdb/record/meta.h"
#include "lmdb/record/names.h"
#include "lmdb/repair/check.h"
#include "lmdb/repair/compact.h"
#include "lmdb/repair/repair.h"

static uint64_t changes(const txn *t) {
  return t->changes;
}

const engine engine_lmdb = {
  .open = env_open,
  .close = env_close,
  .compact = lmdb_compact,
  .begin = unit_begin,
  .changes = changes,
  .commit = unit_commit,
  .abort = unit_abort,
  .sync = env_sync,
  .last_txn = env_last,
  .queue_open = lmdb_queue_open,
  .queue_agrees = lmdb_queue_agrees,
  .queue_config = lmdb_queue_config,
  .queue_stat = lmdb_queue_stat,
  .queue_pause = lmdb_queue_pause,
  .queue_forget = lmdb_queue_forget,
  .queue_drop = lmdb_queue_drop,
  .names = lmdb_names,
  .fits = lmdb_fits,
  .append = lmdb_append,
  .outlook = lmdb_outlook,
  .claim = lmdb_claim,
  .settle = lmdb_settle,
  .extend = lmdb_extend,
  .peek = lmdb_peek,
  .get = lmdb_get,
  .browse = lmdb_browse,
  .remove = lmdb_remove,
  .purge = lmdb_purge,
  .dead_letters = lmdb_dead_list,
  .dead_count = lmdb_dead_count,
  .dead_groups = lmdb_dead_groups,
  .dead_remove = lmdb_dead_remove,
  .dead_purge = lmdb_dead_purge,
  .dead_move = lmdb_dead_move,
  .replay_load = lmdb_replay_load,
  .replay_save = lmdb_replay_save,
  .replay_remove = lmdb_replay_remove,
  .history = lmdb_history,
  .maintenance = lmdb_maintain,
  .free_readers = lmdb_free_readers,
  .probe_write = lmdb_probe_write,
  .probe_read = lmdb_probe_read,
  .stat = lmdb_stat,
  .check = lmdb_check,
  .repair = lmdb_repair,
};
