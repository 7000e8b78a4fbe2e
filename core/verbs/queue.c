/* SPDX-License-Identifier: MIT */
/*
 * The queue: its policy, looking at it, removing from it.
 */
#include "verbs/reports.h"
#include "verbs/queue.h"

#include <stdlib.h>
#include <string.h>

#define PURGE_PAGE 4096 /* items removed in one commit */

/* ---- opening ------------------------------------------------------------ */

static bool in(int64_t v, int64_t low, int64_t high) {
  return v == RESPOOL_KEEP || (v >= low && v <= high);
}

static int weights_check(const respool_weights *w) {
  if (w->n > RESPOOL_WEIGHTS_MAX) return invalid("weights", "16 at most");
  for (size_t i = 0; i < w->n; i++) {
    if (w->of[i].priority < 0 || w->of[i].priority >= RESPOOL_PRIORITIES)
      return invalid("weights", "of priorities 0 to 255");
    if (w->of[i].weight < 1 || w->of[i].weight > 1000)
      return invalid("weights", "1 to 1000");
    for (size_t k = 0; k < i; k++)
      if (w->of[k].priority == w->of[i].priority)
        return invalid("weights", "given once a priority");
  }
  return 0;
}

static int flow_check(const respool_queue_options *o) {
  if (!in(o->rate_items, 0, RATE_ITEMS_MAX))
    return invalid("rate_items", "0 to 1000000000");
  if (!in(o->rate_per, 1, RATE_PER_MAX))
    return invalid("rate_per", "1 ms to 30 days");
  if (!in(o->rate_burst, 0, RATE_ITEMS_MAX))
    return invalid("rate_burst", "0 to 1000000000");
  if (!in(o->breaker_failures, 0, BREAKER_FAILURES_MAX))
    return invalid("breaker_failures", "0 to 100");
  if (!in(o->breaker_within, 0, INT64_MAX))
    return invalid("breaker_within", "0 or more");
  if (!in(o->breaker_cooldown, 1, INT64_MAX))
    return invalid("breaker_cooldown", "1 ms at least");
  if (!in(o->breaker_probes, 1, BREAKER_PROBES_MAX))
    return invalid("breaker_probes", "1 to 1000");
  return 0;
}

static int partitions_check(const respool_queue_options *o) {
  if (!in(o->partition_concurrency, 0, RATE_ITEMS_MAX))
    return invalid("partition_concurrency", "0 to 1000000000");
  if (!in(o->partition_ordered, 0, 1))
    return invalid("partition_ordered", "0 or 1");
  if (!in(o->partition_batch, 0, RATE_ITEMS_MAX))
    return invalid("partition_batch", "0 to 1000000000");
  if (!in(o->partition_rate_items, 0, RATE_ITEMS_MAX))
    return invalid("partition_rate_items", "0 to 1000000000");
  if (!in(o->partition_rate_per, 1, RATE_PER_MAX))
    return invalid("partition_rate_per", "1 ms to 30 days");
  if (!in(o->partition_rate_burst, 0, RATE_ITEMS_MAX))
    return invalid("partition_rate_burst", "0 to 1000000000");
  if (!in(o->partition_breaker_failures, 0, BREAKER_FAILURES_MAX))
    return invalid("partition_breaker_failures", "0 to 100");
  if (!in(o->partition_breaker_within, 0, INT64_MAX))
    return invalid("partition_breaker_within", "0 ms or more");
  if (!in(o->partition_breaker_cooldown, 1, INT64_MAX))
    return invalid("partition_breaker_cooldown", "1 ms or more");
  if (!in(o->partition_breaker_probes, 1, BREAKER_PROBES_MAX))
    return invalid("partition_breaker_probes", "1 to 1000");
  return 0;
}

