/* SPDX-License-Identifier: MIT */
/*
 * Recognising a record in a store that may be damaged anywhere, by its
 * checksum, which covers its key.
 */
#ifndef RECORD_KIND_H
#define RECORD_KIND_H

#include "lmdb/env/pages.h"
#include "lmdb/record/records.h"

/* Above every id and number: Lua counts so far. */
#define NUMBER_END ((uint64_t)1 << 53)

/* Is it a sound record of a table? Also one whose length is damaged: a value
   says itself where it ends. `*out` is the record with its right length. */
bool record_read(enum db db, const node *n, node *out);

/* The table of a record of a tree that tables share; its key becomes that in
   the table. DB_COUNT: there is none of that number. */
enum db record_table(node *n);

bool record_queue(const node *n, queue *q); /* without its priorities */
bool record_place(const node *n, place *p); /* a key that a segment may have */

/* Of two sound versions of a record: is `v` the later? */
bool record_is_later(enum db db, respool_bytes k, respool_bytes v,
                     respool_bytes old);

/* A segment or dead letter whose key or leaf is lost: finds both from its
   value, which holds its key. */
bool record_home(const node *n, enum db *db, node *out);

#endif
