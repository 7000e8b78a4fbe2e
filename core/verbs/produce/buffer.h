/* SPDX-License-Identifier: MIT */
/*
 * A producer's buffer, as the list of a store's buffers sees it.
 */
#ifndef BUFFER_H
#define BUFFER_H

#include "verbs/produce/buffer_fill.h"
#include "verbs/produce/push.h"

struct respool_buffer {
  timer timer;
  respool_queue *queue;
  respool_buffer_options o;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  buffer_fill filling;
  buffer_fill flushing_fill; /* taken off, not committed yet */
  uint64_t flushing_memory;  /* of `flushing_fill` */
  bool flushing;
  int flush_reason;    /* of a flush that is due now, or 0 */
  int64_t retry, retry_at;
  uint64_t pushed, committed, versions;
  uint64_t flushes[RESPOOL_FLUSH_REASONS];
  uint64_t failures, failures_reported;
  int rc;              /* of the last flush */
  int failed;          /* rc of the last one that failed */
  failure failure;     /* and what was wrong */
  bool orphaned;       /* freed by its owner: the store's, until it is empty */
  int refs;            /* the owner's or the store's, and of each walk */
  struct respool_buffer *next; /* with refs by the lock of the list */
};

/* A new buffer, with one reference. */
int buffer_new(respool_queue *q, const respool_buffer_options *o,
               respool_buffer **out);

/* Its owner frees it: flushes as far as it can, and leaves it an orphan. */
void buffer_orphan(respool_buffer *b);

/* Commits what was pushed before, and flushes it to disk. */
int buffer_barrier(respool_buffer *b, int reason);

void buffer_stat(respool_buffer *b, respool_buffer_stats *out);

/* Whether nothing is in it, nor on its way. */
bool buffer_is_empty(respool_buffer *b);

/* Frees its memory, when it is no longer in use. */
void buffer_destroy(respool_buffer *b);

/* The same in a child process: but for what a thread of the parent was at. */
void buffer_forget(respool_buffer *b);

/* Tries to flush it for the last time, and empties it. */
void buffer_discard_unflushed(respool_buffer *b);

#endif
