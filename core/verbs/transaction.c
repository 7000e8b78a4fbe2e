/* SPDX-License-Identifier: MIT */
/*
 * Transactions: changes gathered in memory, committed as one unit. Outcomes of
 * a batch's items are settled together, where the first of them stands; the
 * batch's own marks wait for their own settle.
 */
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "verbs/consume/batch.h"
#include "verbs/dead_letters.h"
#include "verbs/store/notes.h"
#include "verbs/produce/push.h"

enum change_kind {
  CHANGE_PUSH, CHANGE_MARK, CHANGE_DEAD, CHANGE_NOTE, CHANGE_REPLAY
};

typedef struct change {
  enum change_kind kind;
  respool_queue *queue; /* NULL of a dead letter: its own, or to be removed */
  builder builder;
  respool_push_options options;
  respool_bytes bytes;  /* the key of a push; a note, data NULL: removed */
  uint64_t first;       /* id, once committed */
  bool duplicate;       /* and whether it was ignored */
  respool_batch *batch;
  size_t i;
  mark mark;
  char name[RESPOOL_NAME_MAX + 1]; /* of a DLQ or a note */
  respool_move move;    /* of a dead letter */
  bool remove;
  respool_replay *replay;
} change;

struct respool_tx {
  respool *store;
  change *changes;
  size_t n, cap;
  bool committed;
  respool_ticket *ticket; /* at work on it */
  bool doomed;            /* freed meanwhile: the ticket's to free */
};

