/* SPDX-License-Identifier: MIT */
/*
 * The end of a process that leaves stores open.
 */
#ifndef VERBS_EXIT_H
#define VERBS_EXIT_H

#include "respool.h"

/* Between these calls exit() flushes what lies in the store's buffers. */
void exit_watch(respool *s);
void exit_unwatch(respool *s);

#endif
