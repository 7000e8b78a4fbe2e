/* SPDX-License-Identifier: MIT */
/*
 * storm DIR KILLS SEED PROCESSES [RULE]: producers and consumers of one store,
 * with its journal, of which several are armed at a time, each to be killed at
 * a point of its own, and any at random moments. Half of the rounds leave
 * survivors who must repair, half kill all. Then every item is accounted for:
 *
 *   acknowledged   its push has returned
 *   ending         somebody was about to end it: done, dead, dropped or
 *                  cancelled
 *   done           the settle has returned
 *   gone           the cancel has returned
 *   left, dead     found in the queue, in the DLQ
 *
 * What must hold: an item that was acknowledged and is not ending is left; one
 * that is done or gone is neither left nor dead, and was done once; a settle of
 * what is gone is refused; no id is given twice, no item is left twice;
 * payloads are whole; the counters say pushed = done + died + removed + left;
 * the store's check finds nothing, also when all is drained. A RULE is broken,
 * and the run is good when that was noticed:
 *
 *   boast     pushes are acknowledged before they are called
 *   no END    the journal goes to its other half without saying so
 *   the cancelled leave their lease
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../../helper/store_files.h"
#include "../crowd.h"
#include "../marks.h"
#include "respool.h"

enum { IDS = 1 << 20, GROUP = 12, LEASE = 1500 };

static const point_at points[] = {
  {"journal made", 0}, {"journal begins", 0}, {"journal scanned", 0},
  {"journal written again", 0}, {"journal repair", 0},
  {"journal lease kept", 3}, {"journal written", 30},
  {"journal chained", 30}, {"journal tail moved", 30},
  {"journal end written", 0}, {"journal half changed", 0},
  {"journal flush begun", 30}, {"journal flushed", 30},
  {"journal leasing", 20}, {"journal applying", 4}, {"journal finishing", 4},
  {"journal finished", 4}, {"journal applied, not finished", 4}, {"begun", 6},
  {"ran", 6}, {"committed", 6}, {"flush", 6}, {"flushed", 6},
  {"fdatasync", 40}, {"meta written", 3}, {"recent moved", 0},
  {"recent left", 10},
};
enum { POINTS_HERE = sizeof points / sizeof *points, MAKING = 2,
       OPENING = 4 };

typedef struct book {
  _Atomic uint8_t pushed[IDS], ending[IDS], done[IDS];
  uint32_t tag[IDS];
  _Atomic uint32_t gone[IDS]; /* cancelled, as the n-th; 0: not */
  _Atomic long pushes, takes, dones, refused, lost;
  _Atomic uint32_t cancels;
  _Atomic bool full; /* another store must begin */
} book;

static book *s;
static const char *dir;
static bool fresh = true; /* there is no store yet */

/* ---- the processes ------------------------------------------------------- */

static respool *store;
static respool_queue *q;

static void open_all(void) {
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  must("open", respool_open(dir, NULL, &store));
  o.lease = LEASE;
  o.max_crashes = RESPOOL_UNLIMITED;
  o.max_attempts = RESPOOL_UNLIMITED;
  must("queue", respool_queue_open(store, "storm", &o, &q));
}

static void close_all(void) {
  respool_queue_free(q);
  respool_close(store);
}

/* Some wait, and so go to LMDB. Priorities are few. */
static respool_push_options options_of_push(void) {
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  if (rand() % 30 == 0) o.delay = rand() % 20;
  if (rand() % 6 == 0) o.priority = 1;
  return o;
}

static void note_push(uint64_t first, const uint32_t *tags, int n) {
  for (int i = 0; i < n; i++) {
    uint64_t id = first + (uint64_t)i;
    if (id >= IDS / 2) s->full = true;
    if (id >= IDS) must("ids", 1);
    s->tag[id] = tags[i];
    if (s->pushed[id]++) bad("id %lu was given twice", (unsigned long)id);
  }
  s->pushes += n;
}

static _Atomic uint64_t boasted; /* the highest id that was seen */

