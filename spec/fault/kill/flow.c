/* SPDX-License-Identifier: MIT */
/*
 * flow DIR KILLS SEED PROCESSES [RULE]: processes work on one queue that has a
 * rate and a breaker and keeps finished items with their results; they report
 * progress, cancel items, also those that are in somebody's hands, and wait
 * for results; and they are killed, each at a point of its own or at any
 * moment. Then every item is accounted for:
 *
 *   pushed, done, cancelled         the call has returned
 *   ending, cancelling              somebody was about to call it
 *   waiting, finished, withdrawn    found in the queue, or in the history
 *
 * What must hold: a pushed item is in one place; one that was done is finished,
 * with the result that it was given, one that was cancelled is withdrawn and
 * has none; what is finished or withdrawn was about to be. A settle of what
 * was cancelled is refused, and nobody else loses a lease before its time. An
 * item shows the last progress that was told under its lease, and none of
 * another. Who waits for results is woken by each end. No more were ever
 * delivered than the burst and the rate allow; the counters agree, the store's
 * check finds nothing, and all can be drained, whatever the breaker had come
 * to. A RULE is broken, and the run is good when that was noticed:
 *
 *   boast                    done is noted before the settle
 *   takes spend tokens, results are kept, the cancelled are kept,
 *   the cancelled leave their lease, progress is kept, ends wake who waits
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../helper/store_files.h"
#include "../crowd.h"
#include "../marks.h"
#include "flow_book.h"

enum { GROUP = 12, DRAINED = 100, LEASE = 300, COOLDOWN = 15, BACKLOG = 400,
       SLACK = 50 /* ms between two clocks */ };

static const point_at points[] = {
  {"begun", 40}, {"ran", 40}, {"committed", 40}, {"flush", 40},
  {"flushed", 40}, {"pwrite", 60}, {"fdatasync", 40}, {"meta written", 40},
  {"reading", 60}, {"progress looked at", 10},
  {"recent moved", 0}, {"recent left", 10},
};
enum { POINTS_HERE = sizeof points / sizeof *points };

static const char *dir;

/* Items a second, and at once: few where takes spend none, so that this shows
   however slow the machine is. */
static int64_t rate_of(void) {
  return breaks("takes spend tokens") ? 1 : 2000;
}

