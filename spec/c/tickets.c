/* SPDX-License-Identifier: MIT */
/*
 * Verbs begun by tickets: that they answer as the blocking ones do, share
 * commits, and that whatever they work on may be given up meanwhile without
 * harm. Prints what does not hold. Meant for the thread sanitizer, too.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "held.h"

enum { MANY = 500, THREADS = 4, EACH = 50 };

static respool *store;
static const respool_payload payload = {.body = {"an item", 7}};

static void nap(void) {
  struct timespec t = {0, 1000000};
  nanosleep(&t, NULL);
}

static int await(respool_ticket *t, respool_result *out) {
  while (!respool_ticket_poll(t)) nap();
  int rc = respool_ticket_finish(t, out);
  respool_ticket_free(t);
  return rc;
}

static respool_queue *open_queue(const char *name) {
  respool_queue *q = NULL;
  WORKS(respool_queue_open(store, name, NULL, &q));
  return q;
}

static respool_queue_stats stats_of(const char *name) {
  respool_queue_stats s = RESPOOL_QUEUE_STATS_INIT;
  respool_queue *q = open_queue(name);
  WORKS(respool_queue_stat(q, &s));
  respool_queue_free(q);
  return s;
}

static uint64_t last_txn(void) {
  respool_store_stats s = RESPOOL_STORE_STATS_INIT;
  WORKS(respool_store_stat(store, &s));
  return s.last_txn;
}

static respool_ticket *start_push(respool_queue *q) {
  respool_ticket *t = NULL;
  WORKS(respool_push_start(q, &payload, 1, NULL, &t));
  return t;
}

static respool_batch *take(respool_queue *q, uint64_t n) {
  respool_ticket *t = NULL;
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_result r = RESPOOL_RESULT_INIT;
  o.items = n;
  WORKS(respool_take_start(q, &o, &t));
  WORKS(await(t, &r));
  return r.batch;
}

static void mark_done(respool_batch *batch) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  done.kind = RESPOOL_DONE;
  WORKS(respool_batch_mark_rest(batch, &done));
}

/* Waits for what nobody has a ticket for any more. */
static void drain(void) {
  respool_ticket *t = NULL;
  for (int i = 0; i < 2; i++) { /* a release is begun by another's end */
    WORKS(respool_flush_start(store, &t));
    WORKS(await(t, NULL));
  }
}


/* ---- answers ------------------------------------------------------------ */

/* Of a segment of a hundred it has one. The first batches of a store have no
   memory that others had before. */
static void a_batch_keeps_its_own_items_alone(void) {
  static char body[100];
  static respool_payload items[1000];
  respool_queue *q = open_queue("large");
  for (int i = 0; i < 1000; i++)
    items[i].body = (respool_bytes){body, sizeof body};
  WORKS(respool_push(q, items, 1000, NULL, NULL));
  respool_batch *one = take(q, 1), *next = take(q, 1);
  HOLDS(one->page.memory.bytes <= 4096 && next->page.memory.bytes <= 4096);
  HOLDS(respool_batch_item(next, 0)->id == 2);
  HOLDS(respool_batch_item(next, 0)->body.size == sizeof body);
  respool_batch_free(one);
  respool_batch_free(next);
  respool_queue_free(q);
}

static void pushes_share_commits(void) {
  static respool_ticket *tickets[MANY];
  respool_queue *q = open_queue("many");
  uint64_t before = last_txn();
  MDB_txn *held = hold_commits(store);
  for (int i = 0; i < MANY; i++) tickets[i] = start_push(q);
  let_commits_go(held);
  for (int i = 0; i < MANY; i++) {
    respool_result r = RESPOOL_RESULT_INIT;
    WORKS(await(tickets[i], &r));
    HOLDS(r.first == (uint64_t)i + 1);
  }
  HOLDS(last_txn() - before < MANY / 2);
  HOLDS(stats_of("many").ready == MANY);
  respool_queue_free(q);
}

/* Every third push is of another priority, every fifth of three items, every
   seventh to another queue, every eleventh has an end, one is too large. */
