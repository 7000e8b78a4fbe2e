/* SPDX-License-Identifier: MIT */
/*
 * Reporting progress. A report is saved on the revision that was there before
 * the lease was looked at: so it never replaces that of a later lease.
 */
#include "verbs/queue/queue.h"
#include "verbs/store/reports.h"

#include <string.h>

#include "base/fault.h"

enum {
  TRIES = 10, /* while others report of the same item */
  DONE = 1000 /* thousandths */
};

static int try_report(respool_queue *q, uint64_t id, uint64_t token,
                      const respool_progress *p) {
  report r;
  int64_t now;
  bool over;
  int rc = report_find(q->store, q->name, id, &r, &now);
  strcpy(r.queue, q->name);
  r.id = id;
  r.token = token;
  r.done = p->done;
  r.at = now;
  r.text = phrase_cut(p->text, RESPOOL_PROGRESS_TEXT);
  if (!rc) rc = report_is_over(q->store, &r, &over);
  FAULT_POINT("progress looked at");
  if (rc || FAULT_WRONG("progress is kept")) return rc;
  return over ? batch_lost_error(q->name, 1) : report_save(q->store, &r);
}

int respool_item_progress(respool_queue *q, uint64_t id, uint64_t token,
                          const respool_progress *p) {
  int rc = queue_check(q);
  if (!rc) rc = SIZE_CHECK(p, RESPOOL_PROGRESS_INIT);
  if (!rc && (p->done < RESPOOL_KEEP || p->done > DONE))
    rc = invalid("done", "0 to 1000 or RESPOOL_KEEP");
  if (!rc) rc = RESPOOL_LOCKED;
  for (int i = 0; i < TRIES && rc == RESPOOL_LOCKED; i++)
    rc = try_report(q, id, token, p);
  return rc;
}

int respool_item_progress_end(respool_queue *q, uint64_t id, uint64_t token) {
  report r;
  int64_t now;
  int rc = queue_check(q);
  if (!rc) rc = report_find(q->store, q->name, id, &r, &now);
  return rc || r.token != token ? rc : report_remove(q->store, &r);
}
