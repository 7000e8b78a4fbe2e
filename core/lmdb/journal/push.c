/* SPDX-License-Identifier: MIT */
/*
 * Pushing. A record counts once the tail has moved behind it, so that a writer
 * that dies before leaves nothing.
 */
#include <string.h>

#include "base/error.h"
#include "lmdb/journal/files/slots.h"
#include "lmdb/journal/files/state.h"
#include "lmdb/journal/open.h"

static size_t record_size(const journal_push_req *r) {
  size_t n = sizeof(record) + r->n * sizeof(piece);
  for (size_t i = 0; i < r->n && n <= JOURNAL_PUSH; i++)
    n += r->items[i].size;
  return (n + 7) & ~(size_t)7;
}

static void build(journal *j, const journal_push_req *r, size_t len) {
  record *rec = (void *)j->record;
  *rec = (record){.queue = r->queue, .first = r->first, .time = r->now,
                  .expires = r->expires, .len = (uint32_t)len,
                  .kind = RECORD_PUSH, .priority = (uint8_t)r->priority,
                  .count = (uint16_t)r->n};
  piece *p = (void *)(rec + 1);
  uint8_t *to = (uint8_t *)(p + r->n);
  for (size_t i = 0; i < r->n; i++) {
    const respool_bytes *b = &r->items[i];
    p[i] = (piece){(uint32_t)b->size,
                   payload_sum(b->data, b->size, r->first + i)};
    if (b->size) memcpy(to, b->data, b->size);
    to += b->size;
  }
  memset(to, 0, (size_t)(j->record + len - to));
}

/* With the state lock. */
static int push(journal *j, journal_push_req *r, size_t len) {
  control *c = j->c;
  row *q = row_find(c, r->queue);
  if (!q || !q->known || row_went_back(q, r->now) || !slots_fit(c, r->n) ||
      !log_room(j, len, (c->live + r->n) * DONE_ROOM))
    return JOURNAL_ELSEWHERE;
  r->first = row_ids(q, 0, r->n);
  build(j, r, len);
  int rc = log_write(j);
  if (rc) return rc;
  (void)slots_add(c, q, (const record *)(const void *)j->record);
  q->used = ++c->used;
  if (r->reason) q->figures.flushes[r->reason]++;
  log_advance(j);
  r->end = atomic_load(&c->tail);
  r->due = log_due(c);
  return 0;
}

int journal_push(journal *j, journal_push_req *r) {
  int rc = control_usable(j);
  if (rc) return rc;
  if (!r->n || !r->queue || r->priority < 0 || r->priority > 255)
    return fail(RESPOOL_INVALID, "a push needs items, a queue and a priority");
  size_t len = record_size(r);
  if (r->n > JOURNAL_BATCH || len > JOURNAL_PUSH || len > j->c->half / 8)
    return JOURNAL_ELSEWHERE;
  rc = open_made(j);
  if (!rc) rc = state_enter(j, false);
  if (rc) return rc;
  rc = log_reopen(j);
  if (!rc) rc = push(j, r, len);
  state_leave(j);
  return rc;
}
