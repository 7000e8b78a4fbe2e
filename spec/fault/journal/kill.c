/* SPDX-License-Identifier: MIT */
/*
 * journal_kill DIR KILLS SEED PROCESSES [RULE]: processes push, take and
 * settle by a journal and are killed, from outside and each at a point of its
 * own inside; half of the rounds end with survivors, half with all dead, and
 * then everything is looked at. With a RULE the code breaks it, and the run is
 * good when that was noticed.
 *
 * What must hold: what was told is there, and what was said to be done is
 * gone; no id is given twice, no item done twice; first deliveries rise;
 * payloads are whole; pushed = done + alive; the journal's own check; and
 * nobody hangs.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../crowd.h"
#include "../marks.h"
#include "stand_in.h"

enum { IDS = 1 << 21, GROUP = 8, HALF = 64 << 10 };

static const point_at points[] = {
  {"journal made", 0}, {"journal begins", 0}, {"journal scanned", 0},
  {"journal written again", 0}, {"journal repair", 0},
  {"journal written", 30}, {"journal chained", 30},
  {"journal tail moved", 30}, {"journal end written", 1},
  {"journal half changed", 1}, {"journal flush begun", 30},
  {"journal flushed", 30}, {"journal leasing", 20},
  {"journal applying", 4}, {"journal finishing", 4}, {"journal finished", 4},
  {"journal applied, not finished", 4}, {"side written", 4},
  {"side before commit", 4}, {"side committed", 4}, {"side finished", 4},
  {"side not synced", 4}, {"side synced", 4}, {"push not told", 20},
  {"done not told", 20},
};
enum { POINTS_HERE = sizeof points / sizeof *points, MAKING = 2,
       OPENING = 4 };

typedef struct book {
  _Atomic uint8_t pushed[QUEUES + 1][IDS], begun[QUEUES + 1][IDS];
  _Atomic uint8_t done[QUEUES + 1][IDS];
  uint32_t tag[QUEUES + 1][IDS];
  _Atomic long pushes, takes, dones, lost;
} book;

static book *s;
static const char *dir;

/* ---- the processes ------------------------------------------------------- */

typedef struct actor {
  stand at;
  arena memory;
  uint64_t last[QUEUES + 1]; /* first delivery */
} actor;

/* The tag of a payload that is whole, or 0. */
static uint32_t read_tag(const void *p, size_t n) {
  uint32_t tag;
  return payload_whole(p, n, &tag) ? tag : 0;
}

static void push(actor *a, uint64_t queue) {
  uint8_t bytes[GROUP][512];
  respool_bytes p[GROUP];
  uint32_t tags[GROUP];
  uint64_t first;
  int n = 1 + rand() % 4;
  for (int i = 0; i < n; i++) {
    uint32_t size = 4 * (1 + (uint32_t)rand() % 100);
    tags[i] = (uint32_t)rand() | 1;
    payload_fill(bytes[i], tags[i], size);
    p[i] = (respool_bytes){bytes[i], size};
  }
  int rc = stand_push(&a->at, queue, p, (size_t)n, &first);
  must("push", rc);
  for (int i = 0; i < n; i++) {
    uint64_t id = first + (uint64_t)i;
    must("ids", id >= IDS);
    s->tag[queue][id] = tags[i];
    if (s->pushed[queue][id]++) bad("id %lu was given twice", id);
  }
  s->pushes += n;
}

static void look_at(actor *a, uint64_t queue, const taken *t) {
  uint32_t tag = read_tag(t->bytes.data, t->bytes.size);
  if (!tag || (s->pushed[queue][t->id] && s->tag[queue][t->id] != tag))
    bad("the payload of %lu is another", t->id);
  if (t->deliveries != 1) return;
  if (t->id <= a->last[queue]) bad("%lu came after %lu", t->id,
                                   a->last[queue]);
  a->last[queue] = t->id;
}

static void settle(actor *a, uint64_t queue, const taken *t, int n) {
  uint64_t ids[GROUP], tokens[GROUP];
  uint8_t outcome[GROUP];
  for (int i = 0; i < n; i++) {
    ids[i] = t[i].id;
    tokens[i] = t[i].token;
    s->begun[queue][ids[i]] = 1;
  }
  int rc = stand_done(&a->at, queue, ids, tokens, (size_t)n, outcome);
  must("done", rc < 0 ? rc : 0);
  for (int i = 0; i < n; i++) {
    if (outcome[i] != JOURNAL_DONE) continue;
    if (s->done[queue][ids[i]]++) bad("%lu was done twice", ids[i]);
    s->dones++;
  }
  s->lost += n - rc;
}

