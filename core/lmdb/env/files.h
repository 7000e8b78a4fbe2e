/* SPDX-License-Identifier: MIT */
/*
 * The files of an open store: looked at before LMDB opens them, by name and
 * through links, and afterwards, as the store is what its path says. A store
 * that was deleted or replaced is not written to any more.
 */
#ifndef LMDB_FILES_H
#define LMDB_FILES_H

#include "lmdb/env/txn/txn.h"

/* Looks at the files, and makes the lock file with room on the disk, so that
   LMDB makes none. With the directory locked. */
int files_prepare(lmdb_env *e);

/* Gives a new file of the store the mode of the data, and, in a directory of
   root's, its owner. 0, or -1 with errno. */
int files_match(int dirfd, int fd);

/* Notes which files LMDB has opened. With the directory locked. */
void files_note(lmdb_env *e);

enum { LOOK_NOW, LOOK_OFTEN, LOOK_SELDOM };

/* 0, or IO while the path does not lead to the files that are open. Looks now;
   often: when they have lost their names or 20 ms have passed; seldom: twice a
   second. Always looks when they were gone. */
int files_check(lmdb_env *e, int how);

/* The same when the lock file is seen to belong to other data. */
int files_astray(lmdb_env *e);

/* Why LMDB could not open them: which file, if it was for want of rights. */
int files_explain(const lmdb_env *e);

#endif
