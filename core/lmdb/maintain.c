/* SPDX-License-Identifier: MIT */
/*
 * Maintenance: what any process may do for a store now and then. Items, keys,
 * history and dead letters that have outlived their time end; partitions leave
 * no trace, also where nobody takes; reader slots of processes that have ended
 * are freed.
 */
#include "lmdb/maintain.h"

#include "lmdb/dead/dead_letters.h"
#include "lmdb/queue/history.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unique_key.h"
#include "lmdb/steps/turns.h"
#include "lmdb/steps/wake.h"
#include "lmdb/unit/expiry.h"
#include "record/page.h"

#include <string.h>

/* Dead letters die in the order of their numbers, so the oldest come first. */
static uint64_t old_sweep(txn *t, queue *q, int64_t now, size_t limit,
                          bool *more) {
  respool_purge_options o = RESPOOL_PURGE_OPTIONS_INIT;
  respool_list_options first = RESPOOL_LIST_OPTIONS_INIT;
  respool_dead_letters l;
  uint64_t after = 0, removed = 0;
  int64_t keep = q->config.keep_dead;
  if (keep == RESPOOL_UNLIMITED || keep >= now) return 0;
  o.died_before = now - keep;
  first.limit = 1;
  first.no_body = 1;
  memset(&l, 0, sizeof l);
  lmdb_dead_list(t, q->config.dlq, &first, &l);
  bool old = l.n && l.dead_letters[0].died_at < o.died_before;
  dead_letters_clear(&l);
  if (old)
    lmdb_dead_purge(t, q->config.dlq, &o, limit, &after, &removed, more);
  *more = *more && removed > 0;
  return removed;
}

static uint64_t dead_sweep(txn *t, queue *q, int64_t now, size_t limit,
                           bool *more) {
  uint64_t removed = old_sweep(t, q, now, limit, more);
  if (*more) return removed;
  return removed + dlq_trim(t, &q->config, limit, more);
}

int lmdb_maintain(txn *t, const char *name, int64_t wall, size_t limit,
              respool_maintenance *out) {
  int rc = 0, past = (int)limit;
  bool more = false;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  int64_t now = queue_advance_clock(t, q, wall);
  uint64_t expired = q->counters.expired;
  out->more = expiry_sweep(t, q, now, (int)limit);
  uint64_t windows = key_sweep(t, q, now, limit);
  out->windows += windows;
  out->more |= windows == limit;
  out->history += history_sweep(t, q, now, &past);
  out->dead_letters += dead_sweep(t, q, now, limit, &more);
  out->more |= more || past == 0;
  out->more |= wake_partitions(t, q, now);
  out->more |= turns_sweep(t, q, limit);
  out->expired += q->counters.expired - expired;
  return t->rc;
}

int lmdb_free_readers(env *e, respool_maintenance *out) {
  int n = 0;
  int rc = txn_env_readers((lmdb_env *)e, &n);
  if (!rc) out->readers += (uint64_t)n;
  return rc;
}
