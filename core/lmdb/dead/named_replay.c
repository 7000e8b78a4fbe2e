/* SPDX-License-Identifier: MIT */
/*
 * The records of named replays, by name.
 */
#include "lmdb/dead/named_replay.h"

#include "lmdb/record/records.h"

#include <string.h>

static int no_replay(const char *name) {
  return fail(RESPOOL_NOT_FOUND, "there is no named replay '%.160s'", name);
}

int lmdb_replay_load(txn *t, const char *name, respool_replay *out) {
  respool_bytes v;
  if (!txn_get(t, DB_REPLAYS, phrase_of(name), &v))
    return t->rc ? t->rc : no_replay(name);
  if (!named_replay_unpack(phrase_of(name), v, out))
    return fail(RESPOOL_CORRUPT, "named replay '%.160s' is damaged", name);
  strcpy(out->name, name);
  return 0;
}

static void store_next(txn *t, respool_replay *replay) {
  packer p;
  packer_init(&p);
  replay->revision++;
  replay_pack(&p, replay);
  record_put(t, DB_REPLAYS, phrase_of(replay->name), &p);
  packer_free(&p);
}

int lmdb_replay_save(txn *t, const respool_replay *replay) {
  respool_replay next = *replay, stored = RESPOOL_REPLAY_INIT;
  int rc = lmdb_replay_load(t, replay->name, &stored);
  if (rc == RESPOOL_NOT_FOUND && !t->rc) rc = 0;
  if (rc) return rc;
  if (stored.revision != replay->revision)
    return fail(RESPOOL_LOCKED, "named replay '%.160s' was changed by "
                "another runner", replay->name);
  store_next(t, &next);
  return t->rc;
}

int lmdb_replay_cancel(txn *t, const char *name) {
  respool_replay stored = RESPOOL_REPLAY_INIT;
  int rc = lmdb_replay_load(t, name, &stored);
  if (rc) return rc;
  if (stored.state != RESPOOL_REPLAY_RUNNING)
    return fail(RESPOOL_NOT_FOUND, "named replay '%.160s' is not running",
                name);
  stored.state = RESPOOL_REPLAY_CANCELLED;
  store_next(t, &stored);
  return t->rc;
}

int lmdb_replay_remove(txn *t, const char *name) {
  respool_bytes v;
  if (!txn_get(t, DB_REPLAYS, phrase_of(name), &v))
    return t->rc ? t->rc : no_replay(name);
  txn_del(t, DB_REPLAYS, phrase_of(name));
  return t->rc;
}
