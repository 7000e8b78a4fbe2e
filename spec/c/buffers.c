/* SPDX-License-Identifier: MIT */
/*
 * The buffers of a store: what one that is freed could not flush stays with
 * the store, in order and counted, until there is room or the store is closed.
 * Prints what does not hold.
 */
#include <pthread.h>

#include "holds.h"

enum { THREADS = 4, EACH = 400 };

static const char *dir;
static respool *s;
static respool_queue *q;

static respool *open_store(int manual) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool *opened = NULL;
  o.sync = RESPOOL_SYNC_RELAXED;
  o.manual_clock = manual;
  WORKS(respool_open(dir, &o, &opened));
  return opened;
}

static respool_queue *open_queue(const char *name, int64_t max_items) {
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  respool_queue *opened = NULL;
  o.max_items = max_items;
  WORKS(respool_queue_open(s, name, &o, &opened));
  return opened;
}

/* A buffer that nothing flushes by itself but `interval`. */
static respool_buffer *open_buffer(int64_t interval) {
  respool_buffer_options o = RESPOOL_BUFFER_OPTIONS_INIT;
  respool_buffer *b = NULL;
  o.items = 1000000;
  o.interval = interval;
  WORKS(respool_buffer_open(q, &o, &b));
  return b;
}

static void push(respool_buffer *b, int from, int n) {
  char body[20];
  for (int i = from; i < from + n; i++) {
    respool_payload item = {.body = {body, 0}};
    item.body.size = (size_t)snprintf(body, sizeof body, "%d", i);
    WORKS(respool_buffer_push(b, &item, NULL));
  }
}

static uint64_t ready(respool_queue *of) {
  respool_queue_stats stats = RESPOOL_QUEUE_STATS_INIT;
  WORKS(respool_queue_stat(of, &stats));
  return stats.ready;
}

/* Leaves what does not fit of `n` items with the store. */
static void leave(const char *name, int64_t room, int n) {
  q = open_queue(name, room);
  respool_buffer *b = open_buffer(0);
  push(b, 0, n);
  respool_buffer_free(b);
}

static int count_items(void *arg, const char *queue,
                       const respool_buffer_stats *stats) {
  HOLDS(strlen(queue) > 0 && stats->size == sizeof *stats);
  *(uint64_t *)arg += stats->items;
  return 0;
}

static uint64_t left(void) {
  uint64_t n = 0;
  WORKS(respool_buffers(s, count_items, &n));
  return n;
}

static void make_room(void) {
  respool_queue_free(open_queue("q", RESPOOL_UNLIMITED));
}

/* The bodies are 0, 1, 2, ... */
static void in_order(size_t n) {
  respool_page *p = NULL;
  WORKS(respool_peek(q, n + 1, &p));
  HOLDS(respool_page_length(p) == n);
  for (size_t i = 0; i < respool_page_length(p); i++) {
    respool_bytes body = respool_page_item(p, i)->body;
    char text[20]; /* nothing ends a body */
    snprintf(text, sizeof text, "%.*s", (int)body.size,
             (const char *)body.data);
    HOLDS((size_t)strtol(text, NULL, 10) == i);
  }
  respool_page_free(p);
}

static void begin(int manual) {
  s = open_store(manual);
}

static void end(void) {
  respool_queue_free(q);
  WORKS(respool_check(s, no_finding, NULL));
  respool_queue_drop(s, "q");
  respool_close(s);
}

/* ---- specs -------------------------------------------------------------- */

static void what_is_left_is_flushed_by_hand(void) {
  begin(1);
  leave("q", 2, 5);
  HOLDS(ready(q) == 2 && left() == 3);
  HOLDS(respool_buffers_flush(s) == RESPOOL_FULL);
  HOLDS(strstr(respool_error_text(), "max_items is 2"));
  make_room();
  WORKS(respool_buffers_flush(s));
  HOLDS(left() == 0);
  in_order(5);
  end();
}

static void what_is_left_is_tried_again(void) {
  begin(1);
  leave("q", 2, 5);
  make_room();
  WORKS(respool_advance(s, 99));
  HOLDS(ready(q) == 2);
  WORKS(respool_advance(s, 1));
  HOLDS(left() == 0);
  in_order(5);
  end();
}

static void what_is_left_is_tried_at_the_end(void) {
  begin(1);
  leave("q", 2, 5);
  make_room();
  respool_queue_free(q);
  respool_close(s);
  begin(1);
  q = open_queue("q", RESPOOL_KEEP);
  in_order(5);
  end();
}

static void what_never_fits_does_no_harm(void) {
  begin(1);
  leave("q", 2, 5);
  respool_queue_free(q);
  respool_close(s);
  begin(1);
  q = open_queue("q", RESPOOL_UNLIMITED);
  in_order(2);
  end();
}

static int stop(void *arg, const char *queue,
                const respool_buffer_stats *stats) {
  (void)queue;
  (void)stats;
  ++*(int *)arg;
  return 7;
}

