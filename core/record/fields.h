/* SPDX-License-Identifier: MIT */
/*
 * Fields that records of several kinds have, and the checksum of a record, the
 * first element of its array: XXH3-64 of all that follows it, with a seed, by
 * which it covers the record's key.
 */
#ifndef FIELDS_H
#define FIELDS_H

#include "record/failures.h"

/* The record is damaged unless this holds. */
void unpack_expect(unpacker *u, bool holds);

/* A priority; bounded, as it is used as an index. */
int unpack_priority(unpacker *u);

/* A name, into RESPOOL_NAME_MAX + 1 bytes. */
void unpack_name(unpacker *u, char *name);

/* A memo, or null where empty. */
void pack_memo(packer *p, respool_bytes memo);
respool_bytes unpack_memo(unpacker *u);

/* Failures as failures.h has them, still packed; or null. */
respool_bytes unpack_failures(unpacker *u);

/* The seed of the record under a key. */
uint64_t key_seed(respool_bytes key);

/* Begins a record of `n` fields behind its checksum, which is still 0. */
void record_begin(packer *p, size_t n);

/* Fills in the checksum of a record that was packed from `start` on. */
void sum_put(packer *p, size_t start, uint64_t seed);

/* Opens a record of `n` fields behind its checksum, and verifies that. */
void record_open(unpacker *u, respool_bytes b, size_t n, uint64_t seed);

#endif
