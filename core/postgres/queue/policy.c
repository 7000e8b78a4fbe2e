/* SPDX-License-Identifier: MIT */
#include "postgres/queue/policy.h"

#include <limits.h>
#include <string.h>

#include "policy/flow.h"

#define TRIES 20 /* while others change the same policy */

/* ---- opening ------------------------------------------------------------ */

static void put_weights(values *v, const respool_weights *w) {
  if (!w->n) {
    put_null(v);
    return;
  }
  array_begin(v, TYPE_INT4, 2 * w->n);
  for (size_t i = 0; i < w->n; i++) {
    add_int4(v, w->of[i].priority);
    add_int4(v, w->of[i].weight);
  }
  array_end(v);
}

/* None: NULL. */
static void put_bound(values *v, bool any, int64_t n) {
  if (any)
    put_int8(v, n);
  else
    put_null(v);
}

/* Columns of the table flow. */
static void put_flow(values *v, const queue_config *c) {
  bool rate = c->rate_items > 0, breaker = c->breaker_failures > 0;
  put_bound(v, rate, c->rate_items);
  put_bound(v, rate, c->rate_per);
  put_bound(v, rate, rate_bucket(c));
  put_bound(v, breaker, c->breaker_failures);
  put_bound(v, breaker, c->breaker_within);
  put_bound(v, breaker, c->breaker_cooldown);
  put_bound(v, breaker, c->breaker_probes);
}

static void put_bounds(values *v, const queue_config *c) {
  queue_config each;
  config_of_partition(&each, c);
  put_bool(v, c->partition_ordered);
  put_int8(v, c->partition_concurrency);
  put_int8(v, c->partition_batch);
  put_flow(v, &each);
}

static void put_policy(values *v, const queue_config *c, const packer *config) {
  put_bytes(v, (respool_bytes){config->data, config->len});
  put_bool(v, c->ordered);
  put_int2(v, (int)c->overflow);
  put_bool(v, c->on_expire == RESPOOL_LIMIT_DROP);
  put_int8(v, c->lease);
  put_int8(v, c->max_crashes);
  put_limit(v, c->ttl);
  put_limit(v, c->max_items);
  put_limit(v, c->max_bytes);
  put_int8(v, c->keep_done);
  put_limit(v, c->keep_done_bytes);
  put_limit(v, c->keep_dead);
  put_limit(v, c->keep_dead_items);
  put_limit(v, c->keep_dead_bytes);
  put_weights(v, &c->weights);
  put_text(v, c->dlq);
}

static int save(pg_env *e, session *l, int64_t now, const char *name,
                int seen, const queue_config *c) {
  packer config;
  plan p;
  packer_init(&config);
  config_pack(&config, c);
  plan_init(&p, e, l);
  p.now = now;
  values *v = plan_add(&p, STATEMENT_QUEUE_SAVE, NULL);
  put_text(v, name);
  put_int4(v, seen);
  put_policy(v, c, &config);
  plan_put_wall(&p, v);
  put_flow(v, c);
  put_bounds(v, c);
  if (config.rc) p.rc = config.rc;
  int rc = plan_run(&p, false);
  plan_free(&p);
  packer_free(&config);
  return rc;
}

/* BUSY: another has changed it since it was read. */
static int open_once(pg_env *e, session *l, int64_t now, const char *name,
                     const respool_queue_options *o) {
  pg_queue q = {.id = 0};
  int rc = known_load(e, l, name, &q);
  if (rc && rc != RESPOOL_NOT_FOUND) return rc;
  if (rc) config_default(&q.config, name);
  queue_config before = q.config;
  config_apply(&q.config, o);
  if (!rc && config_equal(&before, &q.config)) return 0;
  rc = save(e, l, now, name, rc ? 0 : q.version, &q.config);
  known_forget(e, name);
  return rc;
}

int pg_queue_open(pg_env *e, session *l, int64_t now, const char *name,
                  const respool_queue_options *o) {
  int rc = RESPOOL_BUSY;
  for (int i = 0; i < TRIES && rc == RESPOOL_BUSY; i++)
    rc = open_once(e, l, now, name, o);
  return rc;
}

/* ---- the rest ----------------------------------------------------------- */

