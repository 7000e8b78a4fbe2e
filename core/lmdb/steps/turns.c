/* SPDX-License-Identifier: MIT */
/*
 * Turns. A take reads the first turns, takes from each partition as many ids as
 * are its share and as it may have, reads their items, and puts the partitions
 * that have more behind all others. A lone item has its turn by its id; where
 * nothing bounds partitions, nobody looks for its partition. Partitions that
 * may not have any are out of turn: until a time, or until one of their leases
 * ends. So a take never meets one twice for nothing.
 */
#include "lmdb/steps/turns.h"

#include "base/array.h"
#include "base/fault.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/flow.h"
#include "lmdb/partition/line.h"
#include "lmdb/partition/partitions.h"
#include "lmdb/partition/turns.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/item_reader.h"
#include "lmdb/record/segments.h"
#include "lmdb/steps/wake.h"

#include <stdlib.h>
#include <string.h>

#define PASS_OVER 10000 /* turns of items that have ended */
#define NEAR 256 /* ids that are read in one go may be so far apart */

/* ---- names that have a turn --------------------------------------------- */

/* The first record of a priority's turns. */
static bool first_turns(txn *t, const queue *q, int priority, uint64_t from,
                        uint64_t *number, respool_bytes *k, respool_bytes *v) {
  key start = turn_key(q->id, priority, from);
  uint32_t of;
  int p;
  return txn_seek(t, DB_TURNS, key_bytes(&start), k, v) &&
         turn_key_read(*k, &of, &p, number) && of == q->id && p == priority;
}

uint64_t turns_count(txn *t, const queue *q, int priority, uint64_t most) {
  uint64_t sum = 0, number = 0;
  respool_bytes k, v;
  unpacker u;
  size_t n;
  while (sum < most &&
         first_turns(t, q, priority, number, &number, &k, &v)) {
    if (!turns_open(k, v, &u, &n)) partition_unread(t, q, RESPOOL_CORRUPT);
    sum += n;
    number++;
  }
  return sum < most ? sum : most;
}

int64_t turns_due(txn *t, const queue *q) {
  uint64_t number;
  respool_bytes k, v;
  for (size_t i = 0; i < q->n_priorities; i++)
    if (first_turns(t, q, q->priorities[i].priority, 0, &number, &k, &v))
      return 0;
  return wake_due(t, q);
}

/* ---- a pass over the turns ---------------------------------------------- */

/* An id that a partition gave. */
typedef struct given {
  uint64_t id;
  bool solo, delivered;
  size_t of; /* in `served` */
} given;

typedef struct served {
  partition_turn turn;
  uint64_t delivered;
} served;

typedef struct pass {
  take_run *run;
  int priority;
  int passed_over;      /* turns of lone items that have ended */
  uint64_t share, left; /* ids that may be given still */
  queue_config config;  /* of partitions */
  bool wary;            /* looks whether lone items are there */
  bool alone;           /* the one id given is to be alone in its batch */
  bool alone_next;      /* the next one is: the batch must end before it */
  bool stop;
  bool ended;           /* some ids given were of items that have ended */
  given *ids;
  size_t n_ids, cap_ids;
  served *served;
  size_t n_served, cap_served;
} pass;

/* How many the line may give; of 0 `*due` is when to look again, 0: not by
   time. */
static uint64_t allowed(const pass *x, const partition *p,
                        const partition_line *l, int64_t *due) {
  const queue *q = x->run->q;
  uint64_t n = x->share < x->left ? x->share : x->left;
  uint64_t most = (uint64_t)q->config.partition_concurrency;
  *due = 0;
  if (line_is_blocked(x->run->t, q, p, l)) return 0;
  if (most) {
    most -= partition_leased(x->run->t, q, p);
    if (most < n) n = most;
  }
  if (p->flow || config_has_partition_flow(&q->config)) {
    uint64_t flows = flow_allows(p->flow, &x->config, x->run->now, due);
    if (flows < n) n = flows;
  }
  return n;
}