static respool_ticket *start_mixed(respool_queue *const q[2], int i) {
  static char large[100000];
  char text[3][24];
  respool_payload items[3];
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  respool_ticket *t = NULL;
  for (int k = 0; k < 3; k++) {
    snprintf(text[k], sizeof text[k], "%d.%d", i, k);
    items[k] = (respool_payload){.body = {text[k], strlen(text[k])}};
  }
  if (i == MANY / 2) items[0].body = (respool_bytes){large, sizeof large};
  if (i % 3 == 0) o.priority = 3;
  if (i % 11 == 0) o.ttl = 3600000;
  WORKS(respool_push_start(q[i % 7 == 0], items, i % 5 ? 1 : 3, &o, &t));
  return t;
}

static void has_pushed(respool_queue *q, int i, uint64_t first) {
  char text[24];
  for (int k = 0; k < (i % 5 ? 1 : 3); k++) {
    respool_page *p = NULL;
    snprintf(text, sizeof text, "%d.%d", i, k);
    WORKS(respool_get(q, first + (uint64_t)k, &p));
    if (!p) return;
    const respool_item *it = respool_page_item(p, 0);
    HOLDS(it->about->priority == (i % 3 ? 0 : 3));
    HOLDS((it->about->expires_at != 0) == (i % 11 == 0));
    if (i == MANY / 2 && k == 0)
      HOLDS(it->body.size == 100000);
    else
      HOLDS(it->body.size == strlen(text) &&
            !memcmp(it->body.data, text, strlen(text)));
    respool_page_free(p);
  }
}

static void pushes_that_wait_together_keep_their_order(void) {
  static respool_ticket *tickets[MANY];
  respool_queue *q[2] = {open_queue("left"), open_queue("right")};
  uint64_t next[2] = {1, 1};
  MDB_txn *held = hold_commits(store);
  for (int i = 0; i < MANY; i++) tickets[i] = start_mixed(q, i);
  let_commits_go(held);
  for (int i = 0; i < MANY; i++) {
    respool_result r = RESPOOL_RESULT_INIT;
    WORKS(await(tickets[i], &r));
    HOLDS(r.first == next[i % 7 == 0]);
    next[i % 7 == 0] += i % 5 ? 1 : 3;
    has_pushed(q[i % 7 == 0], i, r.first);
  }
  for (int k = 0; k < 2; k++) respool_queue_free(q[k]);
}

static void settle_takes_the_next(void) {
  respool_queue *q = open_queue("many"), *other = open_queue("other");
  respool_take_options more = RESPOOL_TAKE_OPTIONS_INIT;
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  respool_handover push = {.queue = other, .items = &payload, .n = 1};
  respool_result r = RESPOOL_RESULT_INIT;
  respool_ticket *t = NULL;
  respool_batch *batch = take(q, 100);
  HOLDS(respool_batch_length(batch) == 100);
  mark_done(batch);
  more.items = MANY;
  o.take = &more;
  o.pushes = &push;
  o.n_pushes = 1;
  WORKS(respool_batch_settle_start(batch, &o, &t));
  respool_queue_free(other); /* it has its own hold on it */
  WORKS(await(t, &r));
  HOLDS(respool_batch_settled(batch, 99));
  HOLDS(respool_batch_length(r.batch) == MANY - 100);
  HOLDS(stats_of("other").ready == 1 && stats_of("many").done == 100);
  WORKS(respool_batch_extend_start(r.batch, 60000, &t));
  WORKS(await(t, NULL));
  respool_batch_free(r.batch);
  respool_batch_free(batch);
  respool_queue_free(q);
}

static void errors_are_the_same(void) {
  respool_queue_options limit = RESPOOL_QUEUE_OPTIONS_INIT;
  respool_payload twins[2] = {payload, payload};
  respool_queue *q = NULL;
  respool_ticket *t = NULL;
  limit.max_items = 1;
  WORKS(respool_queue_open(store, "small", &limit, &q));
  WORKS(respool_push_start(q, twins, 2, NULL, &t));
  HOLDS(await(t, NULL) == RESPOOL_FULL);
  HOLDS(strstr(respool_error_text(), "small"));
  HOLDS(respool_push_start(q, twins, 0, NULL, &t) == RESPOOL_INVALID);
  respool_queue_free(q);
}

