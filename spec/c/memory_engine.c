/* SPDX-License-Identifier: MIT */
/*
 * The memory engine. The whole state is one flat struct: a unit that fails is
 * undone by copying back the state from before it. Bytes lie in an arena and
 * are never freed before the end, so that copies share them.
 */
#include "memory_engine.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "policy/outcome.h"
#include "threads/thread.h"

#define QUEUES 4
#define ENTRIES 512

enum place { NOWHERE, IN_QUEUE, DEAD };

typedef struct entry {
  enum place place;
  int queue, priority;
  uint64_t id, token; /* token 0: not leased */
  int64_t due;        /* or the end of its lease */
  uint64_t attempts, deliveries, crashes;
  int64_t delay;
  respool_bytes packed, failures, memo, error;
  segment of;         /* its times and version */
} entry;

typedef struct queue {
  char name[RESPOOL_NAME_MAX + 1];
  queue_config config;
  uint64_t next_id;
  bool paused;
} queue;

typedef struct state {
  size_t n_queues, n_entries;
  queue queues[QUEUES];
  entry entries[ENTRIES]; /* in push order */
} state;

typedef struct memory_env {
  env base;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  uint64_t version, next_token;
  arena memory;
  state state, saved;
} memory_env;

static int no_memory(int rc) {
  return rc ? fail(rc, "not enough memory") : 0;
}

static int find_queue(const state *s, const char *name) {
  for (size_t i = 0; i < s->n_queues; i++)
    if (!strcmp(s->queues[i].name, name)) return (int)i;
  return -1;
}

static int no_queue(const char *name) {
  return fail(RESPOOL_NOT_FOUND, "there is no queue '%.120s'", name);
}

/* ---- append ------------------------------------------------------------- */

static int add_item(memory_env *e, int q, const append_req *r,
                    const segment *g, respool_bytes packed, int64_t due) {
  state *s = &e->state;
  if (s->n_entries == ENTRIES)
    return fail_of_store(fail(RESPOOL_FULL, "the store is full"));
  entry *x = &s->entries[s->n_entries++];
  *x = (entry){.place = IN_QUEUE, .queue = q, .priority = r->priority,
               .id = s->queues[q].next_id++, .due = due, .of = *g};
  return no_memory(arena_copy(&e->memory, packed, &x->packed));
}

/* Here segments have no place of their own. */
static const respool_bytes no_key = {"0123456789abcde", SEGMENT_KEY};

static int add_segment(memory_env *e, int q, const append_req *r,
                       respool_bytes sealed, int64_t due) {
  segment g;
  int rc = segment_open(no_key, sealed, &g)
               ? 0 : fail(RESPOOL_CORRUPT, "a segment");
  unpacker u = g.items;
  for (uint64_t i = 0; i < g.count && !rc; i++) {
    item it;
    blob_ref ref;
    const uint8_t *from = u.at;
    if (!item_unpack(&u, &it, &ref) || ref.number || u.at == from)
      return fail(RESPOOL_TOO_LARGE, "an item is too large for the memory");
    rc = add_item(e, q, r, &g,
                  (respool_bytes){from, (size_t)(u.at - from)}, due);
  }
  return rc;
}

static uint64_t count_items(const state *s, int q) {
  uint64_t n = 0;
  for (size_t i = 0; i < s->n_entries; i++)
    n += s->entries[i].place == IN_QUEUE && s->entries[i].queue == q;
  return n;
}

