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
  .letters = lmdb_letters,
  .letter_count = lmdb_letter_count,
  .letter_groups = lmdb_letter_groups,
  .letter_remove = lmdb_letter_remove,
  .letter_purge = lmdb_letter_purge,
  .letter_move = lmdb_letter_move,
  .job_load = lmdb_job_load,
  .job_save = lmdb_job_save,
  .job_remove = lmdb_job_remove,
  .history = lmdb_history,
  .care = lmdb_care,
  .care_readers = lmdb_care_readers,
  .probe_write = lmdb_probe_write,
  .probe_read = lmdb_probe_read,
  .stat = lmdb_stat,
  .check = lmdb_check,
  .repair = lmdb_repair,
};
