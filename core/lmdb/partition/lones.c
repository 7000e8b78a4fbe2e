/* SPDX-License-Identifier: MIT */
/*
 * Lone items; see lones.h. An item that runs hold is lone unless it has ended,
 * left its space, or has a record of its partition.
 *
 * Each process keeps a filter of the names in the runs of a queue, so that a
 * push of a new name reads none of them. It has those of all ids up to `seen`;
 * what others added since is read before the filter is asked.
 */
#include "lmdb/partition/lones.h"

#include "lmdb/partition/name_filter.h"
#include "lmdb/partition/set.h"
#include "lmdb/queue/state.h"

#include <stdlib.h>
#include <string.h>

#define FEW_NAMES 8192  /* for which a filter is made at least */
#define NAMES_A_LOOK 4096 /* a filter is made once the runs have fewer names for
                             each one that was looked for without */

/* ---- sorting ------------------------------------------------------------ */

static int order_of(const lone *a, const lone *b) {
  int order = names_compare(a->name, b->name);
  return order ? order : (a->id > b->id) - (a->id < b->id);
}

static int by_name(const void *a, const void *b) {
  return order_of(*(lone *const *)a, *(lone *const *)b);
}

void lones_sort(lone **list, size_t n) {
  for (size_t i = 1; i < n; i++)
    if (order_of(list[i - 1], list[i]) > 0) {
      qsort(list, n, sizeof *list, by_name);
      return;
    }
}

/* ---- names that may be there -------------------------------------------- */

/* What this process knows of the names in a queue's runs. */
typedef struct lone_names {
  struct lone_names *next;
  uint32_t queue;
  name_filter filter;
  uint64_t seen;  /* names of ids up to it are in the filter */
  uint64_t added; /* the same once this transaction has committed; 0: it has
                     not looked yet */
  uint64_t looks; /* without a filter */
} lone_names;

static void free_names(void *all) {
  for (lone_names *k = all, *next; k; k = next) {
    next = k->next;
    name_filter_free(&k->filter);
    free(k);
  }
}

/* Has the queue of this id any? */
static bool has_runs(txn *t, uint32_t id) {
  name_key own = partition_key(id, (respool_bytes){NULL, 0});
  respool_bytes k, v;
  return txn_seek(t, DB_LONES, name_key_bytes(&own), &k, &v) &&
         k.size > own.n && !memcmp(k.data, own.b, own.n);
}

/* Of queues without runs, which may have been dropped, by whatever process. */
static void forget_idle(txn *t) {
  lone_names *kept = NULL;
  for (lone_names *k = t->env->names, *next; k; k = next) {
    next = k->next;
    k->next = NULL;
    if (!has_runs(t, k->queue)) {
      free_names(k);
      continue;
    }
    k->next = kept;
    kept = k;
  }
  t->env->names = kept;
}

static lone_names *names_known(txn *t, const queue *q) {
  lone_names *k = t->env->names;
  while (k && k->queue != q->id) k = k->next;
  if (k) return k;
  forget_idle(t);
  k = calloc(1, sizeof *k);
  if (!k) return NULL;
  k->queue = q->id;
  k->next = t->env->names;
  t->env->names = k;
  t->env->names_free = free_names;
  return k;
}

static uint64_t names_in_runs(const queue *q) {
  uint64_t n = 0;
  for (size_t i = 0; i < q->n_runs; i++) n += q->runs[i].n;
  return n;
}

/* Adds the names of a run that are not in the filter. */
static void note_run(txn *t, const queue *q, const lone_run *r,
                     lone_names *k) {
  run_walk w;
  if (r->last <= k->seen) return;
  run_walk_from(&w, t, q, r, (respool_bytes){NULL, 0});
  for (; w.more; run_walk_on(&w))
    if (w.here.id > k->seen) name_filter_add(&k->filter, w.here.name);
  if (w.rc) partition_unread(t, q, w.rc);
  run_walk_end(&w);
}

static void note_runs(txn *t, const queue *q, lone_names *k) {
  for (size_t i = q->n_runs; i > 0 && !t->rc; i--)
    note_run(t, q, &q->runs[i - 1], k);
  if (q->n_runs && !t->rc) k->added = q->runs[q->n_runs - 1].last;
}

/* Makes the filter where it is worth that, and where it is full. */
static bool has_filter(const queue *q, lone_names *k, size_t n) {
  uint64_t names = names_in_runs(q);
  if (k->filter.words && k->filter.n <= k->filter.room) return true;
  k->looks += n;
  if (!k->filter.words && k->looks < names / NAMES_A_LOOK) return false;
  k->seen = 0;
  return name_filter_reset(&k->filter, FEW_NAMES + 2 * names);
}

/* The filter of a queue's names; NULL: any may be there. */
static name_filter *names_of(txn *t, const queue *q, size_t n) {
  lone_names *k = names_known(t, q);
  if (!k || (!k->added && !has_filter(q, k, n))) return NULL;
  if (!k->added) note_runs(t, q, k);
  return k->filter.words && !t->rc ? &k->filter : NULL;
}

