/* SPDX-License-Identifier: MIT */
/*
 * flow DIR KILLS SEED PROCESSES [RULE]: processes work on one queue that has a
 * rate and a breaker and keeps finished items with their results, cancel items
 * and report progress, and are killed, each at a point of its own or at any
 * moment. Then every item is accounted for:
 *
 *   pushed, done, cancelled         the call has returned
 *   ending, cancelling              somebody was about to call it
 *   waiting, finished, withdrawn    found in the queue, or in the history
 *
 * What must hold: a pushed item is in one place; one that was done is finished,
 * with the result that it was given, one that was cancelled is withdrawn and
 * has none; what is finished or withdrawn was about to be; no more were ever
 * delivered than the burst and the rate allow; the counters agree, the store's
 * check finds nothing, and all can be drained, whatever the breaker had come
 * to. A RULE is broken, and the run is good when that was noticed:
 *
 *   boast                    done is noted before the settle
 *   takes spend tokens, results are kept, the cancelled are kept
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../helper/store_files.h"
#include "../crowd.h"
#include "../marks.h"
#include "../points.h"
#include "respool.h"

enum { IDS = 1 << 17, GROUP = 12, PATIENCE = 60, LEASE = 300, COOLDOWN = 15,
       TEXT = 64, BACKLOG = 400 };

typedef struct point_at {
  const char *name;
  int passes; /* by a process that is armed for it, at most */
} point_at;

static const point_at points[] = {
  {"begun", 40}, {"ran", 40}, {"committed", 40}, {"flush", 40},
  {"flushed", 40}, {"pwrite", 60}, {"fdatasync", 40}, {"meta written", 40},
  {"reading", 60},
};
enum { POINTS_HERE = sizeof points / sizeof *points };

typedef struct book {
  _Atomic uint8_t pushed[IDS], ending[IDS], done[IDS], cancelling[IDS],
      cancelled[IDS];
  _Atomic int64_t began; /* ms since 1970 */
  _Atomic bool full;     /* another store must begin */
  _Atomic long takes, dones, cancels, openings, reports, bad;
  atomic_int stop;
} book;

static book *s;
static const char *dir, *rule;

static bool breaks(const char *name) {
  return rule && !strcmp(rule, name);
}

/* Items a second, and at once: few where takes spend none, so that this shows
   however slow the machine is. */
static int64_t rate_of(void) {
  return breaks("takes spend tokens") ? 1 : 2000;
}

static int64_t burst_of(void) {
  return breaks("takes spend tokens") ? 1 : 50;
}

__attribute__((format(printf, 1, 2)))
static void bad(const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  if (s->bad++ < 8 && !rule) {
    vprintf(fmt, args);
    putchar('\n');
    fflush(stdout);
  }
  va_end(args);
}

