/* SPDX-License-Identifier: MIT */
/*
 * Making the data file of a new store; the format version.
 */
#ifndef CREATE_H
#define CREATE_H

#include "lmdb/env/txn/table.h"

#define FORMAT_VERSION 2

/* Checks that the store has this build's format; FORMAT_OLD: it has an older
   one, and the failure's text says so. A fresh store gets its format. */
#define FORMAT_OLD (-3)
int format_check(txn *t, bool fresh);

/* Makes the data file, which is missing. */
int store_make(lmdb_env *e);

#endif