static void push(void) {
  static uint8_t bytes[GROUP][1024];
  respool_payload p[GROUP];
  uint32_t tags[GROUP];
  respool_push_options o = options_of_push();
  respool_result r = RESPOOL_RESULT_INIT;
  int n = 1 + rand() % GROUP;
  memset(p, 0, sizeof p);
  for (int i = 0; i < n; i++) {
    uint32_t size = 4 * (1 + (uint32_t)rand() % 250);
    tags[i] = (uint32_t)rand() | 1;
    payload_fill(bytes[i], tags[i], size);
    p[i].body = (respool_bytes){bytes[i], size};
  }
  if (breaks("boast") && rand() % 50 == 0)
    s->pushed[boasted + 1 + (unsigned)rand() % 200]++;
  must("push", respool_push(q, p, (size_t)n, &o, &r));
  boasted = r.first;
  note_push(r.first, tags, n);
}

static void look_at(const respool_item *i, const char *where) {
  uint32_t tag;
  if (!payload_whole(i->body.data, i->body.size, &tag) ||
      (s->pushed[i->id] && s->tag[i->id] && s->tag[i->id] != tag))
    bad("the payload of %lu is another, %s", (unsigned long)i->id, where);
}

/* Marks the items from `from` on; what ends is noted before. */
static void mark(respool_batch *b, size_t from, size_t to, int kind) {
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  for (size_t i = from; i < to; i++) {
    o.kind = kind;
    if (kind == RESPOOL_SNOOZE || kind == RESPOOL_RETRY) o.delay = rand() % 9;
    if (kind == RESPOOL_DONE || kind == RESPOOL_DEAD || kind == RESPOOL_DROP)
      s->ending[respool_batch_item(b, i)->id] = 1;
    must("mark", respool_batch_mark(b, i, &o));
  }
}

/* Was it cancelled when so many were? */
static bool was_gone(uint64_t id, uint32_t cancels) {
  return s->gone[id] && s->gone[id] <= cancels;
}

static void note_settle(const respool_batch *b, size_t from, size_t to,
                        uint32_t cancels) {
  for (size_t i = from; i < to; i++) {
    uint64_t id = respool_batch_item(b, i)->id;
    bool settled = respool_batch_settled(b, i);
    s->refused += !settled && was_gone(id, cancels);
    if (settled && was_gone(id, cancels))
      bad("%lu was settled after it was cancelled", (unsigned long)id);
    if (!settled ||
        respool_batch_outcome(b, i) != RESPOOL_DONE)
      continue;
    if (s->done[id]++) bad("%lu was done twice", (unsigned long)id);
    s->dones++;
  }
}

static void settle(respool_batch *b, size_t from, size_t to, int kind,
                   respool_batch **next) {
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  respool_take_options t = RESPOOL_TAKE_OPTIONS_INIT;
  t.items = GROUP;
  if (next) o.take = &t;
  mark(b, from, to, kind);
  uint32_t cancels = s->cancels;
  int rc = respool_batch_settle(b, &o, next);
  if (rc != RESPOOL_LEASE_LOST) must("settle", rc);
  s->lost += (long)respool_batch_lost(b);
  note_settle(b, from, to, cancels);
}

static void cancel_item(uint64_t id) {
  s->ending[id] = 1;
  int rc = respool_item_cancel(q, id);
  if (rc == RESPOOL_NOT_FOUND) return;
  must("cancel", rc);
  if (s->gone[id]) bad("%lu was cancelled twice", (unsigned long)id);
  s->gone[id] = ++s->cancels;
}

/* One of the first items, which waits or is in somebody's hands. */
static void cancel(void) {
  respool_cursor at = {0};
  respool_page *p;
  must("browse", respool_browse(q, -1, 40, &at, &p));
  size_t n = respool_page_length(p);
  if (n) cancel_item(respool_page_item(p, (size_t)rand() % n)->id);
  respool_page_free(p);
}

static int other_outcome(void) {
  static const int kinds[] = {RESPOOL_RETRY, RESPOOL_RELEASE, RESPOOL_SNOOZE,
                              RESPOOL_DEAD, RESPOOL_DROP};
  return kinds[rand() % 5];
}

/* Mostly all are done; or in two parts; or some otherwise; or forgotten; one
   is cancelled first, now and then. */
