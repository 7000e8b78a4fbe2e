/* SPDX-License-Identifier: MIT */
/*
 * A job table in SQLite, as one who knows SQLite writes it: WAL with
 * synchronous=FULL, a rowid table, prepared statements, one transaction a
 * step, and each step of a group a walk over neighbouring rows: insert them;
 * read them and mark them leased; delete those that still bear the token.
 * The head is kept in memory, which spares the search for it.
 */
#include <sqlite3.h>
#include <string.h>
#include <time.h>

#include "bench.h"

enum { INSERT, SELECT, LEASE, DELETE, BEGIN, COMMIT, STATEMENTS };

#define SELECT_TEXT \
  "SELECT id, body FROM jobs WHERE id >= ?1 AND visible_at <= ?2" \
  " ORDER BY id LIMIT ?3"

static const char *const text[STATEMENTS] = {
  "INSERT INTO jobs (id, visible_at, token, body) VALUES (?1, 0, 0, ?2)",
  SELECT_TEXT,
  "UPDATE jobs SET visible_at = ?3, token = ?4 WHERE id BETWEEN ?1 AND ?2",
  "DELETE FROM jobs WHERE id BETWEEN ?1 AND ?2 AND token = ?3",
  "BEGIN IMMEDIATE",
  "COMMIT",
};

static const char schema[] =
  "PRAGMA page_size = 8192;"
  "PRAGMA journal_mode = WAL;"
  "PRAGMA synchronous = FULL;"
  "PRAGMA cache_size = -65536;"
  "CREATE TABLE jobs (id INTEGER PRIMARY KEY, visible_at INTEGER NOT NULL,"
  " token INTEGER NOT NULL, body BLOB NOT NULL);";

typedef struct table {
  bench b;
  sqlite3 *db;
  sqlite3_stmt *s[STATEMENTS];
  int64_t tail, head, token; /* next to push, to take, to deliver */
} table;

static void must(table *q, int rc, const char *what) {
  if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW)
    bench_die("%s: %s", what, sqlite3_errmsg(q->db));
}

/* Runs a statement that returns no rows; what was bound stays bound. */
static void run(table *q, int statement) {
  must(q, sqlite3_step(q->s[statement]), text[statement]);
  must(q, sqlite3_reset(q->s[statement]), text[statement]);
}

static void bind(table *q, int statement, int column, int64_t value) {
  must(q, sqlite3_bind_int64(q->s[statement], column, value), "bind");
}

static void open_table(table *q) {
  must(q, sqlite3_open(bench_path(&q->b, "jobs.db"), &q->db), "open");
  must(q, sqlite3_exec(q->db, schema, NULL, NULL, NULL), "schema");
  for (int i = 0; i < STATEMENTS; i++)
    must(q, sqlite3_prepare_v3(q->db, text[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &q->s[i], NULL), text[i]);
}

static void insert(table *q, const uint8_t *item) {
  bind(q, INSERT, 1, q->tail++);
  must(q, sqlite3_bind_blob(q->s[INSERT], 2, item, (int)q->b.size,
                            SQLITE_STATIC), "bind");
  run(q, INSERT);
}

static void push(void *arg) {
  table *q = arg;
  const uint8_t *group = bench_stamp(&q->b, q->b.bytes, (uint64_t)q->tail);
  run(q, BEGIN);
  for (size_t i = 0; i < q->b.group; i++)
    insert(q, group + i * q->b.size);
  run(q, COMMIT);
}

/* Copies a group out, as a consumer would. */
static void read_group(table *q, int64_t now) {
  sqlite3_stmt *s = q->s[SELECT];
  bind(q, SELECT, 1, q->head);
  bind(q, SELECT, 2, now);
  bind(q, SELECT, 3, (int64_t)q->b.group);
  for (size_t i = 0; i < q->b.group; i++) {
    if (sqlite3_step(s) != SQLITE_ROW)
      bench_die("take: %s", sqlite3_errmsg(q->db));
    const void *body = sqlite3_column_blob(s, 1);
    bench_expect(&q->b, body, (size_t)sqlite3_column_bytes(s, 1),
                 (uint64_t)q->head + i);
    memcpy(q->b.batch + i * q->b.size, body, q->b.size);
  }
  must(q, sqlite3_reset(s), "take");
}

static int64_t last(const table *q) {
  return q->head + (int64_t)q->b.group - 1;
}

static void take(table *q) {
  int64_t now = (int64_t)time(NULL);
  run(q, BEGIN);
  read_group(q, now);
  bind(q, LEASE, 1, q->head);
  bind(q, LEASE, 2, last(q));
  bind(q, LEASE, 3, now + 30);
  bind(q, LEASE, 4, ++q->token);
  run(q, LEASE);
  run(q, COMMIT);
}

static void done(table *q) {
  bind(q, DELETE, 1, q->head);
  bind(q, DELETE, 2, last(q));
  bind(q, DELETE, 3, q->token);
  run(q, BEGIN);
  run(q, DELETE);
  run(q, COMMIT);
  if (sqlite3_changes(q->db) != (int)q->b.group)
    bench_die("done: %d items of %zu", sqlite3_changes(q->db), q->b.group);
  q->head += (int64_t)q->b.group;
}

static void drain(void *q) {
  take(q);
  done(q);
}

int main(int argc, char **argv) {
  table q = { .db = NULL };
  bench_init(&q.b, argc, argv);
  open_table(&q);
  bench_round(&q.b, &q, push, drain);
  for (int i = 0; i < STATEMENTS; i++)
    sqlite3_finalize(q.s[i]);
  sqlite3_close(q.db);
  bench_free(&q.b);
  return 0;
}
