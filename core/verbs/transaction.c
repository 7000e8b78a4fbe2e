/* SPDX-License-Identifier: MIT */
/*
 * Transactions: steps gathered in memory, applied by one operation. Outcomes
 * of a batch's items are settled together, where the first of them stands; the
 * batch's own marks wait for their own settle.
 */
#include "verbs/store.h"

#include <stdlib.h>
#include <string.h>

enum step_kind { STEP_PUSH, STEP_MARK, STEP_DEAD };

typedef struct step {
  enum step_kind kind;
  respool_queue *queue; /* NULL of a dead letter: its own, or to be removed */
  builder builder;
  respool_push_options options;
  respool_payload key;
  uint64_t first;       /* id, once applied */
  bool held;            /* and whether it was ignored */
  respool_batch *batch;
  size_t i;
  mark mark;
  char dlq[RESPOOL_NAME_MAX + 1];
  uint64_t number;
  bool remove;
} step;

struct respool_tx {
  respool *store;
  step *steps;
  size_t n, cap;
  bool committed;
  respool_ticket *ticket; /* at work on it */
  bool doomed;            /* freed meanwhile: the ticket's to free */
};

static int tx_check(respool_tx *tx) {
  if (!tx) return fail(RESPOOL_INVALID, "the transaction is NULL");
  int rc = store_check(tx->store);
  if (!rc && tx->ticket) rc = ticket_landed(tx->ticket, "transaction");
  if (rc) return rc;
  return tx->committed ? invalid("transaction", "not committed yet") : 0;
}

int respool_tx_begin(respool *s, respool_tx **tx) {
  int rc = store_check(s);
  if (rc) return rc;
  respool_tx *t = calloc(1, sizeof *t);
  if (!t) return fail(RESPOOL_NOMEM, "not enough memory");
  t->store = s;
  *tx = t;
  return 0;
}

static void step_free(step *p) {
  if (p->kind != STEP_PUSH) return;
  builder_free(&p->builder);
  free((void *)(uintptr_t)p->key.key.data);
}

void respool_tx_rollback(respool_tx *tx, size_t savepoint) {
  if (!tx || tx_check(tx)) return;
  while (tx->n > savepoint) step_free(&tx->steps[--tx->n]);
}

size_t respool_tx_savepoint(const respool_tx *tx) {
  return tx ? tx->n : 0;
}

static void destroy(respool_tx *tx) {
  while (tx->n > 0) step_free(&tx->steps[--tx->n]);
  free(tx->steps);
  free(tx);
}

void respool_tx_free(respool_tx *tx) {
  if (!tx) return;
  if (!tx->ticket) {
    destroy(tx);
    return;
  }
  tx->doomed = true;
  if (!store_check(tx->store)) ticket_drop(tx->ticket);
}

/* ---- adding steps ------------------------------------------------------- */

static step *add_step(respool_tx *tx, enum step_kind kind) {
  if (tx->n == tx->cap) {
    size_t cap = tx->cap ? tx->cap * 2 : 8;
    step *bigger = realloc(tx->steps, cap * sizeof *bigger);
    if (!bigger) {
      fail(RESPOOL_NOMEM, "not enough memory for a transaction");
      return NULL;
    }
    tx->steps = bigger;
    tx->cap = cap;
  }
  step *p = &tx->steps[tx->n];
  memset(p, 0, sizeof *p);
  p->kind = kind;
  return p;
}

static bool is_ours(const respool_tx *tx, const respool_queue *q) {
  return q && q->store->env == tx->store->env;
}

static int copy_key(step *p, respool_bytes key) {
  if (!key.size) return 0;
  void *copy = malloc(key.size);
  if (!copy) return fail(RESPOOL_NOMEM, "not enough memory for a key");
  memcpy(copy, key.data, key.size);
  p->key.key = (respool_bytes){copy, key.size};
  return 0;
}

