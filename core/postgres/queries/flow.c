/* SPDX-License-Identifier: MIT */
/*
 * Flow; see flow.h.
 */
#include "postgres/queries/flow.h"

#include <string.h>

#include "policy/flow.h"

/* Columns of v1_flow. */
enum { F_HELD_UNTIL, F_HELD_FOR, F_LEVEL, F_LEVEL_AT, F_BREAKER, F_UNTIL,
       F_IN_ROW, F_OUTAGES, F_OPENED, F_OPENED_AT, F_CLOSED_AT, F_PROBES,
       F_ERROR };

static void read_text(const PGresult *r, int row, int column,
                      char to[RESPOOL_REASON_MAX + 1]) {
  respool_bytes b = phrase_cut(value_bytes(r, row, column),
                               RESPOOL_REASON_MAX);
  memcpy(to, b.size ? b.data : "", b.size);
  to[b.size] = '\0';
}

static void read_opening(const PGresult *r, int row, respool_opening *out) {
  out->opened_at = value_int(r, row, F_OPENED_AT);
  out->closed_at = value_int(r, row, F_CLOSED_AT);
  out->probes = (uint64_t)value_int(r, row, F_PROBES);
  read_text(r, row, F_ERROR, out->error);
}

static void read_flow(const PGresult *r, flow *f) {
  *f = (flow){.held_until = value_int(r, 0, F_HELD_UNTIL),
              .level = value_int(r, 0, F_LEVEL),
              .level_at = value_int(r, 0, F_LEVEL_AT),
              .breaker = (int)value_int(r, 0, F_BREAKER),
              .until = value_int(r, 0, F_UNTIL),
              .n_row = (size_t)value_int(r, 0, F_IN_ROW),
              .outages = (uint64_t)value_int(r, 0, F_OUTAGES),
              .opened = (uint64_t)value_int(r, 0, F_OPENED)};
  read_text(r, 0, F_HELD_FOR, f->why);
  for (int i = 0; i < pq.ntuples(r) && i < RESPOOL_OPENINGS; i++)
    if (!value_null(r, i, F_OPENED_AT))
      read_opening(r, i, &f->openings[f->n_openings++]);
}

int look_flow(looking *k) {
  flow f;
  put_int4(look_ask(k, STATEMENT_FLOW), k->queue.id);
  int rc = look_run(k);
  if (rc) return rc;
  if (!look_rows(k)) return no_queue(k->q->name);
  read_flow(look_answer(k), &f);
  flow_tell(&f, &k->queue.config, pg_now(k->e, k->q->now), k->q->flow);
  return 0;
}

/* Columns of v1_partitions. */
enum { P_NAME, P_READY, P_LEASED, P_WAITING, P_HELD_UNTIL, P_HELD_FOR, P_LEVEL,
       P_LEVEL_AT, P_BREAKER, P_UNTIL, P_IN_ROW, P_OUTAGES, P_OPENED };

static void tell_partition(looking *k, const queue_config *c, int row) {
  const PGresult *r = look_answer(k);
  respool_bytes name = value_bytes(r, row, P_NAME);
  packer *out = k->q->partitions.out;
  respool_flow told;
  flow f = {.held_until = value_int(r, row, P_HELD_UNTIL),
            .level = value_int(r, row, P_LEVEL),
            .level_at = value_int(r, row, P_LEVEL_AT),
            .breaker = (int)value_int(r, row, P_BREAKER),
            .until = value_int(r, row, P_UNTIL),
            .n_row = (size_t)value_int(r, row, P_IN_ROW),
            .outages = (uint64_t)value_int(r, row, P_OUTAGES),
            .opened = (uint64_t)value_int(r, row, P_OPENED)};
  read_text(r, row, P_HELD_FOR, f.why);
  flow_tell(&f, c, pg_now(k->e, k->q->now), &told);
  pack_array(out, 12);
  pack_bytes(out, name.data, name.size);
  for (int i = P_READY; i <= P_WAITING; i++)
    pack_uint(out, (uint64_t)value_int(r, row, i));
  pack_int(out, told.held_until);
  pack_bytes(out, told.held_for, strlen(told.held_for));
  pack_int(out, told.allowed);
  pack_int(out, told.allowed_at);
  pack_int(out, told.breaker);
  pack_int(out, told.breaker_until);
  pack_uint(out, told.outages);
  pack_uint(out, told.opened);
}

int look_partitions(looking *k) {
  const respool_partitions_options *o = k->q->partitions.options;
  queue_config each;
  bool largest = o->order == RESPOOL_PARTITIONS_BY_SIZE;
  values *v = look_ask(k, STATEMENT_PARTITIONS);
  put_int4(v, k->queue.id);
  plan_put_wall(&k->p, v);
  put_bool(v, largest);
  put_bytes(v, o->after.size && !largest ? o->after : (respool_bytes){"", 0});
  put_int4(v, (int64_t)o->limit);
  int rc = look_run(k);
  config_of_partition(&each, &k->queue.config);
  for (int i = 0; !rc && i < look_rows(k); i++) tell_partition(k, &each, i);
  return rc ? rc : k->q->partitions.out->rc;
}