static int policy_check(const respool_queue_options *o) {
  int rc = SIZE_CHECK(o, RESPOOL_QUEUE_OPTIONS_INIT);
  if (rc) return rc;
  if (!in(o->lease, 1, LEASE_MAX))
    return invalid("lease", "1 ms to 7 days");
  if (!in(o->max_lease, 1, INT64_MAX)) return invalid("max_lease", "positive");
  if (!in(o->max_attempts, 1, INT64_MAX))
    return invalid("max_attempts", "at least 1");
  if (!in(o->max_crashes, 1, INT64_MAX))
    return invalid("max_crashes", "at least 1");
  if (!in(o->ttl, 0, INT64_MAX)) return invalid("ttl", "0 or more");
  if (!in(o->cooldown, 0, INT64_MAX)) return invalid("cooldown", "0 or more");
  if (!in(o->on_exhausted, 0, RESPOOL_LIMIT_COOLDOWN))
    return invalid("on_exhausted", "dead, drop or cooldown");
  if (!in(o->on_expire, 0, RESPOOL_LIMIT_DROP))
    return invalid("on_expire", "dead or drop");
  if (!in(o->ordered, 0, 1)) return invalid("ordered", "0 or 1");
  if (!in(o->max_items, 0, INT64_MAX))
    return invalid("max_items", "0 or more");
  if (!in(o->max_queue_bytes, 0, INT64_MAX))
    return invalid("max_queue_bytes", "0 or more");
  if (!in(o->overflow, 0, RESPOOL_OVERFLOW_WAIT))
    return invalid("overflow", "reject, drop_oldest, dead or wait");
  if (!in(o->keep_done, 0, INT64_MAX))
    return invalid("keep_done", "0 or more");
  if (!in(o->keep_done_bytes, 0, INT64_MAX))
    return invalid("keep_done_bytes", "0 or more");
  if (!in(o->keep_dead, 0, INT64_MAX))
    return invalid("keep_dead", "0 or more");
  if (!in(o->keep_dead_items, 1, INT64_MAX))
    return invalid("keep_dead_items", "1 or more");
  if (!in(o->keep_dead_bytes, 0, INT64_MAX))
    return invalid("keep_dead_bytes", "0 or more");
  rc = flow_check(o);
  if (!rc) rc = partitions_check(o);
  if (rc) return rc;
  rc = o->backoff ? respool_backoff_check(o->backoff) : 0;
  if (!rc && o->dlq) rc = name_check(o->dlq, "dlq");
  return !rc && o->weights ? weights_check(o->weights) : rc;
}

/* If the stored policy already matches, a read is enough and no writer is
   waited for. Whoever changes it meanwhile comes after. */
static int open_or_make(respool *s, const char *name,
                        const respool_queue_options *o) {
  query same = {.kind = QUERY_AGREES, .name = name, .agrees.options = o};
  step make = {.kind = STEP_QUEUE_OPEN, .name = name, .policy = o};
  int rc = s->read_only ? 0 : store_look(s, &same);
  if (rc && rc != RESPOOL_NOT_FOUND) return rc;
  return same.agrees.yes ? 0 : store_commit_step(s, &make, true);
}

static respool_queue *queue_new(respool *s, const char *name) {
  respool_queue *q = calloc(1, sizeof *q);
  if (!q) return NULL;
  q->store = s;
  q->refs = 1;
  q->bound = RESPOOL_KEEP;
  notices_init(&q->notices);
  strcpy(q->name, name);
  return q;
}

int respool_queue_open(respool *s, const char *name,
                       const respool_queue_options *o, respool_queue **out) {
  static const respool_queue_options keep = RESPOOL_QUEUE_OPTIONS_INIT;
  if (!o) o = &keep;
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "queue name");
  if (!rc) rc = policy_check(o);
  if (rc) return rc;
  respool_queue *q = queue_new(s, name);
  if (!q) return fail(RESPOOL_NOMEM, "not enough memory for a queue");
  rc = open_or_make(s, name, o);
  if (rc)
    respool_queue_free(q);
  else
    *out = q;
  return rc;
}

respool_queue *respool_queue_ref(respool_queue *q) {
  q->refs++;
  return q;
}

const char *respool_queue_name(const respool_queue *q) {
  return q->name;
}

respool *respool_queue_store(const respool_queue *q) {
  return q->store;
}

void respool_queue_free(respool_queue *q) {
  if (!q || --q->refs > 0) return;
  notices_free(&q->notices);
  free(q);
}

int respool_queue_watch(respool_queue *q, int on) {
  int rc = queue_check(q);
  if (!rc) q->notices.wanted = on != 0;
  return rc;
}

