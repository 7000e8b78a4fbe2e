/* SPDX-License-Identifier: MIT */
/*
 * The figures of this process's commits, kept with an environment.
 */
#ifndef LMDB_COMMITS_H
#define LMDB_COMMITS_H

#include <pthread.h>
#include <stdbool.h>

#include "base/histogram.h"

typedef struct commits {
  pthread_mutex_t lock;
  pthread_cond_t changed; /* something was committed */
  uint64_t version;       /* rises with every commit */
  bool applying;
  bool unflushed;         /* a commit was made, perhaps, that is not on disk */
  respool_histogram took; /* commits, in microseconds */
  respool_histogram operations; /* units that one carried */
} commits;

void commits_init(commits *c);
void commits_destroy(commits *c);
void commits_stat(commits *c, respool_store_stats *out);

#endif
