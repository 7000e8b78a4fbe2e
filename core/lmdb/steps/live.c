/* SPDX-License-Identifier: MIT */
/*
 * Items that are live in the journal; see live.h.
 */
#include "lmdb/steps/live.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/error.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/meta.h"
#include "lmdb/steps/browse.h"
#include "lmdb/unit/journaled.h"
#include "lmdb/unit/unit.h"
#include "record/leases.h"
#include "record/page.h"

#define TRIES 1000 /* the journal is applied once in some thousand pushes */

void live_close(live *l) {
  free(l->items);
  arena_free(&l->memory);
}

static int no_memory(void) {
  return fail(RESPOOL_NOMEM, "not enough memory to look");
}

/* ---- in the block -------------------------------------------------------- */

static void find_number(txn *t, const char *name, int64_t wall, live *l) {
  int rc = 0;
  const queue *q = queue_find(t, name, &rc);
  if (!q) return;
  l->number = q->id;
  l->now = queue_now(q, wall);
}

static int copy_items(journal *j, live *l) {
  l->items = malloc(l->max * sizeof *l->items);
  if (!l->items) return no_memory();
  return journal_look(j, l->number, l->from, l->items, l->max, &l->n,
                      &l->memory);
}

static int look_in_block(lmdb_env *e, const char *name, int64_t wall,
                         live *l) {
  txn *t;
  int rc = unit_begin(&e->base, false, &t);
  if (rc) return rc;
  find_number(t, name, wall, l);
  unit_abort(t);
  if (!l->number) return 0;
  rc = journal_count(e->journal, l->number, l->now, &l->counts);
  if (!rc && l->max && (l->counts.ready || l->counts.leased))
    rc = copy_items(e->journal, l);
  return rc;
}

/* ---- in the file --------------------------------------------------------- */

