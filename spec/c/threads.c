/* SPDX-License-Identifier: MIT */
/*
 * Many threads on one store: some push, some take, keep, and settle, one
 * looks at everything meanwhile. Prints what does not hold: that every item
 * is done or dead exactly once, that the store is sound at every moment, and
 * that pushes that come together share commits. Meant for the thread
 * sanitizer, too.
 */
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "held.h"

enum {
  PUSHERS = 8,
  TAKERS = 4,
  PUSHES = 100, /* of each pusher */
  ITEMS = PUSHERS * PUSHES,
  BATCH = 16,
  LEASE = 6000 /* ms; kept: renewed each third of it */
};

static respool *store;
static atomic_int ended[2 * ITEMS]; /* by id, in which there may be gaps */
static atomic_int n_ended, n_retried;

static void pause_for(int ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

static respool_queue *open_queue(const char *name) {
  respool_queue *q = NULL;
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  respool_backoff soon = {.kind = RESPOOL_BACKOFF_CONSTANT, .initial = 1,
                          .max = 1};
  o.lease = LEASE;
  o.backoff = &soon;
  WORKS(respool_queue_open(store, name, &o, &q));
  return q;
}


/* ---- pushing ----------------------------------------------------------- */

static _Thread_local bool is_pusher;
static atomic_int followers; /* pushers that wait for another's commit */

/* Such a one sleeps on the committer's futex, which is the process's own. */
static bool is_follower(long number, const long a[6]) {
  return number == SYS_futex &&
         a[1] == (FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG);
}

long syscall(long number, ...) {
  static long (*_Atomic real)(long, ...);
  long a[6];
  va_list more;
  va_start(more, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(more, long);
  va_end(more);
  if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  bool follows = is_pusher && is_follower(number, a);
  followers += follows;
  long rc = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  followers -= follows;
  return rc;
}

static void *push_one(void *arg) {
  respool_payload one = {.body = {"an item", 7}};
  is_pusher = true;
  WORKS(respool_push(arg, &one, 1, NULL, NULL));
  return NULL;
}

static void *push_one_by_one(void *arg) {
  char body[100] = "an item";
  respool_payload one = {.body = {body, sizeof body}};
  for (int i = 0; i < PUSHES; i++)
    WORKS(respool_push(arg, &one, 1, NULL, NULL));
  return NULL;
}

static void start_pushers(pthread_t *threads, void *(*push)(void *),
                          respool_queue *q) {
  for (int i = 0; i < PUSHERS; i++)
    pthread_create(&threads[i], NULL, push, q);
}

static void join(const pthread_t *threads, int n) {
  for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
}

static uint64_t last_txn(void) {
  respool_store_stats s = RESPOOL_STORE_STATS_INIT;
  WORKS(respool_store_stat(store, &s));
  return s.last_txn;
}

/* One push waits for its turn; all that come meanwhile go together. */
static void pushes_share_commits(void) {
  pthread_t threads[PUSHERS];
  respool_queue_stats s = RESPOOL_QUEUE_STATS_INIT;
  respool_queue *q = open_queue("crowded");
  uint64_t before = last_txn();
  MDB_txn *held = hold_commits(store);
  start_pushers(threads, push_one, q);
  while (followers < PUSHERS - 1) pause_for(1);
  let_commits_go(held);
  join(threads, PUSHERS);
  WORKS(respool_queue_stat(q, &s));
  HOLDS(s.pushed == PUSHERS && s.ready == PUSHERS);
  HOLDS(last_txn() - before <= 2);
  respool_queue_free(q);
}


/* ---- taking and settling ----------------------------------------------- */

/* One in five fails at first, one in seven is released, one in eleven dies;
   the others are done. */
static respool_outcome fate_of(const respool_item *i) {
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  o.kind = RESPOOL_DONE;
  if (i->id % 5 == 0 && i->about->attempts == 0)
    o.kind = RESPOOL_RETRY;
  else if (i->id % 7 == 0 && i->about->deliveries == 1)
    o.kind = RESPOOL_RELEASE;
  else if (i->id % 11 == 0)
    o.kind = RESPOOL_DEAD;
  return o;
}

static void mark_all(respool_batch *batch) {
  for (size_t i = 0; i < respool_batch_length(batch); i++) {
    respool_outcome o = fate_of(respool_batch_item(batch, i));
    WORKS(respool_batch_mark(batch, i, &o));
  }
}

/* Counts what the settle has ended; a lost lease has ended nothing. */
static void count_ended(const respool_batch *batch) {
  for (size_t i = 0; i < respool_batch_length(batch); i++) {
    int v = respool_batch_outcome(batch, i);
    if (!respool_batch_settled(batch, i)) continue;
    if (v == RESPOOL_RETRY) n_retried++;
    if (v != RESPOOL_DONE && v != RESPOOL_DEAD) continue;
    uint64_t id = respool_batch_item(batch, i)->id;
    HOLDS(id < 2 * ITEMS && atomic_fetch_add(&ended[id], 1) == 0);
    n_ended++;
  }
}

/* Settles a batch and, in the same commit, takes the next. */
static respool_batch *settle_and_take(respool_batch *batch) {
  respool_batch *next = NULL;
  respool_take_options take = RESPOOL_TAKE_OPTIONS_INIT;
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  take.items = BATCH;
  o.take = &take;
  int rc = respool_batch_settle(batch, &o, &next);
  HOLDS(rc == 0 || rc == RESPOOL_LEASE_LOST);
  count_ended(batch);
  respool_batch_free(batch);
  return next;
}

static atomic_bool is_held; /* a batch, by hold_on */

static void *take_and_settle(void *arg) {
  respool_take_options take = RESPOOL_TAKE_OPTIONS_INIT;
  take.items = BATCH;
  take.wait = 20;
  while (!is_held) pause_for(1); /* the others would leave it nothing */
  while (n_ended < ITEMS) {
    respool_batch *batch = NULL;
    WORKS(respool_take(arg, &take, &batch));
    while (batch) {
      WORKS(respool_batch_keep(batch));
      mark_all(batch);
      batch = settle_and_take(batch);
    }
  }
  return NULL;
}

/* Milliseconds since 1970 at which the lease of an item ends. */
static int64_t lease_end(respool_queue *q, uint64_t id) {
  respool_page *p = NULL;
  WORKS(respool_get(q, id, &p));
  int64_t end = p ? respool_page_item(p, 0)->about->visible_at : INT64_MAX;
  respool_page_free(p);
  return end;
}

/* Holds one batch until its lease, which is kept, has been renewed. */
static void *hold_on(void *arg) {
  respool_take_options take = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *batch = NULL;
  take.items = 3;
  take.wait = 600000;
  WORKS(respool_take(arg, &take, &batch));
  is_held = true;
  uint64_t id = respool_batch_item(batch, 0)->id;
  int64_t first = lease_end(arg, id);
  WORKS(respool_batch_keep(batch));
  while (lease_end(arg, id) <= first) pause_for(20);
  mark_all(batch);
  WORKS(respool_batch_settle(batch, NULL, NULL));
  count_ended(batch);
  respool_batch_free(batch);
  return take_and_settle(arg);
}


/* ---- looking meanwhile ------------------------------------------------- */

static void look_through_items(respool_queue *q) {
  respool_cursor at = {0};
  respool_page *p = NULL;
  size_t n;
  do {
    WORKS(respool_browse(q, -1, 50, &at, &p));
    n = respool_page_length(p);
    for (size_t i = 0; i < n; i++)
      HOLDS(respool_page_item(p, i)->body.size == 100);
    respool_page_free(p);
  } while (n > 0);
  WORKS(respool_peek(q, 10, &p));
  respool_page_free(p);
}

static int any_group(void *arg, const respool_dead_group *g) {
  (void)arg;
  HOLDS(g->group.size == 0 && g->reason.size == strlen("rejected"));
  HOLDS(g->count <= ITEMS);
  return 0;
}

static void look_through_dead_letters(void) {
  respool_dead_letters *l = NULL;
  WORKS(respool_dead_list(store, "busy", NULL, &l));
  respool_dead_letters_free(l);
  WORKS(respool_dead_groups(store, "busy", any_group, NULL));
}

static void account_agrees(respool_queue *q) {
  respool_queue_stats s = RESPOOL_QUEUE_STATS_INIT;
  WORKS(respool_queue_stat(q, &s));
  HOLDS(s.pushed == s.ready + s.leased + s.scheduled + s.retrying
        + s.done + s.died);
  WORKS(respool_check(store, no_finding, NULL));
}

static void *look(void *arg) {
  do {
    account_agrees(arg);
    look_through_items(arg);
    look_through_dead_letters();
  } while (n_ended < ITEMS);
  account_agrees(arg);
  return NULL;
}


/* ---- all of it --------------------------------------------------------- */

static void every_item_ends_once(void) {
  pthread_t pushers[PUSHERS], others[TAKERS + 1];
  respool_queue *q = open_queue("busy");
  start_pushers(pushers, push_one_by_one, q);
  pthread_create(&others[0], NULL, look, q);
  pthread_create(&others[1], NULL, hold_on, q);
  for (int i = 2; i <= TAKERS; i++)
    pthread_create(&others[i], NULL, take_and_settle, q);
  join(pushers, PUSHERS);
  join(others, TAKERS + 1);
  for (int id = 1; id <= ITEMS; id++) HOLDS(ended[id] == 1);
  HOLDS(n_ended == ITEMS && n_retried == ITEMS / 5);
  respool_queue_free(q);
}

int main(void) {
  const char *dir = fresh_dir();
  setvbuf(stdout, NULL, _IOLBF, 0);
  WORKS(respool_open(dir, NULL, &store));
  if (!wrong) {
    CHECK(pushes_share_commits());
    CHECK(every_item_ends_once());
  }
  respool_close(store);
  remove_dir(dir);
  return exit_status();
}
