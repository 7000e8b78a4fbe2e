/* SPDX-License-Identifier: MIT */
/*
 * The locks of the control block: STATE_LOCK, FLUSH_LOCK, WRITE_LOCK.
 */
#ifndef JOURNAL_LOCK_H
#define JOURNAL_LOCK_H

#include "lmdb/journal/control.h"

/* 0 held; 1 held, and its last holder died in it; -1 with errno */
int lock_take(journal *j, int which);
bool lock_try(journal *j, int which);
void lock_leave(journal *j, int which);

/* Leaves it as after a death: the next to take it is told. */
void lock_abandon(journal *j, int which);

#endif