/* A program that waits for room by itself has to know when that is vain. */
static void full_tells_whether_to_wait(void) {
  static const respool_payload items[] = {{.body = {"a", 1}},
                                          {.body = {"b", 1}}};
  respool_queue *q = NULL;
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  o.max_items = 1;
  WORKS(respool_queue_open(store, "bounded", &o, &q));
  WORKS(await(start_push(q), NULL));
  for (size_t n = 1; n <= 2; n++) {
    respool_ticket *t = NULL;
    respool_result r = RESPOOL_RESULT_INIT;
    r.never_fits = -1;
    HOLDS(respool_push(q, items, n, NULL, &r) == RESPOOL_FULL);
    HOLDS(r.never_fits == (n == 2));
    r.never_fits = -1;
    WORKS(respool_push_start(q, items, n, NULL, &t));
    HOLDS(await(t, &r) == RESPOOL_FULL);
    HOLDS(r.never_fits == (n == 2));
  }
  respool_queue_free(q);
}

static void a_batch_answers_busy(void) {
  respool_queue *q = open_queue("busy");
  respool_ticket *t = NULL, *second = NULL;
  WORKS(respool_push(q, &payload, 1, NULL, NULL));
  respool_batch *batch = take(q, 1);
  WORKS(respool_batch_extend_start(batch, 60000, &t));
  int rc = respool_batch_settle_start(batch, NULL, &second);
  HOLDS(rc == RESPOOL_BUSY || (rc == 0 && second)); /* it may have ended */
  if (second) WORKS(await(second, NULL));
  WORKS(await(t, NULL));
  mark_done(batch);
  WORKS(respool_batch_extend_start(batch, 60000, &t));
  WORKS(respool_batch_settle(batch, NULL, NULL)); /* it waits */
  HOLDS(respool_ticket_poll(t) && respool_batch_settled(batch, 0));
  WORKS(await(t, NULL));
  respool_batch_free(batch);
  respool_queue_free(q);
}

static void a_take_waits_by_polling(void) {
  respool_queue *q = open_queue("later");
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_result r = RESPOOL_RESULT_INIT;
  respool_ticket *t = NULL;
  o.wait = 60000;
  WORKS(respool_take_start(q, &o, &t));
  HOLDS(!respool_ticket_poll(t));
  HOLDS(respool_ticket_finish(t, &r) == RESPOOL_BUSY);
  WORKS(respool_push(q, &payload, 1, NULL, NULL));
  WORKS(await(t, &r));
  HOLDS(respool_batch_length(r.batch) == 1);
  respool_batch_free(r.batch);
  HOLDS(take(q, 1) == NULL);
  respool_queue_free(q);
}

static int is_noted(respool_queue *q) {
  respool_notice n = RESPOOL_NOTICE_INIT;
  WORKS(respool_queue_notice(q, &n));
  return n.number > 0 && strcmp(n.dlq, "mortal") == 0;
}

/* One that outlives its TTL before it is delivered. */
static void push_mortal(respool_queue *q) {
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  o.ttl = 1;
  WORKS(respool_push(q, &payload, 1, &o, NULL));
  for (int i = 0; i < 5; i++) nap();
}

/* Whether the bell rang within a minute. */
static bool rings(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  uint64_t n;
  return poll(&p, 1, 60000) == 1 && read(fd, &n, sizeof n) == sizeof n;
}