int respool_queue_notice(respool_queue *q, respool_notice *out) {
  int rc = queue_check(q);
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_NOTICE_INIT);
  if (!rc && !notices_take(&q->notices, out)) out->number = 0;
  return rc;
}

notices *queue_notices(respool_queue *q) {
  return q->notices.wanted ? &q->notices : NULL;
}

int queue_check(const respool_queue *q) {
  if (!q) return fail(RESPOOL_INVALID, "the queue is NULL");
  return store_check(q->store);
}

static void unpin(void *q) {
  respool_queue_free(q);
}

int queue_pin(respool_ticket *t, respool_queue *q) {
  int rc = ticket_pin(t, q, unpin);
  if (!rc) respool_queue_ref(q);
  return rc;
}

respool_ticket *queue_ticket(respool_queue *q, size_t size) {
  respool_ticket *t = store_ticket(q->store, size);
  if (!t || !queue_pin(t, q)) return t;
  ticket_unmake(t);
  return NULL;
}

/* ---- policy, pause, figures --------------------------------------------- */

static int find_policy(respool *s, const char *name, queue_config *out) {
  query look = {.kind = QUERY_POLICY, .name = name, .policy = out};
  return store_look(s, &look);
}

int respool_queue_config(respool_queue *q, respool_queue_options *out,
                         respool_backoff *backoff, char *dlq,
                         respool_weights *weights) {
  queue_config c;
  int rc = queue_check(q);
  if (!rc) rc = find_policy(q->store, q->name, &c);
  if (rc) return rc;
  *out = (respool_queue_options){
    sizeof *out, c.lease, c.max_lease, c.max_attempts, c.max_crashes,
    c.ttl, c.cooldown, c.on_exhausted, c.on_expire, c.ordered,
    c.max_items, c.max_bytes, c.overflow, c.keep_done,
    c.keep_done_bytes, c.keep_dead, NULL, NULL, NULL,
    c.rate_items, c.rate_per, c.rate_burst, c.breaker_failures,
    c.breaker_within, c.breaker_cooldown, c.breaker_probes,
    c.keep_dead_items, c.keep_dead_bytes,
    c.partition_concurrency, c.partition_ordered, c.partition_batch,
    c.partition_rate_items, c.partition_rate_per, c.partition_rate_burst,
    c.partition_breaker_failures, c.partition_breaker_within,
    c.partition_breaker_cooldown, c.partition_breaker_probes,
  };
  if (backoff) *backoff = c.backoff;
  if (dlq) strcpy(dlq, c.dlq);
  if (weights) *weights = c.weights;
  return 0;
}

int respool_queue_pause(respool_queue *q, int paused) {
  int rc = queue_check(q);
  if (rc) return rc;
  step p = {.kind = STEP_QUEUE_PAUSE, .name = q->name, .paused = paused};
  return store_commit_step(q->store, &p, true);
}

int respool_queue_hold(respool_queue *q, int64_t ms, respool_bytes reason) {
  int rc = queue_check(q);
  if (!rc && ms < 0) rc = invalid("ms", "0 or more");
  if (rc) return rc;
  step p = {.kind = STEP_QUEUE_HOLD, .name = q->name,
            .hold = {.ms = ms, .why = reason}};
  return store_commit_step(q->store, &p, true);
}

int respool_partition_hold(respool_queue *q, respool_bytes name, int64_t ms,
                           respool_bytes reason) {
  int rc = queue_check(q);
  if (!rc && ms < 0) rc = invalid("ms", "0 or more");
  if (!rc && (name.size < 1 || name.size > RESPOOL_NAME_MAX))
    rc = invalid("partition", "1 to 255 bytes");
  if (rc) return rc;
  step p = {.kind = STEP_QUEUE_HOLD, .name = q->name,
            .hold = {ms, reason, name}};
  return store_commit_step(q->store, &p, true);
}

static int partitions_options_check(const respool_partitions_options *o) {
  int rc = SIZE_CHECK(o, RESPOOL_PARTITIONS_OPTIONS_INIT);
  if (rc) return rc;
  if (o->order < 0 || o->order > RESPOOL_PARTITIONS_BY_SIZE)
    return invalid("order", "by name or by size");
  if (o->limit < 1 || o->limit > RESPOOL_PARTITIONS_MAX)
    return invalid("limit", "1 to 1000");
  return o->after.size > RESPOOL_NAME_MAX
             ? invalid("after", "at most 255 bytes") : 0;
}

