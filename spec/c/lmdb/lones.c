/* SPDX-License-Identifier: MIT */
/*
 * Groups of lone items, against an array: whatever is added and removed, in
 * lists large and small, both have the same items in the same order. The names
 * are such that many are the beginning of another, and some are as long as they
 * may be.
 */
#include "../holds.h"

#include "lmdb/env/env.h"
#include "lmdb/partition/lones.h"
#include "lmdb/queue/state.h"
#include "lmdb/unit/unit.h"
#include "verbs/store/store.h"

#include <stdio.h>

enum { NAMES = 3000, LONG = 255, ROUNDS = 400 };

static char names[NAMES][LONG + 1];
static uint64_t ids[NAMES]; /* 0: it is not there */
static uint64_t last_id;

static int by_name(const void *a, const void *b) {
  return strcmp(a, b);
}

static void make_names(void) {
  for (int i = 0; i < NAMES; i++) {
    int n = snprintf(names[i], LONG + 1, "%x", (unsigned)i * 7919u % 65536u);
    if (i % 50 == 0) memset(names[i] + n, 'x', (size_t)(LONG - n));
  }
  qsort(names, NAMES, sizeof *names, by_name);
}

static lone lone_of(int i) {
  return (lone){respool_text(names[i]), ids[i], i % 256, false};
}

/* A random list of different names, sorted: some from all over, or many that
   are neighbours. */
static size_t choose(int *list, int most) {
  size_t n = 0;
  bool near = rand() % 2;
  int from = near ? rand() % NAMES : 0, rare = near ? 1 : NAMES / most + 1;
  for (int i = from; i < NAMES && n < (size_t)most; i++)
    if (rand() % rare == 0) list[n++] = i;
  return n;
}

static void add_some(txn *t, queue *q, int most) {
  static lone of[NAMES], *list[NAMES];
  static int chosen[NAMES];
  size_t n = choose(chosen, most);
  for (size_t i = 0; i < n; i++) {
    of[i] = lone_of(chosen[i]);
    of[i].id = ++last_id;
    list[i] = &of[i];
  }
  lones_add(t, q, list, n);
  for (size_t i = 0; i < n; i++) {
    HOLDS(of[i].found == (ids[chosen[i]] > 0));
    if (!ids[chosen[i]]) ids[chosen[i]] = of[i].id;
  }
}

/* Every fifth with an id that is not its own, so that it stays. */
static void remove_some(txn *t, queue *q, int most) {
  static lone of[NAMES], *list[NAMES];
  static int chosen[NAMES];
  size_t n = choose(chosen, most);
  for (size_t i = 0; i < n; i++) {
    of[i] = lone_of(chosen[i]);
    if (i % 5 == 4) of[i].id = last_id + 1;
    list[i] = &of[i];
  }
  lones_remove(t, q, list, n);
  for (size_t i = 0; i < n; i++) {
    HOLDS(of[i].found == (ids[chosen[i]] > 0 && i % 5 < 4));
    if (of[i].found) ids[chosen[i]] = 0;
  }
}

typedef struct expected {
  int i;
  uint64_t n;
} expected;

static bool compare(void *arg, const lone *x) {
  expected *e = arg;
  while (e->i < NAMES && !ids[e->i]) e->i++;
  HOLDS(e->i < NAMES && x->name.size == strlen(names[e->i]) &&
        !memcmp(x->name.data, names[e->i], x->name.size) &&
        x->id == ids[e->i] && x->priority == e->i % 256);
  e->i++;
  e->n++;
  return !wrong;
}

static uint64_t there_from(int i) {
  uint64_t n = 0;
  for (; i < NAMES; i++) n += ids[i] > 0;
  return n;
}

static void look(txn *t, queue *q) {
  expected all = {0, 0}, behind = {1 + rand() % (NAMES - 1), 0};
  int any = rand() % NAMES, from = behind.i;
  respool_bytes after = respool_text(names[from - 1]);
  lone x;
  HOLDS(lones_each(t, q, (respool_bytes){NULL, 0}, compare, &all) == 0);
  HOLDS(all.n == there_from(0) && q->n_lones == all.n);
  HOLDS(lones_each(t, q, after, compare, &behind) == 0);
  HOLDS(behind.n == there_from(from));
  HOLDS(lone_find(t, q, respool_text(names[any]), &x) == (ids[any] > 0));
  HOLDS(!ids[any] || x.id == ids[any]);
}

static void groups_hold_what_was_added_and_not_removed(respool *s) {
  txn *t;
  int rc = 0;
  for (int i = 0; i < ROUNDS && !wrong; i++) {
    int most = rand() % 3 ? 1 + rand() % 5 : 1 + rand() % 1000;
    WORKS(unit_begin(s->env, true, &t));
    queue *q = queue_find(t, "q", &rc);
    if (rand() % 2)
      add_some(t, q, most);
    else
      remove_some(t, q, most);
    look(t, q);
    WORKS(unit_commit(t));
  }
}

static void another_queue_has_its_own(respool *s) {
  txn *t;
  int rc = 0;
  lone x = lone_of(0), *list = &x;
  WORKS(unit_begin(s->env, true, &t));
  queue *other = queue_find(t, "other", &rc);
  HOLDS(!lone_find(t, other, x.name, &x));
  x.id = 77;
  lones_add(t, other, &list, 1);
  HOLDS(!x.found && other->n_lones == 1);
  look(t, queue_find(t, "q", &rc));
  WORKS(unit_commit(t));
}

int main(void) {
  const char *seed = getenv("RESPOOL_SEED");
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool_queue *q, *other;
  respool *s;
  srand(seed ? (unsigned)atoi(seed) : 1);
  make_names();
  WORKS(respool_open(":memory:", &o, &s));
  WORKS(respool_queue_open(s, "q", NULL, &q));
  WORKS(respool_queue_open(s, "other", NULL, &other));
  if (wrong) return exit_status();
  CHECK(groups_hold_what_was_added_and_not_removed(s));
  CHECK(another_queue_has_its_own(s));
  respool_queue_free(q);
  respool_queue_free(other);
  respool_close(s);
  return exit_status();
}
