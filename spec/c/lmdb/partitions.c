/* SPDX-License-Identifier: MIT */
/*
 * Lists of ids of a partition, against a bitmap: whatever is added, taken,
 * removed or parted, both hold the same ids, and so does what is stored.
 */
#include "../holds.h"
#include "lmdb/record/partition_record.h"
#include "record/fields.h"

#include <stdbool.h>

#define IDS 400

static arena memory;
static int rc;

static bool is_among(const id_list *l, uint64_t id) {
  for (size_t i = 0; i < l->n; i++)
    if (id >= l->runs[i].first && id - l->runs[i].first < l->runs[i].n)
      return true;
  return false;
}

/* Runs rise, and do not touch. */
static bool is_sound(const id_list *l) {
  for (size_t i = 1; i < l->n; i++)
    if (l->runs[i - 1].first + l->runs[i - 1].n > l->runs[i].first)
      return false;
  return true;
}

static bool is_equal(const id_list *l, const bool *in) {
  uint64_t n = 0;
  for (uint64_t id = 1; id < IDS; id++) {
    if (is_among(l, id) != in[id]) return false;
    n += in[id];
  }
  return is_sound(l) && ids_count(l) == n;
}

static id_list random_list(bool *in) {
  id_list l = {.solo = rand() % 2 == 0};
  memset(in, 0, IDS * sizeof *in);
  for (uint64_t id = 1; id < IDS; id++)
    if (rand() % 3 && ids_add(&l, &memory, id, 1, &rc)) in[id] = true;
  return l;
}

static void what_is_added_is_there_up_to_the_bound_of_runs(void) {
  bool in[IDS];
  for (int i = 0; i < 100; i++) {
    id_list l = random_list(in);
    HOLDS(is_equal(&l, in) && l.n <= LIST_RUNS && !rc);
  }
}

static void ids_are_taken_in_their_order(void) {
  bool in[IDS];
  id_list l = random_list(in);
  for (uint64_t id = 1; id < IDS; id++) {
    if (!in[id]) continue;
    HOLDS(ids_first(&l) == id);
    HOLDS(ids_take(&l) == id);
    in[id] = false;
  }
  HOLDS(ids_first(&l) == UINT64_MAX && ids_last(&l) == 0);
}

static void any_id_may_be_removed(void) {
  bool in[IDS];
  id_list l = random_list(in);
  for (int i = 0; i < 2000; i++) {
    uint64_t id = 1 + (uint64_t)rand() % (IDS - 1);
    bool was = ids_remove(&l, &memory, id, &rc);
    HOLDS(was == in[id] && !rc);
    in[id] = false;
    HOLDS(is_equal(&l, in));
  }
}

static void a_list_is_parted_at_any_id(void) {
  bool in[IDS], low[IDS], high[IDS];
  for (uint64_t at = 1; at < IDS; at += 7) {
    id_list l = random_list(in), rest;
    memcpy(low, in, sizeof in);
    memcpy(high, in, sizeof in);
    for (uint64_t id = 1; id < IDS; id++)
      if (id >= at)
        low[id] = false;
      else
        high[id] = false;
    HOLDS(ids_split(&l, &memory, at, &rest) == 0);
    HOLDS(is_equal(&l, low) && is_equal(&rest, high));
    HOLDS(rest.solo == l.solo);
  }
}

static void a_list_is_read_as_it_was_stored(void) {
  static const respool_bytes k = {"the key", 7}, other = {"another", 7};
  bool in[IDS];
  for (int i = 0; i < 50; i++) {
    id_list l = random_list(in), back;
    packer p;
    packer_init(&p);
    ids_pack(&p, &l);
    sum_put(&p, 0, record_seed(DB_PARTITION_ITEMS, k));
    respool_bytes b = {p.data, p.len};
    HOLDS(ids_unpack(k, b, &memory, &back) == 0);
    HOLDS(is_equal(&back, in) && back.solo == l.solo);
    HOLDS(ids_unpack(other, b, &memory, &back) == RESPOOL_CORRUPT);
    p.data[rand() % (int)p.len] ^= 1;
    HOLDS(ids_unpack(k, b, &memory, &back) == RESPOOL_CORRUPT);
    packer_free(&p);
  }
}

static void a_record_is_read_as_it_was_stored(void) {
  static const respool_bytes k = {"the key", 7};
  bool in[IDS];
  partition_line lines[2] = {{.priority = 7, .ready = 3, .in_turn = true},
                             {.priority = 2, .leased = 4, .more = true}};
  partition x = {.number = 9, .lone = 5, .lone_priority = 3, .due = 77,
                 .lines = lines, .n_lines = 2}, back;
  packer p;
  lines[0].head = random_list(in);
  packer_init(&p);
  partition_pack(&p, &x);
  sum_put(&p, 0, record_seed(DB_PARTITIONS, k));
  respool_bytes b = {p.data, p.len};
  HOLDS(partition_unpack(k, b, &memory, &back) == 0);
  HOLDS(back.number == 9 && back.due == 77 && back.n_lines == 2 && !back.flow);
  HOLDS(back.lone == 5 && back.lone_priority == 3);
  HOLDS(back.lines[0].priority == 7 && back.lines[0].in_turn);
  HOLDS(is_equal(&back.lines[0].head, in));
  HOLDS(back.lines[1].leased == 4 && back.lines[1].more);
  for (size_t i = 0; i < p.len; i++) {
    p.data[i] ^= 4;
    HOLDS(partition_unpack(k, b, &memory, &back) == RESPOOL_CORRUPT);
    p.data[i] ^= 4;
  }
  packer_free(&p);
}

int main(void) {
  const char *seed = getenv("RESPOOL_SEED");
  srand(seed ? (unsigned)atoi(seed) : 1);
  arena_init(&memory);
  CHECK(what_is_added_is_there_up_to_the_bound_of_runs());
  CHECK(ids_are_taken_in_their_order());
  CHECK(any_id_may_be_removed());
  CHECK(a_list_is_parted_at_any_id());
  CHECK(a_list_is_read_as_it_was_stored());
  CHECK(a_record_is_read_as_it_was_stored());
  arena_free(&memory);
  return exit_status();
}
