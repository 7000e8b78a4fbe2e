/* SPDX-License-Identifier: MIT */
/*
 * Changes of one item: run now, kill, move, edit, cancel; and whether an item
 * is leased still.
 */
#include "verbs/produce/push.h"

#include <string.h>

static int change(respool_queue *q, change_req *r) {
  int rc = queue_check(q);
  if (rc) return rc;
  r->max_store = q->store->max_bytes;
  r->notices = queue_notices(q);
  step p = {.kind = STEP_CHANGE, .name = q->name, .change = *r};
  rc = store_commit_step(q->store, &p, true);
  r->moved = p.change.moved;
  return rc;
}

int respool_item_run_now(respool_queue *q, uint64_t id) {
  change_req r = {.kind = ITEM_RUN_NOW, .id = id};
  return change(q, &r);
}

int respool_item_kill(respool_queue *q, uint64_t id, respool_bytes error) {
  change_req r = {.kind = ITEM_KILL, .id = id, .error = error};
  return change(q, &r);
}

int respool_item_move(respool_queue *q, uint64_t id, respool_queue *to,
                      uint64_t *moved) {
  change_req r = {.kind = ITEM_MOVE, .id = id, .to = to->name};
  if (to->store->env != q->store->env)
    return invalid("to", "a queue of the same store");
  if (!strcmp(to->name, q->name)) return invalid("to", "another queue");
  int rc = queue_check(to);
  if (!rc) rc = change(q, &r);
  if (!rc && moved) *moved = r.moved;
  return rc;
}

int respool_item_edit(respool_queue *q, uint64_t id,
                      const respool_payload *payload,
                      const respool_edit_options *o) {
  static const respool_edit_options defaults = RESPOOL_EDIT_OPTIONS_INIT;
  respool_push_options push = RESPOOL_PUSH_OPTIONS_INIT;
  respool_payload it = {.body = payload->body, .headers = payload->headers,
                        .codec = payload->codec};
  uint64_t size;
  if (!o) o = &defaults;
  int rc = queue_check(q);
  if (!rc) rc = SIZE_CHECK(o, RESPOOL_EDIT_OPTIONS_INIT);
  if (!rc) rc = push_check(q->store, &it, 1, &push, &size);
  if (rc) return rc;
  change_req r = {.kind = ITEM_EDIT, .id = id, .payload = &it,
                  .version = o->version, .was = o->was};
  return change(q, &r);
}

int respool_item_cancel(respool_queue *q, uint64_t id) {
  change_req r = {.kind = ITEM_CANCEL, .id = id};
  return change(q, &r);
}

int respool_item_held(respool_queue *q, uint64_t id, uint64_t token,
                      int *held) {
  query look = {.kind = QUERY_HELD, .name = q->name,
                .held = {.id = id, .token = token}};
  int rc = queue_check(q);
  if (!rc) rc = store_look(q->store, &look);
  if (!rc) *held = look.held.yes;
  return rc;
}

uint64_t respool_batch_token(const respool_batch *batch) {
  return batch ? batch->token : 0;
}
