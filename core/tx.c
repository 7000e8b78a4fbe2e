/* SPDX-License-Identifier: MIT */
/*
 * Transactions: steps gathered in memory, applied by one operation. Outcomes
 * of a lot's items are settled together, where the first of them stands; the
 * lot's own marks wait for their own settle.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

enum step_kind { STEP_PUSH, STEP_MARK, STEP_LETTER };

typedef struct step {
  enum step_kind kind;
  respool_queue *queue; /* NULL of a letter: its own, or to be removed */
  batch batch;
  respool_push_options options;
  respool_payload key;
  uint64_t first;       /* id, once applied */
  respool_lot *lot;
  size_t i;
  mark mark;
  char box[RESPOOL_NAME_MAX + 1];
  uint64_t number;
  bool remove;
} step;

struct respool_tx {
  respool *store;
  step *steps;
  size_t n, cap;
  bool committed;
};

static int tx_check(const respool_tx *tx) {
  if (!tx) return fail(RESPOOL_INVALID, "the transaction is NULL");
  if (tx->committed) return invalid("transaction", "not committed yet");
  return store_check(tx->store);
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
  batch_free(&p->batch);
  free((void *)(uintptr_t)p->key.key.data);
}

void respool_tx_rollback(respool_tx *tx, size_t savepoint) {
  while (tx && !tx->committed && tx->n > savepoint)
    step_free(&tx->steps[--tx->n]);
}

size_t respool_tx_savepoint(const respool_tx *tx) {
  return tx ? tx->n : 0;
}

void respool_tx_free(respool_tx *tx) {
  if (!tx) return;
  while (tx->n > 0) step_free(&tx->steps[--tx->n]);
  free(tx->steps);
  free(tx);
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
  rc = push_batch(tx->store, items, n, o, &p->batch);
  if (!rc) rc = copy_key(p, items[0].key);
  if (rc) {
    step_free(p);
    return rc;
  }
  if (handle) *handle = tx->n;
  tx->n++;
  return 0;
}

int respool_tx_mark(respool_tx *tx, respool_lot *lot, size_t i,
                    const respool_outcome *o) {
  mark m;
  int rc = tx_check(tx);
  if (!rc && (!lot || !is_ours(tx, lot->queue)))
    rc = invalid("lot", "of the same store");
  if (!rc) rc = lot_make_mark(lot, i, o, &m);
  if (rc) return rc;
  step *p = add_step(tx, STEP_MARK);
  if (!p) return RESPOOL_NOMEM;
  p->queue = lot->queue;
  p->lot = lot;
  p->i = i;
  p->mark = m;
  tx->n++;
  return 0;
}

int respool_tx_letter(respool_tx *tx, const char *box, uint64_t number,
                      respool_queue *to, int remove) {
  int rc = tx_check(tx);
  if (!rc) rc = name_check(box, "box");
  if (!rc && to && !is_ours(tx, to)) rc = invalid("to", "of the same store");
  if (rc) return rc;
  step *p = add_step(tx, STEP_LETTER);
  if (!p) return RESPOOL_NOMEM;
  strcpy(p->box, box);
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
  mark **marks; /* for the step that settles its lot; else NULL */
} tx_op;

static int apply_push(txn *t, tx_op *x, step *p) {
  respool *s = x->tx->store;
  append_req r = push_request(s, &p->batch, &p->key, &p->options);
  int rc = engine_lmdb.append(t, p->queue->name, respool_now(s), &r);
  if (!rc) p->first = r.first;
  x->op.relies |= r.held || rc == RESPOOL_EXISTS;
  return rc;
}

static int apply_marks(txn *t, respool_tx *tx, const step *p,
                       const mark *marks) {
  settle_req r = {.lot = p->lot, .marks = marks, .strict = true,
                  .chance = &tx->store->random};
  return marks ? engine_lmdb.settle(t, p->queue->name,
                                    respool_now(tx->store), &r) : 0;
}

static int letter_gone(const step *p) {
  return fail(RESPOOL_NOT_FOUND, "there is no letter %llu in box \"%.120s\"",
              (unsigned long long)p->number, p->box);
}

static int apply_letter(txn *t, respool_tx *tx, const step *p) {
  respool_move m = {.number = p->number};
  move_req r = {.box = p->box, .to = p->queue ? p->queue->name : NULL,
                .moves = &m, .n = 1};
  uint64_t removed = 0;
  int rc = p->remove
             ? engine_lmdb.letter_remove(t, p->box, &p->number, 1, &removed)
             : engine_lmdb.letter_move(t, respool_now(tx->store), &r);
  return rc || removed || r.moved ? rc : letter_gone(p);
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
      rc = apply_letter(t, x->tx, p);
  }
  return rc;
}

/* The marks of a lot gather at its first step. */
static size_t first_of(const respool_tx *tx, size_t i) {
  size_t k = 0;
  while (tx->steps[k].kind != STEP_MARK ||
         tx->steps[k].lot != tx->steps[i].lot)
    k++;
  return k;
}

static const hold *hold_of(const respool_lot *lot, size_t i) {
  const hold *h = lot->holds;
  while (i >= h->to) h++;
  return h;
}

/* May the item still be settled? Since it was marked, or even before, its
   lot may have been. */
static int mark_check(const step *p) {
  if (p->lot->marks[p->i].settled)
    return invalid("item", "not settled yet");
  if (!hold_of(p->lot, p->i)->over) return 0;
  p->lot->lost = 1;
  return lot_lost_error(p->lot);
}

static int gather_marks(respool_tx *tx, mark **marks) {
  for (size_t i = 0; i < tx->n; i++) {
    const step *p = &tx->steps[i];
    if (p->kind != STEP_MARK) continue;
    int rc = mark_check(p);
    if (rc) return rc;
    size_t k = first_of(tx, i);
    if (!marks[k])
      marks[k] = calloc(respool_lot_length(p->lot), sizeof **marks);
    if (!marks[k]) return fail(RESPOOL_NOMEM, "not enough memory");
    marks[k][p->i] = p->mark; /* the last word counts */
  }
  return 0;
}

static void close_lots(respool_tx *tx, mark **marks) {
  for (size_t i = 0; i < tx->n; i++)
    if (marks[i]) lot_close_holds(tx->steps[i].lot, marks[i]);
}

int respool_tx_commit(respool_tx *tx) {
  int rc = tx_check(tx);
  if (rc) return rc;
  tx_op x = {.tx = tx};
  x.marks = calloc(tx->n + 1, sizeof *x.marks);
  if (!x.marks) return fail(RESPOOL_NOMEM, "not enough memory");
  rc = gather_marks(tx, x.marks);
  if (!rc) rc = store_run(tx->store, &x.op, run_tx, true);
  if (!rc) {
    close_lots(tx, x.marks);
    tx->committed = true;
  }
  for (size_t i = 0; i < tx->n; i++) free(x.marks[i]);
  free(x.marks);
  return rc;
}

uint64_t respool_tx_id(const respool_tx *tx, size_t handle) {
  if (!tx || !tx->committed || handle >= tx->n) return 0;
  return tx->steps[handle].first;
}
