/* SPDX-License-Identifier: MIT */
/*
 * Several clients at a time, threads on one store, connections that are lost, a
 * child of fork.
 */
#include "verbs.h"

#include <pthread.h>
#include <sys/wait.h>

#include "base/clock.h"

/* Another client, with the clock of the store's. */
static void open_other(kit *k) {
  kit_open(k, location, schema, false);
  k->wall = store.wall;
}

typedef struct racer {
  kit k;
  kit_batch b;
  size_t n;
  pthread_barrier_t *start;
  int queue;
} racer;

static void *race_take(void *arg) {
  racer *r = arg;
  pthread_barrier_wait(r->start);
  r->n = kit_take_items(&r->k, r->queue, 10, NULL, &r->b) ? 0 : r->b.n;
  return NULL;
}

static void of_two_that_take_one_gets_it(void) {
  static racer r[2];
  kit_queue q = queue_of(NULL);
  pthread_barrier_t start;
  int none = 0, both = 0;
  pthread_barrier_init(&start, NULL, 2);
  for (int i = 0; i < 2; i++) {
    open_other(&r[i].k);
    r[i].start = &start;
    r[i].queue = q.id;
  }
  for (int k = 0; k < 200; k++) {
    pthread_t t[2];
    push(q.id, 10);
    for (int i = 0; i < 2; i++)
      pthread_create(&t[i], NULL, race_take, &r[i]);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    none += !r[0].n && !r[1].n;
    both += r[0].n && r[1].n;
    HOLDS(kit_done(&store, q.id, &r[r[0].n ? 0 : 1].b) == 0);
  }
  HOLDS(none == 0 && both == 0);
  for (int i = 0; i < 2; i++) {
    kit_batch_free(&r[i].b);
    kit_close(&r[i].k);
  }
}

/* Threads that push through one store, so that their pushes go together. */
enum { THREADS = 16, PUSHES = 200, TOO_LARGE = 50 };

static atomic_int given[65536]; /* ids, which are of one block */
static char large[100000];

static void push_small(respool_queue *q) {
  respool_payload one = {.body = {"an item", 7}};
  respool_result r = RESPOOL_RESULT_INIT;
  uint64_t last = 0;
  for (int i = 0; i < PUSHES; i++, last = r.first) {
    WORKS(respool_push(q, &one, 1, NULL, &r));
    HOLDS(r.first > last && given[r.first % 65536]++ == 0);
  }
}

static void push_too_large(respool_queue *q) {
  respool_payload one = {.body = {large, sizeof large}};
  for (int i = 0; i < TOO_LARGE; i++)
    HOLDS(respool_push(q, &one, 1, NULL, NULL) == RESPOOL_TOO_LARGE);
}

static void *push_them(void *arg) {
  static atomic_int n;
  if (n++ % 8)
    push_small(arg);
  else
    push_too_large(arg);
  return NULL;
}

static void each_of_many_threads_has_its_own_answer(void) {
  char path[600];
  respool *s;
  respool_queue *q;
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  respool_queue_stats is = RESPOOL_QUEUE_STATS_INIT;
  pthread_t t[THREADS];
  o.max_queue_bytes = sizeof large;
  snprintf(path, sizeof path, "%s%cschema=%s", location,
           strchr(location, '?') ? '&' : '?', schema);
  WORKS(respool_open(path, NULL, &s));
  WORKS(respool_queue_open(s, "threads", &o, &q));
  for (int i = 0; i < THREADS; i++)
    pthread_create(&t[i], NULL, push_them, q);
  for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
  WORKS(respool_queue_stat(q, &is));
  HOLDS(is.pushed == (THREADS - THREADS / 8) * PUSHES);
  respool_queue_free(q);
  respool_close(s);
}

/* A unit that locks "b" and then "a". */
typedef struct crossing {
  kit k;
  int rc;
  int64_t revision; /* of both */
} crossing;

static void *cross(void *arg) {
  static const char *const names[] = {"b", "a"};
  crossing *x = arg;
  values v[2];
  request r[2];
  call c = {.requests = r, .n = 2, .changes = true};
  for (int i = 0; i < 2; i++) {
    values_init(&v[i]);
    put_text(&v[i], names[i]);
    call_put(&c, &v[i], i == 0);
    put_int8(&v[i], x->revision);
    put_bytes(&v[i], (respool_bytes){"unit", 4});
    r[i] = (request){.statement = STATEMENT_REPLAY_SAVE, .values = &v[i]};
  }
  x->rc = call_run(&x->k.s, &c);
  x->revision++;
  call_clear(&c);
  for (int i = 0; i < 2; i++) values_free(&v[i]);
  return NULL;
}

