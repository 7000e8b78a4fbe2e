/* SPDX-License-Identifier: MIT */
/*
 * Named replays, as a transaction needs them.
 */
#ifndef VERBS_DEAD_LETTERS_H
#define VERBS_DEAD_LETTERS_H

#include "respool.h"

/* INVALID: no named replay may be saved so. */
int replay_check(const respool_replay *r);

#endif