int respool_tx_push(respool_tx *tx, respool_queue *q,
                    const respool_payload *items, size_t n,
                    const respool_push_options *o, size_t *handle) {
  static const respool_push_options defaults = RESPOOL_PUSH_OPTIONS_INIT;
  if (!o) o = &defaults;
  int rc = tx_check(tx);
  if (!rc && !is_ours(tx, q)) rc = invalid("queue", "of the same store");
  if (!rc && o->wait) rc = invalid("wait", "0 in a transaction");
  if (rc) return rc;
  step *p = add_step(tx, STEP_PUSH);
  if (!p) return RESPOOL_NOMEM;
  p->queue = q;
  p->options = *o;
  rc = push_build(tx->store, items, n, o, &p->builder);
  if (!rc) rc = copy_key(p, items[0].key);
  if (rc) {
    step_free(p);
    return rc;
  }
  if (handle) *handle = tx->n;
  tx->n++;
  return 0;
}

int respool_tx_mark(respool_tx *tx, respool_batch *batch, size_t i,
                    const respool_outcome *o) {
  mark m;
  int rc = tx_check(tx);
  if (!rc && (!batch || !is_ours(tx, batch->queue)))
    rc = invalid("batch", "of the same store");
  if (!rc) rc = batch_make_mark(batch, i, o, &m);
  if (rc) return rc;
  step *p = add_step(tx, STEP_MARK);
  if (!p) return RESPOOL_NOMEM;
  p->queue = batch->queue;
  p->batch = batch;
  p->i = i;
  p->mark = m;
  tx->n++;
  return 0;
}

int respool_tx_dead(respool_tx *tx, const char *dlq, uint64_t number,
                      respool_queue *to, int remove) {
  int rc = tx_check(tx);
  if (!rc) rc = name_check(dlq, "dlq");
  if (!rc && to && !is_ours(tx, to)) rc = invalid("to", "of the same store");
  if (rc) return rc;
  step *p = add_step(tx, STEP_DEAD);
  if (!p) return RESPOOL_NOMEM;
  strcpy(p->dlq, dlq);
  p->queue = to;
  p->number = number;
  p->remove = remove;
  tx->n++;
  return 0;
}

/* ---- applying ----------------------------------------------------------- */

typedef struct tx_op {
  op op;
  respool_tx *tx;
  mark **marks; /* for the step that settles its batch; else NULL */
} tx_op;

static int apply_push(txn *t, tx_op *x, step *p) {
  respool *s = x->tx->store;
  append_req r = push_request(p->queue, &p->builder, &p->key, &p->options);
  int rc = engine_lmdb.append(t, p->queue->name, respool_now(s), &r);
  if (!rc) {
    p->first = r.first;
    p->held = r.held;
  }
  x->op.relies |= r.held || rc == RESPOOL_EXISTS;
  return rc;
}

static int apply_marks(txn *t, respool_tx *tx, const step *p,
                       const mark *marks) {
  settle_req r = {.batch = p->batch, .marks = marks, .strict = true,
                  .chance = &tx->store->random,
                  .notices = queue_notices(p->queue)};
  return marks ? engine_lmdb.settle(t, p->queue->name,
                                    respool_now(tx->store), &r) : 0;
}

static int dead_gone(const step *p) {
  return fail(RESPOOL_NOT_FOUND,
              "there is no dead letter %llu in DLQ \"%.120s\"",
              (unsigned long long)p->number, p->dlq);
}

static int apply_dead(txn *t, respool_tx *tx, const step *p) {
  respool_move m = {.number = p->number};
  move_req r = {.dlq = p->dlq, .to = p->queue ? p->queue->name : NULL,
                .moves = &m, .n = 1};
  uint64_t removed = 0;
  int rc = p->remove
             ? engine_lmdb.dead_remove(t, p->dlq, &p->number, 1, &removed)
             : engine_lmdb.dead_move(t, respool_now(tx->store), &r);
  return rc || removed || r.moved ? rc : dead_gone(p);
}

static int run_tx(txn *t, op *o) {
  tx_op *x = (tx_op *)o;
  int rc = 0;
  for (size_t i = 0; i < x->tx->n && !rc; i++) {
    step *p = &x->tx->steps[i];
    if (p->kind == STEP_PUSH)
      rc = apply_push(t, x, p);
    else if (p->kind == STEP_MARK)
      rc = apply_marks(t, x->tx, p, x->marks[i]);
    else
      rc = apply_dead(t, x->tx, p);
  }
  return rc;
}

/* The marks of a batch gather at its first step. */
static size_t first_of(const respool_tx *tx, size_t i) {
  size_t k = 0;
  while (tx->steps[k].kind != STEP_MARK ||
         tx->steps[k].batch != tx->steps[i].batch)
    k++;
  return k;
}

