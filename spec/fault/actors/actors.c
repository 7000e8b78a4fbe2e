/* SPDX-License-Identifier: MIT */
/*
 * The actors, one after the other; see actors.h.
 */
#include "actors.h"
#include "verbs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define AWAY 10000 /* microseconds at most */

/* ---- orders: outcomes of every kind ------------------------------------- */

static int any_verdict(actor *a, uint32_t tag) {
  static const int outcomes[] = {
    RESPOOL_DONE, RESPOOL_DONE, RESPOOL_RETRY, RESPOOL_RETRY,
    RESPOOL_RELEASE, RESPOOL_SNOOZE, RESPOOL_DEAD, RESPOOL_DROP,
  };
  if (a->m->lives[tag].n > STAGES / 2) return RESPOOL_DONE;
  return outcomes[act_chance(a, sizeof outcomes / sizeof *outcomes)];
}

/* Some of the batch now, with a push to the next queue, the others after; the
   first without waiting for the disk, half the time. */
static void settle_in_two(actor *a, respool_batch *batch, respool_queue *next) {
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  size_t n = respool_batch_length(batch);
  moved v = moved_together(a), rest = moved_together(a);
  parcel p;
  moved_pack(&v, &p, 2, FOLLOW);
  respool_handover h = {next, p.items, 2, NULL, 0};
  o.pushes = &h;
  o.n_pushes = 1;
  o.no_wait = (int)act_chance(a, 2);
  for (size_t i = 0; i < (n + 1) / 2; i++)
    act_mark(&v, batch, i, ORDERS,
         any_verdict(a, body_tag(respool_batch_item(batch, i)->body)));
  MUST(a, respool_batch_settle(batch, &o, NULL));
  if (!o.no_wait) moved_ack(&v);
  for (size_t i = (n + 1) / 2; i < n; i++)
    act_mark(&rest, batch, i, ORDERS,
         any_verdict(a, body_tag(respool_batch_item(batch, i)->body)));
  MUST(a, respool_batch_settle(batch, NULL, NULL));
  if (o.no_wait) MUST(a, respool_flush(a->s));
  moved_ack(&v);
  moved_ack(&rest);
}

/* Dead letters of a DLQ go, so that the store stays small. */
static void empty_dlq(actor *a, int place, size_t keep) {
  respool_dead_letters *l;
  moved v = moved_apart(a);
  uint64_t upto[BATCH];
  MUST(a, respool_dead_list(a->s, place_name(place), NULL, &l));
  for (size_t i = keep; i < respool_dead_letters_length(l) &&
       v.n < BATCH; i++) {
    upto[v.n] = respool_dead_letters_at(l, i)->number;
    moved_add(&v, body_tag(respool_dead_letters_at(l, i)->body), GONE, 0);
  }
  if (v.n)
    MUST(a, respool_dead_remove(a->s, place_name(place), upto, (size_t)v.n,
                                NULL));
  moved_ack(&v);
  respool_dead_letters_free(l);
}

static void orders(actor *a) {
  respool_queue *q = act_queue(a, ORDERS), *next = act_queue(a, FOLLOW);
  for (int i = 0; act_going(a, i, a->rounds); i++) {
    act_push(a, q, ORDERS, 1 + (int)act_chance(a, 5), 0);
    act_push(a, q, ORDERS, 1, act_chance(a, 2) ? 400 : 0);
    respool_batch *batch = act_take(a, q, 8);
    if (batch) settle_in_two(a, batch, next);
    respool_batch_free(batch);
    if (act_chance(a, 3) == 0) act_drain(a, next, 3);
    if (act_chance(a, 3) == 0) MUST(a, respool_advance(a->s, 600));
    empty_dlq(a, ORDERS, 4);
  }
  respool_queue_free(q);
  respool_queue_free(next);
}

/* ---- lines: pushes through a buffer ------------------------------------- */

static void push_buffered(actor *a, respool_buffer *b) {
  parcel p;
  moved v = moved_apart(a);
  moved_pack(&v, &p, 3 + (int)act_chance(a, 8), LINES);
  for (int i = 0; i < v.n; i++)
    MUST(a, respool_buffer_push(b, &p.items[i], NULL));
  MUST(a, respool_buffer_flush(b));
  moved_ack(&v);
}