/* Has the line's first item crashed before? Then it comes alone. */
static bool comes_alone(const pass *x, const partition_line *l) {
  place p = {{x->run->q->id, SPACE_PARTED_SOLO, l->priority},
             ids_first(&l->head), 0};
  claim c;
  return l->head.solo && claim_look(x->run->t, &p, &c) && c.crashes > 0;
}

static bool note_given(pass *x, uint64_t id, bool solo) {
  if (!array_grow(&x->ids, x->n_ids, 1, &x->cap_ids, sizeof *x->ids)) {
    txn_fail(x->run->t, RESPOOL_NOMEM);
    return false;
  }
  x->ids[x->n_ids++] = (given){id, solo, false, x->n_served};
  x->left--;
  return true;
}

/* Takes ids from a line; false when the batch must end before its next one. */
static bool give(pass *x, partition *p, partition_line *l, uint64_t n) {
  txn *t = x->run->t;
  uint64_t upto = UINT64_MAX, id;
  bool solo;
  if (x->run->q->config.partition_ordered)
    upto = line_first_waiting(t, x->run->q, p, l) - 1;
  for (; n && l->ready && !x->alone; n--) {
    x->alone = comes_alone(x, l);
    if (x->alone && (x->n_ids || x->run->batch->page.n)) {
      x->alone = false;
      x->alone_next = true;
      return false;
    }
    if (!line_take(t, x->run->q, p, l, upto, &id, &solo) ||
        !note_given(x, id, solo))
      break;
    l->leased += !FAULT_WRONG("leases of partitions count");
  }
  return true;
}

static void note_served(pass *x, partition_turn turn) {
  if (!array_grow(&x->served, x->n_served, 1, &x->cap_served,
                  sizeof *x->served))
    txn_fail(x->run->t, RESPOOL_NOMEM);
  else
    x->served[x->n_served++] = (served){turn, 0};
}

/* Serves one partition; false: its turn is not over. */
static bool serve(pass *x, partition *p, partition_line *l) {
  int64_t due;
  queue *q = x->run->q;
  uint64_t n = allowed(x, p, l, &due);
  size_t before = x->n_ids;
  if (!n || !l->ready) {
    l->in_turn = false;
    if (l->ready && due) partition_set_due(x->run->t, q, p, due);
    partition_changed(x->run->t, q, p);
    return true;
  }
  bool over = give(x, p, l, n);
  if (x->n_ids == before) return over;
  note_served(x, (partition_turn){.of = p, .priority = x->priority});
  partition_changed(x->run->t, q, p);
  return true; /* what comes alone, later: it is first in its line */
}

static partition_line *line_in_turn(pass *x, respool_bytes name,
                                    uint64_t number, partition **p) {
  *p = partition_find(x->run->t, x->run->q, name);
  if (!*p || (*p)->number != number) return NULL;
  for (size_t i = 0; i < (*p)->n_lines; i++)
    if ((*p)->lines[i].priority == x->priority && (*p)->lines[i].in_turn)
      return &(*p)->lines[i];
  return NULL;
}

static bool is_over(pass *x) {
  x->stop = x->stop || !x->left || x->alone;
  return x->stop;
}

/* The partition of a lone item; NULL: the item has ended. */
static partition *partition_of(pass *x, uint64_t id) {
  respool_page page;
  partition *p = NULL;
  page_init(&page);
  item_reader r = {.page = &page, .from = id, .upto = id, .want = 1,
                   .line = {x->run->q->id, SPACE_PARTED, x->priority}};
  if (read_items(x->run->t, &r) == READ_END && page.n)
    p = partition_find(x->run->t, x->run->q, page.items->about->partition);
  page_clear(&page);
  return p && p->lone == id ? p : NULL;
}

/* After some of those that have ended a take goes on with the next one, which
   is asked to come soon. */
