/* SPDX-License-Identifier: MIT */
/*
 * The records of named replays, by name.
 */
#include "lmdb/dead/named_replay.h"

#include "lmdb/record/records.h"

#include <string.h>

static int no_replay(const char *name) {
  return fail(RESPOOL_NOT_FOUND, "there is no named replay \"%.160s\"", name);
}

int lmdb_replay_load(txn *t, const char *name, respool_replay *out) {
  respool_bytes v;
  if (!txn_get(t, DB_REPLAYS, phrase_of(name), &v))
    return t->rc ? t->rc : no_replay(name);
  if (!replay_unpack(v, out))
    return fail(RESPOOL_CORRUPT, "named replay \"%.160s\" is damaged", name);
  strcpy(out->name, name);
  return 0;
}

int lmdb_replay_save(txn *t, const respool_replay *replay) {
  packer p;
  packer_init(&p);
  replay_pack(&p, replay);
  txn_put_packed(t, DB_REPLAYS, phrase_of(replay->name), &p);
  packer_free(&p);
  return t->rc;
}

int lmdb_replay_remove(txn *t, const char *name) {
  respool_bytes v;
  if (!txn_get(t, DB_REPLAYS, phrase_of(name), &v))
    return t->rc ? t->rc : no_replay(name);
  txn_del(t, DB_REPLAYS, phrase_of(name));
  return t->rc;
}