/* May the item still be settled? Since it was marked, or even before, its
   batch may have been. */
static int mark_check(const step *p) {
  int rc = batch_check(p->batch);
  if (rc) return rc;
  if (p->batch->marks[p->i].settled)
    return invalid("item", "not settled yet");
  if (!batch_claim_of(p->batch, p->i)->over) return 0;
  p->batch->lost = 1;
  return batch_lost_error(p->batch->queue, p->batch->lost);
}

static int gather_marks(respool_tx *tx, mark **marks) {
  for (size_t i = 0; i < tx->n; i++) {
    const step *p = &tx->steps[i];
    if (p->kind != STEP_MARK) continue;
    int rc = mark_check(p);
    if (rc) return rc;
    size_t k = first_of(tx, i);
    if (!marks[k])
      marks[k] = calloc(respool_batch_length(p->batch), sizeof **marks);
    if (!marks[k]) return fail(RESPOOL_NOMEM, "not enough memory");
    marks[k][p->i] = p->mark; /* the last word counts */
  }
  return 0;
}

static void close_batches(respool_tx *tx, mark **marks) {
  for (size_t i = 0; i < tx->n; i++)
    if (marks[i]) batch_close_claims(tx->steps[i].batch, marks[i]);
}

static int prepare(tx_op *x) {
  x->marks = calloc(x->tx->n + 1, sizeof *x->marks);
  if (!x->marks) return fail(RESPOOL_NOMEM, "not enough memory");
  return gather_marks(x->tx, x->marks);
}

static void note_committed(tx_op *x) {
  close_batches(x->tx, x->marks);
  x->tx->committed = true;
}

static void free_marks(tx_op *x) {
  for (size_t i = 0; x->marks && i < x->tx->n; i++) free(x->marks[i]);
  free(x->marks);
}

int respool_tx_commit(respool_tx *tx) {
  int rc = tx_check(tx);
  if (rc) return rc;
  tx_op x = {.tx = tx};
  rc = prepare(&x);
  if (!rc) rc = store_run(tx->store, &x.op, run_tx, true);
  if (!rc) note_committed(&x);
  free_marks(&x);
  return rc;
}

/* ---- by ticket ---------------------------------------------------------- */

static int pin_queues(respool_ticket *t, const respool_tx *tx) {
  int rc = 0;
  for (size_t i = 0; i < tx->n && !rc; i++)
    if (tx->steps[i].queue) rc = ticket_pin(t, tx->steps[i].queue);
  return rc;
}

/* The ticket works on the transaction, and on each batch of its marks. */
static void engage(tx_op *x, respool_ticket *t) {
  x->tx->ticket = t;
  t->refs++;
  for (size_t i = 0; i < x->tx->n; i++)
    if (x->marks[i]) batch_engage(x->tx->steps[i].batch, t);
}

static void land_tx(respool_ticket *t) {
  tx_op *x = (tx_op *)t->op;
  respool_tx *tx = x->tx;
  if (!t->op->rc) note_committed(x);
  for (size_t i = 0; i < tx->n; i++)
    if (x->marks[i]) batch_disengage(tx->steps[i].batch);
  free_marks(x);
  tx->ticket = NULL;
  if (tx->doomed)
    destroy(tx);
  else
    t->refs--;
}

int respool_tx_commit_start(respool_tx *tx, respool_ticket **out) {
  int rc = tx_check(tx);
  if (rc) return rc;
  respool_ticket *t = ticket_new(tx->store, sizeof(tx_op));
  if (!t) return RESPOOL_NOMEM;
  tx_op *x = (tx_op *)t->op;
  x->tx = tx;
  rc = prepare(x);
  if (!rc) rc = pin_queues(t, tx);
  if (!rc) rc = ticket_start(t, run_tx, true);
  if (rc) {
    free_marks(x);
    ticket_drop(t);
    return rc;
  }
  t->land = land_tx;
  engage(x, t);
  *out = t;
  return 0;
}

uint64_t respool_tx_id(const respool_tx *tx, size_t handle) {
  if (!tx || !tx->committed || handle >= tx->n) return 0;
  return tx->steps[handle].first;
}

int respool_tx_held(const respool_tx *tx, size_t handle) {
  if (!tx || !tx->committed || handle >= tx->n) return 0;
  return tx->steps[handle].held;
}
