/* SPDX-License-Identifier: MIT */
/*
 * The queue's handle: opening, finding, freeing it, hearing of its dead
 * letters.
 */
#include "verbs/queue/queue.h"
#include "verbs/queue/queue_policy.h"

#include <stdlib.h>
#include <string.h>

/* If the stored policy already matches, a read is enough and no writer is
   waited for. A change that another process makes meanwhile counts as later. */
static int open_or_make(respool *s, const char *name,
                        const respool_queue_options *o) {
  query same = {.kind = QUERY_AGREES, .name = name, .agrees.options = o};
  step make = {.kind = STEP_QUEUE_OPEN, .name = name, .policy = o};
  int rc = s->read_only ? 0 : store_look(s, &same);
  if (rc && rc != RESPOOL_NOT_FOUND) return rc;
  return same.agrees.yes ? 0 : store_commit_step(s, &make, true);
}

static respool_queue *queue_new(respool *s, const char *name) {
  respool_queue *q = calloc(1, sizeof *q);
  if (!q) return NULL;
  q->store = s;
  q->refs = 1;
  q->bound = RESPOOL_KEEP;
  notices_init(&q->notices);
  strcpy(q->name, name);
  return q;
}

int respool_queue_open(respool *s, const char *name,
                       const respool_queue_options *o, respool_queue **out) {
  static const respool_queue_options keep = RESPOOL_QUEUE_OPTIONS_INIT;
  if (!o) o = &keep;
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "queue name");
  if (!rc) rc = queue_policy_check(o);
  if (rc) return rc;
  respool_queue *q = queue_new(s, name);
  if (!q) return fail(RESPOOL_NOMEM, "not enough memory for a queue");
  rc = open_or_make(s, name, o);
  if (rc)
    respool_queue_free(q);
  else
    *out = q;
  return rc;
}

int respool_queue_find(respool *s, const char *name, respool_queue **out) {
  queue_config c;
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "queue name");
  if (rc) return rc;
  respool_queue *q = queue_new(s, name);
  if (!q) return fail(RESPOOL_NOMEM, "not enough memory for a queue");
  rc = queue_policy_find(s, name, &c);
  if (rc)
    respool_queue_free(q);
  else
    *out = q;
  return rc;
}

respool_queue *respool_queue_ref(respool_queue *q) {
  q->refs++;
  return q;
}

const char *respool_queue_name(const respool_queue *q) {
  return q->name;
}

respool *respool_queue_store(const respool_queue *q) {
  return q->store;
}

void respool_queue_free(respool_queue *q) {
  if (!q || --q->refs > 0) return;
  notices_free(&q->notices);
  free(q);
}

int respool_queue_watch(respool_queue *q, int on) {
  int rc = queue_check(q);
  if (!rc) q->notices.wanted = on != 0;
  return rc;
}

int respool_queue_notice(respool_queue *q, respool_notice *out) {
  int rc = queue_check(q);
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_NOTICE_INIT);
  if (!rc && !notices_take(&q->notices, out)) out->number = 0;
  return rc;
}

notices *queue_notices(respool_queue *q) {
  return q->notices.wanted ? &q->notices : NULL;
}

int queue_check(const respool_queue *q) {
  if (!q) return fail(RESPOOL_INVALID, "the queue is NULL");
  return store_check(q->store);
}

static void unpin(void *q) {
  respool_queue_free(q);
}

int queue_pin(respool_ticket *t, respool_queue *q) {
  int rc = ticket_pin(t, q, unpin);
  if (!rc) respool_queue_ref(q);
  return rc;
}

respool_ticket *queue_ticket(respool_queue *q, size_t size) {
  respool_ticket *t = store_ticket(q->store, size);
  if (!t || !queue_pin(t, q)) return t;
  ticket_unmake(t);
  return NULL;
}