static void a_bell_rings(void) {
  int64_t due, left;
  int fd = eventfd(0, EFD_NONBLOCK);
  respool_ticket *take = NULL;
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_result r = RESPOOL_RESULT_INIT;
  respool_queue *q = open_queue("bell");
  o.wait = 600000;
  WORKS(respool_wake(store, fd));
  WORKS(respool_take_start(q, &o, &take));
  HOLDS(respool_ticket_waits(take, &due, &left) && due <= 1000);
  HOLDS(left > 60000 && left <= 600000);
  respool_ticket *push = start_push(q);
  HOLDS(!respool_ticket_waits(push, &due, &left));
  HOLDS(rings(fd));
  WORKS(await(push, NULL));
  while (!respool_ticket_poll(take) && rings(fd)) {}
  HOLDS(!respool_ticket_waits(take, &due, &left));
  WORKS(await(take, &r));
  HOLDS(respool_batch_length(r.batch) == 1);
  respool_batch_free(r.batch);
  WORKS(respool_wake(store, -1));
  close(fd);
  respool_queue_free(q);
}

static void a_take_gives_up_its_wait(void) {
  respool_ticket *take = NULL;
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_result r = RESPOOL_RESULT_INIT;
  respool_queue *q = open_queue("given up");
  o.wait = 60000;
  WORKS(respool_take_start(q, &o, &take));
  HOLDS(!respool_ticket_poll(take));
  respool_ticket_give_up(take);
  HOLDS(respool_ticket_poll(take));
  WORKS(await(take, &r));
  HOLDS(!r.batch);
  respool_queue_free(q);
}

static void takes_note_dead_letters(void) {
  respool_queue *q = open_queue("mortal");
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_settle_options s = RESPOOL_SETTLE_OPTIONS_INIT;
  respool_result r = RESPOOL_RESULT_INIT;
  respool_ticket *t = NULL;
  s.take = &o;
  WORKS(respool_queue_watch(q, 1));
  push_mortal(q);
  WORKS(respool_take_start(q, &o, &t));
  WORKS(await(t, &r));
  HOLDS(!r.batch && is_noted(q));
  WORKS(respool_push(q, &payload, 1, NULL, NULL));
  respool_batch *batch = take(q, 1);
  push_mortal(q);
  mark_done(batch);
  WORKS(respool_batch_settle_start(batch, &s, &t));
  WORKS(await(t, &r));
  HOLDS(!r.batch && is_noted(q) && !is_noted(q));
  respool_batch_free(batch);
  respool_queue_free(q);
}

static void transactions_commit(void) {
  respool_queue *q = open_queue("tx");
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_ticket *t = NULL;
  respool_tx *tx = NULL;
  size_t handle = 0;
  WORKS(respool_push(q, &payload, 1, NULL, NULL));
  respool_batch *batch = take(q, 1);
  WORKS(respool_tx_begin(store, &tx));
  WORKS(respool_tx_push(tx, q, &payload, 1, NULL, &handle));
  done.kind = RESPOOL_DONE;
  WORKS(respool_tx_mark(tx, batch, 0, &done));
  WORKS(respool_tx_commit_start(tx, &t));
  WORKS(await(t, NULL));
  HOLDS(respool_tx_id(tx, handle) == 2 && respool_batch_settled(batch, 0));
  HOLDS(respool_tx_commit_start(tx, &t) == RESPOOL_INVALID);
  respool_tx_free(tx);
  respool_batch_free(batch);
  respool_queue_free(q);
}


/* ---- calls -------------------------------------------------------------- */

static atomic_int released;

static int purge(void *q) {
  return respool_purge(q, NULL);
}

static int fail_to_find(void *name) {
  return respool_queue_drop(store, name);
}

static void count_release(void *arg) {
  (void)arg;
  released++;
}

static void calls_run_other_verbs(void) {
  respool_queue *q = open_queue("calls");
  respool_ticket *t = NULL;
  WORKS(respool_push(q, &payload, 1, NULL, NULL));
  WORKS(respool_call(store, purge, NULL, q, &t));
  WORKS(await(t, NULL));
  HOLDS(stats_of("calls").removed == 1);
  WORKS(respool_call(store, fail_to_find, count_release, (void *)"no", &t));
  HOLDS(await(t, NULL) == RESPOOL_NOT_FOUND && released == 1);
  HOLDS(strstr(respool_error_text(), "no"));
  for (int i = 0; i < 10; i++) {
    WORKS(respool_call(store, purge, count_release, q, &t));
    respool_ticket_free(t);
  }
  WORKS(respool_call(store, purge, NULL, q, &t)); /* after the others */
  WORKS(await(t, NULL));
  HOLDS(released == 11);
  respool_queue_free(q);
}


