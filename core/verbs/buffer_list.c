/* SPDX-License-Identifier: MIT */
/*
 * The buffers of a store: those in use, and those that were freed with items
 * that could not be flushed, which stay with the store until they can. Who
 * walks along the list holds a reference to the one it looks at, so that the
 * list is not locked meanwhile.
 */
#include "verbs/buffer.h"

#include <stdlib.h>
#include <string.h>

void buffers_init(respool *s) {
  pthread_mutex_init(&s->buffers.lock, NULL);
}

void buffers_add(respool_buffer *b) {
  store_buffers *all = &b->queue->store->buffers;
  b->refs = 1;
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

/* One that was left lasts as long as there is something in it. */
static void pass(respool *s, respool_buffer *b) {
  pthread_mutex_lock(&b->lock);
  bool over = b->left && buffer_is_empty(b);
  if (over) b->left = false;
  pthread_mutex_unlock(&b->lock);
  if (over) unref(s, b);
  unref(s, b);
}

/* The buffer behind `b`, which is done with; the first behind NULL. */
static respool_buffer *step(respool *s, respool_buffer *b) {
  pthread_mutex_lock(&s->buffers.lock);
  respool_buffer *next = b ? b->next : s->buffers.first;
  if (next) next->refs++;
  pthread_mutex_unlock(&s->buffers.lock);
  if (b) pass(s, b);
  return next;
}

void buffers_sweep(respool *s) {
  respool_buffer *b = NULL;
  while ((b = step(s, b)) != NULL) continue;
}

/* ---- flushing ----------------------------------------------------------- */

static int flush_all(respool *s, int reason) {
  char text[FAIL_LINE] = "";
  int rc = store_check(s);
  if (rc) return rc;
  for (respool_buffer *b = NULL; (b = step(s, b)) != NULL;) {
    int failed = buffer_barrier(b, reason);
    if (!failed || rc) continue;
    rc = failed;
    strcpy(text, respool_error_text());
  }
  if (rc) fail_text(text);
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
  for (respool_buffer *b = NULL; !rc && (b = step(s, b)) != NULL;) {
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

/* What is to be told of a buffer; false: nothing. */
static bool note_failure(respool_buffer *b, respool_flush_failure *f) {
  pthread_mutex_lock(&b->lock);
  f->queue = b->queue->name;
  f->times = b->failures - b->told;
  f->error = b->failure;
  strcpy(f->error_text, b->text);
  b->told = b->failures;
  pthread_mutex_unlock(&b->lock);
  return f->times > 0;
}

int respool_flush_failed(respool *s, respool_failure_fn each, void *arg) {
  respool_flush_failure f;
  int rc = store_check(s);
  for (respool_buffer *b = NULL; !rc && (b = step(s, b)) != NULL;) {
    if (note_failure(b, &f)) rc = each(arg, &f);
    if (rc) pass(s, b);
  }
  return rc;
}

/* ---- the end ------------------------------------------------------------ */

static void give_up(respool *s, respool_buffer *b) {
  timers_remove(&s->timers, &b->timer); /* nobody else flushes it then */
  buffer_barrier(b, RESPOOL_FLUSH_CLOSE);
  pthread_mutex_lock(&b->lock);
  load_free(&b->open);
  load_free(&b->hand);
  pthread_mutex_unlock(&b->lock);
}

void buffers_end(respool *s) {
  for (respool_buffer *b = NULL; (b = step(s, b)) != NULL;)
    if (b->left) give_up(s, b);
  pthread_mutex_destroy(&s->buffers.lock);
}

static void forget(store_buffers *all, respool_buffer *b) {
  unlink_buffer(all, b);
  if (pthread_mutex_trylock(&b->lock)) return;
  if (b->flushing) return;
  load_free(&b->open);
  load_free(&b->hand);
  respool_queue_free(b->queue);
  free(b);
}

void buffers_forget(respool *s, respool_buffer *b) {
  store_buffers *all = &s->buffers;
  if (pthread_mutex_trylock(&all->lock)) return;
  if (b) forget(all, b);
  for (respool_buffer *p = b ? NULL : all->first, *next; p; p = next) {
    next = p->next;
    if (p->left) forget(all, p);
  }
  pthread_mutex_unlock(&all->lock);
}
