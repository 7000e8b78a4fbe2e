/* SPDX-License-Identifier: MIT */
/*
 * Reports of progress as they are stored, one for each item that has any, and
 * showing them where items and leases are shown.
 */
#ifndef REPORTS_H
#define REPORTS_H

#include "record/leases.h"
#include "verbs/store/store.h"

typedef struct report {
  char entry[RESPOOL_NAME_MAX + 1], queue[RESPOOL_NAME_MAX + 1];
  uint64_t revision, id, token; /* revision 0: there is none */
  int64_t done, at;
  respool_bytes text;
} report;

/* The report of an item, without its text, and the time of the look. */
int report_find(respool *s, const char *queue, uint64_t id, report *out,
                int64_t *now);
int report_save(respool *s, const report *r); /* LOCKED: there is another */
int report_remove(respool *s, const report *r); /* unless there is another */

/* Is the lease over, under which it was made? */
int report_is_over(respool *s, const report *r, bool *over);

/* Adds what was reported to the leased items of a page. */
int reports_show(respool *s, const char *queue, respool_page *p);

/* Reads the last report of an item of each of the queue's leases, into the
   element of `out` at the same place; texts lie in the arena. */
int reports_of_leases(respool *s, const char *queue, const leases *l,
                      respool_lease *out, arena *a);

/* Removes those whose leases are over. */
int reports_sweep(respool *s);

#endif