static int each_partition(const packer *out, respool_partition_fn each,
                          void *arg) {
  unpacker u;
  int rc = 0;
  unpacker_init(&u, out->data, out->len);
  while (!rc && !u.rc && u.at < u.end) {
    respool_partition p;
    unpack_array(&u);
    p.name = unpack_bytes(&u);
    p.ready = unpack_uint(&u);
    p.leased = unpack_uint(&u);
    p.waiting = unpack_uint(&u);
    p.held_until = unpack_int(&u);
    p.held_for = unpack_bytes(&u);
    p.allowed = unpack_int(&u);
    p.allowed_at = unpack_int(&u);
    p.breaker = (int)unpack_int(&u);
    p.breaker_until = unpack_int(&u);
    p.outages = unpack_uint(&u);
    p.opened = unpack_uint(&u);
    if (!u.rc) rc = each(arg, &p);
  }
  return rc ? rc : u.rc;
}

int respool_partitions(respool_queue *q, const respool_partitions_options *o,
                       respool_partition_fn each, void *arg) {
  static const respool_partitions_options usual =
      RESPOOL_PARTITIONS_OPTIONS_INIT;
  packer out;
  int rc = queue_check(q);
  if (!o) o = &usual;
  if (!rc) rc = partitions_options_check(o);
  if (rc) return rc;
  packer_init(&out);
  query look = {.kind = QUERY_PARTITIONS, .name = q->name,
                .partitions = {o, &out}};
  rc = store_look(q->store, &look);
  if (!rc) rc = each_partition(&out, each, arg);
  packer_free(&out);
  return rc;
}

int respool_queue_flow(respool_queue *q, respool_flow *out) {
  respool_flow found;
  int rc = queue_check(q);
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_FLOW_INIT);
  if (rc) return rc;
  query look = {.kind = QUERY_FLOW, .name = q->name, .flow = &found};
  rc = store_look(q->store, &look);
  if (!rc) *out = found;
  return rc;
}

int respool_queue_find(respool *s, const char *name, respool_queue **out) {
  queue_config c;
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "queue name");
  if (rc) return rc;
  respool_queue *q = queue_new(s, name);
  if (!q) return fail(RESPOOL_NOMEM, "not enough memory for a queue");
  rc = find_policy(s, name, &c);
  if (rc)
    respool_queue_free(q);
  else
    *out = q;
  return rc;
}

int respool_queue_stat(respool_queue *q, respool_queue_stats *out) {
  respool_queue_stats stats;
  int rc = queue_check(q);
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_QUEUE_STATS_INIT);
  if (rc) return rc;
  query look = {.kind = QUERY_QUEUE_STAT, .name = q->name,
                .queue_stat = &stats};
  rc = store_look(q->store, &look);
  if (rc) return rc;
  *out = stats;
  out->size = sizeof *out;
  return 0;
}

/* ---- looking ------------------------------------------------------------ */

/* Runs a query that fills a page. */
static int look(respool_queue *q, query *look, respool_page **out) {
  int rc = queue_check(q);
  if (rc) return rc;
  respool_page *p = malloc(sizeof *p);
  if (!p) return fail(RESPOOL_NOMEM, "not enough memory for a page");
  page_init(p);
  look->name = q->name;
  look->look.page = p;
  rc = store_look(q->store, look);
  if (!rc) rc = reports_show(q->store, q->name, p);
  if (rc)
    respool_page_free(p);
  else
    *out = p;
  return rc;
}

int respool_peek(respool_queue *q, size_t limit, respool_page **p) {
  query l = {.kind = QUERY_PEEK, .look.limit = limit};
  return look(q, &l, p);
}

int respool_get(respool_queue *q, uint64_t id, respool_page **p) {
  query l = {.kind = QUERY_GET, .look.id = id};
  return look(q, &l, p);
}

static int key_check(respool_bytes key) {
  bool fits = key.size >= 1 && key.size <= RESPOOL_NAME_MAX;
  return fits ? 0 : invalid("key", "1 to 255 bytes");
}

