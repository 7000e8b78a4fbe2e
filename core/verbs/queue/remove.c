/* SPDX-License-Identifier: MIT */
/*
 * Removing items of a queue: some, all, or with the queue itself.
 */
#include "verbs/queue/queue.h"

#define PURGE_PAGE 4096 /* items removed in one commit */

static int remove_items(respool_queue *q, const uint64_t *ids, size_t n,
                        bool strict, uint64_t *removed) {
  int rc = queue_check(q);
  if (rc) return rc;
  step p = {.kind = STEP_REMOVE, .name = q->name,
            .remove = {.ids = ids, .n = n, .strict = strict}};
  rc = store_commit_step(q->store, &p, true);
  if (!rc) *removed = p.remove.removed;
  return rc;
}

int respool_remove(respool_queue *q, uint64_t id) {
  uint64_t removed;
  return remove_items(q, &id, 1, true, &removed);
}

/* An item that is gone by now may have been replaced by another one with the
   key: it is looked for again. Ids are never used again. */
int respool_remove_key(respool_queue *q, respool_bytes key) {
  uint64_t id = 0, before;
  int rc;
  do {
    respool_page *p = NULL;
    before = id;
    rc = respool_get_key(q, key, &p);
    if (rc) return rc;
    id = respool_page_item(p, 0)->id;
    respool_page_free(p);
    rc = respool_remove(q, id);
  } while (rc == RESPOOL_NOT_FOUND && id != before);
  return rc;
}

int respool_remove_many(respool_queue *q, const uint64_t *ids, size_t n,
                        uint64_t *removed) {
  return remove_items(q, ids, n, false, removed);
}

/* Commits a purge or a drop, page by page. */
static int purge_pages(respool *s, step *p, uint64_t *removed) {
  commit_size size = {PURGE_PAGE, PURGE_PAGE};
  int rc = 0;
  for (bool more = true; more && !rc;) {
    p->purge.limit = size.page;
    rc = store_commit_step(s, p, true);
    if (!rc) {
      *removed += p->purge.removed;
      more = p->purge.more;
      p->purge.first = false;
    }
    rc = adjust_commit_size(&size, rc);
  }
  return rc;
}

int respool_purge(respool_queue *q, uint64_t *removed) {
  uint64_t sum = 0;
  int rc = queue_check(q);
  if (rc) return rc;
  step p = {.kind = STEP_PURGE, .name = q->name};
  rc = purge_pages(q->store, &p, &sum);
  if (!rc && removed) *removed = sum;
  return rc;
}

int respool_queue_drop(respool *s, const char *name) {
  step p = {.kind = STEP_QUEUE_DROP, .name = name, .purge.first = true};
  uint64_t removed = 0;
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "queue name");
  return rc ? rc : purge_pages(s, &p, &removed);
}
