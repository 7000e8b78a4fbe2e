/* SPDX-License-Identifier: MIT */
/*
 * The schema of a store: making it, and whether this library can work on it.
 */
#ifndef SCHEMA_H
#define SCHEMA_H

#include "postgres/call.h"

#define SCHEMA_FORMAT 1 /* that this library makes, and reads up to */

/* Makes the schema unless it is there, one process at a time; and the roles
   where it may, else `*roles` is false. 0, DENIED, IO, BUSY. */
int schema_make(session *l, bool *roles);

/* 0, or VERSION: there is none, it is newer, or it asks for newer clients. */
int schema_check(session *l);

/* Removes it with everything in it. */
int schema_drop(session *l);

#endif