static void take(actor *a, uint64_t queue) {
  taken t[GROUP];
  arena_init(&a->memory);
  int n = stand_take(&a->at, queue, t, (size_t)(1 + rand() % GROUP),
                     rand() % 12 ? 1500 : 3, rand() % 3, &a->memory);
  must("take", n < 0 ? n : 0);
  for (int i = 0; i < n; i++) look_at(a, queue, &t[i]);
  s->takes += n;
  int what = rand() % 40;
  if (n && what == 0) {
    int rc = stand_retry(&a->at, queue, t[0].id, t[0].token, rand() % 5);
    if (rc != RESPOOL_LEASE_LOST) must("retry", rc);
  } else if (n && what > 1) /* 1: forgotten, the lease runs out */
    settle(a, queue, t, n);
  arena_free(&a->memory);
}

static void apply(actor *a) {
  must("apply", stand_apply(&a->at, rand() % 2 ? JOURNAL_ALL : JOURNAL_OLD,
                            rand() % 2));
}

/* The first of all passes the points of making, of a round those of opening. */
static void arm(const crowd *c, bool first) {
  bool any = rand() % 4;
  if (first && c->rounds == 1)
    crowd_arm(c, MAKING);
  else if (first && rand() % 3)
    crowd_arm(c, OPENING);
  else if (any)
    crowd_arm(c, POINTS_HERE);
}

static void act(const crowd *c, bool first) {
  actor a = {.last = {0}};
  arm(c, first);
  must("open", stand_open(&a.at, dir, HALF));
  while (crowd_goes_on()) {
    uint64_t queue = 1 + (uint64_t)rand() % QUEUES;
    if (rand() % 2)
      push(&a, queue);
    else
      take(&a, queue);
    if (rand() % 300 == 0) apply(&a);
  }
  stand_close(&a.at);
}

/* ---- looking at everything ----------------------------------------------- */

typedef struct scan {
  uint8_t *there;
  uint64_t queue, last, n[QUEUES + 1];
} scan;

static int see(void *arg, const side_item *i, int where) {
  scan *c = arg;
  (void)where;
  if (i->queue != c->queue) c->last = 0;
  c->queue = i->queue;
  uint32_t tag = read_tag(i->bytes, i->size);
  if (i->id <= c->last) bad("%lu lies behind %lu", i->id, c->last);
  if (!tag || (s->pushed[i->queue][i->id] && s->tag[i->queue][i->id] != tag))
    bad("the payload of %lu is another, at rest", i->id);
  if (s->done[i->queue][i->id]) bad("%lu is back after done", i->id);
  c->there[i->queue * IDS + i->id] = 1;
  c->last = i->id;
  c->n[i->queue]++;
  return 0;
}

static void check_queue(stand *at, const scan *c, uint64_t queue) {
  uint64_t pushed, done;
  for (uint64_t id = 1; id < IDS; id++)
    if (s->pushed[queue][id] && !s->begun[queue][id] &&
        !c->there[queue * IDS + id])
      bad("%lu of queue %lu is lost", id, queue);
  must("count", stand_count(at, queue, &pushed, &done));
  if (pushed != done + c->n[queue])
    bad("queue %lu: %lu pushed, %lu done, %lu alive", queue, pushed, done,
        c->n[queue]);
}

static void check(void) {
  stand at;
  scan c = {.there = calloc(QUEUES + 1, IDS)};
  must("open to check", stand_open(&at, dir, HALF));
  must("look", stand_each(&at, see, &c));
  for (uint64_t q = 1; q <= QUEUES; q++) check_queue(&at, &c, q);
  must("check", stand_check(&at, tell_bad, NULL));
  stand_close(&at);
}

int main(int argc, char **argv) {
  crowd c = {.name = "journal", .more = 40, .odds = 30, .act = act,
             .points = points, .n_points = POINTS_HERE};
  s = crowd_begin(&c, argc, argv, sizeof *s);
  dir = argv[1];
  while (crowd_wants(&c)) {
    crowd_round(&c);
    if (rand() % 4) crowd_look(&c, check); /* else the next round opens it */
  }
  return crowd_end(&c, "%ld pushed, %ld taken, %ld done, %ld lost leases",
                   s->pushes, s->takes, s->dones, s->lost);
}
