/* SPDX-License-Identifier: MIT */
/*
 * The queue's handle.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include "verbs/store/store.h"

/* The result of the last look for items: nothing as of `seen`, the next one due
   at `due`. A hint, as threads share it. */
typedef struct idle_hint {
  _Atomic uint64_t seen;  /* of the engine's wait; 0: nothing is known */
  _Atomic int64_t due;    /* by the store's clock */
  _Atomic int64_t looked; /* by the monotonic clock */
} idle_hint;

struct respool_queue {
  respool *store;
  _Atomic int refs; /* its owner, tickets, lease renewals */
  idle_hint idle;
  _Atomic bool busy;     /* the last take brought items */
  _Atomic int64_t bound; /* max_queue_bytes as seen last; KEEP: not yet */
  _Atomic bool parted;   /* it took an item of a partition when last asked */
  notices notices;       /* dead letters that this handle has made */
  char name[RESPOOL_NAME_MAX + 1];
};

int queue_check(const respool_queue *q); /* 0, or as store_check */

/* The list for notices of dead letters; NULL when they are not asked for. */
notices *queue_notices(respool_queue *q);

/* A ticket that keeps the handle; NULL as from ticket_new. */
respool_ticket *queue_ticket(respool_queue *q, size_t size);

/* Keeps another handle until the ticket is freed. */
int queue_pin(respool_ticket *t, respool_queue *q);

#endif
