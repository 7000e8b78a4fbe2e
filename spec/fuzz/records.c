/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing the decoders of records: the first byte says which, the others are
 * the record; checksums are put right. What a decoder takes is packed again,
 * and must unpack again.
 */
#include "fuzz.h"

#include "lmdb/record/records.h"

static void must(bool holds) {
  if (!holds) abort();
}

static const respool_bytes KEY = {"twelve bytes", 12};

static void sum(enum db db, uint8_t *b, size_t n) {
  if (n > 10) fuzz_sum(b, n, record_seed(db, KEY));
}

static void seal(enum db db, packer *p) {
  sum(db, p->data, p->len);
}

static void try_queue(respool_bytes b) {
  queue q;
  memset(&q, 0, sizeof q);
  queue_unpack(KEY, b, &q);
  free(q.priorities);
}

static void try_claim(respool_bytes b) {
  claim c, again;
  failure_list h;
  packer p;
  if (!claim_unpack(KEY, b, &c)) return;
  failures_read(c.failures, &h);
  failures_error(c.failures);
  if (c.state != CLAIM_LEASED && c.state != CLAIM_WAITING) return;
  packer_init(&p);
  claim_pack(&p, &c);
  seal(DB_CLAIMS, &p);
  must(claim_unpack(KEY, (respool_bytes){p.data, p.len}, &again));
  must(again.last == c.last && again.visible_at == c.visible_at &&
       again.memo.size == c.memo.size);
  packer_free(&p);
}

static void try_dlq(respool_bytes b) {
  dlq x = {.count = 0};
  dlq_unpack(KEY, b, &x);
}

static void try_item(respool_bytes b) {
  item i;
  blob_ref r;
  unpacker u;
  respool_bytes damaged;
  unpacker_init(&u, b.data, b.size);
  item_unpack(&u, &i, &r);
  item_unpack_damaged(b, &damaged);
}

static void try_dead(respool_bytes b) {
  dead l, again;
  failure_list h;
  packer p;
  if (!dead_unpack(KEY, b, &l)) return;
  failures_read(l.failures, &h);
  try_item(l.item);
  packer_init(&p);
  dead_pack(&p, KEY, &l);
  must(dead_unpack(KEY, (respool_bytes){p.data, p.len}, &again));
  must(again.r.id == l.r.id && again.item.size == l.item.size);
  packer_free(&p);
}

static void try_run(respool_bytes b) {
  dead_reader r, again;
  dead_run run;
  packer p;
  memset(&run, 0, sizeof run);
  if (!dead_run_open(KEY, b, &r)) return;
  while (dead_run_next(&r)) {
    try_item(r.l.item);
    must(dead_run_add(&run, &r.l) == 0);
  }
  packer_init(&p);
  dead_run_pack(&p, KEY, &run);
  respool_bytes packed = {p.data, p.len};
  must(!run.n || (dead_run_open(KEY, packed, &again) && again.left == run.n));
  packer_free(&p);
  dead_run_free(&run);
}

static void try_past(respool_bytes b) {
  respool_item_about i;
  unpacker u;
  item it;
  blob_ref r;
  if (history_unpack(KEY, b, &i, &u)) item_unpack(&u, &it, &r);
}

static void try_replay(respool_bytes b) {
  respool_replay j = RESPOOL_REPLAY_INIT;
  if (named_replay_unpack(KEY, b, &j)) must(strlen(j.dlq) <= RESPOOL_NAME_MAX);
}

static void try_part(respool_bytes b) {
  respool_bytes data;
  if (part_unpack(KEY, b, &data)) must(data.size <= b.size);
}

/* The count, which is in a segment's key, comes last. */
static void try_bits(respool_bytes b) {
  bits s;
  uint32_t live = 0;
  const uint8_t *at = b.data;
  if (b.size < 2) return;
  size_t n = b.size - 2;
  uint32_t count = (uint32_t)(at[n] << 8 | at[n + 1]);
  if (!bits_unpack(KEY, (respool_bytes){at, n}, count, &s)) return;
  for (uint32_t i = 0; i < count; i++) live += bits_clear(&s, i);
  must(live <= count);
}

typedef void (*try_fn)(respool_bytes b);

static const struct { try_fn run; enum db db; size_t tail; } TRIES[] = {
  {try_queue, DB_QUEUES, 0}, {try_claim, DB_CLAIMS, 0}, {try_dlq, DB_DLQS, 0},
  {try_dead, DB_DEAD_LETTERS, 0}, {try_past, DB_HISTORY, 0},
  {try_replay, DB_REPLAYS, 0}, {try_part, DB_BLOBS, 0},
  {try_bits, DB_REMAINING, 2}, {try_item, DB_COUNT, 0},
  {try_run, DB_DEAD_LETTERS, 0},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  size_t which = n ? data[0] % (sizeof TRIES / sizeof *TRIES) : 0;
  if (!n) return 0;
  uint8_t *copy = fuzz_copy(data + 1, n - 1);
  if (TRIES[which].db < DB_COUNT && n > TRIES[which].tail + 1)
    sum(TRIES[which].db, copy, n - 1 - TRIES[which].tail);
  TRIES[which].run((respool_bytes){copy, n - 1});
  free(copy);
  return 0;
}
