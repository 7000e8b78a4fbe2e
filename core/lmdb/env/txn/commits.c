/* SPDX-License-Identifier: MIT */
/*
 * The record of this process's commits; see commits.h.
 */
#include "lmdb/env/txn/commits.h"

#include <string.h>

#include "threads/thread.h"

void commits_init(commits *c) {
  memset(c, 0, sizeof *c);
  pthread_mutex_init(&c->lock, NULL);
  cond_init_monotonic(&c->changed);
}

void commits_destroy(commits *c) {
  pthread_mutex_destroy(&c->lock);
  pthread_cond_destroy(&c->changed);
}

void commits_stat(commits *c, respool_store_stats *out) {
  pthread_mutex_lock(&c->lock);
  out->commits = c->took;
  out->commit_operations = c->operations;
  pthread_mutex_unlock(&c->lock);
}
