/* SPDX-License-Identifier: MIT */
/*
 * The server engine against the naive queue in PostgreSQL, one row an item
 * and FOR UPDATE SKIP LOCKED, with leases that can be taken over. Each thread
 * pushes a group, takes it and settles it as done, durably:
 *
 *   bench/postgres URL [SECONDS [REPEATS [GROUP | threads]]]
 *
 * `rows` is the naive queue, `runs` ours, `next` ours with settle and take in
 * one unit. Runs of the three follow one another, so that the machine's other
 * load hits all alike; the line for a group gives medians and the ratios of
 * ours to `rows`. Before the groups comes an idle consumer, behind them 64
 * threads that push through one store, and a snapshot that is held open for 30
 * times SECONDS. Each figure that misses its goal says so. On a server that
 * waits for a standby the groups have other goals.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "respool.h"
#include "../../spec/c/postgres/kit.h"

enum variant { ROWS, RUNS, NEXT };

static const char *location;
static char schema[64];
static kit_queue queue;
static _Atomic bool stop;
static _Atomic int64_t pushed;
static _Atomic int broken;
static int missed; /* goals */
static bool has_standby;

typedef struct hand {
  kit k;
  kit_batch b;
  enum variant variant;
  int group;
  values v;
  marks marks;
  int64_t token;
  double rate; /* items a second, over whole cycles */
} hand;

static void die(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(2);
}

/* Ends a line with a figure and its goal. */
static void judge(double is, double goal, bool at_most) {
  bool met = at_most ? is <= goal : is >= goal;
  printf("  goal %s %g%s\n", at_most ? "<=" : ">=", goal,
         met ? "" : ": MISSED");
  missed += !met;
  fflush(stdout);
}

/* ---- the naive queue ---------------------------------------------------- */

static const char job[] =
  "CREATE TABLE job (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, queue "
  "int4 NOT NULL, priority int2 NOT NULL DEFAULT 0, due int8 NOT NULL DEFAULT "
  "0, token int8 NOT NULL DEFAULT 0, attempts int4 NOT NULL DEFAULT 0, body "
  "bytea NOT NULL) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, "
  "autovacuum_vacuum_threshold = 50000, autovacuum_vacuum_cost_delay = 0); "
  "CREATE INDEX ON job (queue, priority DESC, due, id)";

static const char *const naive[][2] = {
  {"push", "INSERT INTO job(queue, body) SELECT 1, unnest($1::bytea[])"},
  {"take", "UPDATE job SET token = $2::int8, due = $3::int8 + 30000 WHERE id "
           "= ANY (ARRAY(SELECT id FROM job WHERE queue = 1 AND due <= "
           "$3::int8 ORDER BY priority DESC, due, id LIMIT $1::int4 FOR "
           "UPDATE SKIP LOCKED)) RETURNING id, body"},
  {"done", "DELETE FROM job USING unnest($1::int8[]) AS x(id) WHERE job.id = "
           "x.id AND job.token = $2::int8"},
};

static PGresult *result_of(hand *h) {
  PGresult *kept = NULL;
  PGconn *c = h->k.s.at.c;
  if (!pq.pipelineSync(c)) die("sync", pq.errorMessage(c));
  for (;;) {
    PGresult *r = pq.getResult(c);
    if (!r) continue;
    int status = pq.resultStatus(r);
    if (status == PG_PIPELINE_SYNC) {
      pq.clear(r);
      return kept;
    }
    if (status != PG_TUPLES_OK && status != PG_COMMAND_OK)
      die("naive", pq.resultErrorField(r, PG_MESSAGE));
    if (kept) pq.clear(kept);
    kept = r;
  }
}

static PGresult *naive_run(hand *h, int which) {
  values_end(&h->v);
  pq.sendQueryPrepared(h->k.s.at.c, naive[which][0], h->v.n, h->v.at,
                       h->v.length, h->v.format, 1);
  PGresult *r = result_of(h);
  values_reset(&h->v);
  return r;
}

static void naive_open(hand *h) {
  kit_number(&h->k, "SELECT 1"); /* connects, sets the search_path */
  pq.setnonblocking(h->k.s.at.c, 0);
  for (int i = 0; i < 3; i++) {
    pq.sendPrepare(h->k.s.at.c, naive[i][0], naive[i][1], 0, NULL);
    pq.clear(result_of(h));
  }
}

static void naive_push(hand *h) {
  char body[100] = {0};
  array_begin(&h->v, TYPE_BYTEA, (size_t)h->group);
  for (int i = 0; i < h->group; i++)
    add_bytes(&h->v, (respool_bytes){body, sizeof body});
  array_end(&h->v);
  pq.clear(naive_run(h, 0));
}