static void work(respool_batch *b, respool_batch **next) {
  size_t n = respool_batch_length(b), half = n / 2;
  int what = rand() % 30;
  for (size_t i = 0; i < n; i++)
    look_at(respool_batch_item(b, i), "delivered");
  s->takes += (long)n;
  if (what == 0) return;
  if (rand() % 100 == 0)
    cancel_item(respool_batch_item(b, (size_t)rand() % n)->id);
  if (what == 1 && half) {
    settle(b, 0, half, other_outcome(), NULL);
    settle(b, half, n, RESPOOL_DONE, NULL);
  } else if (what < 8 && half) {
    settle(b, 0, half, RESPOOL_DONE, NULL);
    if (rand() % 4 == 0) {
      int rc = respool_batch_extend(b, LEASE);
      if (rc != RESPOOL_LEASE_LOST) must("extend", rc);
    }
    settle(b, half, n, RESPOOL_DONE, NULL);
  } else
    settle(b, 0, n, RESPOOL_DONE, what % 2 ? next : NULL);
}

static void take(void) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *b = NULL, *next = NULL;
  o.items = 1 + (uint64_t)rand() % 40;
  o.wait = rand() % 3;
  if (rand() % 12 == 0) o.lease = 3;
  must("take", respool_take(q, &o, &b));
  if (b) work(b, &next);
  respool_batch_free(b);
  for (int i = 0; next && i < 3; i++) {
    respool_batch *now = next;
    next = NULL;
    work(now, i < 2 ? &next : NULL);
    respool_batch_free(now);
  }
  respool_batch_free(next);
}

static void look(void) {
  respool_queue_stats st = RESPOOL_QUEUE_STATS_INIT;
  respool_maintenance m = RESPOOL_MAINTENANCE_INIT;
  must("stat", respool_queue_stat(q, &st));
  uint64_t left = st.ready + st.leased + st.scheduled + st.retrying;
  if (st.pushed != st.done + st.died + st.removed + st.expired + left)
    bad("%lu pushed, %lu done, %lu dead, %lu removed, %lu left",
        (unsigned long)st.pushed, (unsigned long)st.done,
        (unsigned long)st.died, (unsigned long)st.removed,
        (unsigned long)left);
  if (rand() % 4 == 0) must("maintain", respool_maintain(store, 0, &m));
}

static void arm(const crowd *c, bool first) {
  bool any = rand() % 3;
  if (first && fresh)
    crowd_arm(c, MAKING);
  else if (first && rand() % 3 == 0)
    crowd_arm(c, OPENING);
  else if (any)
    crowd_arm(c, POINTS_HERE);
}

static void act(const crowd *c, bool first) {
  arm(c, first);
  open_all();
  int role = rand() % 3; /* more of the one, or of the other, or both */
  while (crowd_goes_on()) {
    int what = rand() % 12;
    if (what == 0 && rand() % 4 == 0)
      cancel();
    else if (what == 0)
      look();
    else if (what <= 2 + 3 * role && !s->full)
      push();
    else
      take();
  }
  close_all();
}

/* ---- accounting ---------------------------------------------------------- */

static uint8_t *there; /* of each id: in the queue 1, in the DLQ 2 */

static void see(uint64_t id, uint8_t where) {
  if (there[id])
    bad("%lu is in two places", (unsigned long)id);
  there[id] |= where;
  if (s->done[id]) bad("%lu is back after done", (unsigned long)id);
  if (s->gone[id]) bad("%lu was cancelled and is back", (unsigned long)id);
}

static uint64_t see_queue(void) {
  respool_cursor at = {0};
  respool_page *p;
  uint64_t n = 0, ids = 0;
  do {
    must("browse", respool_browse(q, -1, 500, &at, &p));
    n = respool_page_length(p);
    for (size_t i = 0; i < n; i++) {
      look_at(respool_page_item(p, i), "at rest");
      see(respool_page_item(p, i)->id, 1);
    }
    ids += n;
    respool_page_free(p);
  } while (n);
  return ids;
}

