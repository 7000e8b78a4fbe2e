/* SPDX-License-Identifier: MIT */
/*
 * Runs of lone items, against an array: whatever is pushed and removed, in
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
#include <sys/wait.h>

enum { NAMES = 3000, LONG = 255, ROUNDS = 400 };

static char names[NAMES][LONG + 1];
static uint64_t ids[NAMES]; /* 0: it is not there */
static uint64_t others[NAMES]; /* of a second item; 0: there is none */
static bool recorded[NAMES];   /* there was one: the partition has a record */

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

static bool is_lone(int i) {
  return ids[i] > 0 && !recorded[i];
}

/* Of some names the second item; the third is not pushed. */
static void push_some(respool_queue *q, int most) {
  static respool_payload list[NAMES];
  static int chosen[NAMES];
  static const uint8_t body[] = { 1 };
  respool_result r = RESPOOL_RESULT_INIT;
  size_t n = choose(chosen, most), m = 0;
  for (size_t i = 0; i < n; i++) {
    if (ids[chosen[i]] && (others[chosen[i]] || rand() % 4)) continue;
    list[m] = (respool_payload){ .body = { body, sizeof body } };
    list[m].partition = respool_text(names[chosen[i]]);
    chosen[m++] = chosen[i];
  }
  if (!m) return;
  WORKS(respool_push(q, list, m, NULL, &r));
  for (size_t i = 0; i < m; i++) {
    recorded[chosen[i]] |= ids[chosen[i]] > 0;
    *(ids[chosen[i]] ? &others[chosen[i]] : &ids[chosen[i]]) = r.first + i;
  }
}

static void remove_some(respool_queue *q, int most) {
  static uint64_t gone[2 * NAMES], removed;
  static int chosen[NAMES];
  size_t n = choose(chosen, most), m = 0;
  for (size_t i = 0; i < n; i++) {
    if (ids[chosen[i]]) gone[m++] = ids[chosen[i]];
    if (others[chosen[i]]) gone[m++] = others[chosen[i]];
    ids[chosen[i]] = others[chosen[i]] = 0;
    recorded[chosen[i]] = false;
  }
  if (m) WORKS(respool_remove_many(q, gone, m, &removed));
}

typedef struct expected {
  int i;
  uint64_t n;
} expected;

static bool compare(void *arg, const lone *x) {
  expected *e = arg;
  while (e->i < NAMES && !is_lone(e->i)) e->i++;
  HOLDS(e->i < NAMES && x->name.size == strlen(names[e->i]) &&
        !memcmp(x->name.data, names[e->i], x->name.size) &&
        x->id == ids[e->i]);
  e->i++;
  e->n++;
  return !wrong;
}

static uint64_t there_from(int i) {
  uint64_t n = 0;
  for (; i < NAMES; i++) n += is_lone(i);
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
  if (recorded[any]) return; /* it is not asked for these */
  HOLDS(lone_find(t, q, respool_text(names[any]), &x) == is_lone(any));
  HOLDS(!is_lone(any) || x.id == ids[any]);
}

static uint64_t items_in_runs(const queue *q) {
  uint64_t n = 0;
  for (size_t i = 0; i < q->n_runs; i++) n += q->runs[i].n;
  return n;
}

/* A transaction that is not committed leaves nothing behind, also not in what
   the process knows of the names. */
static void add_in_vain(txn *t, queue *q) {
  static lone of[NAMES], *list[NAMES];
  static int chosen[NAMES];
  size_t n = choose(chosen, 100), m = 0;
  for (size_t i = 0; i < n; i++) {
    if (ids[chosen[i]]) continue;
    of[m] = (lone){respool_text(names[chosen[i]]), q->next_id + m, 0, false};
    list[m] = &of[m];
    m++;
  }
  lones_add(t, q, list, m);
}

