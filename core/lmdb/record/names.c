/* SPDX-License-Identifier: MIT */
/*
 * The names of what a store holds.
 */
#include "lmdb/record/names.h"

#include "lmdb/record/records.h"

int lmdb_names(txn *t, int which, packer *out) {
  static const enum db dbs[] = {DB_QUEUES, DB_DLQS, DB_REPLAYS};
  cur c;
  size_t left = txn_entries(t, dbs[which]);
  pack_array(out, left);
  cur_open(&c, t, dbs[which]);
  bool found = left > 0 && cur_first(&c);
  while (found) {
    pack_phrase(out, c.key);
    found = cur_next(&c);
  }
  cur_close(&c);
  txn_fail(t, out->rc);
  return t->rc;
}
