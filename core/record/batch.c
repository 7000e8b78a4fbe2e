/* SPDX-License-Identifier: MIT */
/*
 * Filling and emptying a batch; see batch.h.
 */
#include "record/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/error.h"

batch_claim *batch_add_claim(respool_batch *batch) {
  if (!array_grow(&batch->claims, batch->n_claims, 1,
                  &batch->cap_claims, sizeof *batch->claims))
    return NULL;
  batch_claim *h = &batch->claims[batch->n_claims++];
  memset(h, 0, sizeof *h);
  return h;
}

int batch_lost_error(const char *queue, size_t lost) {
  return fail(RESPOOL_LEASE_LOST, "the lease of %zu item%s of queue "
              "'%.120s' is no longer held: it ran out or was cancelled", lost,
              lost == 1 ? "" : "s", queue);
}

int batch_make_marks(respool_batch *batch) {
  size_t bytes = batch->page.n * sizeof *batch->marks;
  if (!bytes || batch->marks) return 0;
  batch->marks = arena_alloc(&batch->page.memory, bytes);
  if (!batch->marks)
    return fail(RESPOOL_NOMEM, "not enough memory for a batch");
  memset(batch->marks, 0, bytes);
  return 0;
}

int batch_note_gone(respool_batch *batch, batch_claim *h,
                    bool (*has)(void *arg, uint64_t id), void *arg) {
  if (batch_make_marks(batch)) return RESPOOL_NOMEM;
  h->gone = 0;
  for (size_t i = h->from; i < h->to; i++) {
    mark *m = &batch->marks[i];
    m->gone = !m->settled && !has(arg, batch->page.items[i].id);
    h->gone += m->gone;
  }
  return 0;
}

void batch_clear(respool_batch *batch) {
  page_reset(&batch->page);
  batch->marks = NULL;
  batch->n_claims = 0;
  batch->token = 0;
  batch->lost = 0;
  batch->n_refused = 0;
}

void batch_free_memory(respool_batch *batch) {
  page_clear(&batch->page);
  free(batch->claims);
}
