/* SPDX-License-Identifier: MIT */
/*
 * The locks of the control block: STATE_LOCK, FLUSH_LOCK, WRITE_LOCK.
 */
#ifndef JOURNAL_LOCK_H
#define JOURNAL_LOCK_H

#include "lmdb/journal/files/control.h"

/* 0; `*died`: its last holder died in it. LOCKED: the wait was given up. */
int lock_take(journal *j, int which, bool *died);
bool lock_try(journal *j, int which, bool *died);

/* LOCKED, without a word, when the wait would be longer than `ms`. */
int lock_take_within(journal *j, int which, int64_t ms, bool *died);

void lock_leave(journal *j, int which);

/* Leaves it as after a death: the next one to take it learns of that. */
void lock_abandon(journal *j, int which);

/* Locks byte 0, waiting until the block is built, or this is the one to build
   it: also when the one that was building it has died. */
int lock_here(journal *j, bool *first);

#endif
