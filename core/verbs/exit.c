/* SPDX-License-Identifier: MIT */
/*
 * Stores that are open when the process calls exit(), as Lua's os.exit does,
 * which closes nothing unless asked to: their buffers are flushed, so that
 * what was pushed a moment ago is not lost without a word.
 */
#include "verbs/exit.h"

#include <stdlib.h>

#include "threads/thread.h"
#include "verbs/store/store.h"

#define PATIENCE 5000 /* ms: what holds a flush up must not hold up the end */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static respool *watched;

static struct {
  pthread_mutex_t lock;
  pthread_cond_t over;
  bool is_over;
} ending = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A child of fork has its parent's list, and uses none of it. */
static void *flush_main(void *arg) {
  (void)arg;
  for (respool *s = watched; s; s = s->next_open)
    (void)respool_buffers_drain(s);
  pthread_mutex_lock(&ending.lock);
  ending.is_over = true;
  pthread_cond_signal(&ending.over);
  pthread_mutex_unlock(&ending.lock);
  return NULL;
}

/* In a child of fork the lock may be held by a thread that it does not have. */
static void flush_all(void) {
  pthread_t thread;
  struct timespec until;
  if (pthread_mutex_trylock(&lock)) return;
  bool ours = watched && watched->forks == store_forks();
  cond_init_monotonic(&ending.over);
  bool begun = ours && !thread_start(&thread, flush_main, NULL);
  if (begun) pthread_detach(thread);
  clock_deadline(&until, PATIENCE);
  pthread_mutex_lock(&ending.lock); /* it may be over already */
  while (begun && !ending.is_over &&
         !pthread_cond_timedwait(&ending.over, &ending.lock, &until))
    continue;
  bool over = !begun || ending.is_over;
  pthread_mutex_unlock(&ending.lock);
  if (over) pthread_mutex_unlock(&lock); /* else the thread is at the list */
}

static void flush_at_exit(void) {
  (void)atexit(flush_all);
}

void exit_watch(respool *s) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, flush_at_exit);
  pthread_mutex_lock(&lock);
  s->next_open = watched;
  watched = s;
  pthread_mutex_unlock(&lock);
}

/* Not one that a parent had opened: it is not in use. */
void exit_unwatch(respool *s) {
  if (pthread_mutex_trylock(&lock)) {
    if (store_check(s)) return;
    pthread_mutex_lock(&lock);
  }
  respool **p = &watched;
  while (*p && *p != s) p = &(*p)->next_open;
  if (*p) *p = s->next_open;
  pthread_mutex_unlock(&lock);
}