static void lines(actor *a) {
  respool_queue *q = act_queue(a, LINES);
  respool_buffer_options o = RESPOOL_BUFFER_OPTIONS_INIT;
  respool_buffer *b;
  o.items = 5;
  MUST(a, respool_buffer_open(q, &o, &b));
  for (int i = 0; act_going(a, i, a->rounds); i++) {
    push_buffered(a, b);
    if (act_chance(a, 2)) act_drain(a, q, 6);
  }
  respool_buffer_free(b);
  respool_queue_free(q);
}

/* ---- maintenance: expiry, retention, removal by hand -------------------- */

/* Every item of a queue that none has taken goes to a place. */
static void add_queue(moved *v, respool_queue *q, int place) {
  respool_page *p;
  MUST(v->a, respool_peek(q, MOVED, &p));
  for (size_t i = 0; i < respool_page_length(p); i++)
    moved_add(v, body_tag(respool_page_item(p, i)->body), place, ANY);
  respool_page_free(p);
}

static void add_dlq(moved *v, int dlq) {
  respool_dead_letters *l;
  MUST(v->a, respool_dead_list(v->a->s, place_name(dlq), NULL, &l));
  for (size_t i = 0; i < respool_dead_letters_length(l) && i < MOVED; i++)
    moved_add(v, body_tag(respool_dead_letters_at(l, i)->body), GONE, 0);
  respool_dead_letters_free(l);
}

static void maintain(actor *a) {
  respool_maintenance done = RESPOOL_MAINTENANCE_INIT;
  MUST(a, respool_maintain(a->s, 0, &done));
}

static void expire(actor *a, respool_queue *q) {
  moved v = moved_apart(a);
  add_queue(&v, q, DLQ | SHORT);
  MUST(a, respool_advance(a->s, 1500));
  maintain(a);
  moved_ack(&v);
}

static void add_history(moved *v, respool_queue *q) {
  respool_history_cursor at = {0, 0};
  respool_page *p;
  MUST(v->a, respool_history(q, &at, MOVED, &p));
  for (size_t i = 0; i < respool_page_length(p) && v->n < MOVED; i++)
    moved_add(v, body_tag(respool_page_item(p, i)->body), GONE, 0);
  respool_page_free(p);
}

static void outlive(actor *a, respool_queue *kept) {
  moved v = moved_apart(a);
  add_dlq(&v, KEPT);
  add_history(&v, kept);
  MUST(a, respool_advance(a->s, 20000));
  maintain(a);
  moved_ack(&v);
}

static void purge(actor *a, respool_queue *q) {
  moved v = moved_apart(a), w = moved_apart(a);
  add_queue(&v, q, GONE);
  MUST(a, respool_purge(q, NULL));
  moved_ack(&v);
  add_dlq(&w, SHORT);
  MUST(a, respool_dead_purge(a->s, "short", NULL, NULL));
  moved_ack(&w);
}

static void remove_one(actor *a, respool_queue *q, uint64_t id) {
  respool_page *p;
  moved v = moved_apart(a);
  MUST(a, respool_get(q, id, &p));
  moved_add(&v, body_tag(respool_page_item(p, 0)->body), GONE, 0);
  respool_page_free(p);
  MUST(a, respool_remove(q, id));
  moved_ack(&v);
}

static void cancel_one(actor *a, respool_queue *q, uint64_t id) {
  respool_page *p;
  moved v = moved_apart(a);
  MUST(a, respool_get(q, id, &p));
  moved_add(&v, body_tag(respool_page_item(p, 0)->body), CANCELLED | KEPT,
            ANY);
  respool_page_free(p);
  MUST(a, respool_item_cancel(q, id));
  moved_ack(&v);
}

static void report_half(actor *a, respool_queue *q, respool_batch *batch) {
  respool_progress half = RESPOOL_PROGRESS_INIT;
  half.done = 500;
  MUST(a, respool_item_progress(q, respool_batch_item(batch, 0)->id,
                                respool_batch_token(batch), &half));
}

/* Of four items one dies and one is cancelled, the first of the batch or the
   one behind it; the others are done. A settle of the cancelled is refused. */