/* ---- given up ----------------------------------------------------------- */

static void abandoned_pushes_happen(void) {
  respool_queue *q = open_queue("given up");
  for (int i = 0; i < MANY; i++) respool_ticket_free(start_push(q));
  respool_queue_free(q);
  drain();
  HOLDS(stats_of("given up").ready == MANY);
}

static void abandoned_takes_release(void) {
  respool_queue *q = open_queue("given up");
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_ticket *t = NULL;
  o.items = 10;
  for (int i = 0; i < 20; i++) {
    WORKS(respool_take_start(q, &o, &t));
    respool_ticket_free(t);
  }
  drain();
  respool_queue_stats s = stats_of("given up");
  HOLDS(s.ready == MANY && s.leased == 0 && s.released == 200);
  respool_queue_free(q);
}

/* In whatever order the handles are given up, the settle comes to its end. */
static void abandoned_batches_settle(void) {
  for (int order = 0; order < 4; order++) {
    respool_queue *q = open_queue("given up");
    respool_ticket *t = NULL;
    respool_batch *batch = take(q, 10);
    mark_done(batch);
    WORKS(respool_batch_settle_start(batch, NULL, &t));
    if (order & 1) respool_queue_free(q);
    if (order & 2) respool_ticket_free(t);
    respool_batch_free(batch);
    if (!(order & 2)) WORKS(await(t, NULL));
    if (!(order & 1)) respool_queue_free(q);
  }
  drain();
  HOLDS(stats_of("given up").done == 40);
}

static void abandoned_transactions_commit(void) {
  respool_queue *q = open_queue("given up");
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_ticket *t = NULL;
  respool_tx *tx = NULL;
  respool_batch *batch = take(q, 1);
  done.kind = RESPOOL_DONE;
  WORKS(respool_tx_begin(store, &tx));
  WORKS(respool_tx_mark(tx, batch, 0, &done));
  WORKS(respool_tx_push(tx, q, &payload, 1, NULL, NULL));
  WORKS(respool_tx_commit_start(tx, &t));
  respool_tx_free(tx);
  respool_batch_free(batch);
  respool_ticket_free(t);
  respool_queue_free(q);
  drain();
  HOLDS(stats_of("given up").done == 41);
}

static void discarded_buffers_flush(const char *dir) {
  respool_buffer_options o = RESPOOL_BUFFER_OPTIONS_INIT;
  respool *own = NULL;
  respool_queue *q = NULL;
  respool_buffer *b = NULL;
  o.interval = 60000;
  WORKS(respool_open(dir, NULL, &own));
  WORKS(respool_queue_open(own, "discarded", NULL, &q));
  WORKS(respool_buffer_open(q, &o, &b));
  for (int i = 0; i < 3; i++) WORKS(respool_buffer_push(b, &payload, NULL));
  respool_buffer_discard(b);
  respool_queue_free(q);
  respool_close(own);
  HOLDS(stats_of("discarded").ready == 3);
}

static void close_waits_for_what_runs(const char *dir) {
  respool *own = NULL;
  respool_queue *q = NULL;
  respool_ticket *t = NULL;
  WORKS(respool_open(dir, NULL, &own));
  WORKS(respool_queue_open(own, "closed", NULL, &q));
  for (int i = 0; i < MANY; i++) {
    WORKS(respool_push_start(q, &payload, 1, NULL, &t));
    respool_ticket_free(t);
  }
  WORKS(respool_call(own, purge, count_release, q, &t));
  respool_ticket_free(t);
  respool_close(own);
  respool_queue_free(q);
  respool_queue_stats s = stats_of("closed");
  HOLDS(s.pushed == MANY && s.ready + s.removed == MANY);
}


