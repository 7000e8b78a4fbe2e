/* SPDX-License-Identifier: MIT */
/*
 * The flow of items: pausing and holding a queue or a partition, and what holds
 * them now.
 */
#include "verbs/queue/queue.h"

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