static int append(memory_env *e, step *p, int64_t now) {
  append_req *r = &p->append;
  int q = find_queue(&e->state, p->name), rc = 0;
  r->duplicate = r->never_fits = false;
  if (q < 0) return no_queue(p->name);
  queue *to = &e->state.queues[q];
  if (to->config.max_items != RESPOOL_UNLIMITED &&
      count_items(&e->state, q) + r->builder->n_items >
          (uint64_t)to->config.max_items)
    return fail(RESPOOL_FULL, "queue '%.120s' is full", p->name);
  r->first = to->next_id;
  int64_t due = r->delay ? now + r->delay : 0;
  for (size_t i = 0; i < r->builder->n_segments && !rc; i++) {
    const built_segment *b = &r->builder->segments[i];
    uint8_t *copy = arena_alloc(&e->memory, b->size);
    if (!copy) return no_memory(RESPOOL_NOMEM);
    memcpy(copy, r->builder->bytes.data + b->at, b->size);
    segment_seal(copy, b->size, no_key, now, 0);
    rc = add_segment(e, q, r, (respool_bytes){copy, b->size}, due);
  }
  return rc;
}

/* ---- claim -------------------------------------------------------------- */

static int hand_out(memory_env *e, entry *x, respool_batch *b) {
  respool_bytes packed;
  item i;
  blob_ref ref;
  unpacker u;
  arena *a = &b->page.memory;
  int rc = arena_copy(a, x->packed, &packed);
  respool_item *out = rc ? NULL : page_add(&b->page, packed);
  batch_claim *c = out ? batch_add_claim(b) : NULL;
  if (!c) return no_memory(RESPOOL_NOMEM);
  unpacker_init(&u, packed.data, packed.size);
  item_unpack(&u, &i, &ref);
  x->token = b->token;
  x->due = b->lease;
  const respool_item_about *about = page_about(&b->page,
    &(respool_item_about){
      .priority = x->priority, .pushed_at = x->of.pushed_at,
      .expires_at = x->of.expires_at, .version = x->of.version,
      .attempts = x->attempts, .deliveries = ++x->deliveries,
      .error = x->error, .memo = x->memo, .visible_at = x->due,
      .state = RESPOOL_LEASED });
  if (!about || !page_fill(&b->page, out, x->id, about, &i))
    return no_memory(RESPOOL_NOMEM);
  *c = (batch_claim){.first = x->id, .from = b->page.n - 1, .to = b->page.n,
                     .attempts = x->attempts, .delay = x->delay,
                     .failures = x->failures, .memo = x->memo};
  (void)e;
  return 0;
}

/* The entry of a queue that comes first; `*due_in` says when another will. */
static entry *next_entry(state *s, int q, int64_t now, int64_t *due_in) {
  entry *first = NULL;
  for (size_t i = 0; i < s->n_entries; i++) {
    entry *x = &s->entries[i];
    if (x->place != IN_QUEUE || x->queue != q) continue;
    if (x->due > now) {
      if (x->due - now < *due_in) *due_in = x->due - now;
    } else if (!first || x->priority > first->priority)
      first = x;
  }
  return first;
}

static int claim(memory_env *e, step *p, int64_t now) {
  claim_req *r = &p->claim;
  int q = find_queue(&e->state, p->name), rc = 0;
  if (q < 0) return no_queue(p->name);
  const queue *from = &e->state.queues[q];
  batch_clear(r->batch);
  r->more = false;
  r->due_in = INT64_MAX;
  r->batch->token = ++e->next_token;
  r->batch->max_lease = from->config.max_lease;
  r->batch->lease = now + (r->lease == RESPOOL_KEEP ? from->config.lease
                                                    : r->lease);
  entry *x = NULL;
  while (!rc && !from->paused && r->batch->page.n < r->items &&
         (x = next_entry(&e->state, q, now, &r->due_in)))
    rc = hand_out(e, x, r->batch);
  r->batch->lease -= now;
  return rc;
}

/* ---- settle ------------------------------------------------------------- */

static entry *find_leased(state *s, int q, uint64_t id, uint64_t token) {
  for (size_t i = 0; i < s->n_entries; i++) {
    entry *x = &s->entries[i];
    if (x->place == IN_QUEUE && x->queue == q && x->id == id &&
        x->token == token)
      return x;
  }
  return NULL;
}

