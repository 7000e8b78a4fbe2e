/* SPDX-License-Identifier: MIT */
/*
 * small DIR [SECONDS]: respool, and a job table in SQLite (WAL,
 * synchronous=FULL), in turns in one run: pushes and whole lives of items of
 * 100 bytes, durable, by processes that share a store. Prints the medians of
 * five rounds, the bytes of /proc/self/io, and the ratio of the rates.
 */
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "respool.h"

enum { ROUNDS = 5, SIZE = 100, GROUP_MAX = 64 };

typedef struct scene {
  const char *name;
  int processes, group;
  bool life;
} scene;

static const scene scenes[] = {
  {"push, 1 process", 1, 1, false},
  {"push, 8 processes", 8, 1, false},
  {"push, 16 processes", 16, 1, false},
  {"life, 1 process", 1, 1, true},
  {"life, groups of 10", 1, 10, true},
  {"life, 8 processes", 8, 1, true},
};

enum { WOKEN = 300 };
typedef struct shared {
  atomic_int go, stop, ready;
  _Atomic long done, cpu_us, bytes;
  double begun[WOKEN], returned[WOKEN], taken[WOKEN];
} shared;

static shared *s;
static const scene *now;
static char dir[4096];
static char body[SIZE];

static _Noreturn void die(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  _exit(EXIT_FAILURE);
}

/* ---- respool ------------------------------------------------------------- */

static respool *store;
static respool_queue *queue;

static void must(int rc, const char *what) {
  if (rc) die(what, respool_error_text());
}

static void respool_start_work(void) {
  char path[4200];
  snprintf(path, sizeof path, "%s/store", dir);
  must(respool_open(path, NULL, &store), "open");
  must(respool_queue_open(store, "jobs", NULL, &queue), "queue");
}

static void push_group(void) {
  respool_payload p[GROUP_MAX];
  for (int i = 0; i < now->group; i++)
    p[i] = (respool_payload){.body = {body, SIZE}};
  must(respool_push(queue, p, (size_t)now->group, NULL, NULL), "push");
}

static respool_batch *take_group(int64_t wait) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *batch;
  o.items = (uint64_t)now->group;
  o.wait = wait;
  must(respool_take(queue, &o, &batch), "take");
  return batch;
}

static long settle(respool_batch *batch) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  long n = batch ? (long)respool_batch_length(batch) : 0;
  done.kind = RESPOOL_DONE;
  if (!batch) return 0;
  must(respool_batch_mark_rest(batch, &done), "mark");
  must(respool_batch_settle(batch, NULL, NULL), "settle");
  respool_batch_free(batch);
  return n;
}

static long settle_group(void) {
  return settle(take_group(0));
}

/* ---- SQLite -------------------------------------------------------------- */

enum { INSERT, LEASE, DELETE, BEGIN, COMMIT, STATEMENTS };
#define NEXT "SELECT id FROM jobs WHERE until < ?2 ORDER BY until, id LIMIT ?3"
static const char *const text[STATEMENTS] = {
  "INSERT INTO jobs (until, body) VALUES (0, ?1)",
  "UPDATE jobs SET until = ?1 WHERE id IN (" NEXT ") RETURNING id, body",
  "DELETE FROM jobs WHERE id = ?1", "BEGIN IMMEDIATE", "COMMIT",
};
static const char schema[] =
  "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
  "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY AUTOINCREMENT,"
  " until INTEGER NOT NULL, body BLOB);"
  "CREATE INDEX IF NOT EXISTS due ON jobs (until, id);";
static sqlite3 *db;
static sqlite3_stmt *statements[STATEMENTS];

static void sqlite_start_work(void) {
  char path[4200];
  snprintf(path, sizeof path, "%s/jobs.db", dir);
  if (sqlite3_open(path, &db)) die("open", sqlite3_errmsg(db));
  sqlite3_busy_timeout(db, 60000);
  if (sqlite3_exec(db, schema, NULL, NULL, NULL))
    die("schema", sqlite3_errmsg(db));
  for (int i = 0; i < STATEMENTS; i++)
    if (sqlite3_prepare_v2(db, text[i], -1, &statements[i], NULL))
      die("prepare", sqlite3_errmsg(db));
}

