/* SPDX-License-Identifier: MIT */
/*
 * A named replay as it is stored. Its name is its key; its checksum (fields.h)
 * is filled in by whoever stores it.
 */
#ifndef DEAD_REPLAY_H
#define DEAD_REPLAY_H

#include "cbor/packer.h"
#include "cbor/unpacker.h"

void replay_pack(packer *p, const respool_replay *j);
bool replay_unpack(uint64_t seed, respool_bytes b, respool_replay *j);

#endif
