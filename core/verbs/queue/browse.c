/* SPDX-License-Identifier: MIT */
/*
 * Looking at a queue: its policy, its figures, its items by place, id, key and
 * state, its history.
 */
#include "verbs/queue/queue.h"
#include "verbs/queue/queue_policy.h"
#include "verbs/store/reports.h"

#include <stdlib.h>
#include <string.h>

int respool_queue_config(respool_queue *q, respool_queue_options *out,
                         respool_backoff *backoff, char *dlq,
                         respool_weights *weights) {
  queue_config c;
  int rc = queue_check(q);
  if (!rc) rc = queue_policy_find(q->store, q->name, &c);
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

int respool_queue_wait(respool_queue *q, uint64_t *seen, int64_t ms) {
  int rc = queue_check(q);
  if (!rc && ms < 0) rc = invalid("ms", "0 or more");
  if (rc) return rc;
  env *e = q->store->env;
  return e->engine->wait(e, q->name, WAIT_ENDS, seen, ms);
}

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

int respool_history(respool_queue *q, respool_history_cursor *at, size_t limit,
                    respool_page **p) {
  query l = {.kind = QUERY_HISTORY,
             .look = {.limit = limit, .moment = *at}};
  if (limit == 0) return invalid("limit", "at least 1");
  int rc = look(q, &l, p);
  if (!rc) *at = l.look.moment;
  return rc;
}
