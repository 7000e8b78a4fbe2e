/* SPDX-License-Identifier: MIT */
/*
 * The embedded engine's face at the seam.
 */
#include "lmdb/parts.h"

static uint64_t changes(const txn *t) {
  return t->changes;
}

const engine engine_lmdb = {
  .open = env_open,
  .close = env_close,
  .compact = lmdb_compact,
  .begin = env_begin,
  .changes = changes,
  .commit = env_commit,
  .abort = env_abort,
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