static int64_t earlier(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static void count_leased(journal_counts *c, const journal_item *i,
                         int64_t now) {
  c->leased++;
  c->next = earlier(c->next, i->until);
  if (i->until > now) {
    c->next_until = earlier(c->next_until, i->until);
    return;
  }
  c->lapsed++;
  c->oldest = c->oldest ? earlier(c->oldest, i->until) : i->until;
}

static void count_item(live *l, const journal_item *i) {
  journal_counts *c = &l->counts;
  c->pushed++;
  c->bytes += i->packed.size;
  if (i->token) {
    count_leased(c, i, l->now);
    return;
  }
  c->ready++;
  c->oldest = c->oldest ? earlier(c->oldest, i->time) : i->time;
  if (i->expires) c->next = earlier(c->next, i->expires);
}

static int keep_item(void *arg, const journal_item *i) {
  live *l = arg;
  journal_seen copy = {.item = *i};
  if (i->queue != l->number) return 0;
  count_item(l, i);
  if (i->id < l->from || !l->max) return 0;
  if (!array_grow(&l->items, l->n, 1, &l->cap, sizeof *l->items) ||
      arena_copy(&l->memory, i->packed, &copy.item.packed))
    return no_memory();
  l->items[l->n++] = copy;
  return 0;
}

/* The items that the snapshot has not applied. */
static int look_in_file(txn *t, const char *name, int64_t wall, live *l) {
  uint8_t store[16];
  l->counts.next = l->counts.next_until = JOURNAL_NEVER;
  find_number(t, name, wall, l);
  journal_applied a = journaled_position(t);
  meta_store(t, store);
  if (!l->number || t->rc) return t->rc;
  return journal_read(t->env->dirfd, store, &a, t->env->journal, keep_item, l);
}

/* Is the snapshot still the newest that applied anything? */
static bool is_current(lmdb_env *e, const journal_applied *a) {
  txn *t;
  if (unit_begin(&e->base, false, &t)) return false;
  journal_applied b = journaled_position(t);
  unit_abort(t);
  return a->pos == b.pos && a->seed == b.seed;
}

/* ---- with a snapshot ----------------------------------------------------- */

enum { LOOK_AGAIN = JOURNAL_ELSEWHERE };

static int begin_in_block(lmdb_env *e, const char *name, int64_t wall,
                          live *l, txn **t) {
  int rc = look_in_block(e, name, wall, l);
  if (!rc) rc = unit_begin(&e->base, false, t);
  if (rc) return rc;
  journal_applied a = journaled_position(*t);
  rc = (*t)->rc;
  if (!rc && l->number && l->counts.applied != journal_place(e->journal, &a))
    rc = LOOK_AGAIN;
  if (rc) unit_abort(*t);
  return rc;
}

static int begin_in_file(lmdb_env *e, const char *name, int64_t wall,
                         live *l, txn **t) {
  int rc = unit_begin(&e->base, false, t);
  if (rc) return rc;
  journal_applied a = journaled_position(*t);
  rc = (*t)->rc;
  if (!rc) rc = look_in_file(*t, name, wall, l);
  if (!rc && !is_current(e, &a)) rc = LOOK_AGAIN;
  if (rc) unit_abort(*t);
  return rc;
}

static int begin_once(lmdb_env *e, const char *name, int64_t wall, live *l,
                      bool in_file, txn **t) {
  arena_init(&l->memory);
  if (!e->journal && !e->read_only) return unit_begin(&e->base, false, t);
  return (in_file ? begin_in_file : begin_in_block)(e, name, wall, l, t);
}

/* The block is not waited for where a process stands still in it, or between
   LMDB's commit of an application and telling the block of it: the file tells,
   too. */
int live_begin(env *base, const char *name, int64_t wall, live *l, txn **t) {
  const live wanted = {.from = l->from, .max = l->max};
  lmdb_env *e = (lmdb_env *)base;
  for (int tries = 0; tries < TRIES; tries++) {
    *l = wanted;
    int rc = begin_once(e, name, wall, l, e->read_only || tries > 1, t);
    if (!rc) return 0;
    live_close(l);
    if (rc != LOOK_AGAIN) return rc;
  }
  return fail(RESPOOL_BUSY, "the journal is applied all the time");
}

/* ---- figures ------------------------------------------------------------- */

void live_add_stat(const live *l, respool_queue_stats *out) {
  const journal_counts *c = &l->counts;
  out->ready += c->ready + c->lapsed;
  out->leased += c->leased - c->lapsed;
  out->bytes += c->bytes;
  out->pushed += c->pushed;
  out->pushed_bytes += c->pushed_bytes;
  out->done += c->done;
  out->delivered += c->delivered;
  journaled_add(out, &c->figures);
  if (c->oldest && (!out->oldest || c->oldest < out->oldest))
    out->oldest = c->oldest;
  if (c->leased > c->lapsed && c->next_until > l->now &&
      c->next_until != JOURNAL_NEVER &&
      (!out->next_due || c->next_until < out->next_due))
    out->next_due = c->next_until;
}

void live_add_outlook(const live *l, outlook *out) {
  int64_t next = l->counts.next;
  if (!l->number) return;
  bool went_back = l->counts.clock - l->now >= JOURNAL_STEP;
  if (l->counts.ready || next <= l->now || went_back)
    out->ready = true;
  else if (next != JOURNAL_NEVER &&
           (!out->next_due || next < out->next_due))
    out->next_due = next;
}

/* ---- leases ------------------------------------------------------------ */

static int state_of(const live *l, const journal_item *i) {
  return i->token && i->until > l->now ? RESPOOL_LEASED : RESPOOL_READY;
}

static bool add_lease(const live *l, const journal_item *i, leases *out) {
  return leases_add(out, &(lease_found){
    {.queue = (uint32_t)l->number, .space = SPACE_JOURNAL,
     .priority = i->priority, .first = i->id}, i->token, 1, i->until});
}

/* The items of a lease are consecutive among those of their priority, for which
   there is one claim in LMDB; see journaled.h. */
int live_leases(const live *l, leases *out) {
  size_t last[RESPOOL_PRIORITIES] = {0}; /* lease of each priority, + 1 */
  for (size_t k = 0; k < l->n; k++) {
    const journal_item *i = &l->items[k].item;
    size_t *of = &last[i->priority];
    if (state_of(l, i) != RESPOOL_LEASED) continue;
    if (*of && out->of[*of - 1].token == i->token) {
      out->of[*of - 1].items++;
      continue;
    }
    if (!add_lease(l, i, out)) return no_memory();
    *of = out->n;
  }
  return 0;
}

/* ---- items --------------------------------------------------------------- */

static bool has_expired(const live *l, const journal_item *i) {
  return state_of(l, i) == RESPOOL_READY && i->expires &&
         i->expires <= l->now;
}

bool live_show(respool_page *p, const journal_item *i, int state,
               respool_item **out) {
  bool leased = state == RESPOOL_LEASED;
  respool_item_about about = {
    .priority = i->priority, .pushed_at = i->time, .expires_at = i->expires,
    .visible_at = i->until, .deliveries = i->token != 0, .state = state,
    .worker = leased ? token_worker(i->token) : 0,
    .lease = leased ? i->token : 0};
  unpacker u;
  item it;
  blob_ref none;
  *out = NULL;
  unpacker_init(&u, i->packed.data, i->packed.size);
  if (i->damaged || !item_unpack(&u, &it, &none) || none.number) return true;
  const respool_item_about *like = page_about(p, &about);
  *out = like ? page_add(p, i->packed) : NULL;
  return *out && page_fill(p, *out, i->id, like, &it);
}

/* The bytes are copied, as the page outlives this. */
static int add_item(const live *l, const journal_item *i, respool_page *p) {
  journal_item own = *i;
  respool_item *out;
  if (arena_copy(&p->memory, i->packed, &own.packed) ||
      !live_show(p, &own, state_of(l, i), &out) ||
      (!out && !page_note_damaged(p, i->id)))
    return no_memory();
  return 0;
}

/* Inserts the last item of the page behind those of its priority. */
static void sort_last(respool_page *p) {
  respool_item last = p->items[p->n - 1];
  respool_bytes packed = p->packed[p->n - 1];
  size_t at = p->n - 1;
  for (; at && p->items[at - 1].about->priority < last.about->priority; at--) {
    p->items[at] = p->items[at - 1];
    p->packed[at] = p->packed[at - 1];
  }
  p->items[at] = last;
  p->packed[at] = packed;
}

/* Does it come before the last of a full page? */
static bool is_wanted(const respool_page *p, size_t limit, int priority) {
  return p->n < limit || p->items[p->n - 1].about->priority < priority;
}

int live_peek(const live *l, size_t limit, respool_page *p) {
  int rc = 0;
  for (size_t k = 0; k < l->n && limit && !rc; k++) {
    const journal_item *i = &l->items[k].item;
    size_t before = p->n;
    if (state_of(l, i) == RESPOOL_LEASED || has_expired(l, i) ||
        !is_wanted(p, limit, i->priority))
      continue;
    rc = add_item(l, i, p);
    if (p->n > before) sort_last(p);
    if (p->n > limit) p->n = limit;
  }
  return rc;
}

bool live_get(const live *l, uint64_t id, respool_page *p, int *rc) {
  for (size_t k = 0; k < l->n; k++) {
    const journal_item *i = &l->items[k].item;
    if (i->id != id || has_expired(l, i)) continue;
    *rc = add_item(l, i, p);
    if (!*rc && !p->n)
      *rc = fail(RESPOOL_CORRUPT, "item %llu is damaged",
                 (unsigned long long)id);
    return true;
  }
  return false;
}

bool live_held(const live *l, uint64_t id, uint64_t token, bool *yes) {
  for (size_t k = 0; k < l->n; k++) {
    const journal_item *i = &l->items[k].item;
    if (i->id != id) continue;
    *yes = i->token == token;
    return true;
  }
  return false;
}

int live_browse(const live *l, size_t k, int state, respool_page *p) {
  const journal_item *i = &l->items[k].item;
  if (has_expired(l, i) || (state >= 0 && state_of(l, i) != state)) return 0;
  return add_item(l, i, p);
}
