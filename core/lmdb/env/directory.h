/* SPDX-License-Identifier: MIT */
/*
 * The directory of a store, and its lock: held while the store is opened and
 * while its data file is replaced.
 */
#ifndef DIRECTORY_H
#define DIRECTORY_H

#include <stdbool.h>
#include <sys/stat.h>

#define DATA_NAME "data.mdb"
#define LOCK_NAME "lock.mdb"

int dir_fail(const char *path, int error); /* says why it cannot be opened */

/* Makes a directory, unless it exists, for a data file of this mode: it is no
   more readable than that. */
int dir_make(const char *path, mode_t data);

/* 0 when the directory holds a data file that may be opened, or why not:
   ENOENT when there is none, ENODATA when it is empty. */
int dir_look(int dirfd);

/* Opens the directory at `path`, which must hold a data file unless `create`;
   with `create` a missing directory is made. */
int dir_open(const char *path, bool create, int *dirfd);

/* By which LMDB finds the directory: not by the path, at which there may be
   another one by now, unless /proc is missing. */
enum { PLACE_MAX = 4096 };
void dir_place(int dirfd, const char *path, char place[PLACE_MAX]);

/* Locks the directory by this descriptor; `how` is LOCK_EX, or LOCK_EX |
   LOCK_NB, which returns LOCKED when another one holds the lock. */
int dir_lock(int dirfd, const char *path, int how);
void dir_unlock(int dirfd);

#endif