static void end_kept(actor *a, respool_queue *q) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  uint64_t id = act_push(a, q, KEPT, 4, 0);
  int leased = (int)act_chance(a, 2);
  respool_batch *batch = act_take(a, q, 3 + leased);
  done.kind = RESPOOL_DONE;
  report_half(a, q, batch);
  cancel_one(a, q, leased ? id : id + 3);
  moved v = moved_together(a);
  for (size_t i = (size_t)leased; i < respool_batch_length(batch); i++)
    act_mark(&v, batch, i, KEPT, i == 1 ? RESPOOL_DEAD : RESPOOL_DONE);
  if (leased) MUST(a, respool_batch_mark(batch, 0, &done));
  int rc = respool_batch_settle(batch, NULL, NULL);
  MUST(a, leased ? rc != RESPOOL_LEASE_LOST : rc);
  moved_ack(&v);
  respool_batch_free(batch);
}

static void maintenance(actor *a) {
  respool_queue *q = act_queue(a, SHORT), *kept = act_queue(a, KEPT);
  for (int i = 0; act_going(a, i, a->rounds); i++) {
    uint64_t id = act_push(a, q, SHORT, 3, 0);
    if (act_chance(a, 3) == 0) remove_one(a, q, id);
    end_kept(a, kept);
    if (i % 5 == 4) purge(a, q);
    if (i % 3 == 1) expire(a, q);
    if (i % 3 == 2) {
      act_drain(a, q, 2);
      outlive(a, kept);
    }
  }
  respool_queue_free(q);
  respool_queue_free(kept);
}

/* ---- dead letters: dead, replayed, moved in transactions
   --------------------- */

static void kill_some(actor *a, respool_queue *q) {
  respool_batch *batch = act_take(a, q, 8);
  moved v = moved_together(a);
  for (size_t i = 0; i < respool_batch_length(batch); i++)
    act_mark(&v, batch, i, DEAD, RESPOOL_DEAD);
  if (batch) MUST(a, respool_batch_settle(batch, NULL, NULL));
  moved_ack(&v);
  respool_batch_free(batch);
}

/* A page of a named replay: some dead letters back, one of them transformed. */
static void replay_page(actor *a, const respool_dead_letters *l,
                        respool_queue *to, respool_replay *replay) {
  int rc = respool_replay_load(a->s, replay->name, replay);
  if (rc != RESPOOL_NOT_FOUND) MUST(a, rc);
  respool_move moves[2] = {{.number = 0}, {.number = 0}};
  respool_payload same = {.body = respool_dead_letters_at(l, 1)->body};
  respool_move_options o = RESPOOL_MOVE_OPTIONS_INIT;
  moved v = moved_together(a);
  for (size_t i = 0; i < 2; i++) {
    moves[i].number = replay->cursor = respool_dead_letters_at(l, i)->number;
    moved_add(&v, body_tag(respool_dead_letters_at(l, i)->body), AGAIN, 0);
  }
  moves[1].payload = &same;
  o.to = to;
  o.replay = replay;
  replay->moved += 2;
  MUST(a, respool_dead_move(a->s, "dead", moves, 2, &o, NULL));
  moved_ack(&v);
}

/* A dead letter back, a new item beside it, an outcome: all at once. */
static void transact(actor *a, uint64_t number, uint32_t tag,
                     respool_queue *to) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_batch *batch = act_take(a, to, 1);
  respool_tx *tx;
  parcel p;
  moved v = moved_together(a);
  done.kind = RESPOOL_DONE;
  MUST(a, respool_tx_begin(a->s, &tx));
  moved_pack(&v, &p, 2, AGAIN);
  MUST(a, respool_tx_push(tx, to, p.items, 2, NULL, NULL));
  moved_add(&v, tag, AGAIN, 0);
  MUST(a, respool_tx_dead(tx, "dead", number, to, 0));
  if (batch) {
    moved_outcome(&v, respool_batch_item(batch, 0), AGAIN, RESPOOL_DONE);
    MUST(a, respool_tx_mark(tx, batch, 0, &done));
  }
  MUST(a, respool_tx_commit(tx));
  moved_ack(&v);
  respool_tx_free(tx);
  respool_batch_free(batch);
}

static void dead_letters(actor *a) {
  respool_queue *q = act_queue(a, DEAD), *again = act_queue(a, AGAIN);
  respool_replay replay = RESPOOL_REPLAY_INIT;
  snprintf(replay.name, sizeof replay.name, "nightly");
  snprintf(replay.dlq, sizeof replay.dlq, "dead");
  for (int i = 0; act_going(a, i, a->rounds); i++) {
    respool_dead_letters *l;
    act_push(a, q, DEAD, 5, 0);
    kill_some(a, q);
    MUST(a, respool_dead_list(a->s, "dead", NULL, &l));
    if (respool_dead_letters_length(l) > 2) {
      const respool_dead_letter *third = respool_dead_letters_at(l, 2);
      replay_page(a, l, again, &replay);
      transact(a, third->number, body_tag(third->body), again);
    }
    respool_dead_letters_free(l);
    empty_dlq(a, DEAD, 3);
    act_drain(a, again, 4);
  }
  respool_queue_free(q);
  respool_queue_free(again);
}

