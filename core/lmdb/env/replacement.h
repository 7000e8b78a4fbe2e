/* SPDX-License-Identifier: MIT */
/*
 * A new data file for a store, made under another name and renamed once it is
 * whole; and being alone with a store while its file is replaced.
 */
#ifndef REPLACEMENT_H
#define REPLACEMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* A data file in the making, in a directory. */
typedef struct replacement {
  const char *dir, *name; /* `name` until it is whole */
  int dirfd, fd;
} replacement;

/* Makes it, with the owner and mode of the old file. */
int replacement_open(replacement *r, const struct stat *old);

/* Ensures: 1. The data is on disk before it is published. 2. The name is on
   disk when this returns 0. 3. At any moment the store has the old file or the
   new one. */
int replacement_publish(const replacement *r, uint64_t *size);

/* Closes the file; removes it unless it was published. */
void replacement_close(replacement *r, bool published);

int data_look(const char *path, int dirfd, struct stat *st);
int replacement_fail(const char *path, const char *what, int error);

/* Runs `work` while no other process has the store open or can open it; LOCKED
   when one has. */
int store_alone(const char *path,
                int (*work)(const char *path, int dirfd, void *arg),
                void *arg);

#endif
