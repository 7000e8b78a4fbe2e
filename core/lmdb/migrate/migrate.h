/* SPDX-License-Identifier: MIT */
/*
 * Migration: makes a store of format 2 of one of format 1.
 */
#ifndef MIGRATE_H
#define MIGRATE_H

/* Ensures: 1. A process that is killed, or fails, leaves the store as it was,
   or migrated. 2. Each record is in the new store, except for the queues
   ".notes" and ".imports", whose items become notes. 3. What was damaged before
   is not taken for sound. 0 also when there is nothing to migrate; LOCKED when
   another process has the store open, or who waits has given it up: they are
   called after each commit, with how far it has come. */
int lmdb_migrate(const char *path);

#endif