static PGresult *naive_take(hand *h) {
  struct clock wall;
  clock_init(&wall, false);
  put_int4(&h->v, h->group);
  put_int8(&h->v, ++h->token);
  put_int8(&h->v, clock_now(&wall));
  return naive_run(h, 1);
}

static int naive_done(hand *h, PGresult *got) {
  int n = pq.ntuples(got);
  array_begin(&h->v, TYPE_INT8, (size_t)n);
  for (int i = 0; i < n; i++) add_int8(&h->v, value_int(got, i, 0));
  array_end(&h->v);
  put_int8(&h->v, h->token);
  if (n) pq.clear(naive_run(h, 2));
  values_reset(&h->v);
  pq.clear(got);
  return n;
}

/* ---- ours --------------------------------------------------------------- */

static void runs_push(hand *h) {
  kit_push o = {.body = 100};
  if (kit_push_items(&h->k, queue.id, (size_t)h->group, &o, NULL))
    die("push", respool_error_text());
}

static void take_runs(hand *h, enum look how) {
  kit_take o = {.marks = &h->marks, .how = how};
  if (kit_take_items(&h->k, queue.id, h->group, &o, &h->b))
    die("take", respool_error_text());
}

static size_t runs_take(hand *h) {
  enum look how = marks_look(&h->marks);
  take_runs(h, how);
  if (!h->b.n && how == LOOK_ON) take_runs(h, LOOK_BACK);
  return h->b.n;
}

static enum statement put_done(hand *h, values *v, call *c) {
  put_int4(v, queue.id);
  put_int4(v, session_slot(&h->k.s));
  put_null(v);
  call_put(c, v, true);
  return kit_put_done(&h->k, v, &h->b);
}

static void put_take(hand *h, values *v, enum look how) {
  uint64_t token;
  if (session_token(&h->k.s, 0, &token)) die("token", respool_error_text());
  put_int4(v, queue.id);
  put_int4(v, session_slot(&h->k.s));
  put_null(v);
  put_int4(v, h->group);
  put_null(v);
  put_null(v);
  marks_put(v, &h->marks, how);
  put_null(v);
  put_int8(v, (int64_t)token);
}

/* What is held is done, and the next batch taken, in one unit. */
static size_t next_batch(hand *h) {
  enum look how = marks_look(&h->marks);
  int64_t sent = clock_mono();
  values v[2];
  request r[2] = {{.values = &v[0]},
                  {.statement = STATEMENT_TAKE, .values = &v[1]}};
  call c = {.requests = r, .n = 2, .changes = true};
  size_t was = h->b.n;
  values_init(&v[0]);
  values_init(&v[1]);
  r[0].statement = put_done(h, &v[0], &c);
  put_take(h, &v[1], how);
  if (call_run(&h->k.s, &c)) die("unit", respool_error_text());
  broken += value_count(r[0].result, 0, 0) > 0;
  kit_read_batch(r[1].result, &h->b);
  marks_keep(&h->marks, r[1].result, how, sent);
  call_clear(&c);
  values_free(&v[0]);
  values_free(&v[1]);
  return was;
}

/* How many items were handled. */
static size_t cycle(hand *h) {
  if (h->variant == ROWS) {
    naive_push(h);
    return (size_t)naive_done(h, naive_take(h));
  }
  runs_push(h);
  if (h->variant == NEXT && h->b.n_runs) return next_batch(h);
  size_t n = runs_take(h);
  if (h->variant == NEXT) return 0;
  if (n) broken += kit_done(&h->k, queue.id, &h->b) > 0;
  return n;
}

/* ---- running ------------------------------------------------------------ */

/* A cycle of a large group takes a second, so what is under way when the time
   is up counts, and so does its time; and none is the only one. */
static void *work(void *arg) {
  hand *h = arg;
  int64_t start = clock_mono_us();
  size_t n = 0;
  h->b.n_runs = h->b.n = 0;
  memset(&h->b.head, 0, sizeof h->b.head);
  for (int cycles = 0; !stop || cycles < 4; cycles++) n += cycle(h);
  h->rate = (double)n * 1e6 / (double)(clock_mono_us() - start);
  return NULL;
}

static void run_script(hand *h, const char *sql) {
  pg_failure f;
  kit_number(&h->k, "SELECT 1");
  if (connection_script(&h->k.s.at, sql, clock_mono() + 9000, &f))
    die(sql, f.text);
}

