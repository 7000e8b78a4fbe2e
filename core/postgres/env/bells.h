/* SPDX-License-Identifier: MIT */
/*
 * Waiting for items, and for their ends. A consumer that waits hangs up a bell:
 * a row that says until when somebody waits for a queue; one that waits for
 * results, under the negative id of the queue. A push, or a settle of a queue
 * that keeps finished items, finds it and answers that it is to be rung, which
 * its process then does, in a transaction of its own, by a notification;
 * consumers listen. Whatever is not heard is found by looking
 * again after a second, or where nothing can be heard, as behind a pooler,
 * after 10 ms, 20 ms, and so on up to a second.
 *
 * One thread does this, with a session of its own, from the first wait or
 * ring on.
 */
#ifndef BELLS_H
#define BELLS_H

#include "postgres/env/env.h"

typedef struct bells bells;

int bells_open(pg_env *e, bells **out);
void bells_close(bells *b);

/* As the engine's wait. */
int bells_wait(bells *b, const char *queue, enum wait_for what, uint64_t *seen,
               int64_t ms);

/* A push to a queue answered that somebody waits; or, with the negative id of
   the queue, a settle. */
void bells_ring(bells *b, int queue);

/* Something was committed to a queue (NULL: to some) by this process. */
void bells_committed(bells *b, const char *queue);

#endif
