/* SPDX-License-Identifier: MIT */
/*
 * The tables that share their trees, against arrays: whatever is put and
 * deleted, in transactions small and large, that are committed or given up,
 * both have the same records, and cursors find them in the same order, also
 * while they change. The tables are neighbours, and some keys begin another.
 */
#include "../holds.h"

#include "lmdb/env/env.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/env/txn/recent.h"
#include "lmdb/env/txn/table.h"
#include "lmdb/unit/unit.h"
#include "verbs/store/store.h"

enum { TABLES = 3, KEYS = 1500, LONG = 300, ROUNDS = 1500 };

static const enum db tables[TABLES] = { DB_KEYS, DB_WINDOWS, DB_ENTRIES };

static char keys[KEYS][LONG + 1];   /* sorted */
static int there[TABLES][KEYS];     /* the value; 0: no record */
static int committed[TABLES][KEYS];

/* What was met: the spec is blind where one is 0. */
static int folds, gone, straight, walked;

static int by_name(const void *a, const void *b) {
  return strcmp(a, b);
}

static void make_keys(void) {
  for (int i = 0; i < KEYS; i++) {
    int n = snprintf(keys[i], LONG + 1, "%x", (unsigned)i * 7919u % 65536u);
    if (i % 100 == 0) memset(keys[i] + n, 'x', (size_t)(LONG - n));
  }
  qsort(keys, KEYS, sizeof *keys, by_name);
}

static bool is(respool_bytes b, const char *text) {
  return b.size == strlen(text) && !memcmp(b.data, text, b.size);
}

static bool has_value(respool_bytes b, int value) {
  char text[40];
  snprintf(text, sizeof text, "%*d", 3 + value % 30, value);
  return is(b, text);
}

static void put(txn *t, int table, int at) {
  char text[40];
  int value = 1 + rand() % 100000;
  snprintf(text, sizeof text, "%*d", 3 + value % 30, value);
  txn_put(t, tables[table], respool_text(keys[at]), respool_text(text));
  there[table][at] = value;
}

static void del(txn *t, int table, int at) {
  txn_del(t, tables[table], respool_text(keys[at]));
  there[table][at] = 0;
}

static int after(int table, int at) {
  while (at < KEYS && !there[table][at]) at++;
  return at;
}

static int before(int table, int at) {
  while (at >= 0 && !there[table][at]) at--;
  return at;
}

static void is_record(int table, int at, respool_bytes k, respool_bytes v) {
  HOLDS(is(k, keys[at]) && has_value(v, there[table][at]));
}

static void look(txn *t, int table, int at) {
  enum db db = tables[table];
  respool_bytes k, v;
  int up = after(table, at), down = before(table, at);
  bool found = txn_get(t, db, respool_text(keys[at]), &v);
  HOLDS(found == (there[table][at] > 0));
  if (found) HOLDS(has_value(v, there[table][at]));
  found = txn_seek(t, db, respool_text(keys[at]), &k, &v);
  HOLDS(found == (up < KEYS));
  if (found) is_record(table, up, k, v);
  found = txn_floor(t, db, respool_text(keys[at]), &k, &v);
  HOLDS(found == (down >= 0));
  if (found) is_record(table, down, k, v);
}

/* Changes what lies about a place while a cursor is there. */
static void change_near(txn *t, int table, int at) {
  int near = at + rand() % 7 - 3;
  if (near < 0 || near >= KEYS || near == at) return;
  if (rand() % 2)
    put(t, table, near);
  else
    del(t, table, near);
}

static bool go_on(cur *c, int table, int *at) {
  bool up = rand() % 4 > 0;
  int next = up ? after(table, *at + 1) : before(table, *at - 1);
  bool found = up ? cur_next(c) : cur_prev(c);
  HOLDS(found == (up ? next < KEYS : next >= 0));
  if (found) is_record(table, next, c->key, c->value);
  *at = next;
  return found;
}

static void walk(txn *t, int table, int at) {
  cur c;
  bool writes = t->write && rand() % 2;
  cur_open(&c, t, tables[table]);
  bool more = cur_seek(&c, respool_text(keys[at]));
  at = after(table, at);
  HOLDS(more == (at < KEYS));
  for (int n = rand() % 30; more && n > 0 && !wrong; n--, walked++) {
    if (writes && rand() % 3 == 0) change_near(t, table, at);
    if (writes && rand() % 5 == 0 && there[table][at]) {
      cur_del(&c);
      there[table][at] = 0;
    }
    more = go_on(&c, table, &at);
  }
  cur_close(&c);
}

static void any_change(txn *t) {
  int table = rand() % TABLES, at = rand() % KEYS;
  switch (rand() % 8) {
    case 0: case 1: case 2: put(t, table, at); break;
    case 3: case 4: del(t, table, at); break;
    case 5: walk(t, table, at); break;
    default: look(t, table, at);
  }
}

