/* SPDX-License-Identifier: MIT */
/*
 * Who works on a store while it is attacked. Each actor plays one kind of
 * work on queues of its own, and two share one; each opens the store for
 * itself, with a clock that moves only when it says so. Before each verb it
 * notes in the model what the verb will do, and after it that it did.
 *
 * An actor may be a thread or a process, and any number of them may play at
 * once, but only one of each kind other than `shared`.
 */
#ifndef FAULT_ACTORS_H
#define FAULT_ACTORS_H

#include "actor.h"

extern const char *const actor_kinds[];
enum { ACTORS = 9 };

/* Plays all rounds, or until the model's `stop`. Ends the program, saying why,
   when a verb fails that must not. Fit for pthread_create. */
void *actor_play(void *a);

#endif
