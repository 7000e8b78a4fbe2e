/* SPDX-License-Identifier: MIT */
/*
 * A producer's buffer, as the list of a store's buffers sees it.
 */
#ifndef BUFFER_H
#define BUFFER_H

#include "verbs/buffer_fill.h"
#include "verbs/store.h"

struct respool_buffer {
  timer timer;
  respool_queue *queue;
  respool_buffer_options o;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  load open;
  load hand;           /* taken off, not committed yet */
  uint64_t held;       /* the memory of `hand` */
  bool flushing;
  int asked;           /* the reason of a flush that is due now, or 0 */
  int64_t retry, retry_at;
  uint64_t pushed, committed, versions;
  uint64_t flushes[RESPOOL_FLUSH_REASONS];
  uint64_t failures, told;
  int rc;              /* of the last flush */
  int failure;         /* of the last one that failed, with its text */
  char text[FAIL_LINE];
  bool left;           /* freed by its owner: the store's, until it is empty */
  int refs;            /* the owner's or the store's, and who walks by */
  struct respool_buffer *next; /* with refs by the lock of the list */
};

/* What has been pushed before is committed and on disk, or why not. */
int buffer_barrier(respool_buffer *b, int reason);

void buffer_stat(respool_buffer *b, respool_buffer_stats *out);

/* Whether nothing is in it, nor on its way. */
bool buffer_is_empty(respool_buffer *b);

/* Frees its memory; nobody uses it any more. */
void buffer_destroy(respool_buffer *b);

/* ---- buffers.c ---------------------------------------------------------- */

void buffers_init(respool *s);

/* A new buffer, with its owner's reference, joins the list of its store. */
void buffers_add(respool_buffer *b);

/* Destroys those that were left and are empty now. */
void buffers_sweep(respool *s);

/* At the end of a store: what was left is tried once more, then freed. */
void buffers_end(respool *s);

/* In a child process: frees the memory of a buffer, or of all that were left
   (NULL), but for what a thread of the parent was at when it forked. */
void buffers_forget(respool *s, respool_buffer *b);

#endif
