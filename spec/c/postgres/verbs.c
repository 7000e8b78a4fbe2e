/* SPDX-License-Identifier: MIT */
/*
 * The verbs of a spec; see verbs.h.
 */
#include "verbs.h"

#include "base/clock.h"

kit store;
const char *location;
char schema[64];

void verbs_open(int n, char **v) {
  if (n != 2) exit(2);
  location = v[1];
  snprintf(schema, sizeof schema, "spec_%d", (int)getpid());
  kit_open(&store, location, schema, true);
  store.wall = 1000000000000;
}

int verbs_close(void) {
  HOLDS(kit_check(&store) == 0);
  WORKS(schema_drop(&store.s));
  kit_close(&store);
  return exit_status();
}

kit_queue queue_of(const kit_policy *p) {
  static int n;
  char name[32];
  snprintf(name, sizeof name, "q%d", ++n);
  return kit_queue_save(&store, name, 0, p);
}

void pass(int64_t ms) {
  store.wall += ms;
}

uint64_t push(int q, size_t n) {
  uint64_t first = 0;
  HOLDS(kit_push_items(&store, q, n, NULL, &first) == 0);
  return first;
}

int push_key(int q, int on_conflict, int64_t dedup, uint64_t *id) {
  kit_push o = {.key = "a", .on_conflict = on_conflict, .dedup = dedup};
  return kit_push_items(&store, q, 1, &o, id);
}

size_t take(int q, int want, kit_batch *b) {
  HOLDS(kit_take_items(&store, q, want, NULL, b) == 0);
  HOLDS(b->damaged == 0);
  return b->n;
}

int settle(int q, const kit_batch *b, const char *outcomes) {
  kit_settle o = {.outcomes = outcomes, .wait = 1000};
  int rc = kit_settle_batch(&store, q, b, &o);
  return rc ? rc : (int)o.lost;
}

int64_t stat_of(int q, int what) {
  values v;
  request r;
  values_init(&v);
  put_int4(&v, q);
  put_int8(&v, store.wall);
  HOLDS(kit_call(&store, &r, &v, STATEMENT_STAT, false) == 0);
  int64_t n = value_int(r.result, 0, what);
  request_clear(&r);
  values_free(&v);
  return n;
}

int script(kit *k, const char *sql) {
  pg_failure f;
  return connection_script(&k->s.at, sql, clock_mono() + 60000, &f);
}
