/* SPDX-License-Identifier: MIT */
/*
 * Fields that records of several kinds have, and the checksum of a record:
 * XXH3-64 of all that follows it, the second element of the record's array.
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

/* Writes the checksum of what follows it into its place, of a record that was
   packed from `start` on. */
void sum_put(packer *p, size_t start);

/* Opens a summed array of `n` elements. */
void sum_open(unpacker *u, respool_bytes b, size_t n);

#endif