static bool has_ended(pass *x, uint64_t id) {
  line l = {x->run->q->id, SPACE_PARTED, x->priority};
  if (first_unsettled(x->run->t, &l, id) == id) return false;
  x->stop = ++x->passed_over == PASS_OVER;
  x->run->r->more = x->run->r->more || x->stop;
  return true;
}

/* Serves the turn of a lone item. Where something bounds partitions by now, it
   becomes the turn of its line, unless that has one. */
static partition_turn serve_lone(pass *x, uint64_t id) {
  partition_turn turn = {.lone = id, .priority = x->priority};
  if (!config_bounds_partitions(&x->run->q->config)) {
    if (!is_over(x) && x->wary && has_ended(x, id))
      return (partition_turn){.lone = 0};
    if (!is_over(x) && note_given(x, id, false)) note_served(x, turn);
    return turn;
  }
  turn.of = partition_of(x, id);
  partition_line *l =
      turn.of ? partition_adopt(x->run->t, x->run->q, turn.of) : NULL;
  if (!l || l->in_turn) return (partition_turn){.lone = 0};
  l->in_turn = true;
  x->stop = is_over(x) || !serve(x, turn.of, l);
  return turn;
}

/* Serves a turn, and says whose it still is if the pass has stopped. */
static partition_turn serve_turn(pass *x, const stored_turn *of) {
  partition_turn none = {.lone = 0}, mine = {.priority = x->priority};
  if (of->lone) return serve_lone(x, of->lone);
  partition_line *l = line_in_turn(x, of->name, of->number, &mine.of);
  if (!l) return none;
  x->stop = is_over(x) || !serve(x, mine.of, l);
  return mine;
}

/* Serves the turns of a record; those that are left take its place. */
static void serve_record(pass *x, uint64_t number, respool_bytes k,
                         respool_bytes v) {
  txn *t = x->run->t;
  arena a;
  respool_bytes copy = {NULL, 0};
  unpacker u;
  stored_turn of;
  size_t n = 0, n_rest = 0;
  arena_init(&a);
  txn_fail(t, arena_copy(&a, v, &copy));
  if (!t->rc && !turns_open(k, copy, &u, &n))
    partition_unread(t, x->run->q, RESPOOL_CORRUPT);
  partition_turn *rest = t->rc ? NULL : arena_alloc(&a, (n + 1) * sizeof *rest);
  if (!rest) txn_fail(t, RESPOOL_NOMEM);
  for (size_t i = 0; i < n && !t->rc && turn_unpack(&u, &of); i++) {
    partition_turn left = serve_turn(x, &of);
    if (x->stop && (left.of || left.lone)) rest[n_rest++] = left;
  }
  key own = turn_key(x->run->q->id, x->priority, number);
  txn_del(t, DB_TURNS, key_bytes(&own));
  queue_changed(t, x->run->q);
  turns_put_first(t, x->run->q, rest, n_rest);
  arena_free(&a);
}

/* ---- the items ---------------------------------------------------------- */

static bool is_sorted(const pass *x) {
  for (size_t i = 1; i < x->n_ids; i++)
    if (x->ids[i - 1].id > x->ids[i].id) return false;
  return true;
}

static int by_id(const void *a, const void *b) {
  const given *x = a, *y = b;
  return x->id < y->id ? -1 : x->id > y->id;
}

/* Notes which of ids [from, upto) are in the batch, from its item `j` on. */
static void note_delivered(pass *x, size_t from, size_t upto, size_t j) {
  const respool_page *b = &x->run->batch->page;
  for (size_t i = from; i < upto; i++) {
    while (j < b->n && b->items[j].id < x->ids[i].id) j++;
    if (j == b->n) return;
    if (b->items[j].id != x->ids[i].id) continue;
    x->ids[i].delivered = true;
    x->served[x->ids[i].of].delivered++;
  }
}