static int64_t burst_of(void) {
  return breaks("takes spend tokens") ? 1 : 50;
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the processes ------------------------------------------------------- */

static respool *store;
static respool_queue *q;

static void open_all(void) {
  static const respool_backoff at_once = {.kind = RESPOOL_BACKOFF_CONSTANT};
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  must("open", respool_open(dir, NULL, &store));
  o.lease = LEASE;
  o.max_crashes = RESPOOL_UNLIMITED;
  o.max_attempts = RESPOOL_UNLIMITED;
  o.backoff = &at_once;
  o.keep_done = RESPOOL_UNLIMITED;
  o.rate_items = rate_of();
  o.rate_per = 1000;
  o.rate_burst = burst_of();
  o.breaker_failures = 3;
  o.breaker_within = 1000;
  o.breaker_cooldown = COOLDOWN;
  must("queue", respool_queue_open(store, "flow", &o, &q));
}

static void close_all(void) {
  respool_queue_free(q);
  respool_close(store);
}

static respool_queue_stats stat_of(void) {
  respool_queue_stats st = RESPOOL_QUEUE_STATS_INIT;
  must("stat", respool_queue_stat(q, &st));
  return st;
}

static uint64_t left_of(const respool_queue_stats *st) {
  return st->ready + st->leased + st->scheduled + st->retrying;
}

/* ---- pushing, and waiting for results ------------------------------------ */

static void note_push(uint64_t id, uint32_t tag) {
  if (id + GROUP >= IDS / 2) s->full = true;
  must("ids", id + GROUP >= IDS);
  s->tag[id] = tag;
  if (s->pushed[id]++) bad("id %lu was given twice", (unsigned long)id);
}

static void push(void) {
  static uint8_t bytes[GROUP][TEXT];
  respool_payload p[GROUP];
  uint32_t tags[GROUP];
  respool_result r = RESPOOL_RESULT_INIT;
  respool_queue_stats st = stat_of();
  int n = 1 + rand() % GROUP;
  if (left_of(&st) > BACKLOG) return;
  memset(p, 0, sizeof p);
  for (int i = 0; i < n; i++) {
    tags[i] = (uint32_t)rand() | 1;
    payload_fill(bytes[i], tags[i], TEXT);
    p[i].body = (respool_bytes){bytes[i], TEXT};
  }
  must("push", respool_push(q, p, (size_t)n, NULL, &r));
  for (int i = 0; i < n; i++) note_push(r.first + (unsigned)i, tags[i]);
}

/* Sets `*seen`. An end that has begun after it was set, and is told, has woken
   those who wait. */
static void wait_for_end(uint64_t *seen) {
  uint64_t was = *seen, before = s->ends;
  must("wait", respool_queue_wait(q, seen, rand() % 10));
  if (*seen != was) return;
  uint64_t told = s->ended;
  must("wait", respool_queue_wait(q, seen, 0));
  if (*seen == was && told > before) bad("an end has woken nobody");
}

/* One of the first items in a state (-1: any); 0: there is none. */
static uint64_t find_any(int state) {
  respool_cursor at = {0};
  respool_page *p;
  uint64_t id = 0;
  must("browse", respool_browse(q, state, 40, &at, &p));
  size_t n = respool_page_length(p);
  if (n) id = respool_page_item(p, (size_t)rand() % n)->id;
  respool_page_free(p);
  return id;
}

static void await(void) {
  uint64_t id = find_any(RESPOOL_LEASED), seen = 0;
  must("wait", respool_queue_wait(q, &seen, 0));
  for (int i = 0; id && i < 20 && !s->cancelled[id]; i++) {
    if (see_result(q, id)) {
      s->awaited++;
      return;
    }
    wait_for_end(&seen);
  }
}

/* ---- cancelling ---------------------------------------------------------- */

static void cancel_item(uint64_t id) {
  uint64_t end = ++s->ends;
  s->cancelling[id] = 1;
  int rc = respool_item_cancel(q, id);
  if (rc == RESPOOL_NOT_FOUND) return;
  must("cancel", rc);
  if (s->cancelled[id]++) bad("%lu was cancelled twice", (unsigned long)id);
  raise_to(&s->ended, end);
  s->cancels++;
}

/* It waits, or is in somebody's hands. */
static void cancel(void) {
  uint64_t id = find_any(-1);
  if (id) cancel_item(id);
}

/* ---- taking and settling ------------------------------------------------- */

/* A batch, and when its lease is over at the earliest. */
typedef struct held {
  respool_batch *b;
  size_t n;
  uint64_t token;
  int64_t until;
  unsigned reports;
} held;

static uint64_t id_of(const held *h, size_t i) {
  return respool_batch_item(h->b, i)->id;
}

/* An item that was not there any more under its lease. */
static void note_lost(const held *h, size_t i) {
  if (!s->cancelling[id_of(h, i)] && now_ms() + SLACK < h->until)
    bad("%lu lost its lease before its time", (unsigned long)id_of(h, i));
}

static void mark(const held *h, size_t i, int kind) {
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  uint8_t bytes[TEXT];
  o.kind = kind;
  o.outage = kind == RESPOOL_RETRY;
  if (kind == RESPOOL_DONE) {
    o.result = result_of(bytes, tag_of(respool_batch_item(h->b, i)));
    s->ending[id_of(h, i)] = 1;
    if (breaks("boast")) s->done[id_of(h, i)] = 1;
  }
  must("mark", respool_batch_mark(h->b, i, &o));
}

/* Looks at its own report, as long as the lease is there. */
static void look_at_report(uint64_t id, uint64_t token) {
  respool_page *p;
  int rc = respool_get(q, id, &p);
  if (rc == RESPOOL_NOT_FOUND) return;
  must("get", rc);
  const respool_item *it = respool_page_item(p, 0);
  if (it->about->lease == token) see_progress(it);
  respool_page_free(p);
}

static void report(held *h, size_t i) {
  char text[TEXT];
  uint64_t id = id_of(h, i), number = report_number(h->token, ++h->reports);
  bool cancelled = s->cancelled[id];
  respool_progress p = progress_of(text, id, h->token, h->reports);
  raise_to(&s->reporting[id], number);
  int rc = respool_item_progress(q, id, h->token, &p);
  s->reports++;
  if (rc == RESPOOL_LEASE_LOST) {
    note_lost(h, i);
    return;
  }
  must("progress", rc);
  if (cancelled) bad("%lu was cancelled and goes on", (unsigned long)id);
  raise_to(&s->reported[id], number);
  look_at_report(id, h->token);
}

static void look_if_held(const held *h, size_t i) {
  int yes;
  bool cancelled = s->cancelled[id_of(h, i)];
  must("held", respool_item_held(q, id_of(h, i), h->token, &yes));
  if (yes && cancelled)
    bad("%lu is held, and was cancelled", (unsigned long)id_of(h, i));
  if (!yes) note_lost(h, i);
}

static void extend(held *h) {
  int64_t until = now_ms() + LEASE;
  int rc = respool_batch_extend(h->b, LEASE);
  if (rc != RESPOOL_LEASE_LOST) must("extend", rc);
  if (!rc) h->until = until;
}

static void note_settle(const held *h, size_t i, bool cancelled) {
  uint64_t id = id_of(h, i);
  bool settled = respool_batch_settled(h->b, i);
  if (settled && cancelled)
    bad("%lu was settled after it was cancelled", (unsigned long)id);
  if (!settled) note_lost(h, i);
  s->refused += cancelled && !settled;
  if (!settled || respool_batch_outcome(h->b, i) != RESPOOL_DONE) return;
  if (s->done[id]++ && !breaks("boast"))
    bad("%lu was done twice", (unsigned long)id);
  s->dones++;
}

static void settle(const held *h) {
  bool cancelled[DRAINED];
  uint64_t end = ++s->ends;
  for (size_t i = 0; i < h->n; i++) cancelled[i] = s->cancelled[id_of(h, i)];
  int rc = respool_batch_settle(h->b, NULL, NULL);
  if (rc != RESPOOL_LEASE_LOST) must("settle", rc);
  if (!rc) raise_to(&s->ended, end);
  for (size_t i = 0; i < h->n; i++) note_settle(h, i, cancelled[i]);
  for (size_t i = 0; i < h->n && h->reports; i++)
    must("end", respool_item_progress_end(q, id_of(h, i), h->token));
}

/* Now and then what they are sent to is away; some are forgotten, and some
   cancelled. */
static void work(held *h) {
  bool away = rand() % 5 == 0;
  s->takes += (long)h->n;
  for (int i = rand() % 3; i > 0; i--) report(h, (size_t)rand() % h->n);
  if (rand() % 20 == 0) return;
  if (rand() % 20 == 0) extend(h);
  if (rand() % 8 == 0) cancel_item(id_of(h, (size_t)rand() % h->n));
  look_if_held(h, (size_t)rand() % h->n);
  for (size_t i = 0; i < h->n; i++) {
    int what = rand() % 12;
    mark(h, i, away || what == 0 ? RESPOOL_RETRY
               : what == 1 ? RESPOOL_RELEASE : RESPOOL_DONE);
  }
  settle(h);
}

static bool take(held *h, uint64_t items, int64_t wait) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  *h = (held){.until = now_ms() + LEASE};
  o.items = items;
  o.wait = wait;
  must("take", respool_take(q, &o, &h->b));
  if (!h->b) return false;
  h->n = respool_batch_length(h->b);
  h->token = respool_batch_token(h->b);
  return true;
}