static int settle_entry(memory_env *e, entry *x, const queue_config *c,
                        enum outcome o, const mark *m, double chance,
                        int64_t now) {
  int rc = 0;
  if (o == STILL_LEASED || o == ALREADY_SETTLED) return 0;
  if (outcome_adds_failure(o, m)) {
    rc = outcome_add_failure(&e->memory, x->failures, now, m->text,
                             &x->failures);
    x->error = failures_error(x->failures);
  }
  if (!rc && m->text && m->text->memo.size)
    rc = arena_copy(&e->memory, m->text->memo, &x->memo);
  x->token = 0;
  if (outcome_requeues(o))
    x->due = now + outcome_wait(o, m, c, chance, &x->attempts, &x->delay);
  else
    x->place = o == OUTCOME_DEAD || o == OUTCOME_EXHAUSTED ? DEAD : NOWHERE;
  return no_memory(rc);
}

static int settle_claim(memory_env *e, int q, const settle_req *r,
                        const batch_claim *h, int64_t now) {
  const queue_config *c = &e->state.queues[q].config;
  uint8_t of;
  claim_outcomes x = {.batch = r->batch, .marks = r->marks, .all = &r->all,
                      .from = h->from, .to = h->to, .of = &of};
  entry *at = find_leased(&e->state, q, h->first, r->batch->token);
  outcomes_find(&x, c, h->attempts);
  return settle_entry(e, at, c, (enum outcome)of, outcomes_mark(&x, h->from),
                      random_next(r->random), now);
}

static int settle(memory_env *e, step *p, int64_t now) {
  settle_req *r = &p->settle;
  respool_batch *b = r->batch;
  int q = find_queue(&e->state, p->name), rc = 0;
  if (q < 0) return no_queue(p->name);
  b->lost = 0;
  for (size_t i = 0; i < b->n_claims; i++) {
    batch_claim *h = &b->claims[i];
    if (h->over) continue;
    h->lost = !find_leased(&e->state, q, h->first, b->token);
    b->lost += h->lost;
  }
  if (b->lost && r->strict)
    return fail(RESPOOL_LEASE_LOST, "%zu leases are lost", b->lost);
  for (size_t i = 0; i < b->n_claims && !rc; i++)
    if (!b->claims[i].over && !b->claims[i].lost)
      rc = settle_claim(e, q, r, &b->claims[i], now);
  return rc;
}

/* ---- the seam ----------------------------------------------------------- */

static int open_queue(memory_env *e, const step *p) {
  state *s = &e->state;
  int q = find_queue(s, p->name);
  if (q < 0) {
    if (s->n_queues == QUEUES)
      return fail_of_store(fail(RESPOOL_FULL, "the store is full"));
    q = (int)s->n_queues++;
    strcpy(s->queues[q].name, p->name);
    s->queues[q].next_id = 1;
    config_default(&s->queues[q].config, p->name);
  }
  config_apply(&s->queues[q].config, p->policy);
  return 0;
}

static int run_step(memory_env *e, step *p, int64_t now) {
  switch (p->kind) {
    case STEP_APPEND: return append(e, p, now);
    case STEP_CLAIM: return claim(e, p, now);
    case STEP_SETTLE: return settle(e, p, now);
    case STEP_QUEUE_OPEN: return open_queue(e, p);
    default: return fail(RESPOOL_INVALID, "not with the memory engine");
  }
}

static void run_unit(memory_env *e, unit *u) {
  int64_t now = u->now == SERVER_TIME ? clock_wall() : u->now;
  int rc = 0;
  e->saved = e->state;
  for (size_t i = 0; i < u->n && !rc; i++) {
    u->failed = i;
    rc = run_step(e, &u->steps[i], now);
  }
  u->wrote = !rc;
  unit_note(u, rc);
  if (rc) e->state = e->saved;
}

