/* SPDX-License-Identifier: MIT */
/*
 * Locks on single bytes of a file.
 */
#ifndef JOURNAL_BYTE_LOCK_H
#define JOURNAL_BYTE_LOCK_H

/* F_RDLCK, F_WRLCK or F_UNLCK, for this open description; never waits. -1
   with errno. */
int byte_lock(int fd, int type, int byte);

#endif
