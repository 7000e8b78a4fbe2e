/* SPDX-License-Identifier: MIT */
/*
 * Records of tables, by their keys.
 */
#ifndef TABLE_H
#define TABLE_H

#include "lmdb/env/txn/txn.h"

/* `txn_get` is false when there is none. */
bool txn_get(txn *t, enum db db, respool_bytes key, respool_bytes *value);
void txn_put(txn *t, enum db db, respool_bytes key, respool_bytes value);
void txn_del(txn *t, enum db db, respool_bytes key); /* if there */

/* Puts CBOR's null: the key alone is the record. */
void txn_put_null(txn *t, enum db db, respool_bytes key);

/* Puts packed bytes, or notes the packer's error. */
void txn_put_packed(txn *t, enum db db, respool_bytes key, const packer *p);

/* Room for a value of `size` bytes to be filled at once, NULL on error. */
void *txn_reserve(txn *t, enum db db, respool_bytes key, size_t size);

#endif
