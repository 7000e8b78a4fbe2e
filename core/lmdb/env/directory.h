/* SPDX-License-Identifier: MIT */
/*
 * The directory of a store, and its lock: held while the store is opened and
 * while its data file is replaced.
 */
#ifndef DIRECTORY_H
#define DIRECTORY_H

#include <stdbool.h>
#include <sys/stat.h>

int dir_fail(const char *path, int error); /* says why it cannot be opened */
int dir_sync(const char *path);            /* 0 or errno */
int dir_make(const char *path);            /* unless it exists */
char *dir_file(const char *path, const char *name); /* to be freed */

/* 0, or why there is no data file: ENODATA when it is empty. */
int dir_look(const char *path);

/* Stats the directory at `path`, which must hold a data file unless
   `create`; with `create` a missing directory is made. */
int dir_find(const char *path, bool create, struct stat *st);

/* Locks the directory; `how` is LOCK_EX, or LOCK_EX | LOCK_NB, which returns
   LOCKED when another process holds the lock. */
int dir_lock(const char *path, int how, int *lock);
void dir_unlock(int lock);

#endif
