/* SPDX-License-Identifier: MIT */
/*
 * The buffers of a store: those in use, and orphans, which were freed with
 * items that could not be flushed and stay until they can. A walk along the
 * list holds a reference to the buffer it is at, so that the list need not be
 * locked meanwhile.
 */
#include "verbs/produce/buffer_list.h"

#include <string.h>

#include "verbs/produce/buffer.h"

void buffers_init(respool *s) {
  pthread_mutex_init(&s->buffers.lock, NULL);
}

static void add_buffer(respool_buffer *b) {
  store_buffers *all = &b->queue->store->buffers;
  pthread_mutex_lock(&all->lock);
  b->next = all->first;
  all->first = b;
  pthread_mutex_unlock(&all->lock);
}

static void unlink_buffer(store_buffers *all, const respool_buffer *b) {
  respool_buffer **p = &all->first;
  while (*p && *p != b) p = &(*p)->next;
  if (*p) *p = b->next;
}

static void unref(respool *s, respool_buffer *b) {
  store_buffers *all = &s->buffers;
  pthread_mutex_lock(&all->lock);
  bool over = --b->refs == 0;
  if (over) unlink_buffer(all, b);
  pthread_mutex_unlock(&all->lock);
  if (over) buffer_destroy(b);
}

/* A buffer freed while not empty is kept until its items are flushed. */
static void pass(respool *s, respool_buffer *b) {
  pthread_mutex_lock(&b->lock);
  bool over = b->orphaned && buffer_is_empty(b);
  if (over) b->orphaned = false;
  pthread_mutex_unlock(&b->lock);
  if (over) unref(s, b);
  unref(s, b);
}

/* The buffer behind `b`, which is done with; the first behind NULL. */
static respool_buffer *next_buffer(respool *s, respool_buffer *b) {
  pthread_mutex_lock(&s->buffers.lock);
  respool_buffer *next = b ? b->next : s->buffers.first;
  if (next) next->refs++;
  pthread_mutex_unlock(&s->buffers.lock);
  if (b) pass(s, b);
  return next;
}

/* Destroys orphans that are empty now. */
static void sweep(respool *s) {
  respool_buffer *b = NULL;
  while ((b = next_buffer(s, b)) != NULL) continue;
}

/* ---- a buffer's life ---------------------------------------------------- */

int respool_buffer_open(respool_queue *q, const respool_buffer_options *o,
                        respool_buffer **out) {
  int rc = buffer_new(q, o, out);
  if (!rc) add_buffer(*out);
  return rc;
}

void respool_buffer_free(respool_buffer *b) {
  if (!b) return;
  respool *s = b->queue->store;
  if (store_check(s)) {
    buffers_forget(s, b);
    return;
  }
  buffer_orphan(b);
  sweep(s);
}

static int free_late(void *b) {
  respool_buffer_free(b);
  return 0;
}

void respool_buffer_discard(respool_buffer *b) {
  respool_ticket *t;
  if (!b) return;
  if (respool_call(b->queue->store, free_late, NULL, b, &t))
    respool_buffer_free(b);
  else
    respool_ticket_free(t);
}

/* ---- flushing ----------------------------------------------------------- */

static int flush_all(respool *s, int reason) {
  failure first;
  int rc = store_check(s);
  if (rc) return rc;
  for (respool_buffer *b = NULL; (b = next_buffer(s, b)) != NULL;) {
    int failed = buffer_barrier(b, reason);
    if (!failed || rc) continue;
    rc = failed;
    failure_keep(&first);
  }
  if (rc) failure_tell(&first);
  return rc;
}

int respool_buffers_flush(respool *s) {
  return flush_all(s, RESPOOL_FLUSH_MANUAL);
}

int respool_buffers_drain(respool *s) {
  return flush_all(s, RESPOOL_FLUSH_CLOSE);
}

/* ---- looking ------------------------------------------------------------ */

int respool_buffers(respool *s, respool_buffer_fn each, void *arg) {
  int rc = store_check(s);
  for (respool_buffer *b = NULL; !rc && (b = next_buffer(s, b)) != NULL;) {
    respool_buffer_stats stats = RESPOOL_BUFFER_STATS_INIT;
    buffer_stat(b, &stats);
    rc = each(arg, b->queue->name, &stats);
    if (rc) pass(s, b);
  }
  return rc;
}

uint64_t respool_flush_failures(const respool *s) {
  return s->buffers.failures;
}

/* Reads flush failures not yet reported; false if there are none. */
static bool note_failure(respool_buffer *b, respool_flush_failure *f) {
  pthread_mutex_lock(&b->lock);
  f->queue = b->queue->name;
  f->times = b->failures - b->failures_reported;
  f->error = b->failed;
  strcpy(f->error_text, b->failure.text);
  b->failures_reported = b->failures;
  pthread_mutex_unlock(&b->lock);
  return f->times > 0;
}

int respool_flush_failed(respool *s, respool_failure_fn each, void *arg) {
  respool_flush_failure f;
  int rc = store_check(s);
  for (respool_buffer *b = NULL; !rc && (b = next_buffer(s, b)) != NULL;) {
    if (note_failure(b, &f)) rc = each(arg, &f);
    if (rc) pass(s, b);
  }
  return rc;
}

/* ---- the end ------------------------------------------------------------ */

void buffers_end(respool *s) {
  for (respool_buffer *b = NULL; (b = next_buffer(s, b)) != NULL;)
    if (b->orphaned) buffer_discard_unflushed(b);
  pthread_mutex_destroy(&s->buffers.lock);
}

static void forget(store_buffers *all, respool_buffer *b) {
  unlink_buffer(all, b);
  buffer_forget(b);
}

void buffers_forget(respool *s, respool_buffer *b) {
  store_buffers *all = &s->buffers;
  if (pthread_mutex_trylock(&all->lock)) return;
  if (b) forget(all, b);
  for (respool_buffer *p = b ? NULL : all->first, *next; p; p = next) {
    next = p->next;
    if (p->orphaned) forget(all, p);
  }
  pthread_mutex_unlock(&all->lock);
}
