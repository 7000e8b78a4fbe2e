/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing the segment decoder: any bytes, with the checksum put right so that
 * what lies behind it is read.
 */
#include "fuzz.h"

#include "record/segment.h"

/* Everything that an item points to lies within the segment. */
static void look(const item *i, const uint8_t *data, size_t n) {
  const respool_bytes all[] = {i->body, i->headers, i->original, i->key,
                               i->codec, i->original_codec, i->origin.queue};
  for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
    const uint8_t *at = all[k].data;
    if (all[k].size && (at < data || all[k].size > n ||
                        (size_t)(at - data) > n - all[k].size))
      abort();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static const respool_bytes key = {"sixteen bytes ..", SEGMENT_KEY};
  segment g;
  uint8_t *copy = fuzz_copy(data, n);
  if (n > 10) fuzz_sum(copy, n, XXH3_64bits(key.data, key.size));
  segment_own_key((respool_bytes){copy, n});
  segment_expiry((respool_bytes){copy, n});
  if (segment_open(key, (respool_bytes){copy, n}, &g)) {
    item i;
    blob_ref r;
    for (uint64_t k = 0; k < g.count && item_unpack(&g.items, &i, &r); k++)
      look(&i, copy, n);
  }
  free(copy);
  return 0;
}
