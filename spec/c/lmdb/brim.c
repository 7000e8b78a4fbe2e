/* SPDX-License-Identifier: MIT */
/*
 * A store whose map is smaller than its max_bytes, as where address space is
 * scarce, filled to the brim (guarantee 7): pushes are refused with FULL,
 * takes, settles and dead letters go on until it is empty, and it fills again.
 */
#include "../holds.h"

#include "lmdb/env/txn/txn.h"
#include "verbs/store/store.h"

#define MAP ((size_t)8 << 20)

static void shrink(respool *s) {
  lmdb_env *e = (lmdb_env *)s->env;
  HOLDS(mdb_env_set_mapsize(e->mdb, MAP) == 0);
  e->map_size = MAP;
}

/* Pushes until there is no room; how many. */
static uint64_t fill(respool_queue *q) {
  static char body[900];
  respool_payload items[10];
  uint64_t n = 0;
  int rc;
  for (int i = 0; i < 10; i++)
    items[i] = (respool_payload){.body = {body, sizeof body - (size_t)i}};
  while ((rc = respool_push(q, items, 10, NULL, NULL)) == 0) n += 10;
  HOLDS(rc == RESPOOL_FULL);
  HOLDS(respool_error_of_store());
  return n;
}

/* Every third item dead, tried again, done; how many came to an end. */
static uint64_t drain(respool_queue *q) {
  static const int verdicts[] = {RESPOOL_DONE, RESPOOL_RETRY, RESPOOL_DEAD};
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  uint64_t n = 0;
  respool_batch *batch;
  o.items = 31;
  for (;;) {
    WORKS(respool_take(q, &o, &batch));
    if (!batch || wrong) return n;
    for (size_t i = 0; i < respool_batch_length(batch); i++) {
      respool_outcome to = RESPOOL_OUTCOME_INIT;
      const respool_item *it = respool_batch_item(batch, i);
      to.kind = it->about->attempts ? RESPOOL_DONE : verdicts[it->id % 3];
      to.delay = 0;
      n += to.kind != RESPOOL_RETRY;
      WORKS(respool_batch_mark(batch, i, &to));
    }
    WORKS(respool_batch_settle(batch, NULL, NULL));
    respool_batch_free(batch);
  }
}

/* What was drained and purged makes room for as much again, each time. */
static void a_full_map_is_drained_and_fills_again(respool *s,
                                                  respool_queue *q) {
  respool_purge_options all = RESPOOL_PURGE_OPTIONS_INIT;
  uint64_t n, removed;
  for (int i = 0; i < 5; i++) {
    n = fill(q);
    HOLDS(n > 1000);
    HOLDS(drain(q) == n);
    WORKS(respool_dead_purge(s, "jobs", &all, &removed));
    HOLDS(removed > n / 4);
    WORKS(respool_check(s, no_finding, NULL));
  }
}

int main(void) {
  char *dir = fresh_dir();
  respool *s;
  respool_queue *q;
  respool_options o = RESPOOL_OPTIONS_INIT;
  o.sync = RESPOOL_SYNC_RELAXED;
  WORKS(respool_open(dir, &o, &s));
  shrink(s);
  WORKS(respool_queue_open(s, "jobs", NULL, &q));
  CHECK(a_full_map_is_drained_and_fills_again(s, q));
  respool_queue_free(q);
  respool_close(s);
  remove_dir(dir);
  return exit_status();
}
