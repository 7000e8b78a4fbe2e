/* SPDX-License-Identifier: MIT */
/*
 * The state lock, with a block that is whole.
 */
#ifndef JOURNAL_STATE_H
#define JOURNAL_STATE_H

#include "lmdb/journal/files/control.h"

/* Repairs the block when the last holder died. `anyhow` enters also after a
   flush failed, which is IO otherwise. */
int state_enter(journal *j, bool anyhow);

/* Anyhow, for those who look and wait for nobody: ELSEWHERE when another has
   the lock for longer than a change of the block takes. */
int state_look(journal *j);

void state_leave(journal *j);

#endif