static int tx_check(respool_tx *tx) {
  if (!tx) return fail(RESPOOL_INVALID, "the transaction is NULL");
  int rc = store_check(tx->store);
  if (!rc && tx->ticket) rc = ticket_applied(tx->ticket, "transaction");
  if (rc || !tx->committed) return rc;
  return fail(RESPOOL_INVALID, "the transaction is already committed");
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

static void change_free(change *p) {
  if (p->kind == CHANGE_PUSH) builder_free(&p->builder);
  free((void *)(uintptr_t)p->bytes.data);
  free(p->replay);
}

void respool_tx_rollback(respool_tx *tx, size_t savepoint) {
  if (!tx || tx_check(tx)) return;
  while (tx->n > savepoint) change_free(&tx->changes[--tx->n]);
}

size_t respool_tx_savepoint(const respool_tx *tx) {
  return tx ? tx->n : 0;
}

static void destroy(respool_tx *tx) {
  while (tx->n > 0) change_free(&tx->changes[--tx->n]);
  free(tx->changes);
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

/* ---- adding changes ----------------------------------------------------- */

static change *add_change(respool_tx *tx, enum change_kind kind) {
  if (!array_grow(&tx->changes, tx->n, 1, &tx->cap,
                  sizeof *tx->changes)) {
    fail(RESPOOL_NOMEM, "not enough memory for a transaction");
    return NULL;
  }
  change *p = &tx->changes[tx->n];
  memset(p, 0, sizeof *p);
  p->kind = kind;
  return p;
}

static bool is_ours(const respool_tx *tx, const respool_queue *q) {
  return q && q->store->env == tx->store->env;
}

static int copy_bytes(change *p, respool_bytes b) {
  void *copy = malloc(b.size + 1);
  if (!copy) return fail(RESPOOL_NOMEM, "not enough memory for a transaction");
  if (b.size) memcpy(copy, b.data, b.size);
  p->bytes = (respool_bytes){copy, b.size};
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
  change *p = add_change(tx, CHANGE_PUSH);
  if (!p) return RESPOOL_NOMEM;
  p->queue = q;
  p->options = *o;
  rc = push_build(tx->store, items, n, o, &p->builder);
  if (!rc && items[0].key.size) rc = copy_bytes(p, items[0].key);
  if (rc) {
    change_free(p);
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
  change *p = add_change(tx, CHANGE_MARK);
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
  change *p = add_change(tx, CHANGE_DEAD);
  if (!p) return RESPOOL_NOMEM;
  strcpy(p->name, dlq);
  p->queue = to;
  p->move.number = number;
  p->remove = remove;
  tx->n++;
  return 0;
}

int respool_tx_replay(respool_tx *tx, const respool_replay *replay) {
  int rc = tx_check(tx);
  if (!rc) rc = replay_check(replay);
  if (rc) return rc;
  change *p = add_change(tx, CHANGE_REPLAY);
  if (!p) return RESPOOL_NOMEM;
  p->replay = malloc(sizeof *p->replay);
  if (!p->replay) return fail(RESPOOL_NOMEM, "not enough memory");
  *p->replay = *replay;
  tx->n++;
  return 0;
}

int respool_tx_note(respool_tx *tx, const char *name, respool_bytes note) {
  int rc = tx_check(tx);
  if (!rc) rc = note.data ? note_check(name, note) : name_check(name, "note");
  if (rc) return rc;
  change *p = add_change(tx, CHANGE_NOTE);
  if (!p) return RESPOOL_NOMEM;
  strcpy(p->name, name);
  if (note.data) rc = copy_bytes(p, note);
  if (!rc) tx->n++;
  return rc;
}

/* ---- the unit ----------------------------------------------------------- */

typedef struct tx_unit {
  unit unit;
  respool_tx *tx;
  mark **marks; /* for the change that settles its batch; else NULL */
} tx_unit;

/* The marks of a batch gather at its first change. */
static size_t first_of(const respool_tx *tx, size_t i) {
  size_t k = 0;
  while (tx->changes[k].kind != CHANGE_MARK ||
         tx->changes[k].batch != tx->changes[i].batch)
    k++;
  return k;
}

/* May the item still be settled? Since it was marked, or even before, its
   batch may have been. */
static int mark_check(const change *p) {
  int rc = batch_check(p->batch);
  if (rc) return rc;
  if (p->batch->marks[p->i].settled)
    return fail(RESPOOL_INVALID, "item %llu is already settled",
                (unsigned long long)p->batch->page.items[p->i].id);
  if (!batch_claim_of(p->batch, p->i)->over) return 0;
  p->batch->lost = 1;
  return batch_lost_error(p->batch->queue->name, p->batch->lost);
}

static int gather_marks(respool_tx *tx, mark **marks) {
  for (size_t i = 0; i < tx->n; i++) {
    const change *p = &tx->changes[i];
    if (p->kind != CHANGE_MARK) continue;
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

static step dead_step(const change *p) {
  step s = {.name = p->name};
  if (p->remove) {
    s.kind = STEP_DEAD_REMOVE;
    s.dead_remove = (dead_remove_req){&p->move.number, 1, true, 0};
  } else {
    s.kind = STEP_DEAD_MOVE;
    s.move = (move_req){.dlq = p->name, .moves = &p->move, .n = 1,
                        .to = p->queue ? p->queue->name : NULL,
                        .strict = true};
  }
  return s;
}

static step settle_step(respool_tx *tx, const change *p, const mark *marks) {
  return (step){.kind = STEP_SETTLE,
                .name = p->queue->name,
                .settle = {.batch = p->batch,
                           .marks = marks,
                           .strict = true,
                           .random = &tx->store->random,
                           .notices = queue_notices(p->queue)}};
}

static void make_steps(tx_unit *x) {
  for (size_t i = 0; i < x->tx->n; i++) {
    const change *p = &x->tx->changes[i];
    step *s = &x->unit.steps[x->unit.n];
    if (p->kind == CHANGE_MARK && !x->marks[i]) continue;
    x->unit.n++;
    if (p->kind == CHANGE_PUSH)
      *s = push_step(p->queue, &p->builder, p->bytes, &p->options);
    else if (p->kind == CHANGE_MARK)
      *s = settle_step(x->tx, p, x->marks[i]);
    else if (p->kind == CHANGE_DEAD)
      *s = dead_step(p);
    else if (p->kind == CHANGE_REPLAY)
      *s = (step){.kind = STEP_REPLAY_SAVE, .name = p->replay->name,
                  .replay = p->replay};
    else
      *s = (step){.kind = STEP_NOTE, .name = p->name, .note = p->bytes};
  }
}

static int prepare(tx_unit *x) {
  x->unit.durable = true;
  x->unit.steps = calloc(x->tx->n + 1, sizeof *x->unit.steps);
  x->marks = calloc(x->tx->n + 1, sizeof *x->marks);
  if (!x->marks || !x->unit.steps)
    return fail(RESPOOL_NOMEM, "not enough memory");
  int rc = gather_marks(x->tx, x->marks);
  if (!rc) make_steps(x);
  return rc;
}

/* The steps are in the order of the changes that have one. */
static void note_committed(tx_unit *x) {
  const step *s = x->unit.steps;
  for (size_t i = 0; i < x->tx->n; i++) {
    change *p = &x->tx->changes[i];
    if (p->kind == CHANGE_MARK && !x->marks[i]) continue;
    if (p->kind == CHANGE_PUSH) {
      p->first = s->append.first;
      p->duplicate = s->append.duplicate;
    } else if (p->kind == CHANGE_MARK)
      batch_close_claims(p->batch, x->marks[i]);
    s++;
  }
  x->tx->committed = true;
}

static void free_unit(tx_unit *x) {
  for (size_t i = 0; x->marks && i < x->tx->n; i++) free(x->marks[i]);
  free(x->marks);
  free(x->unit.steps);
}

int respool_tx_commit(respool_tx *tx) {
  int rc = tx_check(tx);
  if (rc) return rc;
  tx_unit x = {.tx = tx};
  rc = prepare(&x);
  if (!rc) rc = store_commit(tx->store, &x.unit);
  if (!rc) note_committed(&x);
  free_unit(&x);
  return rc;
}

/* ---- by ticket ---------------------------------------------------------- */

static int pin_queues(respool_ticket *t, const respool_tx *tx) {
  int rc = 0;
  for (size_t i = 0; i < tx->n && !rc; i++)
    if (tx->changes[i].queue) rc = queue_pin(t, tx->changes[i].queue);
  return rc;
}

/* The ticket works on the transaction, and on each batch of its marks. */
static void attach(tx_unit *x, respool_ticket *t) {
  x->tx->ticket = t;
  t->refs++;
  for (size_t i = 0; i < x->tx->n; i++)
    if (x->marks[i]) batch_attach(x->tx->changes[i].batch, t);
}

static void apply_tx(respool_ticket *t) {
  tx_unit *x = (tx_unit *)t->unit;
  respool_tx *tx = x->tx;
  if (!t->unit->rc) note_committed(x);
  for (size_t i = 0; i < tx->n; i++)
    if (x->marks[i]) batch_detach(tx->changes[i].batch);
  free_unit(x);
  tx->ticket = NULL;
  if (tx->doomed)
    destroy(tx);
  else
    t->refs--;
}

int respool_tx_commit_start(respool_tx *tx, respool_ticket **out) {
  int rc = tx_check(tx);
  if (rc) return rc;
  respool_ticket *t = store_ticket(tx->store, sizeof(tx_unit));
  if (!t) return RESPOOL_NOMEM;
  tx_unit *x = (tx_unit *)t->unit;
  x->tx = tx;
  rc = prepare(x);
  if (!rc) rc = pin_queues(t, tx);
  if (!rc) rc = store_start(t);
  if (rc) {
    free_unit(x);
    ticket_drop(t);
    return rc;
  }
  t->apply_result = apply_tx;
  attach(x, t);
  *out = t;
  return 0;
}

uint64_t respool_tx_id(const respool_tx *tx, size_t handle) {
  if (!tx || !tx->committed || handle >= tx->n) return 0;
  return tx->changes[handle].first;
}

int respool_tx_duplicate(const respool_tx *tx, size_t handle) {
  if (!tx || !tx->committed || handle >= tx->n) return 0;
  return tx->changes[handle].duplicate;
}