static void must(const char *verb, int rc) {
  if (!rc) return;
  bad("%s: %d: %s", verb, rc, respool_error_text());
  _exit(1);
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the processes ------------------------------------------------------- */

static respool *store;
static respool_queue *q;

static void open_all(void) {
  static const respool_backoff at_once = {.kind = RESPOOL_BACKOFF_CONSTANT};
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  must("open", respool_open(dir, NULL, &store));
  o.lease = LEASE;
  o.max_crashes = RESPOOL_UNLIMITED;
  o.max_attempts = RESPOOL_UNLIMITED;
  o.backoff = &at_once;
  o.keep_done = RESPOOL_UNLIMITED;
  o.rate_items = rate_of();
  o.rate_per = 1000;
  o.rate_burst = burst_of();
  o.breaker_failures = 3;
  o.breaker_within = 1000;
  o.breaker_cooldown = COOLDOWN;
  must("queue", respool_queue_open(store, "flow", &o, &q));
}

static void close_all(void) {
  respool_queue_free(q);
  respool_close(store);
}

static respool_queue_stats stat_of(void) {
  respool_queue_stats st = RESPOOL_QUEUE_STATS_INIT;
  must("stat", respool_queue_stat(q, &st));
  return st;
}

static uint64_t left_of(const respool_queue_stats *st) {
  return st->ready + st->leased + st->scheduled + st->retrying;
}

static void push(void) {
  static uint8_t bytes[GROUP][TEXT];
  respool_payload p[GROUP];
  respool_result r = RESPOOL_RESULT_INIT;
  respool_queue_stats st = stat_of();
  int n = 1 + rand() % GROUP;
  if (left_of(&st) > BACKLOG) return;
  memset(p, 0, sizeof p);
  for (int i = 0; i < n; i++) {
    payload_fill(bytes[i], (uint32_t)rand() | 1, TEXT);
    p[i].body = (respool_bytes){bytes[i], TEXT};
  }
  must("push", respool_push(q, p, (size_t)n, NULL, &r));
  if (r.first + GROUP >= IDS / 2) s->full = true;
  if (r.first + GROUP >= IDS) must("ids", 1);
  for (int i = 0; i < n; i++)
    if (s->pushed[r.first + (uint64_t)i]++)
      bad("id %lu was given twice", (unsigned long)r.first + (unsigned)i);
}

static uint32_t tag_of(const respool_item *i) {
  uint32_t tag = 0;
  if (!payload_whole(i->body.data, i->body.size, &tag))
    bad("the payload of %lu is another", (unsigned long)i->id);
  return tag;
}

/* What a handler returns of an item: other bytes, that tell the same tag. */
static respool_bytes result_of(uint8_t bytes[TEXT], uint32_t tag) {
  payload_fill(bytes, tag, 4 + tag % 15 * 4);
  return (respool_bytes){bytes, 4 + tag % 15 * 4};
}

static void mark(respool_batch *b, size_t i, int kind) {
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  const respool_item *it = respool_batch_item(b, i);
  uint8_t bytes[TEXT];
  o.kind = kind;
  o.outage = kind == RESPOOL_RETRY;
  if (kind == RESPOOL_DONE) {
    o.result = result_of(bytes, tag_of(it));
    s->ending[it->id] = 1;
    if (breaks("boast")) s->done[it->id] = 1;
  }
  must("mark", respool_batch_mark(b, i, &o));
}

static void report(respool_batch *b, size_t i) {
  respool_progress p = RESPOOL_PROGRESS_INIT;
  p.done = rand() % 1000;
  int rc = respool_item_progress(q, respool_batch_item(b, i)->id,
                                 respool_batch_token(b), &p);
  if (rc != RESPOOL_LEASE_LOST) must("progress", rc);
  s->reports++;
}

static void settle(respool_batch *b) {
  int rc = respool_batch_settle(b, NULL, NULL);
  if (rc != RESPOOL_LEASE_LOST) must("settle", rc);
  for (size_t i = 0; i < respool_batch_length(b); i++) {
    uint64_t id = respool_batch_item(b, i)->id;
    if (!respool_batch_settled(b, i) ||
        respool_batch_outcome(b, i) != RESPOOL_DONE)
      continue;
    if (s->done[id]++ && !rule) bad("%lu was done twice", (unsigned long)id);
    s->dones++;
  }
}

/* Now and then what they are sent to is away; some are forgotten. */
static void work(respool_batch *b) {
  bool away = rand() % 5 == 0;
  size_t n = respool_batch_length(b);
  s->takes += (long)n;
  if (rand() % 3 == 0) report(b, (size_t)rand() % n);
  if (rand() % 20 == 0) return;
  for (size_t i = 0; i < n; i++) {
    int what = rand() % 12;
    mark(b, i, away || what == 0 ? RESPOOL_RETRY
               : what == 1 ? RESPOOL_RELEASE : RESPOOL_DONE);
  }
  settle(b);
}

static void take(void) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *b = NULL;
  o.items = 1 + (uint64_t)rand() % GROUP;
  o.wait = rand() % 5;
  must("take", respool_take(q, &o, &b));
  if (b) work(b);
  respool_batch_free(b);
}

/* An item that waits or is in somebody's hands. */
static void cancel(void) {
  respool_cursor at = {0};
  respool_page *p;
  uint64_t id = 0;
  must("browse", respool_browse(q, -1, 40, &at, &p));
  size_t n = respool_page_length(p);
  if (n) id = respool_page_item(p, (size_t)rand() % n)->id;
  respool_page_free(p);
  if (!id) return;
  s->cancelling[id] = 1;
  int rc = respool_item_cancel(q, id);
  if (rc == RESPOOL_NOT_FOUND) return;
  must("cancel", rc);
  if (s->cancelled[id]++) bad("%lu was cancelled twice", (unsigned long)id);
  s->cancels++;
}

static void look(void) {
  respool_flow f = RESPOOL_FLOW_INIT;
  respool_queue_stats st = stat_of();
  int64_t most = burst_of() + (now_ms() - s->began) * rate_of() / 1000;
  if (st.pushed != st.done + st.removed + st.died + left_of(&st))
    bad("%lu pushed, %lu done, %lu removed, %lu dead, %lu left",
        (unsigned long)st.pushed, (unsigned long)st.done,
        (unsigned long)st.removed, (unsigned long)st.died,
        (unsigned long)left_of(&st));
  if ((int64_t)st.delivered > most)
    bad("%lu were delivered, at most %ld were allowed",
        (unsigned long)st.delivered, (long)most);
  must("flow", respool_queue_flow(q, &f));
  s->openings = (long)f.opened;
}

static _Noreturn void act(unsigned seed, bool first) {
  (void)first;
  srand(seed);
  alarm(PATIENCE);
  if (rule && !breaks("boast")) point_break(rule);
  const point_at *at = &points[rand() % POINTS_HERE];
  if (rand() % 4) point_arm_name(at->name, rand() % (at->passes + 1));
  open_all();
  while (!s->stop) {
    alarm(PATIENCE);
    int what = rand() % 12;
    if (what == 0) look();
    else if (what == 1) cancel();
    else if (what <= 4 && !s->full) push();
    else take();
  }
  close_all();
  _exit(0);
}