int respool_get_key(respool_queue *q, respool_bytes key, respool_page **p) {
  query l = {.kind = QUERY_GET, .look.key = key};
  int rc = key_check(key);
  return rc ? rc : look(q, &l, p);
}

int respool_browse(respool_queue *q, int state, size_t limit,
                   respool_cursor *at, respool_page **p) {
  query l = {.kind = QUERY_BROWSE,
             .look = {.state = state, .limit = limit, .cursor = *at}};
  if (state < -1 || state > RESPOOL_RETRYING)
    return invalid("state", "of enum respool_state or -1");
  if (limit == 0) return invalid("limit", "at least 1");
  int rc = look(q, &l, p);
  if (!rc) *at = l.look.cursor;
  return rc;
}

int respool_item_result(respool_queue *q, uint64_t id, respool_page **p) {
  query l = {.kind = QUERY_RESULT, .look.id = id};
  return look(q, &l, p);
}

int respool_queue_wait(respool_queue *q, uint64_t *seen, int64_t ms) {
  int rc = queue_check(q);
  if (!rc && ms < 0) rc = invalid("ms", "0 or more");
  if (rc) return rc;
  env *e = q->store->env;
  return e->engine->wait(e, q->name, WAIT_ENDS, seen, ms);
}

int respool_history(respool_queue *q, respool_history_cursor *at, size_t limit,
                    respool_page **p) {
  query l = {.kind = QUERY_HISTORY,
             .look = {.limit = limit, .moment = *at}};
  if (limit == 0) return invalid("limit", "at least 1");
  int rc = look(q, &l, p);
  if (!rc) *at = l.look.moment;
  return rc;
}

/* ---- removing ----------------------------------------------------------- */

static int remove_items(respool_queue *q, const uint64_t *ids, size_t n,
                        bool strict, uint64_t *removed) {
  int rc = queue_check(q);
  if (rc) return rc;
  step p = {.kind = STEP_REMOVE, .name = q->name,
            .remove = {.ids = ids, .n = n, .strict = strict}};
  rc = store_commit_step(q->store, &p, true);
  if (!rc) *removed = p.remove.removed;
  return rc;
}

int respool_remove(respool_queue *q, uint64_t id) {
  uint64_t removed;
  return remove_items(q, &id, 1, true, &removed);
}

/* An item that is gone by now may have been replaced by another one with the
   key: it is looked for again. Ids are never used again. */
int respool_remove_key(respool_queue *q, respool_bytes key) {
  uint64_t id = 0, before;
  int rc;
  do {
    respool_page *p = NULL;
    before = id;
    rc = respool_get_key(q, key, &p);
    if (rc) return rc;
    id = respool_page_item(p, 0)->id;
    respool_page_free(p);
    rc = respool_remove(q, id);
  } while (rc == RESPOOL_NOT_FOUND && id != before);
  return rc;
}

int respool_remove_many(respool_queue *q, const uint64_t *ids, size_t n,
                        uint64_t *removed) {
  return remove_items(q, ids, n, false, removed);
}

/* Commits a purge or a drop, page by page. */
static int purge_pages(respool *s, step *p, uint64_t *removed) {
  commit_size size = {PURGE_PAGE, PURGE_PAGE};
  int rc = 0;
  for (bool more = true; more && !rc;) {
    p->purge.limit = size.page;
    rc = store_commit_step(s, p, true);
    if (!rc) {
      *removed += p->purge.removed;
      more = p->purge.more;
      p->purge.first = false;
    }
    rc = adjust_commit_size(&size, rc);
  }
  return rc;
}

int respool_purge(respool_queue *q, uint64_t *removed) {
  uint64_t sum = 0;
  int rc = queue_check(q);
  if (rc) return rc;
  step p = {.kind = STEP_PURGE, .name = q->name};
  rc = purge_pages(q->store, &p, &sum);
  if (!rc && removed) *removed = sum;
  return rc;
}

int respool_queue_drop(respool *s, const char *name) {
  step p = {.kind = STEP_QUEUE_DROP, .name = name, .purge.first = true};
  uint64_t removed = 0;
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "queue name");
  return rc ? rc : purge_pages(s, &p, &removed);
}
