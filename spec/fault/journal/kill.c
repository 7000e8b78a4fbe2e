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
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../crowd.h"
#include "../marks.h"
#include "base/fault.h"
#include "stand_in.h"

enum { IDS = 1 << 21, GROUP = 8, HALF = 64 << 10, PATIENCE = 60 };

/* How often a process that is armed for a point passes it and lives. */
typedef struct point_at {
  const char *name;
  int passes;
} point_at;

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
enum { POINTS = sizeof points / sizeof *points };

typedef struct book {
  _Atomic uint8_t pushed[QUEUES + 1][IDS], begun[QUEUES + 1][IDS];
  _Atomic uint8_t done[QUEUES + 1][IDS];
  uint32_t tag[QUEUES + 1][IDS];
  _Atomic long pushes, takes, dones, lost, bad, at_point[POINTS];
  atomic_int stop;
} book;

static book *s;
static const char *dir, *rule;
static int armed = -1, left;

/* ---- faults -------------------------------------------------------------- */

void fault_point(const char *name) {
  if (armed < 0 || strcmp(points[armed].name, name) || left-- > 0) return;
  s->at_point[armed]++;
  kill(getpid(), SIGKILL);
}

bool fault_wrong(const char *name) {
  return rule && !strcmp(rule, name);
}

/* The first of a round passes the points of opening. */
enum { OPENING = 4 };

static void arm(bool first) {
  armed = rand() % 4 ? rand() % POINTS : -1;
  if (first && rand() % 3) armed = rand() % OPENING;
  left = armed < 0 ? 0 : rand() % (points[armed].passes + 1);
}

__attribute__((format(printf, 1, 2)))
static void bad(const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  if (s->bad++ < 5 && !rule) {
    vprintf(fmt, args);
    putchar('\n');
    fflush(stdout);
  }
  va_end(args);
}

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

static void failed(const char *verb, int rc) {
  bad("%s: %d: %s", verb, rc, respool_error_text());
  _exit(1);
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
  if (rc) failed("push", rc);
  for (int i = 0; i < n; i++) {
    uint64_t id = first + (uint64_t)i;
    if (id >= IDS) failed("ids", 0);
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
  if (rc < 0) failed("done", rc);
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
  if (n < 0) failed("take", n);
  for (int i = 0; i < n; i++) look_at(a, queue, &t[i]);
  s->takes += n;
  int what = rand() % 40;
  if (n && what == 0) {
    int rc = stand_retry(&a->at, queue, t[0].id, t[0].token, rand() % 5);
    if (rc && rc != RESPOOL_LEASE_LOST) failed("retry", rc);
  } else if (n && what > 1) /* 1: forgotten, the lease runs out */
    settle(a, queue, t, n);
  arena_free(&a->memory);
}

static _Noreturn void act(unsigned seed, bool first) {
  actor a = {.last = {0}};
  srand(seed);
  alarm(PATIENCE);
  arm(first);
  int rc = stand_open(&a.at, dir, HALF);
  if (rc) failed("open", rc);
  while (!s->stop) {
    uint64_t queue = 1 + (uint64_t)rand() % QUEUES;
    alarm(PATIENCE);
    if (rand() % 2)
      push(&a, queue);
    else
      take(&a, queue);
    if (rand() % 300 == 0 &&
        (rc = stand_apply(&a.at, rand() % 2 ? JOURNAL_ALL : JOURNAL_OLD,
                          rand() % 2)) != 0)
      failed("apply", rc);
  }
  stand_close(&a.at);
  _exit(0);
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

static int tell(void *arg, const char *text) {
  (void)arg;
  bad("%s", text);
  return 0;
}

static void check_queue(stand *at, const scan *c, uint64_t queue) {
  uint64_t pushed, done;
  for (uint64_t id = 1; id < IDS; id++)
    if (s->pushed[queue][id] && !s->begun[queue][id] &&
        !c->there[queue * IDS + id])
      bad("%lu of queue %lu is lost", id, queue);
  int rc = stand_count(at, queue, &pushed, &done);
  if (rc) failed("count", rc);
  if (pushed != done + c->n[queue])
    bad("queue %lu: %lu pushed, %lu done, %lu alive", queue, pushed, done,
        c->n[queue]);
}

static _Noreturn void check(void) {
  stand at;
  scan c = {.there = calloc(QUEUES + 1, IDS)};
  armed = -1;
  alarm(PATIENCE);
  int rc = stand_open(&at, dir, HALF);
  if (rc) failed("open to check", rc);
  rc = stand_each(&at, see, &c);
  if (rc) failed("look", rc);
  for (uint64_t q = 1; q <= QUEUES; q++) check_queue(&at, &c, q);
  rc = stand_check(&at, tell, NULL);
  if (rc) failed("check", rc);
  stand_close(&at);
  _exit(0);
}

/* ---- rounds -------------------------------------------------------------- */

static void report(const crowd *c, long rounds) {
  long at_points = 0, hit = 0;
  for (int i = 0; i < POINTS; i++) {
    at_points += s->at_point[i];
    hit += s->at_point[i] > 0;
  }
  printf("journal %ld kills (%ld at %ld of %d points), %ld rounds, %ld pushed,"
         " %ld taken, %ld done, %ld lost leases: %s\n", c->kills, at_points,
         hit, POINTS, rounds, s->pushes, s->takes, s->dones, s->lost,
         s->bad ? "WRONG" : "nothing wrong");
  for (int i = 0; i < POINTS && getenv("POINTS"); i++)
    printf("  %6ld %s\n", s->at_point[i], points[i].name);
}

int main(int argc, char **argv) {
  crowd c = {.more = 40, .odds = 30, .act = act, .bad = bad, .gives_up = true};
  s = crowd_begin(&c, argc, argv, sizeof *s);
  dir = argv[1];
  rule = argc > 5 ? argv[5] : NULL;
  long rounds = 0;
  c.stop = &s->stop;
  c.wrong = &s->bad;
  for (; c.kills < c.wanted && !s->bad; rounds++) {
    crowd_round(&c);
    if (rand() % 4) crowd_look(&c, check); /* else the next round opens it */
  }
  report(&c, rounds);
  return (s->bad != 0) == (rule != NULL) ? EXIT_SUCCESS : EXIT_FAILURE;
}
