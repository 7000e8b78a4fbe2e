/* SPDX-License-Identifier: MIT */
/*
 * Units: transactions over queues and DLQs. The states of queues that a
 * write transaction leaves hang on the environment, and the next one takes
 * them over, unless another process has committed in between: so a process
 * that writes by itself reads the record of a queue once.
 */
#include "lmdb/unit/unit.h"

#include "lmdb/dead/dead_letters.h"
#include "lmdb/env/env.h"
#include "lmdb/env/txn/recent.h"
#include "lmdb/partition/partitions.h"
#include "lmdb/queue/state.h"
#include "lmdb/unit/journaled.h"

#include <string.h>

static void free_states(void *states) {
  queues_free(states);
}

/* Takes over the states that were kept, if they are those of the commit
   before this transaction. */
static void take_over(lmdb_env *e, txn *t) {
  if (e->states && txn_follows(t, e->states_txn))
    t->queues = e->states;
  else
    queues_free(e->states);
  e->states = NULL;
}

static void keep(lmdb_env *e, queue *states, size_t as_of) {
  e->states = states;
  e->states_txn = as_of;
  e->states_free = free_states;
}

const queue *unit_known(lmdb_env *e, const char *name, size_t *as_of) {
  const queue *q = e->states;
  if (e->states_txn != txn_env_newest(e)) return NULL;
  while (q && strcmp(q->name, name)) q = q->next;
  *as_of = e->states_txn;
  return q;
}

int unit_begin(env *e, bool write, txn **t) {
  int rc = env_begin(e, write, t);
  if (rc || !write) return rc;
  take_over((lmdb_env *)e, *t);
  rc = journaled_begin(*t);
  if (rc) unit_abort(*t);
  return rc;
}

static void end(txn *t) {
  dlqs_free(t);
  env_end(t);
}

int unit_commit(txn *t) {
  partitions_store(t);
  txn_note(t, journaled_store(t));
  queues_store(t);
  dlqs_store(t);
  recent_fold(t);
  size_t number = txn_number(t);
  int rc = txn_commit(t);
  journaled_end(t, rc);
  partitions_forget(t, !rc);
  if (rc) {
    queues_free(t->queues);
    notices_drop(t->notices);
  } else {
    notices_post(t->notices);
    keep(t->env, t->queues, number);
  }
  end(t);
  return rc;
}

void unit_abort(txn *t) {
  partitions_forget(t, false);
  /* Are the states that were loaded current, and read without an error? */
  if (t->write && !t->changes && !t->rc)
    keep(t->env, t->queues, txn_number(t) - 1);
  else
    queues_free(t->queues);
  notices_drop(t->notices);
  txn_abort(t);
  journaled_end(t, RESPOOL_INVALID);
  end(t);
}