static void take_and_work(void) {
  held h;
  if (take(&h, 1 + (uint64_t)rand() % GROUP, rand() % 5)) work(&h);
  respool_batch_free(h.b);
}

static void look(void) {
  respool_flow f = RESPOOL_FLOW_INIT;
  respool_maintenance m = RESPOOL_MAINTENANCE_INIT;
  respool_queue_stats st = stat_of();
  int64_t most = burst_of() + (now_ms() - s->began) * rate_of() / 1000;
  if (st.pushed != st.done + st.removed + st.died + left_of(&st))
    bad("%lu pushed, %lu done, %lu removed, %lu dead, %lu left",
        (unsigned long)st.pushed, (unsigned long)st.done,
        (unsigned long)st.removed, (unsigned long)st.died,
        (unsigned long)left_of(&st));
  if ((int64_t)st.delivered > most)
    bad("%lu were delivered, at most %ld were allowed",
        (unsigned long)st.delivered, (long)most);
  must("flow", respool_queue_flow(q, &f));
  s->openings = (long)f.opened;
  if (rand() % 4 == 0) must("maintain", respool_maintain(store, 0, &m));
}

static void act(const crowd *c, bool first) {
  (void)first;
  if (rand() % 4) crowd_arm(c, POINTS_HERE);
  open_all();
  while (crowd_goes_on()) {
    int what = rand() % 14;
    if (what == 0) look();
    else if (what == 1) cancel();
    else if (what <= 3) await();
    else if (what <= 6 && !s->full) push();
    else take_and_work();
  }
  close_all();
}

/* ---- at the end of a round ----------------------------------------------- */

static void drain(void) {
  held h;
  for (respool_queue_stats st = stat_of(); left_of(&st); st = stat_of()) {
    if (!take(&h, DRAINED, 1000 * CROWD_PATIENCE)) {
      bad("a queue that cannot be drained");
      return;
    }
    for (size_t i = 0; i < h.n; i++) mark(&h, i, RESPOOL_DONE);
    settle(&h);
    respool_batch_free(h.b);
  }
}

static void account(void) {
  open_all();
  must("check", respool_check(store, tell_bad, NULL));
  see_all(q);
  look();
  if (all_is_well() && !breaks("takes spend tokens") && rand() % 3 == 0) {
    drain();
    see_all(q);
    look();
    must("check", respool_check(store, tell_bad, NULL));
  }
  close_all();
}

/* Another store, before the ids are more than the book has room for. */
static void begin_anew(void) {
  if (!s->full) return;
  remove_store_files(dir);
  book_begin();
}

int main(int argc, char **argv) {
  crowd c = {.name = "flow", .more = 30, .odds = 10, .act = act,
             .points = points, .n_points = POINTS_HERE};
  s = crowd_begin(&c, argc, argv, sizeof *s);
  dir = argv[1];
  book_begin();
  while (crowd_wants(&c)) {
    crowd_round(&c);
    crowd_look(&c, account);
    begin_anew();
  }
  if (c.kills > 100 && !(s->refused && s->shown && s->awaited))
    bad("a settle, progress or a result was never put to the test");
  return crowd_end(&c, "%ld taken, %ld done, %ld cancelled, %ld settles "
                   "refused, %ld reports, %ld shown, %ld results awaited, %ld "
                   "openings of the last store", s->takes, s->dones,
                   s->cancels, s->refused, s->reports, s->shown, s->awaited,
                   s->openings);
}
