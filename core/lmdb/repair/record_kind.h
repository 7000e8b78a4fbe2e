/* SPDX-License-Identifier: MIT */
/*
 * Recognising a record by its form, in a store that may be damaged anywhere:
 * keys have fixed sizes and bounds, values are CBOR of a certain shape, and
 * segments, dead letters, parts of blobs and history have checksums.
 */
#ifndef RECORD_KIND_H
#define RECORD_KIND_H

#include "lmdb/env/pages.h"
#include "lmdb/record/records.h"

/* Above every id and number: Lua counts so far. */
#define NUMBER_END ((uint64_t)1 << 53)

/* Is it a record of database `db`? */
bool record_is(enum db db, const node *n);

/* The same, also of a record whose length is damaged: a value says itself where
   it ends. `*out` is the record with its right length. */
bool record_read(enum db db, const node *n, node *out);

bool is_name(respool_bytes b);              /* of a queue or DLQ */
bool record_queue(const node *n, queue *q); /* without its priorities */
bool record_dlq(const node *n, dlq *x);
bool record_place(const node *n, place *p); /* the key of a segment */

/* Of two versions of a record without a checksum: is `v` the later? */
bool record_is_later(enum db db, respool_bytes v, respool_bytes old);

/* Is a value a segment, or a dead letter, whatever its key? */
bool record_segment(const node *n, respool_bytes *v, segment *g);
bool record_dead(const node *n, respool_bytes *v, dead *l);

/* Is it such a value, in its own database? */
bool record_is_astray(enum db db, const node *n);

#endif
