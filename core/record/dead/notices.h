/* SPDX-License-Identifier: MIT */
/*
 * Notices of dead letters, for a program that wants to know of them. Each
 * queue handle has a list of its own. A notice is added to its list when the
 * commit that made the dead letter has succeeded; until then it belongs to
 * the transaction.
 */
#ifndef DEAD_NOTICES_H
#define DEAD_NOTICES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "respool.h"

typedef struct notice {
  struct notices *to;
  struct notice *next;
  uint64_t number;
  char dlq[RESPOOL_NAME_MAX + 1];
} notice;

typedef struct notices {
  pthread_mutex_t lock;
  _Atomic bool wanted;
  size_t n;
  notice *first, **end;
} notices;

void notices_init(notices *l);
void notices_free(notices *l);

/* Adds a notice to those of a transaction. Out of memory it is left out: the
   dead letter itself is stored all the same. */
void notices_add(notice **all, notices *to, const char *dlq,
                 uint64_t number);

/* Adds a transaction's notices to their lists, after it committed, or drops
   them. */
void notices_post(notice *all);
void notices_drop(notice *all);

/* Takes the first one off the list; false when there is none. */
bool notices_take(notices *l, respool_notice *out);

#endif