static double measure(hand *h, int conns, enum variant variant, int group,
                      double seconds) {
  pthread_t t[64];
  double rate = 0;
  stop = false;
  for (int i = 0; i < conns; i++) {
    h[i].variant = variant;
    h[i].group = group;
    pq.setnonblocking(h[i].k.s.at.c, variant != ROWS);
  }
  for (int i = 0; i < conns; i++) pthread_create(&t[i], NULL, work, &h[i]);
  usleep((useconds_t)(seconds * 1e6));
  stop = true;
  for (int i = 0; i < conns; i++) {
    pthread_join(t[i], NULL);
    rate += h[i].rate;
  }
  pq.setnonblocking(h[0].k.s.at.c, 1);
  return rate;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *x, int n) {
  qsort(x, (size_t)n, sizeof *x, by_size);
  return x[n / 2];
}

/* Of four connections; 0: none. */
static double goal_of(int group) {
  if (has_standby) return group == 100 ? 2.5 : group == 1000 ? 6 : 0;
  switch (group) {
  case 1: return 0.95;
  case 10: return 1.2;
  case 100: return 3.5;
  case 1000: return 7;
  default: return 12;
  }
}

static void empty(hand *h) {
  run_script(h, "TRUNCATE run, job, tally, call");
}

static void compare(hand *h, int conns, int group, double seconds,
                    int repeats) {
  double rate[3][16];
  for (int i = 0; i < repeats; i++)
    for (int v = 0; v < 3; v++) {
      empty(h);
      rate[v][i] = measure(h, conns, (enum variant)v, group, seconds);
    }
  double rows = median(rate[ROWS], repeats);
  double runs = median(rate[RUNS], repeats);
  double next = median(rate[NEXT], repeats);
  printf("%6d %3d %10.0f %10.0f %10.0f %8.2f %8.2f", group, conns, rows,
         runs, next, runs / rows, next / rows);
  double goal = conns == 1 ? 0 : goal_of(group);
  if (goal > 0)
    judge((runs > next ? runs : next) / rows, goal, false);
  else
    printf("\n");
  fflush(stdout);
}

/* How long a take of an empty queue takes, and what it writes. */
static void idle(hand *h) {
  kit_number(&h->k, "SELECT 1");
  pq.setnonblocking(h->k.s.at.c, 1);
  kit_take_items(&h->k, queue.id, 1, NULL, &h->b);
  kit_number(&h->k, "SELECT 1");
  int64_t wal = kit_number(&h->k, "SELECT (pg_current_wal_insert_lsn() - "
                           "'0/0')::int8");
  int64_t start = clock_mono_us();
  h->group = 1;
  for (int i = 0; i < 2000; i++) take_runs(h, LOOK_ALL);
  int64_t took = clock_mono_us() - start;
  wal = kit_number(&h->k, "SELECT (pg_current_wal_insert_lsn() - '0/0')"
                   "::int8") - wal;
  printf("a take of an empty queue: %.3f ms", (double)took / 2000 / 1000);
  judge((double)took / 2000 / 1000, 0.3, true);
  printf("bytes of WAL that 2000 of them write: %lld", (long long)wal);
  judge((double)wal, 0, true);
}

/* ---- through a store ---------------------------------------------------- */

static respool *open_store(respool_queue **q, const char *more) {
  char path[600];
  respool *store;
  snprintf(path, sizeof path, "%s%cschema=%s%s", location,
           strchr(location, '?') ? '&' : '?', schema, more);
  if (respool_open(path, NULL, &store) ||
      respool_queue_open(store, "store", NULL, q))
    die("store", respool_error_text());
  return store;
}

static void *push_singly(void *arg) {
  char body[100] = {0};
  respool_payload p = {.body = {body, sizeof body}};
  while (!stop) {
    if (respool_push(arg, &p, 1, NULL, NULL))
      die("push", respool_error_text());
    pushed++;
  }
  return NULL;
}

static double push_rate(respool_queue *q, int threads, double seconds) {
  pthread_t t[64];
  stop = false;
  pushed = 0;
  int64_t start = clock_mono_us();
  for (int i = 0; i < threads; i++)
    pthread_create(&t[i], NULL, push_singly, q);
  usleep((useconds_t)(seconds * 1e6));
  stop = true;
  for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
  return (double)pushed * 1e6 / (double)(clock_mono_us() - start);
}

#define TURNS 7

