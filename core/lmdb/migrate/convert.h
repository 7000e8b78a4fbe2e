/* SPDX-License-Identifier: MIT */
/*
 * Records of format 1 made those of format 2, one by one.
 */
#ifndef CONVERT_H
#define CONVERT_H

#include "base/id_set.h"
#include "lmdb/env/old_store.h"
#include "lmdb/record/records.h"

typedef struct migration {
  old_store from;
  txn t;               /* of the new store */
  uint64_t pending;    /* bytes put since the last commit */
  uint64_t read, whole; /* bytes so far; the size of the old file */
  int64_t began;
  uint32_t notes[2];   /* the queues that become notes; 0: there is none */
  id_set blobs;        /* of items that became notes */
  packer p;
} migration;

/* The queues ".notes" and ".imports". */
enum { OLD_NOTES, OLD_IMPORTS };

typedef void (*convert_fn)(migration *m, enum db db, respool_bytes k,
                           respool_bytes v);

/* meta: the next number becomes the last one. */
void convert_meta(migration *m, enum db db, respool_bytes k, respool_bytes v);

/* queues: waiting items are split into scheduled and retrying ones. */
void convert_queue(migration *m, enum db db, respool_bytes k, respool_bytes v);

/* claims: the number of a token moves up to make room for a worker's. */
void convert_claim(migration *m, enum db db, respool_bytes k, respool_bytes v);

void convert_segment(migration *m, enum db db, respool_bytes k,
                     respool_bytes v);
void convert_replay(migration *m, enum db db, respool_bytes k,
                    respool_bytes v);
void convert_bitmap(migration *m, enum db db, respool_bytes k,
                    respool_bytes v);
void convert_dead(migration *m, enum db db, respool_bytes k, respool_bytes v);

/* A record without a checksum gets one. */
void convert_array(migration *m, enum db db, respool_bytes k, respool_bytes v);

/* One with a checksum gets one that covers its key. */
void convert_summed(migration *m, enum db db, respool_bytes k,
                    respool_bytes v);
void convert_blob(migration *m, enum db db, respool_bytes k, respool_bytes v);

/* Entries without a value. */
void convert_entry(migration *m, enum db db, respool_bytes k, respool_bytes v);

/* An item of `which` of the queues above, by its key, becomes a note. */
void convert_note(migration *m, int which, const item *i);

/* The bytes of a blob of format 1; false: not all are there. */
bool old_blob(migration *m, blob_ref r, packer *into);

/* Is the checksum of a record of format 1 right? */
bool old_is_summed(respool_bytes v);

#endif