static bool is_whole(txn *t, int table) {
  cur c;
  int at = 0;
  cur_open(&c, t, tables[table]);
  for (bool more = cur_first(&c); more && !wrong; more = cur_next(&c), at++) {
    at = after(table, at);
    HOLDS(at < KEYS);
    if (at < KEYS) is_record(table, at, c.key, c.value);
  }
  cur_close(&c);
  return after(table, at) == KEYS;
}

static void count_gone(txn *t) {
  cur c;
  cur_open_tree(&c, t, TREE_RECENT);
  for (bool more = cur_first(&c); more; more = cur_next(&c))
    gone += recent_is_gone(c.value);
  cur_close(&c);
}

static void read_all(respool *s, size_t recent) {
  txn *t;
  WORKS(unit_begin(s->env, false, &t));
  folds += txn_entries(t, TREE_RECENT) + 10 < recent;
  count_gone(t);
  for (int i = 0; i < TABLES; i++) {
    HOLDS(is_whole(t, i));
    walk(t, i, rand() % KEYS);
  }
  unit_abort(t);
}

static void transaction(respool *s, int changes) {
  txn *t;
  WORKS(unit_begin(s->env, true, &t));
  while (changes-- > 0 && !wrong) any_change(t);
  size_t recent = txn_entries(t, TREE_RECENT);
  straight += t->small_changes > 300;
  bool is_kept = rand() % 5 > 0;
  if (is_kept)
    WORKS(unit_commit(t));
  else
    unit_abort(t);
  memcpy(is_kept ? committed : there, is_kept ? there : committed,
         sizeof there);
  read_all(s, recent);
}

static void both_have_the_same_records(respool *s) {
  for (int i = 0; i < ROUNDS && !wrong; i++)
    transaction(s, rand() % 40 ? 1 + rand() % 8 : 1 + rand() % 2000);
  HOLDS(folds > 10 && gone > 10 && straight > 10 && walked > 1000);
}

/* A commit that finds no room to move them leaves them, and nothing is lost,
   but they do not become more; the next one that has room moves them. */
static void a_full_map_leaves_them(respool *s) {
  lmdb_env *e = (lmdb_env *)s->env;
  size_t size = e->map_size, n = 0;
  txn *t;
  e->map_size = 0;
  for (int i = 0; i < 30 && !wrong; i++) {
    transaction(s, 100);
    WORKS(unit_begin(s->env, false, &t));
    n = txn_entries(t, TREE_RECENT);
    unit_abort(t);
  }
  HOLDS(n > 100 && n < 1000);
  e->map_size = size;
  for (int i = 0; i < 10; i++) transaction(s, 5);
  WORKS(unit_begin(s->env, false, &t));
  HOLDS(txn_entries(t, TREE_RECENT) < n / 2);
  unit_abort(t);
}

static void put_size(respool *s, char fill, size_t size) {
  static char bytes[100000];
  txn *t;
  memset(bytes, fill, size);
  WORKS(unit_begin(s->env, true, &t));
  txn_put(t, DB_NOTES, respool_text("large"), (respool_bytes){bytes, size});
  WORKS(unit_commit(t));
}

/* 0: there is none, and none of its pages either. */
static size_t size_left(respool *s, size_t *recent) {
  txn *t;
  respool_bytes v = {NULL, 0};
  MDB_stat st;
  WORKS(unit_begin(s->env, false, &t));
  *recent = txn_entries(t, TREE_RECENT);
  (void)txn_get(t, DB_NOTES, respool_text("large"), &v);
  HOLDS(!mdb_stat(t->mdb, t->env->trees[TREE_STATE], &st));
  HOLDS((v.size > 4096) == (st.ms_overflow_pages > 0));
  unit_abort(t);
  return v.size;
}

/* Nor does one that was small stay over one that is large. */
static void large_values_have_pages_of_their_own(respool *s) {
  size_t before, recent;
  txn *t;
  (void)size_left(s, &before);
  put_size(s, 'a', 9);
  HOLDS(size_left(s, &recent) == 9 && recent == before + 1);
  put_size(s, 'b', 90000);
  HOLDS(size_left(s, &recent) == 90000 && recent == before);
  WORKS(unit_begin(s->env, true, &t));
  txn_del(t, DB_NOTES, respool_text("large"));
  WORKS(unit_commit(t));
  HOLDS(size_left(s, &recent) == 0 && recent == before);
}

int main(void) {
  const char *seed = getenv("RESPOOL_SEED");
  respool *s;
  srand(seed ? (unsigned)atoi(seed) : 1);
  make_keys();
  WORKS(respool_open(":memory:", NULL, &s));
  if (wrong) return exit_status();
  CHECK(large_values_have_pages_of_their_own(s));
  CHECK(both_have_the_same_records(s));
  CHECK(a_full_map_leaves_them(s));
  respool_close(s);
  return exit_status();
}
