/* SPDX-License-Identifier: MIT */
/*
 * A named replay as it is stored, as one CBOR array. Its name is its key.
 */
#ifndef REPLAY_RECORD_H
#define REPLAY_RECORD_H

#include "base/cbor.h"

void replay_pack(packer *p, const respool_replay *j);
bool replay_unpack(respool_bytes b, respool_replay *j);

#endif
