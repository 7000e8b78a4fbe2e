/* SPDX-License-Identifier: MIT */
/*
 * The files of a store, to be removed by programs that make many.
 */
#ifndef STORE_FILES_H
#define STORE_FILES_H

#include <stdio.h>
#include <unistd.h>

static inline void remove_store_files(const char *dir) {
  static const char *const files[] = {"data.mdb", "lock.mdb", "data.mdb.new",
                                      "control", "journal", "journal.new"};
  char path[4200];
  for (int i = 0; i < 6; i++) {
    snprintf(path, sizeof path, "%s/%s", dir, files[i]);
    unlink(path);
  }
}

#endif