/* Another transaction holds "a" and then wants "b". True when the unit was
   the one to be given up and tried again, not the other. */
static bool deadlock(kit *other, crossing *x) {
  pthread_t t;
  HOLDS(script(other, "BEGIN; UPDATE replay SET record = 'x' WHERE name = "
                      "'a'") == 0);
  pthread_create(&t, NULL, cross, x);
  while (kit_number(&store, "SELECT count(*) FROM pg_locks WHERE NOT "
                            "granted") == 0)
    continue;
  int rc = script(other, "UPDATE replay SET record = 'x' WHERE name = 'b'");
  HOLDS(script(other, rc ? "ROLLBACK" : "COMMIT") == 0);
  pthread_join(t, NULL);
  HOLDS(x->rc == 0);
  HOLDS(kit_number(&store, "SELECT count(*) FROM replay WHERE record = "
                           "'unit'") == 2);
  return rc == 0;
}

static void a_deadlock_is_tried_again(void) {
  static crossing x;
  kit other;
  bool tried = false;
  kit_open(&x.k, location, schema, false);
  kit_open(&other, location, schema, false);
  kit_number(&other, "SELECT 1"); /* sets its search_path */
  cross(&x);
  for (int i = 0; i < 20 && !tried; i++) tried = deadlock(&other, &x);
  HOLDS(tried);
  kit_number(&store, "SELECT count(v1_replay_remove(r.name)) FROM replay r");
  kit_close(&x.k);
  kit_close(&other);
}

/* The connection goes between the sending and the answer. */
static void a_lost_answer_is_found_out(void) {
  kit other;
  values v;
  request r;
  call c = {.requests = &r, .n = 1, .changes = true};
  pg_failure f;
  kit_open(&other, location, schema, false);
  for (int happens = 0; happens < 2; happens++) {
    call_begin(&store.s, &c);
    values_init(&v);
    put_text(&v, "lost");
    call_put(&c, &v, true);
    put_int8(&v, 0);
    put_bytes(&v, (respool_bytes){"x", 1});
    values_end(&v);
    r = (request){.statement = STATEMENT_REPLAY_SAVE, .values = &v};
    if (happens)
      HOLDS(connection_run(&other.s.at, &r, 1, false, clock_mono() + 60000,
                           &f) == 0);
    request_clear(&r);
    values ask;
    request w;
    values_init(&ask);
    put_uuid(&ask, c.id.row);
    put_ready(&ask, c.id.no, sizeof c.id.no);
    values_end(&ask);
    HOLDS(kit_call(&store, &w, &ask, STATEMENT_RESOLVE, false) == 0);
    HOLDS(value_bool(w.result, 0, 0) == happens);
    request_clear(&w);
    /* it cannot happen now, or not twice */
    int rc = connection_run(&other.s.at, &r, 1, false, clock_mono() + 60000,
                            &f);
    HOLDS(rc == -1 && failure_is(&f, happens ? "RS011" : "23505"));
    request_clear(&r);
    values_free(&v);
    values_free(&ask);
  }
  kit_close(&other);
}

#define ROW "'01000000-0000-7000-8000-000000000001'"

/* As a transaction of before may still be under way. */
static void numbers_of_calls_only_rise(void) {
  static const char asks[] =
    "SELECT coalesce(happened, false)::int4 FROM v1_resolve(" ROW ", %s)";
  char sql[200];
  HOLDS(script(&store, "SELECT note(" ROW ", 2::int2, '{7}')") == 0);
  HOLDS(script(&store, "SELECT note(" ROW ", -2::int2, '{8,9}')") == 0);
  HOLDS(kit_number(&store, "SELECT (happened AND answer = '{7,8,9}')::int4 "
                           "FROM v1_resolve(" ROW ", 2::int2)") == 1);
  snprintf(sql, sizeof sql, asks, "4::int2");
  HOLDS(kit_number(&store, sql) == 0);
  HOLDS(script(&store, "SELECT note(" ROW ", 4::int2, '{1}')") == -1);
  HOLDS(script(&store, "SELECT note(" ROW ", 3::int2, '{1}')") == -1);
  HOLDS(kit_number(&store, sql) == 0);
  HOLDS(script(&store, "SELECT note(" ROW ", 5::int2, '{1}')") == 0);
  snprintf(sql, sizeof sql, asks, "5::int2");
  HOLDS(kit_number(&store, sql) == 1);
}

