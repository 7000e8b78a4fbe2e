/* SPDX-License-Identifier: MIT */
/*
 * The schema of a store: making it, and whether this library can work on it.
 */
#ifndef SCHEMA_H
#define SCHEMA_H

#include "postgres/client/call.h"

#define SCHEMA_FORMAT 1 /* that this library makes, and reads up to */

/* Makes the schema unless it is there, one process at a time. 0, DENIED, IO,
   BUSY. */
int schema_make(session *l);

/* Makes the roles for applications, which belong to the whole cluster; false
   where this role may not. */
int schema_grant(session *l, bool *granted);

/* 0, NOT_FOUND where there is none, or VERSION: it is newer, or it asks for
   newer clients. */
int schema_check(session *l);

/* Removes it with everything in it. */
int schema_drop(session *l);

#endif