static void note_added(txn *t, const queue *q, const lone *list, size_t n) {
  lone_names *k = names_known(t, q);
  if (!k || !k->filter.words) return;
  for (size_t i = 0; i < n; i++) {
    name_filter_add(&k->filter, list[i].name);
    if (list[i].id > k->added) k->added = list[i].id;
  }
}

void lones_settle(txn *t, bool committed) {
  for (lone_names *k = t->env->names; k; k = k->next) {
    if (committed && k->added) k->seen = k->added;
    k->added = 0;
  }
}

/* ---- looking ------------------------------------------------------------ */

/* Looks in a run for those items of a sorted list that have no id yet. One that
   is there is `found`. One that has ended gets its id as well: what older runs
   have under its name has ended before it was pushed. Returns how many it
   met. */
static size_t look_in_run(txn *t, const queue *q, const lone_run *r,
                          lone *list, size_t n) {
  run_walk w;
  size_t met = 0;
  run_walk_from(&w, t, q, r, list->name);
  for (size_t i = 0; i < n && !w.rc && !t->rc; i++) {
    if (list[i].id) continue;
    run_walk_to(&w, list[i].name);
    if (!w.more || names_compare(w.here.name, list[i].name)) continue;
    list[i].id = w.here.id;
    list[i].priority = w.here.priority;
    list[i].found = lone_is_there(t, q, &w.here);
    met++;
  }
  if (w.rc) partition_unread(t, q, w.rc);
  run_walk_end(&w);
  return met;
}

/* From the newest run on. */
static void look_in_runs(txn *t, const queue *q, lone *list, size_t n) {
  size_t left = n;
  for (size_t i = q->n_runs; i > 0 && left && !t->rc; i--)
    left -= look_in_run(t, q, &q->runs[i - 1], list, n);
}

bool lone_find(txn *t, queue *q, respool_bytes name, lone *found) {
  const name_filter *f = q->n_lones ? names_of(t, q, 1) : NULL;
  *found = (lone){.name = name};
  if (q->n_lones && !t->rc && (!f || name_filter_has(f, name)))
    look_in_runs(t, q, found, 1);
  return !t->rc && found->found;
}

/* ---- adding and ending -------------------------------------------------- */

/* Which of a list are there. */
static void find_list(txn *t, const queue *q, lone **list, size_t n,
                      lone *room) {
  const name_filter *f = names_of(t, q, n);
  size_t m = 0;
  for (size_t i = 0; i < n; i++) {
    list[i]->found = !f || name_filter_has(f, list[i]->name);
    if (!list[i]->found) continue;
    room[m++] = (lone){.name = list[i]->name};
  }
  look_in_runs(t, q, room, m);
  for (size_t i = 0, j = 0; i < n; i++)
    if (list[i]->found) list[i]->found = room[j++].found;
}

void lones_add(txn *t, queue *q, lone **list, size_t n) {
  lone *room = malloc((n + 1) * sizeof *room);
  size_t m = 0;
  if (!room) {
    txn_fail(t, RESPOOL_NOMEM);
    return;
  }
  find_list(t, q, list, n, room);
  for (size_t i = 0; i < n; i++)
    if (!list[i]->found) room[m++] = *list[i];
  runs_add(t, q, room, m);
  if (m && !t->rc) note_added(t, q, room, m);
  free(room);
  q->n_lones += m;
}

void lones_end(txn *t, queue *q) {
  if (q->n_lones) q->n_lones--;
  queue_changed(t, q);
}

/* ---- all of them -------------------------------------------------------- */

static bool has_record(txn *t, const queue *q, respool_bytes name) {
  name_key k = partition_key(q->id, name);
  respool_bytes v;
  return txn_get(t, DB_PARTITIONS, name_key_bytes(&k), &v);
}

/* The walk whose item is the first by name; NULL: none has one. */
static run_walk *first_walk(run_walk *walks, size_t n) {
  run_walk *first = NULL;
  for (size_t i = 0; i < n; i++)
    if (walks[i].more &&
        (!first || names_compare(walks[i].here.name, first->here.name) < 0))
      first = &walks[i];
  return first;
}

static bool is_behind(respool_bytes name, respool_bytes after) {
  return !after.size || names_compare(name, after) > 0;
}

int lones_each(txn *t, const queue *q, respool_bytes after,
               bool (*each)(void *arg, const lone *x), void *arg) {
  run_walk *walks = malloc((q->n_runs + 1) * sizeof *walks), *w;
  bool goes_on = true;
  int rc = walks ? 0 : RESPOOL_NOMEM;
  if (!walks) return rc;
  for (size_t i = 0; i < q->n_runs; i++)
    run_walk_from(&walks[i], t, q, &q->runs[i], after);
  for (; goes_on && (w = first_walk(walks, q->n_runs)); run_walk_on(w))
    if (is_behind(w->here.name, after) && lone_is_there(t, q, &w->here) &&
        !has_record(t, q, w->here.name))
      goes_on = each(arg, &w->here);
  for (size_t i = 0; i < q->n_runs; i++) {
    if (!rc) rc = walks[i].rc;
    run_walk_end(&walks[i]);
  }
  free(walks);
  return rc;
}
