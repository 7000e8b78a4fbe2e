/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing the journal; see beside.h.
 */
#include "lmdb/beside.h"

#include <string.h>

#include "base/error.h"
#include "lmdb/env/env.h"
#include "lmdb/record/meta.h"
#include "lmdb/small.h"
#include "lmdb/unit/journaled.h"
#include "threads/wait.h"

static bool goes_on(void *arg, int64_t ms, int pid) {
  lmdb_env *e = arg;
  char whom[WHOM_MAX];
  wait_name(pid, whom);
  e->base.waits_for = pid > 0 ? pid : -1;
  bool on = e->base.goes_on && !e->flushing
                ? e->base.goes_on(&e->base, ms, whom)
                : wait_goes_on(ms, whom);
  if (!on) (void)wait_fail(e->path, whom);
  return on;
}

static void over(void *arg) {
  lmdb_env *e = arg;
  e->base.waits_for = 0;
}

static int open_journal(lmdb_env *e) {
  journal_options o = {.waits = {goes_on, over, e}};
  return journal_open(e->dirfd, &o, &e->journal);
}

static void away(lmdb_env *e, bool gone) {
  if (e->journal) journal_away(e->journal, gone);
}

/* The data was flushed when it was opened. The first to come goes on from what
   LMDB has applied, of which only a write transaction is sure; see
   queue/journaled.c. */
static int start_journal(lmdb_env *e) {
  txn *t;
  uint8_t store[16];
  int rc = env_begin(&e->base, journal_is_first(e->journal), &t);
  if (rc) return rc;
  journal_applied a = journaled_position(t);
  meta_store(t, store);
  rc = t->rc;
  txn_abort(t);
  env_end(t);
  return rc ? rc : journal_start(e->journal, store, &a);
}

/* Flushes what relaxed pushes have left, as LMDB is flushed. */
static void close_journal(lmdb_env *e) {
  small_forget(e);
  if (!e->journal) return;
  if (e->started) (void)small_flush(e);
  journal_close(e->journal);
  e->journal = NULL;
}

const env_beside lmdb_beside = {open_journal, start_journal, away,
                                close_journal};