/* ---- beside blocking verbs ---------------------------------------------- */

static void *push_both_ways(void *arg) {
  for (int i = 0; i < EACH; i++) {
    respool_ticket *t = start_push(arg);
    WORKS(respool_push(arg, &payload, 1, NULL, NULL));
    WORKS(await(t, NULL));
  }
  return NULL;
}

static void *take_and_settle(void *arg) {
  for (int left = EACH; left > 0 && !wrong;) {
    respool_ticket *t = NULL;
    respool_batch *batch = take(arg, 7);
    if (!batch) continue;
    WORKS(respool_batch_keep(batch));
    mark_done(batch);
    left -= (int)respool_batch_length(batch);
    WORKS(respool_batch_settle_start(batch, NULL, &t));
    WORKS(await(t, NULL));
    respool_batch_free(batch);
  }
  return NULL;
}

static void both_kinds_go_on_together(void) {
  pthread_t threads[2 * THREADS];
  respool_queue *q = open_queue("both");
  for (int i = 0; i < THREADS; i++)
    pthread_create(&threads[i], NULL, push_both_ways, q);
  for (int i = THREADS; i < 2 * THREADS; i++)
    pthread_create(&threads[i], NULL, take_and_settle, q);
  for (int i = 0; i < 2 * THREADS; i++) pthread_join(threads[i], NULL);
  respool_queue_stats s = stats_of("both");
  HOLDS(s.pushed == 2 * THREADS * EACH && s.leased == 0);
  HOLDS(s.done + s.ready == s.pushed);
  WORKS(respool_check(store, no_finding, NULL));
  respool_queue_free(q);
}

static _Atomic bool no_flush;

int fdatasync(int fd) {
  if (!no_flush) return (int)syscall(SYS_fdatasync, fd);
  errno = EIO;
  return -1;
}

/* Of a store that is relaxed, so that there is something to flush. */
static void a_flush_that_fails_says_so(const char *dir) {
  char path[4200];
  respool *usual = store;
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool_ticket *t = NULL;
  o.sync = RESPOOL_SYNC_RELAXED;
  snprintf(path, sizeof path, "%s/relaxed", dir);
  WORKS(respool_open(path, &o, &store));
  respool_queue *q = open_queue("q");
  WORKS(await(start_push(q), NULL));
  no_flush = true;
  WORKS(respool_flush_start(store, &t));
  HOLDS(await(t, NULL) != 0);
  no_flush = false;
  WORKS(await(start_push(q), NULL));
  WORKS(respool_flush_start(store, &t));
  WORKS(await(t, NULL));
  HOLDS(stats_of("q").pushed == 2);
  respool_queue_free(q);
  respool_close(store);
  remove_dir(path);
  store = usual;
}

int main(void) {
  const char *dir = fresh_dir();
  setvbuf(stdout, NULL, _IOLBF, 0);
  WORKS(respool_open(dir, NULL, &store));
  if (!wrong) {
    CHECK(a_batch_keeps_its_own_items_alone());
    CHECK(pushes_share_commits());
    CHECK(pushes_that_wait_together_keep_their_order());
    CHECK(settle_takes_the_next());
    CHECK(errors_are_the_same());
    CHECK(full_tells_whether_to_wait());
    CHECK(a_batch_answers_busy());
    CHECK(a_take_waits_by_polling());
    CHECK(a_bell_rings());
    CHECK(a_take_gives_up_its_wait());
    CHECK(takes_note_dead_letters());
    CHECK(transactions_commit());
    CHECK(calls_run_other_verbs());
    CHECK(abandoned_pushes_happen());
    CHECK(abandoned_takes_release());
    CHECK(abandoned_batches_settle());
    CHECK(abandoned_transactions_commit());
    CHECK(discarded_buffers_flush(dir));
    CHECK(close_waits_for_what_runs(dir));
    CHECK(both_kinds_go_on_together());
    CHECK(a_flush_that_fails_says_so(dir));
  }
  respool_close(store);
  remove_dir(dir);
  return exit_status();
}