/* Delivers ids from `i` on, that are near each other; returns the next. */
static size_t deliver_near(pass *x, size_t i) {
  line l = {x->run->q->id, SPACE_PARTED, x->priority};
  size_t n = 1, before = x->run->batch->page.n;
  while (i + n < x->n_ids && !x->ids[i + n].solo &&
         x->ids[i + n].id > x->ids[i + n - 1].id &&
         x->ids[i + n].id - x->ids[i + n - 1].id < NEAR)
    n++;
  uint64_t *ids = malloc(n * sizeof *ids);
  if (!ids) {
    txn_fail(x->run->t, RESPOOL_NOMEM);
    return x->n_ids;
  }
  for (size_t j = 0; j < n; j++) ids[j] = x->ids[i + j].id;
  deliver_ids(x->run, &l, ids, n);
  free(ids);
  note_delivered(x, i, i + n, before);
  return i + n;
}

static size_t deliver_solo(pass *x, size_t i) {
  place p = {{x->run->q->id, SPACE_PARTED_SOLO, x->priority}, x->ids[i].id, 0};
  size_t before = x->run->batch->page.n;
  deliver_parked(x->run, &p);
  note_delivered(x, i, i + 1, before);
  return i + 1;
}

/* In the order of ids, as those that follow one another share a claim; but in
   the order of turns where the batch is bounded by bytes, so that none whose
   ids are lower comes first again and again. */
static void deliver_given(pass *x) {
  if (!x->run->r->bytes && !is_sorted(x))
    qsort(x->ids, x->n_ids, sizeof *x->ids, by_id);
  for (size_t i = 0; i < x->n_ids && !x->run->t->rc && !x->run->full;)
    i = x->ids[i].solo ? deliver_solo(x, i) : deliver_near(x, i);
}

/* ---- after it ----------------------------------------------------------- */

static partition_line *line_at(const pass *x, const partition *p) {
  for (size_t i = 0; i < p->n_lines; i++)
    if (p->lines[i].priority == x->priority) return &p->lines[i];
  return NULL;
}

/* An id that was given and not delivered: its item has ended, or there was no
   room for it. */
static void take_back(pass *x, const given *g) {
  served *s = &x->served[g->of];
  partition *p = s->turn.of;
  partition_line *here = p ? line_at(x, p) : NULL;
  line l = {x->run->q->id, g->solo ? SPACE_PARTED_SOLO : SPACE_PARTED,
            x->priority};
  bool ended = first_unsettled(x->run->t, &l, g->id) != g->id;
  x->ended = x->ended || ended;
  if (!p && ended) s->turn.lone = 0;
  if (here && here->leased) here->leased--;
  if (here && !ended)
    line_insert(x->run->t, x->run->q, p, here, g->id, g->solo);
}

static void take_all_back(pass *x) {
  for (size_t i = 0; i < x->n_ids && !x->run->t->rc; i++)
    if (!x->ids[i].delivered) take_back(x, &x->ids[i]);
}

static void note_taken(pass *x, const served *s) {
  queue *q = x->run->q;
  partition *p = s->turn.of;
  if (!s->delivered || !(p->flow || config_has_partition_flow(&q->config)))
    return;
  flow *f = partition_flow(x->run->t, q, p);
  if (f) flow_taken(f, &x->config, x->run->now, s->delivered,
                    x->run->until);
}

/* Ends a turn, unless it brought nothing and there is something still. */
static bool end_turn(pass *x, const served *s) {
  partition *p = s->turn.of;
  if (!p) return s->delivered || !s->turn.lone;
  partition_line *l = line_at(x, p);
  note_taken(x, s);
  if (!s->delivered && l->ready) return false;
  l->in_turn = false;
  partition_line_up(x->run->t, x->run->q, p);
  return true;
}

/* A partition that got nothing is first again; one that has more comes behind
   all others. */
static void end_turns(pass *x) {
  partition_turn *first = malloc((x->n_served + 1) * sizeof *first);
  size_t n = 0;
  if (!first) txn_fail(x->run->t, RESPOOL_NOMEM);
  for (size_t i = 0; i < x->n_served && !x->run->t->rc; i++)
    if (!end_turn(x, &x->served[i])) first[n++] = x->served[i].turn;
  if (n) turns_put_first(x->run->t, x->run->q, first, n);
  free(first);
}