static void run(int which) {
  int rc;
  while ((rc = sqlite3_step(statements[which])) == SQLITE_BUSY)
    sqlite3_reset(statements[which]);
  if (rc != SQLITE_DONE) die(text[which], sqlite3_errmsg(db));
  sqlite3_reset(statements[which]);
}

static void insert_group(void) {
  if (now->group > 1) run(BEGIN);
  for (int i = 0; i < now->group; i++) {
    sqlite3_bind_blob(statements[INSERT], 1, body, SIZE, SQLITE_STATIC);
    run(INSERT);
  }
  if (now->group > 1) run(COMMIT);
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int lease_group(sqlite3_int64 *ids) {
  sqlite3_stmt *q = statements[LEASE];
  int n = 0, rc;
  int64_t ms = now_ms();
  sqlite3_bind_int64(q, 1, ms + 60000);
  sqlite3_bind_int64(q, 2, ms);
  sqlite3_bind_int(q, 3, now->group);
  while ((rc = sqlite3_step(q)) == SQLITE_ROW || rc == SQLITE_BUSY)
    if (rc == SQLITE_ROW) ids[n++] = sqlite3_column_int64(q, 0);
  sqlite3_reset(q);
  return n;
}

static long delete_group(void) {
  sqlite3_int64 ids[GROUP_MAX];
  int n = lease_group(ids);
  if (n > 1) run(BEGIN);
  for (int i = 0; i < n; i++) {
    sqlite3_bind_int64(statements[DELETE], 1, ids[i]);
    run(DELETE);
  }
  if (n > 1) run(COMMIT);
  return n;
}

/* ---- processes ----------------------------------------------------------- */

typedef struct engine_of {
  const char *name;
  void (*start)(void), (*push)(void);
  long (*settle)(void);
} engine_of;

static const engine_of engines[] = {
  {"respool", respool_start_work, push_group, settle_group},
  {"sqlite", sqlite_start_work, insert_group, delete_group},
};

static long cpu_us(void) {
  struct rusage r;
  getrusage(RUSAGE_SELF, &r);
  return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 +
         r.ru_utime.tv_usec + r.ru_stime.tv_usec;
}

static long bytes_written(void) {
  char line[100];
  long n = 0;
  FILE *f = fopen("/proc/self/io", "r");
  while (f && fgets(line, sizeof line, f))
    sscanf(line, "write_bytes: %ld", &n);
  if (f) fclose(f);
  return n;
}

static _Noreturn void work(const engine_of *e) {
  long n = 0;
  e->start();
  e->push();
  if (now->life) e->settle();
  s->ready++;
  while (!s->go) usleep(100);
  long cpu = cpu_us(), bytes = bytes_written();
  while (!s->stop) {
    e->push();
    n += now->life ? e->settle() : now->group;
  }
  s->done += n;
  s->cpu_us += cpu_us() - cpu;
  s->bytes += bytes_written() - bytes;
  _exit(EXIT_SUCCESS);
}

static void clear(void) {
  char command[9000];
  snprintf(command, sizeof command, "rm -rf '%s' && mkdir '%s'", dir, dir);
  if (system(command)) die("clear", dir);
}

typedef struct result {
  double rate, cpu, bytes;
} result;

static result measure(const engine_of *e, double seconds) {
  struct timespec from, to;
  int status;
  clear();
  memset(s, 0, sizeof *s);
  if (fork() == 0) { /* makes the files */
    e->start();
    _exit(EXIT_SUCCESS);
  }
  wait(&status);
  for (int i = 0; i < now->processes; i++)
    if (fork() == 0) work(e);
  while (s->ready < now->processes) usleep(1000);
  clock_gettime(CLOCK_MONOTONIC, &from);
  s->go = 1;
  usleep((useconds_t)(seconds * 1e6));
  s->stop = 1;
  while (wait(&status) > 0)
    if (status) exit(EXIT_FAILURE);
  clock_gettime(CLOCK_MONOTONIC, &to);
  double n = (double)s->done;
  return (result){
    n / ((double)(to.tv_sec - from.tv_sec) +
         (double)(to.tv_nsec - from.tv_nsec) / 1e9),
    (double)s->cpu_us / n, (double)s->bytes / n};
}

static int by_rate(const void *a, const void *b) {
  double x = ((const result *)a)->rate, y = ((const result *)b)->rate;
  return x < y ? -1 : x > y;
}

static void play(double seconds) {
  result r[2][ROUNDS];
  for (int i = 0; i < ROUNDS; i++)
    for (int k = 0; k < 2; k++) r[k][i] = measure(&engines[k], seconds);
  for (int k = 0; k < 2; k++) qsort(r[k], ROUNDS, sizeof *r[k], by_rate);
  const result *j = &r[0][ROUNDS / 2], *q = &r[1][ROUNDS / 2];
  printf("| %-18s | %6.0f | %3.0f | %5.0f | %6.0f | %4.0f | %6.0f | %5.2f |\n",
         now->name, j->rate, j->cpu, j->bytes, q->rate, q->cpu, q->bytes,
         j->rate / q->rate);
  fflush(stdout);
}

/* ---- waking -------------------------------------------------------------- */

static double us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Takes, one at a time, and notes when it had each. */
static _Noreturn void wait_for_all(void) {
  respool_start_work();
  s->ready++;
  for (int n = 0, i; n < WOKEN; n++) {
    respool_batch *batch = take_group(60000);
    if (!batch) die("take", "nothing came");
    memcpy(&i, respool_batch_item(batch, 0)->body.data, sizeof i);
    s->taken[i] = us();
    settle(batch);
  }
  _exit(EXIT_SUCCESS);
}

static int by_time(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void wake(void) {
  int status;
  double whole[WOKEN], behind[WOKEN];
  clear();
  memset(s, 0, sizeof *s);
  now = &scenes[0];
  if (fork() == 0) wait_for_all();
  while (!s->ready) usleep(1000);
  respool_start_work();
  for (int i = 0; i < WOKEN; i++) {
    respool_payload p = {.body = {&i, sizeof i}};
    usleep(2000);
    s->begun[i] = us();
    must(respool_push(queue, &p, 1, NULL, NULL), "push");
    s->returned[i] = us();
  }
  wait(&status);
  for (int i = 0; i < WOKEN; i++) {
    whole[i] = s->taken[i] - s->begun[i];
    behind[i] = s->taken[i] - s->returned[i];
  }
  qsort(whole, WOKEN, sizeof *whole, by_time);
  qsort(behind, WOKEN, sizeof *behind, by_time);
  printf("push to taken in another process: begun p50 %.0f us, p99 %.0f us;"
         " returned p50 %.0f us, p99 %.0f us\n", whole[WOKEN / 2],
         whole[WOKEN * 99 / 100], behind[WOKEN / 2], behind[WOKEN * 99 / 100]);
  respool_queue_free(queue);
  respool_close(store);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: small DIR [SECONDS]\n");
    return EXIT_FAILURE;
  }
  snprintf(dir, sizeof dir, "%s/bench", argv[1]);
  s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE,
           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  memset(body, 'x', sizeof body);
  printf("| items a second | respool | CPU us | bytes | SQLite | CPU us "
         "| bytes | ratio |\n|---|---:|---:|---:|---:|---:|---:|---:|\n");
  for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
    now = &scenes[i];
    play(argc > 2 ? atof(argv[2]) : 1);
  }
  wake();
  clear();
  rmdir(dir);
  return EXIT_SUCCESS;
}
