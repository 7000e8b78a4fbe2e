/* SPDX-License-Identifier: MIT */
/*
 * Finished items; see history.h.
 */
#include "postgres/queries/history.h"

#include "postgres/queries/items.h"

int look_history(looking *k) {
  look_req *r = &k->q->look;
  respool_history_cursor *at = &r->moment;
  values *v = look_ask(k, STATEMENT_HISTORY);
  put_int4(v, k->queue.id);
  put_int8(v, at->at);
  put_int8(v, (int64_t)at->id);
  put_int4(v, (int64_t)r->limit);
  int rc = look_run(k);
  for (int i = 0; !rc && i < look_rows(k) && r->page->n < r->limit; i++) {
    taken t;
    uint32_t next;
    taken_read_finished(look_answer(k), i, &t);
    bool here = t.due == at->at && at->id > t.first;
    rc = look_add_run(k, &t, here ? (uint32_t)(at->id - t.first) : 0,
                      r->limit - r->page->n, INT64_MAX, &next);
    *at = (respool_history_cursor){t.due, t.first + next};
  }
  return rc;
}

int look_result(looking *k) {
  look_req *r = &k->q->look;
  values *v = look_ask(k, STATEMENT_RESULT);
  put_int4(v, k->queue.id);
  put_int8(v, (int64_t)r->id);
  int rc = look_run(k);
  if (rc) return rc;
  if (!look_rows(k))
    return fail(RESPOOL_NOT_FOUND, "queue '%.120s' keeps no finished item %llu",
                k->q->name, (unsigned long long)r->id);
  respool_item *out = page_add(r->page, (respool_bytes){NULL, 0});
  if (!out) return fail(RESPOOL_NOMEM, "not enough memory for a result");
  out->id = r->id;
  out->about = page_about(r->page, &(respool_item_about){
    .visible_at = value_int(look_answer(k), 0, 0)});
  if (!out->about) return fail(RESPOOL_NOMEM, "not enough memory for a result");
  return arena_copy(&r->page->memory, value_bytes(look_answer(k), 0, 1),
                    &out->body);
}