static void look_and_give_up(respool *s, const char *name) {
  txn *t;
  int rc = 0;
  WORKS(unit_begin(s->env, true, &t));
  queue *q = queue_find(t, name, &rc);
  look(t, q);
  HOLDS(items_in_runs(q) < 4 * NAMES + 5000);
  add_in_vain(t, q);
  unit_abort(t);
}

static void runs_have_what_was_pushed_and_not_removed(respool *s,
                                                      respool_queue *q) {
  for (int i = 0; i < ROUNDS && !wrong; i++) {
    int most = rand() % 3 ? 1 + rand() % 5 : 1 + rand() % 1000;
    if (rand() % 2)
      push_some(q, most);
    else
      remove_some(q, most);
    look_and_give_up(s, "q");
  }
  WORKS(respool_check(s, no_finding, NULL));
}

static void a_queue_without_items_has_no_runs(respool *s, respool_queue *q) {
  txn *t;
  int rc = 0;
  for (int i = 0; i < 100; i++) remove_some(q, NAMES);
  for (int i = 0; i < NAMES; i++)
    if (ids[i]) WORKS(respool_remove(q, ids[i]));
  for (int i = 0; i < NAMES; i++)
    if (others[i]) WORKS(respool_remove(q, others[i]));
  WORKS(unit_begin(s->env, true, &t));
  queue *in = queue_find(t, "q", &rc);
  HOLDS(!in->n_lones && !in->n_runs && !in->n_partitions);
  unit_abort(t);
}

static void another_queue_has_its_own(respool *s, respool_queue *q) {
  memset(ids, 0, sizeof ids);
  memset(others, 0, sizeof others);
  memset(recorded, 0, sizeof recorded);
  push_some(q, 1000);
  look_and_give_up(s, "other");
}

/* ---- several processes -------------------------------------------------- */

enum { PROCESSES = 3, PUSHES = 150 };

static void push_by_itself(const char *dir, unsigned seed) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool_queue *q;
  respool *s;
  srand(seed);
  o.sync = RESPOOL_SYNC_RELAXED;
  WORKS(respool_open(dir, &o, &s));
  WORKS(respool_queue_open(s, "q", NULL, &q));
  for (int i = 0; i < PUSHES && !wrong; i++) {
    push_some(q, 1 + rand() % 40);
    memset(ids, 0, sizeof ids); /* it may push a name again */
  }
  respool_queue_free(q);
  respool_close(s);
}

/* What another process has pushed is known before the next push. */
static void no_partition_has_two_lone_items(void) {
  char *dir = fresh_dir();
  respool_options o = RESPOOL_OPTIONS_INIT;
  int status = 0;
  respool *s;
  for (unsigned i = 0; i < PROCESSES; i++)
    if (fork() == 0) {
      push_by_itself(dir, i + 1);
      _exit(wrong > 0);
    }
  for (unsigned i = 0; i < PROCESSES; i++)
    HOLDS(wait(&status) > 0 && status == 0);
  WORKS(respool_open(dir, &o, &s));
  WORKS(respool_check(s, no_finding, NULL));
  respool_close(s);
  remove_dir(dir);
}

int main(void) {
  const char *seed = getenv("RESPOOL_SEED");
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool_queue *q, *other;
  respool *s;
  srand(seed ? (unsigned)atoi(seed) : 1);
  make_names();
  CHECK(no_partition_has_two_lone_items());
  memset(ids, 0, sizeof ids);
  WORKS(respool_open(":memory:", &o, &s));
  WORKS(respool_queue_open(s, "q", NULL, &q));
  WORKS(respool_queue_open(s, "other", NULL, &other));
  if (wrong) return exit_status();
  CHECK(runs_have_what_was_pushed_and_not_removed(s, q));
  CHECK(a_queue_without_items_has_no_runs(s, q));
  CHECK(another_queue_has_its_own(s, other));
  respool_queue_free(q);
  respool_queue_free(other);
  respool_close(s);
  return exit_status();
}
