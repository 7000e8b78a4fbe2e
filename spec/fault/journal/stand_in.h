/* SPDX-License-Identifier: MIT */
/*
 * A small engine around a journal, in which a file stands in for LMDB: one
 * record with the applied position, queues and items, read whole and replaced
 * whole by a rename. A commit syncs the new file; that it has the name is
 * certain once the directory is synced, as a commit of LMDB without its meta
 * page is (MDB_NOMETASYNC). It does in the small what the engine does with a
 * journal, so that the journal can be attacked without LMDB.
 */
#ifndef STAND_IN_H
#define STAND_IN_H

#include "lmdb/journal/journal.h"

enum { SIDE_QUEUES = 8 };

typedef struct side_queue {
  uint64_t number, next_id, pushed, done, delivered;
} side_queue;

typedef struct side_item {
  uint64_t queue, id, token;
  int64_t time, until; /* 0: ready */
  uint32_t priority, deliveries, crashes, size;
  uint8_t *bytes;
} side_item;

/* What the file holds. */
typedef struct side {
  journal_applied applied;
  side_queue queue[SIDE_QUEUES];
  side_item *item; /* by queue and id */
  size_t n, room;
} side;

typedef struct stand {
  journal *j;
  int dirfd;
  const char *fault; /* what the last failure was, or NULL */
} stand;

typedef struct taken {
  uint64_t id, token;
  uint32_t deliveries, crashes;
  respool_bytes bytes; /* in the arena */
} taken;

int64_t now_ms(void);

int stand_open(stand *s, const char *dir, uint64_t half);
void stand_close(stand *s);

/* All return 0 or a count, or a code. */
int stand_push(stand *s, uint64_t queue, const respool_bytes *items, size_t n,
               uint64_t *first);
int stand_take(stand *s, uint64_t queue, taken *t, size_t max,
               int64_t lease_ms, int64_t wait_ms, arena *to);
int stand_done(stand *s, uint64_t queue, const uint64_t *ids,
               const uint64_t *tokens, size_t n, uint8_t *lost);
int stand_retry(stand *s, uint64_t queue, uint64_t id, uint64_t token,
                int64_t delay_ms);
int stand_apply(stand *s, int what, bool sync);

/* Every live item by queue and id; `where` 0: the side, 1: the journal. */
typedef int stand_each_fn(void *arg, const side_item *i, int where);
int stand_each(stand *s, stand_each_fn *each, void *arg);

/* Counters, the journal's added: pushed, done. */
int stand_count(stand *s, uint64_t queue, uint64_t *pushed, uint64_t *done);
int stand_check(stand *s, journal_finding_fn *each, void *arg);

/* Way back from a flush that failed. */
int stand_mend(stand *s);

#endif