static uint64_t see_dead(void) {
  respool_list_options o = RESPOOL_LIST_OPTIONS_INIT;
  respool_dead_letters *l;
  uint64_t n = 0, all = 0;
  o.limit = 500;
  do {
    must("dead", respool_dead_list(store, "storm", &o, &l));
    n = respool_dead_letters_length(l);
    for (size_t i = 0; i < n; i++) {
      const respool_dead_letter *d = respool_dead_letters_at(l, i);
      if (d->reason.size != 8 || memcmp(d->reason.data, "rejected", 8))
        bad("%lu died of %.*s", (unsigned long)d->id, (int)d->reason.size,
            (const char *)d->reason.data);
      see(d->id, 2);
      o.after = d->number;
    }
    all += n;
    respool_dead_letters_free(l);
  } while (n);
  return all;
}

static void compare(uint64_t left, uint64_t dead) {
  respool_queue_stats st = RESPOOL_QUEUE_STATS_INIT;
  must("stat", respool_queue_stat(q, &st));
  uint64_t counted = st.ready + st.leased + st.scheduled + st.retrying;
  if (counted != left || st.died != dead ||
      st.pushed != st.done + st.died + st.removed + left)
    bad("counted: %lu pushed, %lu done, %lu died, %lu removed, %lu left; "
        "there are %lu left and %lu dead", (unsigned long)st.pushed,
        (unsigned long)st.done, (unsigned long)st.died,
        (unsigned long)st.removed, (unsigned long)counted,
        (unsigned long)left, (unsigned long)dead);
}

static void drain(void) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_queue_stats st = RESPOOL_QUEUE_STATS_INIT;
  respool_batch *b;
  o.items = 100;
  o.wait = 2 * LEASE;
  done.kind = RESPOOL_DONE;
  do {
    must("stat", respool_queue_stat(q, &st));
    if (!(st.ready + st.leased + st.scheduled + st.retrying)) break;
    must("take", respool_take(q, &o, &b));
    if (!b) {
      bad("a queue that cannot be drained");
      return;
    }
    for (size_t i = 0; i < respool_batch_length(b); i++) {
      uint64_t id = respool_batch_item(b, i)->id;
      if (there[id] != 1)
        bad("%lu came from nowhere", (unsigned long)id);
      there[id] = 0;
      s->ending[id] = s->done[id] = 1;
    }
    must("mark", respool_batch_mark_all(b, &done));
    must("settle", respool_batch_settle(b, NULL, NULL));
    respool_batch_free(b);
  } while (true);
  for (uint64_t id = 1; id < IDS; id++)
    if (there[id] == 1) bad("%lu never came", (unsigned long)id);
}

static void account(void) {
  there = calloc(IDS, 1);
  open_all();
  must("check", respool_check(store, tell_bad, NULL));
  uint64_t left = see_queue(), dead = see_dead();
  for (uint64_t id = 1; id < IDS; id++)
    if (s->pushed[id] && !s->ending[id] && !there[id])
      bad("%lu is lost", (unsigned long)id);
  compare(left, dead);
  if (all_is_well() && rand() % 4 == 0) {
    drain();
    compare(0, dead);
    must("check", respool_check(store, tell_bad, NULL));
  }
  close_all();
}

/* ---- rounds -------------------------------------------------------------- */

/* Another store now and then, and before the ids are more than the book has
   room for. */
static void begin_anew(void) {
  fresh = s->full || rand() % 6 == 0;
  if (!fresh) return;
  remove_store_files(dir);
  memset((void *)s, 0, offsetof(book, pushes));
  s->full = false;
}

int main(int argc, char **argv) {
  crowd c = {.name = "storm", .more = 30, .odds = 10, .act = act,
             .points = points, .n_points = POINTS_HERE};
  s = crowd_begin(&c, argc, argv, sizeof *s);
  dir = argv[1];
  while (crowd_wants(&c)) {
    crowd_round(&c);
    crowd_look(&c, account);
    begin_anew();
  }
  return crowd_end(&c, "%ld pushed, %ld taken, %ld done, %u cancelled, %ld "
                   "settles refused, %ld lost leases", s->pushes, s->takes,
                   s->dones, s->cancels, s->refused, s->lost);
}
