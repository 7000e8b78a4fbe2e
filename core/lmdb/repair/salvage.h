/* SPDX-License-Identifier: MIT */
/*
 * Salvage: copies all that can be read of a damaged store to a new one, each
 * record verified. repair.c then makes the new store's invariants hold. See
 * respool_repair.
 */
#ifndef SALVAGE_H
#define SALVAGE_H

#include "base/id_set.h"
#include "lmdb/env/pages.h"
#include "lmdb/record/records.h"
#include "lmdb/repair/overlay.h"

#define ULL(n) ((unsigned long long)(n)) /* for %llu */

typedef struct salvage {
  int from; /* the damaged store's directory */
  pages pages;
  env *to;
  txn *t;                /* of the new store; changes between steps */
  uint64_t pending;      /* bytes put since the last commit */
  tree trees[TREE_COUNT];
  overlay recent;
  bool hole[DB_COUNT];   /* not all of it could be read */
  bool settled_said; /* that a record of what is settled is lost */
  bool old;              /* its format is 1 */
  bool idle_known;       /* the free list could */
  bool numbered;         /* SALVAGE_QUEUE's ids are above all it has */
  uint64_t missing_items, missing_dead; /* not where they should be */
  /* Fewer than the records of queues and DLQs say. */
  uint64_t fewer_items, fewer_dead_letters;
  uint64_t next[3];      /* numbers of queues, DLQs, blobs: above all */
  id_set owners[2];      /* queues and DLQs: see salvage_has_owner */
  id_set used;           /* blobs that something refers to */
  respool_finding_fn each;
  void *arg;
  respool_salvage *out;
  int rc;                /* of failures other than damage */
} salvage;

/* Copies what can be read. */
void salvage_copy(salvage *s);

/* Is there a queue, or a DLQ, of that number? */
enum { QUEUES, DLQS };
bool salvage_has_owner(salvage *s, int kind, uint32_t number);

/* Removes a segment with its bitmap. */
void salvage_remove_segment(txn *t, const place *p);

/* Calls `each` for the names of queues or DLQs, a commit each. */
void salvage_each(salvage *s, int which,
                  void (*each)(salvage *s, const char *name));

/* A line for the caller. */
void salvage_say(salvage *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Ends the transaction and begins another; false once something failed. */
bool salvage_commit(salvage *s);

/* The queue for items whose own queue or ids are lost; NULL on failure. */
#define SALVAGE_QUEUE "recovered"
queue *salvage_queue(salvage *s);

#endif