static int note_failure(void *arg, const respool_flush_failure *f) {
  HOLDS(!strcmp(f->queue, "q") && f->error == RESPOOL_FULL);
  HOLDS(strstr(f->error_text, "max_items is 2"));
  *(uint64_t *)arg += f->times;
  return 0;
}

static void failures_are_told_once(void) {
  uint64_t times = 0;
  int visits = 0;
  begin(1);
  leave("q", 2, 5);
  WORKS(respool_advance(s, 300));
  HOLDS(respool_flush_failures(s) == 3);
  WORKS(respool_flush_failed(s, note_failure, &times));
  HOLDS(times == 3);
  WORKS(respool_flush_failed(s, note_failure, &times));
  HOLDS(times == 3);
  HOLDS(respool_buffers(s, stop, &visits) == 7 && visits == 1);
  end();
}

/* The time of its first push and the interval together were below zero: it
   flushed each push by itself. */
static void an_unlimited_interval_never_comes(void) {
  respool_buffer_options none = RESPOOL_BUFFER_OPTIONS_INIT;
  respool_buffer *b = NULL;
  begin(0);
  q = open_queue("q", RESPOOL_UNLIMITED);
  none.interval = RESPOOL_UNLIMITED;
  HOLDS(respool_buffer_open(q, &none, &b) == RESPOOL_INVALID);
  b = open_buffer(RESPOOL_UNLIMITED);
  push(b, 0, 3);
  usleep(50000);
  HOLDS(ready(q) == 0 && left() == 3);
  respool_buffer_free(b);
  in_order(3);
  end();
}

/* Folded items came behind all others. */
static void items_keep_their_order(void) {
  static const respool_payload keyed = {.body = {"3", 1}, .key = {"k", 1}};
  static const respool_payload folded = {.body = {"2", 1}};
  static const respool_bytes none = {NULL, 0}, name = {"n", 1};
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  respool_bytes body;
  uint64_t version;
  o.on_conflict = RESPOOL_CONFLICT_IGNORE;
  begin(1);
  q = open_queue("q", 5);
  respool_buffer *b = open_buffer(0);
  push(b, 0, 2);
  HOLDS(respool_buffer_fold(b, none, 0, &folded, NULL) == RESPOOL_INVALID);
  HOLDS(respool_buffer_fold(b, name, 0, &keyed, &o) == RESPOOL_INVALID);
  WORKS(respool_buffer_fold(b, name, 0, &folded, NULL));
  WORKS(respool_buffer_push(b, &keyed, &o));
  push(b, 4, 4);
  WORKS(respool_buffer_find(b, name, &body, &version));
  free((void *)(uintptr_t)body.data);
  WORKS(respool_buffer_fold(b, name, version, &folded, NULL));
  HOLDS(respool_buffer_flush(b) == RESPOOL_FULL);
  in_order(5);
  make_room();
  respool_buffer_free(b);
  in_order(8);
  end();
}

/* ---- together ----------------------------------------------------------- */

static void *push_and_free(void *arg) {
  (void)arg;
  for (int i = 0; i < EACH; i++) {
    respool_buffer *b = open_buffer(1);
    push(b, i, 3);
    if (i % 3) respool_buffer_free(b);
    else respool_buffer_discard(b);
  }
  return NULL;
}

static void *look_and_flush(void *arg) {
  uint64_t n, times;
  while (!atomic_load((atomic_int *)arg)) {
    n = times = 0;
    WORKS(respool_buffers(s, count_items, &n));
    WORKS(respool_flush_failed(s, note_failure, &times));
    respool_buffers_flush(s);
  }
  return NULL;
}

/* Half of the threads find no room for most of what they push. */
static void many_threads_lose_nothing(void) {
  pthread_t threads[THREADS], looker;
  atomic_int over = 0;
  begin(0);
  q = open_queue("q", 2);
  for (int i = 0; i < THREADS; i++)
    pthread_create(&threads[i], NULL, push_and_free, NULL);
  pthread_create(&looker, NULL, look_and_flush, &over);
  for (int i = 0; i < THREADS; i++) {
    if (i == THREADS / 2) make_room();
    pthread_join(threads[i], NULL);
  }
  over = 1;
  pthread_join(looker, NULL);
  respool_queue_free(q);
  respool_close(s); /* which waits for what was discarded */
  begin(0);
  q = open_queue("q", RESPOOL_KEEP);
  HOLDS(ready(q) == (uint64_t)THREADS * EACH * 3);
  end();
}

int main(void) {
  dir = fresh_dir();
  setvbuf(stdout, NULL, _IOLBF, 0);
  CHECK(what_is_left_is_flushed_by_hand());
  CHECK(what_is_left_is_tried_again());
  CHECK(what_is_left_is_tried_at_the_end());
  CHECK(what_never_fits_does_no_harm());
  CHECK(failures_are_told_once());
  CHECK(an_unlimited_interval_never_comes());
  CHECK(items_keep_their_order());
  CHECK(many_threads_lose_nothing());
  remove_dir(dir);
  return exit_status();
}
