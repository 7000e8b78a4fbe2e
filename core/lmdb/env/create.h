/* SPDX-License-Identifier: MIT */
/*
 * Making the data file of a new store; the format version.
 */
#ifndef CREATE_H
#define CREATE_H

#include "lmdb/env/txn/txn.h"

#define FORMAT_VERSION 2

/* Checks that a store's format is ours; FORMAT_OLD: it is older, which is said
   with the failure's words. A fresh store gets its format. */
#define FORMAT_OLD (-3)
int format_check(txn *t, bool fresh);

/* Makes the data file, which is missing. */
int store_make(lmdb_env *e);

#endif