static void threads(double seconds) {
  respool_queue *q;
  respool *store = open_store(&q, "");
  double one[TURNS], many[TURNS], ratio[TURNS];
  for (int i = 0; i < TURNS; i++) {
    one[i] = push_rate(q, 1, seconds / 2);
    many[i] = push_rate(q, 64, seconds / 2);
    ratio[i] = many[i] / one[i];
  }
  double x = median(ratio, TURNS);
  printf("pushes of single items a second: %.0f one by one, %.0f of 64 "
         "threads, x %.1f", median(one, TURNS), median(many, TURNS), x);
  judge(x, 40, false);
  respool_queue_free(q);
  respool_close(store);
}

/* Of stores that are COUNTED: queries so far, each one call of a function. */
#define COUNTED "&options=-c%20track_functions%3Dall"
static int64_t queries(kit *k) {
  return kit_number(k, "SELECT coalesce(sum(calls), 0)::int8 FROM "
                    "pg_stat_user_functions WHERE schemaname = "
                    "current_schema() AND funcname LIKE 'v1\\_%'");
}

/* Waits for `ms`; the queries of doing so, with all that opening and closing
   take. The server's count of them lags behind by a second. */
static int64_t wait_once(kit *k, int64_t ms) {
  respool_queue *q;
  respool_batch *b;
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  sleep(2);
  int64_t before = queries(k);
  respool *store = open_store(&q, COUNTED);
  uint64_t removed;
  (void)respool_purge(q, &removed);
  o.wait = 1000;
  (void)respool_take(q, &o, &b); /* it has left its row */
  o.wait = ms;
  if (ms) (void)respool_take(q, &o, &b);
  respool_queue_free(q);
  respool_close(store);
  sleep(2);
  return queries(k) - before;
}

static void waiting(kit *k) {
  wait_once(k, 0); /* makes the queue */
  int64_t rest = wait_once(k, 0), n = wait_once(k, 10000) - rest;
  printf("an idle consumer: %.1f queries a second", (double)n / 10);
  judge((double)n / 10, 1, true);
}

/* ---- a snapshot that is held -------------------------------------------- */

static void horizon(hand *h, double seconds) {
  kit other;
  pg_failure f;
  empty(h);
  double free_rate = measure(h, 4, RUNS, 100, seconds * 30);
  empty(h);
  kit_open(&other, location, schema, false);
  kit_number(&other, "SELECT 1");
  if (connection_script(&other.s.at, "BEGIN ISOLATION LEVEL REPEATABLE READ; "
                        "SELECT count(*) FROM run", clock_mono() + 9000, &f))
    die("snapshot", f.text);
  double held = measure(h, 4, RUNS, 100, seconds * 30);
  kit_close(&other);
  printf("groups of 100 for %.0f s: %.0f/s free, %.0f/s beside a snapshot, "
         "x %.2f", seconds * 30, free_rate, held, held / free_rate);
  judge(held / free_rate, 0.7, false);
}

int main(int n, char **v) {
  static const int all[] = {1, 10, 100, 1000, 10000};
  static hand h[4];
  if (n < 2) return 2;
  location = v[1];
  double seconds = n > 2 ? atof(v[2]) : 2;
  int repeats = n > 3 ? atoi(v[3]) : 3, only = n > 4 ? atoi(v[4]) : 0;
  bool only_threads = only == 0 && n > 4;
  snprintf(schema, sizeof schema, "bench_%d", (int)getpid());
  for (int i = 0; i < 4; i++) {
    kit_open(&h[i].k, location, schema, i == 0);
    values_init(&h[i].v);
    if (i == 0) {
      run_script(h, job);
      queue = kit_queue_save(&h[0].k, "q1", 0, NULL);
    }
    naive_open(&h[i]);
    h[i].token = (int64_t)i << 40;
  }
  has_standby = kit_number(&h[0].k, "SELECT count(*) FROM "
                           "pg_stat_replication WHERE sync_state = 'sync'");
  if (has_standby) printf("waiting for a standby\n");
  if (only_threads) {
    threads(seconds);
    schema_drop(&h[0].k.s);
    return missed != 0;
  }
  if (!only) waiting(&h[0].k);
  idle(&h[0]);
  printf("%6s %3s %10s %10s %10s %8s %8s\n", "group", "at", "rows/s",
         "runs/s", "next/s", "runs", "next");
  for (size_t g = 0; g < 5; g++)
    for (int conns = 1; conns <= 4; conns += 3)
      if (!only || all[g] == only)
        compare(h, conns, all[g], seconds, repeats);
  if (!only) {
    threads(seconds);
    horizon(h, seconds);
  }
  printf("%d goals missed\n", missed);
  if (broken) printf("%d settles lost their lease\n", broken);
  schema_drop(&h[0].k.s);
  return broken != 0;
}
