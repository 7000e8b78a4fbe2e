/* SPDX-License-Identifier: MIT */
/*
 * Turns: writers of several processes wait here, and so never at LMDB's mutex.
 * That is a robust mutex of glibc's, which loses a wake-up when the waiter is
 * killed just as it comes: the other waiters may then sleep for ever. The
 * kernel passes a file lock on, in order.
 */
#ifndef TURN_H
#define TURN_H

#include <pthread.h>

#include "engine.h"

typedef struct turns {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  enum { TURN_FREE, TURN_WANTED, TURN_UNWANTED, TURN_HELD } state;
  int fd;
  pthread_t thread; /* waits for the file lock */
  bool threaded, stopping;
} turns;

void turn_init(turns *u);
void turn_destroy(turns *u);

/* Takes this process's turn to write to the store `path` of environment `e`,
   whose data file is `fd`. TURN_REFUSED: the wait was given up, and fail() was
   called with LOCKED. */
#define TURN_REFUSED (-1003)
int turn_take(turns *u, env *e, int fd, const char *path);
void turn_end(turns *u);

/* Is it another process's turn? */
bool turn_is_taken(int fd);

/* Ends what still waits; before the data file is closed. */
void turn_close(turns *u);

#endif
