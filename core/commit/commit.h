/* SPDX-License-Identifier: MIT */
/*
 * Group commit. A thread that needs the result of a unit and finds no leader
 * becomes the leader, hands all waiting units to the store's engine and wakes
 * those who wait for one that is over. Units that nobody waits for are led by a
 * thread that the first of them starts.
 */
#ifndef COMMIT_H
#define COMMIT_H

#include "engine.h"

/* Makes the committer of an environment; NOMEM. It ends with it. */
int commit_open(env *e);

/* Runs a unit and returns its result, with the text of a failure. */
int commit_unit(env *e, unit *u);

/* Begins a unit and returns. Once it is over, u->ended(u) is called with the
   lock held, and nothing here touches `u` any more. `*running`, which the
   lock guards, counts one more until commit_ended. NOMEM: no thread for it. */
int commit_start(env *e, unit *u, int *running);

/* The same with the lock held. */
int commit_start_locked(env *e, unit *u, int *running);

/* With the lock held: one less is running. */
void commit_ended(env *e, int *running);

/* Waits until `*running` is 0. */
void commit_drain(env *e, const int *running);

/* With the lock held: waits until `waits` is false, which is asked whenever a
   started unit has ended. */
void commit_wait_while(env *e, bool (*waits)(const void *arg),
                       const void *arg);

void commit_lock(env *e);
void commit_unlock(env *e);

#endif
