/* SPDX-License-Identifier: MIT */
#include "record/dead/replay.h"

#include "record/fields.h"

void replay_pack(packer *p, const respool_replay *j) {
  record_begin(p, 14);
  pack_phrase(p, phrase_of(j->dlq));
  pack_phrase(p, phrase_of(j->to));
  pack_int(p, j->state);
  pack_uint(p, j->cursor);
  pack_uint(p, j->upto);
  pack_uint(p, j->seen);
  pack_uint(p, j->moved);
  pack_uint(p, j->skipped);
  pack_uint(p, j->failed);
  pack_int(p, j->started_at);
  pack_int(p, j->updated_at);
  pack_uint(p, j->revision);
  pack_phrase(p, phrase_of(j->runner));
  pack_int(p, j->history);
}

bool replay_unpack(uint64_t seed, respool_bytes b, respool_replay *j) {
  unpacker u;
  record_open(&u, b, 14, seed);
  unpack_name(&u, j->dlq);
  unpack_name(&u, j->to);
  j->state = (int)unpack_uint(&u);
  j->cursor = unpack_uint(&u);
  j->upto = unpack_uint(&u);
  j->seen = unpack_uint(&u);
  j->moved = unpack_uint(&u);
  j->skipped = unpack_uint(&u);
  j->failed = unpack_uint(&u);
  j->started_at = unpack_int(&u);
  j->updated_at = unpack_int(&u);
  j->revision = unpack_uint(&u);
  unpack_name(&u, j->runner);
  j->history = unpack_uint(&u) != 0;
  return u.rc == 0;
}