/* ---- keys --------------------------------------------------------------- */

/* Pushes under a key that the other twin pushes, too. One of them is told
   that the other's item is there: then it must be. */
static void push_twin(actor *a, respool_queue *q, int n) {
  char key[16];
  parcel p;
  moved v = moved_apart(a);
  respool_result r = RESPOOL_RESULT_INIT;
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  int size = snprintf(key, sizeof key, "%d", n);
  o.on_conflict = RESPOOL_CONFLICT_IGNORE;
  moved_pack(&v, &p, 1, TWINS);
  p.items[0].key = (respool_bytes){key, (size_t)size};
  MUST(a, respool_push(q, p.items, 1, &o, &r));
  v.of[0].id = r.first;
  if (!r.duplicate) {
    moved_ack(&v);
    return;
  }
  model_held(a->m, TWINS, v.of[0].id);
  model_void(a->m, v.of[0].tag, v.of[0].index);
}

static void twins(actor *a) {
  respool_queue *q = act_queue(a, TWINS);
  for (int i = 0; act_going(a, i, a->rounds * 4); i++) {
    push_twin(a, q, i);
    if (!strcmp(a->kind, "elder") && i % 8 == 7) act_drain(a, q, 4);
  }
  respool_queue_free(q);
}

/* The last push under a key is the one that stays. */
static void latest(actor *a) {
  respool_queue *q = act_queue(a, LATEST);
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  uint32_t holder = UINT32_MAX;
  o.on_conflict = RESPOOL_CONFLICT_REPLACE;
  o.dedup = 100;
  for (int i = 0; act_going(a, i, a->rounds); i++) {
    parcel p;
    moved v = moved_together(a);
    moved_pack(&v, &p, 1, LATEST);
    p.items[0].key = (respool_bytes){"key", 3};
    if (holder != UINT32_MAX) moved_add(&v, holder, GONE, 0);
    respool_result r = RESPOOL_RESULT_INIT;
    MUST(a, respool_push(q, p.items, 1, &o, &r));
    v.of[0].id = r.first;
    moved_ack(&v);
    holder = v.of[0].tag;
    if (i % 4 == 3) {
      act_drain(a, q, 2);
      MUST(a, respool_advance(a->s, 200));
      holder = UINT32_MAX;
    }
  }
  respool_queue_free(q);
}

/* ---- shared: many on one queue ------------------------------------------ */

static void shared(actor *a) {
  respool_queue *q = act_queue(a, SHARED);
  for (int i = 0; act_going(a, i, a->rounds * 2); i++) {
    act_push(a, q, SHARED, 1 + (int)act_chance(a, 3), 0);
    respool_batch *batch = act_take(a, q, 1 + (int)act_chance(a, 4));
    if (batch && act_chance(a, 3) == 0) { /* look around while it is held */
      respool_page *p;
      MUST(a, respool_peek(q, 4, &p));
      respool_page_free(p);
    }
    while (batch) batch = act_finish(a, batch, (int)act_chance(a, 2) * 2);
  }
  respool_queue_free(q);
}

/* ---- all of them -------------------------------------------------------- */

const char *const actor_kinds[] = {
  "shared", "orders", "lines", "maintenance", "dead", "elder", "younger",
  "latest", "shared",
};

static void (*const plays[])(actor *a) = {
  shared, orders, lines, maintenance, dead_letters, twins, twins, latest,
      shared,
};

static void play(actor *a) {
  act_open(a);
  for (int i = 0; i < ACTORS; i++) {
    if (strcmp(a->kind, actor_kinds[i])) continue;
    plays[i](a);
    break;
  }
  respool_close(a->s);
}

/* Away for a while, so that now and then all are. */
static bool comes_again(actor *a) {
  if (!a->restless) return false;
  usleep(act_chance(a, AWAY));
  return act_going(a, 0, a->rounds);
}

void *actor_play(void *arg) {
  actor *a = arg;
  do
    play(a);
  while (comes_again(a));
  return NULL;
}
