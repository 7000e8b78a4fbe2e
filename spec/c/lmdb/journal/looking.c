/* SPDX-License-Identifier: MIT */
/*
 * Looking at the journal: items, check, salvage, and readers that wait for
 * nobody.
 */
#include "kit.h"

static void a_look_goes_from_an_id_on(void) {
  begin();
  journal_seen seen[3];
  size_t n;
  for (int i = 0; i < 5; i++) push(&a, 1, i == 3 ? "fourth" : "x");
  take(&a, 1, 60000);
  HOLDS(!journal_look(a.j, 1, 0, seen, 3, &n, NULL) && n == 3);
  HOLDS(seen[0].item.id == 1 && seen[0].item.token && seen[0].item.until);
  HOLDS(seen[1].item.id == 2 && !seen[1].item.token);
  HOLDS(!journal_look(a.j, 1, 4, seen, 3, &n, &memory) && n == 2);
  HOLDS(seen[0].item.packed.size == 6 && seen[0].pos < seen[1].pos);
  HOLDS(!journal_look(a.j, 2, 0, seen, 3, &n, &memory) && n == 0);
  journal_counts c;
  WORKS(journal_count(a.j, 1, now_ms(), &c));
  HOLDS(c.ready == 4 && c.leased == 1 && c.bytes == 10 && c.delivered == 1);
  end();
}

static void check_finds_what_is_wrong(void) {
  begin();
  push(&a, 1, "x");
  push(&a, 1, "y");
  control *c = a.j->c;
#define FINDS(change, back) \
  do { \
    int n = 0; \
    change; \
    HOLDS(stand_check(&a, found_any, &n) == 0); \
    HOLDS(n > 0); \
    back; \
  } while (0)
  uint64_t tail = c->tail;
  FINDS(c->flushed = tail + 8, c->flushed = tail);
  FINDS(c->freed = tail + 8, c->freed = 0);
  FINDS(c->row[0].ready = 1, c->row[0].ready = 2);
  FINDS(c->row[0].fresh.pushed++, c->row[0].fresh.pushed--);
  FINDS(c->row[0].next_id = 2, c->row[0].next_id = 3);
  FINDS(c->slot[1].at++, c->slot[1].at--);
  FINDS(c->live++, c->live--);
  FINDS(c->chain++, c->chain--);
  FINDS(c->applied[c->which & 1].pos += 8, c->applied[c->which & 1].pos -= 8);
  FINDS(poke("journal", PAGE + 64, "??", 2),
        poke("journal", PAGE + 64, "\1\0", 2));
  taken t = take(&a, 1, 60000);
  HOLDS(t.id == 1);
  FINDS(c->flushed = 0, c->flushed = tail);
  end();
}

typedef struct tally_of {
  int pushes, dones, rising, damaged;
  uint64_t last;
} tally_of;

static int tally_record(void *arg, const journal_record *r) {
  tally_of *t = arg;
  t->pushes += !r->done;
  t->dones += r->done;
  t->damaged += !r->done && r->item->damaged;
  t->rising += r->pos >= t->last;
  t->last = r->pos;
  return 0;
}

static void salvage_reads_what_can_be_read(void) {
  begin();
  push(&a, 1, "one");
  uint64_t second = state().tail;
  push(&a, 1, "two");
  push(&a, 1, "three");
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  tally_of t = {0, 0, 0, 0, 0};
  WORKS(journal_salvage(a.dirfd, tally_record, &t));
  HOLDS(t.pushes == 3 && t.dones == 1 && t.rising == 4 && !t.damaged);
  poke("journal", (off_t)(PAGE + second + 8), "broken", 6);
  t = (tally_of){0, 0, 0, 0, 0};
  WORKS(journal_salvage(a.dirfd, tally_record, &t));
  HOLDS(t.pushes == 2 && t.dones == 1);
  stand_close(&a);
  end();
}

static int tally_item(void *arg, const journal_item *i) {
  uint64_t *sum = arg;
  HOLDS(i->packed.size == 1);
  if (i->token) return 0;
  *sum += i->id;
  return 0;
}

static int find_leased(void *arg, const journal_item *i) {
  if (i->token) *(uint64_t *)arg = i->token;
  return 0;
}

static void a_look_waits_for_nobody(void) {
  begin();
  static const uint8_t id[16] = "a stand-in store";
  journal_applied at = {0, 0, 0};
  journal_counts c;
  journal_seen seen[3];
  uint64_t sum = 0;
  size_t n;
  bool died;
  for (int i = 0; i < 3; i++) push(&a, 1, "x");
  WORKS(push(&a, 1, "y") != 4);
  take(&a, 1, 60000);
  WORKS(lock_take(a.j, STATE_LOCK, &died));
  HOLDS(journal_count(a.j, 1, now_ms(), &c) == JOURNAL_ELSEWHERE);
  HOLDS(journal_look(a.j, 1, 0, seen, 3, &n, NULL) == JOURNAL_ELSEWHERE);
  journal_state now;
  HOLDS(journal_glance(a.j, &now) == JOURNAL_ELSEWHERE);
  WORKS(journal_check(a.j, &at, no_finding, NULL));
  WORKS(journal_read(a.dirfd, id, &at, a.j, tally_item, &sum));
  HOLDS(sum == 2 + 3 + 4);
  lock_leave(a.j, STATE_LOCK);
  end();
}

static void a_reader_needs_no_block(void) {
  begin();
  uint64_t sum = 0;
  static const uint8_t id[16] = "a stand-in store";
  journal_applied at = {0, 0, 0};
  WORKS(journal_read(a.dirfd, id, &at, NULL, tally_item, &sum));
  HOLDS(sum == 0);
  for (int i = 0; i < 4; i++) push(&a, 1, "x");
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  WORKS(journal_read(a.dirfd, id, &at, NULL, tally_item, &sum));
  HOLDS(sum == 2 + 3 + 4);
  uint64_t token = take(&a, 1, 60000).token, leased = 0;
  WORKS(journal_read(a.dirfd, id, &at, NULL, find_leased, &leased));
  HOLDS(token && leased == token);
  HOLDS(journal_read(a.dirfd, (const uint8_t *)"of another store", &at,
                     NULL, tally_item, &sum) == RESPOOL_CORRUPT);
  end();
}

int main(void) {
  kit_open();
  CHECK(a_look_goes_from_an_id_on());
  CHECK(check_finds_what_is_wrong());
  CHECK(salvage_reads_what_can_be_read());
  CHECK(a_look_waits_for_nobody());
  CHECK(a_reader_needs_no_block());
  return kit_close();
}
