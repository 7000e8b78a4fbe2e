/* SPDX-License-Identifier: MIT */
/*
 * Notes, as a transaction needs them.
 */
#ifndef VERBS_NOTES_H
#define VERBS_NOTES_H

#include "respool.h"

/* INVALID or TOO_LARGE: no note may be saved so. */
int note_check(const char *name, respool_bytes note);

#endif
