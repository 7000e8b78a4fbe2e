/* SPDX-License-Identifier: MIT */
/*
 * Finding an unsettled item by its id, in the lines of its queue.
 */
#include "lmdb/queue/find.h"

#include "lmdb/record/segments.h"

static bool is_unsettled(txn *t, const line *l, uint64_t id) {
  segment_cursor w;
  segments_open(&w, t, l, id);
  bool unsettled = segments_next(&w) && w.at.first <= id &&
                   bits_has(&w.unsettled, (uint32_t)(id - w.at.first));
  segments_close(&w);
  return unsettled;
}

bool find_item(txn *t, const queue *q, uint64_t id, line *l) {
  int end = q->n_partitions || q->parted ? SPACE_COUNT : SPACE_PARTED;
  for (size_t i = 0; i < q->n_priorities; i++)
    for (int space = 0; space < end; space++) {
      *l = (line){q->id, space, q->priorities[i].priority};
      if (is_unsettled(t, l, id)) return true;
    }
  return false;
}

int item_not_found(txn *t, const queue *q, uint64_t id) {
  return t->rc ? t->rc
               : fail(RESPOOL_NOT_FOUND, "there is no item %llu in queue "
                      "'%.120s'", (unsigned long long)id, q->name);
}