/* A standby that is not there is waited for, until somebody cancels that. */
static void *cancel_the_wait(void *arg) {
  char sql[200];
  snprintf(sql, sizeof sql, "SELECT count(pg_cancel_backend(pid)) FROM "
           "pg_stat_activity WHERE pid = %d AND wait_event = 'SyncRep'",
           *(int *)arg);
  while (kit_number(&store, sql) == 0) usleep(10000);
  return NULL;
}

static void a_commit_that_no_standby_has_is_unknown(void) {
  kit_queue q = queue_of(NULL);
  kit other;
  pthread_t t;
  open_other(&other);
  int pid = (int)kit_number(&other, "SELECT pg_backend_pid()");
  HOLDS(session_ids(&other.s, 1, &(uint64_t){0}) == 0);
  HOLDS(script(&store, "ALTER SYSTEM SET synchronous_standby_names = 'x'") ==
        0);
  kit_number(&store, "SELECT count(pg_reload_conf())");
  while (kit_number(&store, "SELECT count(*) FROM pg_settings WHERE name = "
                            "'synchronous_standby_names' AND setting = 'x'")
         == 0)
    usleep(10000);
  pthread_create(&t, NULL, cancel_the_wait, &pid);
  int rc = kit_push_items(&other, q.id, 1, NULL, NULL);
  pthread_join(t, NULL);
  HOLDS(script(&store, "ALTER SYSTEM RESET synchronous_standby_names") == 0);
  kit_number(&store, "SELECT count(pg_reload_conf())");
  HOLDS(rc == RESPOOL_UNKNOWN_OUTCOME);
  HOLDS(stat_of(q.id, PUSHED) == 1);
  kit_close(&other);
}

static void a_killed_connection_is_replaced(void) {
  kit_queue q = queue_of(NULL);
  kit other;
  open_other(&other);
  HOLDS(kit_push_items(&other, q.id, 1, NULL, NULL) == 0);
  char sql[100];
  snprintf(sql, sizeof sql, "SELECT count(pg_terminate_backend(%d))",
           (int)kit_number(&other, "SELECT pg_backend_pid()"));
  kit_number(&store, sql);
  HOLDS(kit_push_items(&other, q.id, 1, NULL, NULL) == 0);
  HOLDS(stat_of(q.id, READY) == 2);
  kit_close(&other);
}

static PGconn *(*start)(const char *const *keys, const char *const *to,
                        int expand);
static int absent; /* so many attempts to connect fail yet */

static PGconn *start_late(const char *const *keys, const char *const *to,
                          int expand) {
  static const char *const host[] = {"host", NULL};
  static const char *const nowhere[] = {"/-", NULL};
  return absent-- > 0 ? start(host, nowhere, 0) : start(keys, to, expand);
}

/* The server could not be asked what it has, and is there when the push is to
   be sent: that was sent unasked. */
static void who_comes_up_late_is_asked_before_it_is_sent_anything(void) {
  kit_queue q = queue_of(NULL);
  kit other;
  open_other(&other);
  HOLDS(kit_push_items(&other, q.id, 1, NULL, NULL) == 0);
  other.s.ids.end += 1 << 30; /* ids that this server has not given out */
  connection_close(&other.s.at);
  start = pq.connectStartParams;
  pq.connectStartParams = start_late;
  absent = 1;
  HOLDS(kit_push_items(&other, q.id, 1, NULL, NULL) == RESPOOL_CORRUPT);
  HOLDS(absent < 0);
  pq.connectStartParams = start;
  HOLDS(stat_of(q.id, PUSHED) == 1);
  kit_close(&other);
}

static void a_child_process_is_refused(void) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    values v;
    request r;
    values_init(&v);
    int rc = kit_call(&store, &r, &v, STATEMENT_PROBE_READ, false);
    kit_close(&store);
    _exit(rc == RESPOOL_FORKED ? 0 : 1);
  }
  int status = 1;
  HOLDS(waitpid(pid, &status, 0) == pid && status == 0);
  HOLDS(kit_number(&store, "SELECT 1") == 1);
}

int main(int n, char **v) {
  verbs_open(n, v);
  of_two_that_take_one_gets_it();
  each_of_many_threads_has_its_own_answer();
  a_deadlock_is_tried_again();
  a_lost_answer_is_found_out();
  numbers_of_calls_only_rise();
  a_commit_that_no_standby_has_is_unknown();
  a_killed_connection_is_replaced();
  who_comes_up_late_is_asked_before_it_is_sent_anything();
  a_child_process_is_refused();
  return verbs_close();
}
