/* SPDX-License-Identifier: MIT */
/*
 * The flush that all of a moment share: journal_flush.
 */
#ifndef JOURNAL_FLUSH_H
#define JOURNAL_FLUSH_H

#include "lmdb/journal/files/control.h"

/* Wakes those who wait for a flush: it may have come. */
void flush_wake(control *c);

/* Raises a position; another may have raised it further. */
void flush_raise(_Atomic uint64_t *position, uint64_t to);

#endif
