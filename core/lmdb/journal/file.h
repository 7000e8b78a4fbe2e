/* SPDX-License-Identifier: MIT */
/*
 * Locks on single bytes of a file.
 */
#ifndef JOURNAL_FILE_H
#define JOURNAL_FILE_H

#include <stdbool.h>

/* F_RDLCK, F_WRLCK or F_UNLCK, for this open description. */
int byte_lock(int fd, int type, int byte, bool wait);

#endif