/* Of a partition; 0: its share. In strict order one, unless the policy has it
   otherwise: nothing is delivered while an earlier item is leased. */
static uint64_t most_in_batch(const queue_config *c) {
  return c->partition_batch ? (uint64_t)c->partition_batch
         : c->partition_ordered ? 1 : 0;
}

/* One pass; false when it was of no use. `*ended`: some of what it met had
   ended. */
static bool deliver_pass(take_run *run, int priority, bool *ended) {
  uint64_t room = run->cap - run->batch->page.n, number;
  size_t before = run->batch->page.n;
  uint64_t n = turns_count(run->t, run->q, priority, room);
  uint64_t batch = most_in_batch(&run->q->config);
  respool_bytes k, v;
  if (!n) return false;
  pass x = {.run = run, .priority = priority, .share = (room + n - 1) / n,
            .left = room, .wary = *ended};
  if (batch && batch < x.share) x.share = batch;
  config_of_partition(&x.config, &run->q->config);
  if (!partitions_of(run->t, run->q)) return false;
  while (!x.stop && x.left && !run->t->rc &&
         first_turns(run->t, run->q, priority, 0, &number, &k, &v))
    serve_record(&x, number, k, v);
  deliver_given(&x);
  if (x.alone || (x.alone_next && run->batch->page.n)) run->full = true;
  take_all_back(&x);
  end_turns(&x);
  free(x.ids);
  free(x.served);
  *ended = x.ended;
  return run->batch->page.n > before || x.ended;
}

void deliver_turns(take_run *run, int priority) {
  bool ended = false;
  do
    turns_store(run->t, run->q);
  while (!take_is_full(run) && deliver_pass(run, priority, &ended));
  if (run->q->n_partitions)
    pass_unlisted(run->t, run->q, priority, run->batch->page.n);
}

/* ---- turns of what has ended -------------------------------------------- */

static bool has_no_owner(txn *t, queue *q, int priority, const stored_turn *x) {
  line l = {q->id, SPACE_PARTED, priority};
  if (x->lone) return first_unsettled(t, &l, x->lone) != x->lone;
  const partition *p = partition_find(t, q, x->name);
  return !t->rc && (!p || p->number != x->number);
}

/* Are all turns of a record of what has ended? */
static bool is_left_over(txn *t, queue *q, int priority, respool_bytes k,
                         respool_bytes v, size_t *left) {
  arena a;
  respool_bytes copy;
  unpacker u;
  stored_turn x;
  size_t n = 0, i = 0;
  arena_init(&a);
  txn_fail(t, arena_copy(&a, v, &copy));
  if (!t->rc && !turns_open(k, copy, &u, &n))
    partition_unread(t, q, RESPOOL_CORRUPT);
  while (i < n && *left && !t->rc && turn_unpack(&u, &x) &&
         has_no_owner(t, q, priority, &x)) {
    i++;
    --*left;
  }
  arena_free(&a);
  return i == n && !t->rc;
}

bool turns_sweep(txn *t, queue *q, size_t limit) {
  key k = turn_key(q->id, 0, 0);
  respool_bytes found, v;
  uint32_t of;
  int priority;
  uint64_t number;
  while (limit && !t->rc && txn_seek(t, DB_TURNS, key_bytes(&k), &found, &v) &&
         turn_key_read(found, &of, &priority, &number) && of == q->id) {
    k = turn_key(of, priority, number);
    if (is_left_over(t, q, priority, found, v, &limit)) {
      txn_del(t, DB_TURNS, key_bytes(&k));
      queue_changed(t, q);
    } else if (++priority < RESPOOL_PRIORITIES) {
      k = turn_key(of, priority, 0);
    } else {
      return !limit;
    }
  }
  return !limit;
}
