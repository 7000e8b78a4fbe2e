/* SPDX-License-Identifier: MIT */
/*
 * Room: the bounds of a queue, of the store and of the disk.
 */
#ifndef ROOM_H
#define ROOM_H

#include "lmdb/record/records.h"

/* Items, and the bytes they take. */
typedef struct demand {
  uint64_t items, bytes;
} demand;

demand builder_demand(const builder *b);

/* Is there room now; is there when the queue is empty? */
bool queue_has_room(const queue *q, demand d);
bool queue_could_hold(const queue *q, demand d);

/* FULL, naming the bound. */
int queue_full(const queue *q, demand d);

/* TOO_LARGE when an item of a push is larger than the queue may be. */
int queue_check_sizes(const queue *q, append_req *r);

/* Room for a push in the store and on its disk. */
int store_room(txn *t, const append_req *r);

/* Room on the disk for a push of so many bytes, beyond which the reserve is
   left; or NOSPACE. */
int disk_room(txn *t, uint64_t more);

#define SMALL_PUSH ((uint64_t)16384) /* what a small push may take on the
                                        disk */

/* Would a small push find no room on the disk? Nothing is claimed. */
bool disk_is_full(txn *t);
/* Room for all that the journal may hold, by what is known outside of a
   transaction. */
bool journal_room(lmdb_env *e, uint64_t max_store);

/* Has the disk no more room than pushes leave to settles? */
bool disk_is_short(txn *t);

/* Room for settling to copy `more` bytes to dead letters and elsewhere.
   NOSPACE when only the last reserve is left, which lets takes go on, and
   settles that copy nothing. */
int disk_copy(txn *t, uint64_t more);

/* The same for the dead letters of a segment whose items have expired. */
int expiry_room(txn *t, const queue *q, const place *at);

#endif