/* ---- accounting ---------------------------------------------------------- */

enum { WAITING = 1, FINISHED = 2, WITHDRAWN = 4 };
static uint8_t *there; /* of each id */

static void see(uint64_t id, uint8_t where) {
  if (there[id]) bad("%lu is in two places", (unsigned long)id);
  there[id] |= where;
}

static void see_queue(void) {
  respool_cursor at = {0};
  respool_page *p;
  size_t n;
  do {
    must("browse", respool_browse(q, -1, 500, &at, &p));
    n = respool_page_length(p);
    for (size_t i = 0; i < n; i++) {
      tag_of(respool_page_item(p, i));
      see(respool_page_item(p, i)->id, WAITING);
    }
    respool_page_free(p);
  } while (n);
}

static void see_result(const respool_item *it) {
  respool_page *p = NULL;
  uint8_t bytes[TEXT];
  bool done = it->about->state == RESPOOL_FINISHED;
  respool_bytes want = result_of(bytes, tag_of(it));
  int rc = respool_item_result(q, it->id, &p);
  if (done ? rc != 0 : rc != RESPOOL_NOT_FOUND)
    bad("the result of %lu: %d", (unsigned long)it->id, rc);
  if (!rc && done) {
    respool_bytes is = respool_page_item(p, 0)->body;
    if (is.size != want.size || memcmp(is.data, want.data, want.size))
      bad("the result of %lu is another", (unsigned long)it->id);
  }
  respool_page_free(p);
}

static void see_history(void) {
  respool_history_cursor at = {0, 0};
  respool_page *p;
  size_t n;
  do {
    must("history", respool_history(q, &at, 500, &p));
    n = respool_page_length(p);
    for (size_t i = 0; i < n; i++) {
      const respool_item *it = respool_page_item(p, i);
      bool done = it->about->state == RESPOOL_FINISHED;
      see(it->id, done ? FINISHED : WITHDRAWN);
      if (!(done ? s->ending[it->id] : s->cancelling[it->id]))
        bad("%lu is over, and nobody ended it", (unsigned long)it->id);
      see_result(it);
    }
    respool_page_free(p);
  } while (n);
}

static void see_all(void) {
  memset(there, 0, IDS);
  see_queue();
  see_history();
  for (uint64_t id = 1; id < IDS; id++) {
    if (s->pushed[id] && !there[id]) bad("%lu is lost", (unsigned long)id);
    if (s->done[id] && there[id] != FINISHED)
      bad("%lu was done, and is not", (unsigned long)id);
    if (s->cancelled[id] && there[id] != WITHDRAWN)
      bad("%lu was cancelled, and is not", (unsigned long)id);
  }
}

static int tell(void *arg, const char *text) {
  (void)arg;
  bad("%s", text);
  return 0;
}

static void drain(void) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *b;
  o.items = 100;
  o.wait = 1000 * PATIENCE;
  for (respool_queue_stats st = stat_of(); left_of(&st); st = stat_of()) {
    must("take", respool_take(q, &o, &b));
    if (!b) {
      bad("a queue that cannot be drained");
      return;
    }
    for (size_t i = 0; i < respool_batch_length(b); i++)
      mark(b, i, RESPOOL_DONE);
    settle(b);
    respool_batch_free(b);
  }
}

static _Noreturn void account(void) {
  there = malloc(IDS);
  alarm(2 * PATIENCE);
  open_all();
  must("check", respool_check(store, tell, NULL));
  see_all();
  look();
  if (!s->bad && !rule && rand() % 3 == 0) {
    drain();
    see_all();
    look();
    must("check", respool_check(store, tell, NULL));
  }
  close_all();
  _exit(0);
}

/* ---- rounds -------------------------------------------------------------- */

/* Another store, before the ids are more than the book has room for. */
static void begin_anew(void) {
  if (!s->full) return;
  remove_store_files(dir);
  memset((void *)s, 0, offsetof(book, began));
  s->full = false;
  s->began = now_ms();
}

int main(int argc, char **argv) {
  crowd c = {.more = 30, .odds = 10, .act = act, .bad = bad};
  s = crowd_begin(&c, argc, argv, sizeof *s);
  dir = argv[1];
  rule = argc > 5 ? argv[5] : NULL;
  s->began = now_ms();
  long rounds = 0;
  c.stop = &s->stop;
  c.wrong = &s->bad;
  for (; c.kills < c.wanted && !s->bad; rounds++) {
    crowd_round(&c);
    crowd_look(&c, account);
    begin_anew();
  }
  printf("flow     %ld kills, %ld rounds, %ld taken, %ld done, %ld cancelled, "
         "%ld reports, %ld openings of the last store: %s\n", c.kills, rounds,
         s->takes, s->dones, s->cancels, s->reports, s->openings,
         s->bad ? "WRONG" : "nothing wrong");
  return (s->bad != 0) == (rule != NULL) ? EXIT_SUCCESS : EXIT_FAILURE;
}