/* All are over at once: there is no disk to wait for. */
static void apply(env *base, unit_list *group, unit_list *kept,
                  unit_list *ended) {
  memory_env *e = (memory_env *)base;
  (void)kept;
  pthread_mutex_lock(&e->lock);
  for (unit *u; (u = unit_list_pop(group));) {
    run_unit(e, u);
    unit_list_add(ended, u);
  }
  e->version++;
  pthread_cond_broadcast(&e->changed);
  pthread_mutex_unlock(&e->lock);
}

static int count_dead(const state *s, const char *dlq, uint64_t *n) {
  *n = 0;
  for (size_t i = 0; i < s->n_entries; i++)
    *n += s->entries[i].place == DEAD &&
          !strcmp(s->queues[s->entries[i].queue].config.dlq, dlq);
  return 0;
}

static int stat_queue(const state *s, int q, respool_queue_stats *out) {
  memset(out, 0, sizeof *out);
  for (size_t i = 0; i < s->n_entries; i++) {
    const entry *x = &s->entries[i];
    if (x->place != IN_QUEUE || x->queue != q) continue;
    if (x->token)
      out->leased++;
    else
      out->ready++;
  }
  return 0;
}

int memory_fits;

static int answer(const state *s, query *l) {
  int q = l->name ? find_queue(s, l->name) : -1;
  switch (l->kind) {
    case QUERY_OUTLOOK:
      l->outlook = (outlook){.ready = true}; /* a claim costs no more */
      return 0;
    case QUERY_DEAD_COUNT: return count_dead(s, l->name, &l->number);
    case QUERY_AGREES:
      l->agrees.yes = false;
      return 0;
    case QUERY_QUEUE_STAT:
      return q < 0 ? no_queue(l->name) : stat_queue(s, q, l->queue_stat);
    case QUERY_FITS:
      *l->fits->bound = RESPOOL_UNLIMITED;
      memory_fits++;
      return 0;
    default: return fail(RESPOOL_INVALID, "not with the memory engine");
  }
}

static int look(env *base, query *l) {
  memory_env *e = (memory_env *)base;
  pthread_mutex_lock(&e->lock);
  int rc = answer(&e->state, l);
  pthread_mutex_unlock(&e->lock);
  return rc;
}

static int wait_change(env *base, const char *name, enum wait_for what,
                       uint64_t *seen, int64_t ms) {
  memory_env *e = (memory_env *)base;
  struct timespec until;
  int rc = 0;
  (void)name;
  (void)what;
  clock_deadline(&until, ms);
  pthread_mutex_lock(&e->lock);
  while (e->version == *seen && ms > 0 && !rc)
    rc = pthread_cond_timedwait(&e->changed, &e->lock, &until);
  *seen = e->version;
  pthread_mutex_unlock(&e->lock);
  return 0;
}

static int flush(env *base) {
  (void)base;
  return 0;
}

static int open_memory(const char *path, const respool_options *o,
                       int (*first)(env *e), env **out) {
  memory_env *e = calloc(1, sizeof *e);
  (void)path;
  (void)o;
  if (!e) return no_memory(RESPOOL_NOMEM);
  e->base.engine = &memory_engine;
  e->base.pid = getpid();
  e->version = 1;
  arena_init(&e->memory);
  pthread_mutex_init(&e->lock, NULL);
  cond_init_monotonic(&e->changed);
  int rc = first(&e->base);
  if (rc)
    free(e);
  else
    *out = &e->base;
  return rc;
}

static void close_memory(env *base) {
  memory_env *e = (memory_env *)base;
  base->closing(base);
  arena_free(&e->memory);
  pthread_mutex_destroy(&e->lock);
  pthread_cond_destroy(&e->changed);
  free(e);
}

const engine memory_engine = {
  .open = open_memory,
  .close = close_memory,
  .apply = apply,
  .look = look,
  .wait = wait_change,
  .flush = flush,
};
