/* SPDX-License-Identifier: MIT */
/*
 * Making the data file of a new store; the format version.
 */
#ifndef CREATE_H
#define CREATE_H

#include "lmdb/env/txn.h"

#define FORMAT_VERSION 1

/* Checks that a store's format is known. A fresh store gets its format. */
int format_check(txn *t, bool fresh);

/* Makes the data file, which is missing. */
int store_make(lmdb_env *e);

#endif
