/* SPDX-License-Identifier: MIT */
/*
 * Files of the store's directory, and locks on single bytes of them.
 */
#ifndef JOURNAL_FILE_H
#define JOURNAL_FILE_H

#include <stdbool.h>

/* Makes a file that must not be there. What root makes belongs to whom the
   directory belongs. A descriptor, or -1 with errno. */
int file_make(int dirfd, const char *name);

/* Opens one, never through a link; `make` makes it when it is missing. */
int file_open(int dirfd, const char *name, bool make);

/* F_RDLCK, F_WRLCK or F_UNLCK, for this open description. */
int byte_lock(int fd, int type, int byte, bool wait);

#endif
