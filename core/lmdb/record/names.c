/* SPDX-License-Identifier: MIT */
/*
 * The names of what a store holds.
 */
#include "lmdb/record/names.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/record/records.h"

int lmdb_names(txn *t, int which, packer *out) {
  static const enum db dbs[] = {DB_QUEUES, DB_DLQS, DB_REPLAYS, DB_NOTES};
  cur c;
  size_t n = 0;
  cur_open(&c, t, dbs[which]);
  for (bool more = cur_first(&c); more; more = cur_next(&c)) n++;
  pack_array(out, n);
  for (bool more = n > 0 && cur_first(&c); more; more = cur_next(&c))
    pack_phrase(out, c.key);
  cur_close(&c);
  txn_fail(t, out->rc);
  return t->rc;
}
