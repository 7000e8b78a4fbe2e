/* SPDX-License-Identifier: MIT */
/*
 * Queries; see look.h. The id of a queue is remembered; where nothing is found
 * under it it is looked up again.
 */
#include "postgres/look.h"

#include "postgres/check.h"
#include "postgres/queries/dead_letters.h"
#include "postgres/queries/figures.h"
#include "postgres/queries/flow.h"
#include "postgres/queries/history.h"
#include "postgres/queries/items.h"
#include "postgres/queue/append.h"
#include "postgres/queue/records.h"

static int number(looking *k, enum statement s, bool named) {
  values *v = look_ask(k, s);
  if (named) put_text(v, k->q->name);
  int rc = look_run(k);
  if (!rc) k->q->number = (uint64_t)value_int(look_answer(k), 0, 0);
  return rc;
}

static int entries(looking *k) {
  packer *out = k->q->entries.out;
  values *v = look_ask(k, STATEMENT_ENTRIES);
  put_int2(v, k->q->entries.kind);
  if (k->q->name)
    put_text(v, k->q->name);
  else
    put_null(v);
  int rc = look_run(k);
  for (int i = 0; !rc && i < look_rows(k); i++) {
    respool_bytes b = value_bytes(look_answer(k), i, 2);
    pack_array(out, 3);
    pack_phrase(out, value_bytes(look_answer(k), i, 0));
    pack_uint(out, (uint64_t)value_int(look_answer(k), i, 1));
    pack_bytes(out, b.data, b.size);
  }
  k->q->entries.now = pg_now(k->e, k->q->now);
  return rc ? rc : out->rc;
}

static int note(looking *k) {
  put_text(look_ask(k, STATEMENT_NOTE_LOAD), k->q->name);
  int rc = look_run(k);
  if (rc) return rc;
  if (!look_rows(k) || value_null(look_answer(k), 0, 0))
    return fail(RESPOOL_NOT_FOUND, "there is no note '%.160s'", k->q->name);
  respool_bytes b = value_bytes(look_answer(k), 0, 0);
  pack_raw(k->q->texts, b.data, b.size);
  return k->q->texts->rc;
}

static int names(looking *k) {
  put_int4(look_ask(k, STATEMENT_NAMES), k->q->kind - QUERY_QUEUES);
  int rc = look_run(k);
  if (rc) return rc;
  pack_array(k->q->texts, (size_t)look_rows(k));
  for (int i = 0; i < look_rows(k); i++)
    pack_phrase(k->q->texts, value_bytes(look_answer(k), i, 0));
  return 0;
}

static int agrees(looking *k) {
  queue_config wanted = k->queue.config;
  config_apply(&wanted, k->q->agrees.options);
  k->q->agrees.yes = config_equal(&k->queue.config, &wanted);
  return 0;
}

static int look_at_queue(looking *k) {
  switch (k->q->kind) {
    case QUERY_AGREES: return agrees(k);
    case QUERY_POLICY: *k->q->policy = k->queue.config; return 0;
    case QUERY_FITS: return append_fits(&k->queue, k->q->name, k->q->fits);
    case QUERY_QUEUE_STAT: return look_queue_stat(k);
    case QUERY_FLOW: return look_flow(k);
    case QUERY_PARTITIONS: return look_partitions(k);
    case QUERY_PEEK: return look_peek(k);
    case QUERY_GET: return look_get(k);
    case QUERY_BROWSE: return look_browse(k);
    case QUERY_RESULT: return look_result(k);
    case QUERY_LEASES: return look_leases(k);
    case QUERY_HELD: return look_held(k);
    default: return look_history(k);
  }
}

static int look_at_store(looking *k) {
  switch (k->q->kind) {
    case QUERY_DEAD_LIST: return look_dead_list(k);
    case QUERY_DEAD_COUNT: return number(k, STATEMENT_DEAD_COUNT, true);
    case QUERY_DEAD_GROUPS: return look_dead_groups(k);
    case QUERY_REPLAY:
      return pg_replay_load(k->e, k->l, k->q->name, k->q->replay);
    case QUERY_ENTRIES: return entries(k);
    case QUERY_NOTE: return note(k);
    case QUERY_NOTES:
    case QUERY_QUEUES:
    case QUERY_DLQS:
    case QUERY_REPLAYS: return names(k);
    case QUERY_PROBE: return number(k, STATEMENT_PROBE_READ, false);
    case QUERY_STORE_STAT: return look_store_stat(k);
    case QUERY_CHECK: return pg_check(k->e, k->l, k->q->texts);
    default: return fail(RESPOOL_INVALID, "a query of an unknown kind");
  }
}

static bool is_of_queue(const query *q) {
  return q->kind <= QUERY_HELD;
}

/* A policy is looked up each time, as others change it; and so is the queue
   where another may have its name by now. */
static bool needs_fresh(const query *q) {
  return q->kind == QUERY_AGREES || q->kind == QUERY_POLICY ||
         q->kind == QUERY_FITS || q->kind == QUERY_FLOW ||
         q->kind == QUERY_PARTITIONS ||
         q->kind == QUERY_GET ||
         q->kind == QUERY_HISTORY || q->kind == QUERY_BROWSE ||
         q->kind == QUERY_RESULT ||
         q->kind == QUERY_LEASES || q->kind == QUERY_HELD;
}

static int look(looking *k, bool fresh) {
  int rc = 0;
  plan_init(&k->p, k->e, k->l);
  k->p.now = k->q->now;
  if (is_of_queue(k->q))
    rc = fresh ? known_load(k->e, k->l, k->q->name, &k->queue)
               : known_find(k->e, k->l, k->q->name, &k->queue);
  if (!rc) rc = is_of_queue(k->q) ? look_at_queue(k) : look_at_store(k);
  plan_free(&k->p);
  return rc;
}

int pg_look(env *base, query *q) {
  pg_env *e = (pg_env *)base;
  looking k = {.e = e, .q = q};
  if (q->kind == QUERY_OUTLOOK) { /* a take costs no more than a look */
    q->outlook.ready = true;
    return 0;
  }
  if (q->kind == QUERY_QUEUE_STAT && !e->read_only) known_tell(e);
  k.l = pg_session_take(e);
  if (!k.l) return fail(RESPOOL_NOMEM, "not enough memory");
  bool fresh = needs_fresh(q);
  int rc = look(&k, fresh);
  if (rc == RESPOOL_NOT_FOUND && is_of_queue(q) && !fresh) rc = look(&k, true);
  pg_session_give(e, k.l);
  return rc;
}