int pg_queue_pause(pg_env *e, session *l, const char *name, bool paused) {
  plan p;
  plan_init(&p, e, l);
  values *v = plan_add(&p, STATEMENT_QUEUE_PAUSE, NULL);
  put_text(v, name);
  put_bool(v, paused);
  int rc = plan_run(&p, false);
  plan_free(&p);
  return rc;
}

int pg_queue_hold(pg_env *e, session *l, int64_t now, const char *name,
                  int64_t ms, respool_bytes why, respool_bytes partition) {
  plan p;
  plan_init(&p, e, l);
  p.now = now;
  values *v = plan_add(&p, STATEMENT_QUEUE_HOLD, NULL);
  put_text(v, name);
  plan_put_wall(&p, v);
  put_int8(v, ms);
  put_bytes(v, phrase_cut(why, RESPOOL_REASON_MAX));
  put_bytes(v, partition.size ? partition : (respool_bytes){"", 0});
  int rc = plan_run(&p, false);
  plan_free(&p);
  return rc;
}

static int runs_of(const purge_req *r) {
  return r->limit > INT_MAX ? INT_MAX : (int)r->limit;
}

static void read_purge(const plan *p, purge_req *r) {
  const PGresult *answer = plan_answer(p, 0);
  r->removed = (uint64_t)value_int(answer, 0, 0);
  r->more = value_bool(answer, 0, 1);
}

int pg_queue_drop(pg_env *e, session *l, int64_t now, const char *name,
                  purge_req *r) {
  plan p;
  plan_init(&p, e, l);
  p.now = now;
  values *v = plan_add(&p, STATEMENT_QUEUE_DROP, NULL);
  put_text(v, name);
  put_int4(v, p.slot);
  plan_put_wall(&p, v);
  put_bool(v, r->first);
  put_int4(v, runs_of(r));
  int rc = plan_run(&p, false);
  if (!rc) read_purge(&p, r);
  plan_free(&p);
  if (!rc && !r->more) known_drop(e, name);
  return rc;
}

int pg_purge(pg_env *e, session *l, int64_t now, const char *name,
             purge_req *r) {
  pg_queue q;
  plan p;
  int rc = known_load(e, l, name, &q);
  if (rc) return rc;
  plan_init(&p, e, l);
  p.now = now;
  values *v = plan_add(&p, STATEMENT_PURGE, NULL);
  plan_put_queue(&p, v, q.id);
  plan_put_wall(&p, v);
  put_int4(v, runs_of(r));
  rc = plan_run(&p, false);
  if (!rc) read_purge(&p, r);
  plan_free(&p);
  return rc;
}

static void put_ids(values *v, const uint64_t *ids, size_t n) {
  array_begin(v, TYPE_INT8, n);
  for (size_t i = 0; i < n; i++) add_int8(v, (int64_t)ids[i]);
  array_end(v);
}

/* The words that name the queue. */
static int remove_error(int rc, const char *name, const remove_req *r) {
  unsigned long long id = r->n ? r->ids[0] : 0;
  if (rc == RESPOOL_NOT_FOUND && r->n == 1)
    return fail(rc, "there is no item %llu in queue '%.120s'", id, name);
  if (rc == RESPOOL_BUSY && r->n == 1)
    return fail(rc, "item %llu of queue '%.120s' is leased", id, name);
  return rc;
}

int pg_remove(pg_env *e, session *l, int64_t now, const char *name,
              remove_req *r) {
  pg_queue q;
  plan p;
  int rc = known_load(e, l, name, &q);
  if (rc) return rc;
  plan_init(&p, e, l);
  p.now = now;
  values *v = plan_add(&p, STATEMENT_REMOVE, NULL);
  plan_put_queue(&p, v, q.id);
  plan_put_wall(&p, v);
  plan_put_call(&p, v);
  put_ids(v, r->ids, r->n);
  put_bool(v, r->strict);
  rc = plan_run(&p, false);
  if (!rc) {
    const PGresult *a = plan_answer(&p, 0);
    r->removed = (uint64_t)(a ? value_int(a, 0, 0) : plan_noted(&p));
  }
  plan_free(&p);
  return rc ? remove_error(rc, name, r) : 0;
}
