/* SPDX-License-Identifier: MIT */
/*
 * The stand-in for LMDB and the verbs around it; see stand_in.h.
 */
#include "stand_in.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"

static const uint8_t stand_id[16] = "a stand-in store";

int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the file ------------------------------------------------------------ */

typedef struct side_head {
  journal_applied applied;
  side_queue queue[SIDE_QUEUES];
  uint64_t n;
} side_head;

static void side_free(side *d) {
  for (size_t i = 0; i < d->n; i++) free(d->item[i].bytes);
  free(d->item);
  *d = (side){.n = 0};
}

static int side_broken(void) {
  return fail(RESPOOL_IO, "the stand-in's file is broken");
}

static void *must(void *p) {
  if (!p) abort();
  return p;
}

static void side_grow(side *d, size_t n) {
  if (n <= d->room) return;
  d->room = n + n / 2 + 64;
  d->item = must(realloc(d->item, d->room * sizeof *d->item));
}

static int side_parse(side *d, const uint8_t *p, size_t size) {
  side_head h;
  if (size < sizeof h) return side_broken();
  memcpy(&h, p, sizeof h);
  d->applied = h.applied;
  memcpy(d->queue, h.queue, sizeof d->queue);
  side_grow(d, h.n);
  size_t at = sizeof h;
  for (; d->n < h.n; d->n++) {
    side_item *i = &d->item[d->n];
    if (size - at < sizeof *i) return side_broken();
    memcpy(i, p + at, sizeof *i);
    at += sizeof *i;
    i->bytes = NULL;
    if (size - at < i->size) return side_broken();
    i->bytes = must(malloc(i->size + 1));
    memcpy(i->bytes, p + at, i->size);
    at += i->size;
  }
  return 0;
}

static int side_load(const stand *s, side *d) {
  struct stat st;
  *d = (side){.n = 0};
  int fd = openat(s->dirfd, "applied", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0; /* nothing was applied yet */
  int rc = fstat(fd, &st) ? side_broken() : 0;
  uint8_t *p = must(malloc((size_t)st.st_size + 1));
  if (!rc && read(fd, p, (size_t)st.st_size) != st.st_size)
    rc = side_broken();
  if (!rc) rc = side_parse(d, p, (size_t)st.st_size);
  close(fd);
  free(p);
  if (rc) side_free(d);
  return rc;
}

static size_t side_size(const side *d) {
  size_t n = sizeof(side_head) + d->n * sizeof(side_item);
  for (size_t i = 0; i < d->n; i++) n += d->item[i].size;
  return n;
}

/* Ensures that the new file's contents are on disk before it has the name. */
static int side_save(const stand *s, const side *d) {
  side_head h = {.applied = d->applied, .n = d->n};
  memcpy(h.queue, d->queue, sizeof h.queue);
  size_t size = side_size(d), at = sizeof h;
  uint8_t *p = must(malloc(size));
  memcpy(p, &h, sizeof h);
  for (size_t i = 0; i < d->n; i++) {
    memcpy(p + at, &d->item[i], sizeof d->item[i]);
    memcpy(p + at + sizeof d->item[i], d->item[i].bytes, d->item[i].size);
    at += sizeof d->item[i] + d->item[i].size;
  }
  (void)unlinkat(s->dirfd, "applied.new", 0); /* of one who died */
  int fd = openat(s->dirfd, "applied.new",
                  O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  int rc = fd < 0 || write(fd, p, size) != (ssize_t)size ||
           fdatasync(fd) ? side_broken() : 0;
  FAULT_POINT("side written");
  if (!rc && renameat(s->dirfd, "applied.new", s->dirfd, "applied"))
    rc = side_broken();
  if (fd >= 0) close(fd);
  free(p);
  return rc;
}

static side_queue *side_queue_of(side *d, uint64_t number) {
  side_queue *q = d->queue;
  while (q->number && q->number != number) q++;
  if (!q->number) *q = (side_queue){.number = number, .next_id = 1};
  return q;
}

static size_t side_find(const side *d, uint64_t queue, uint64_t id) {
  size_t lo = 0, hi = d->n;
  while (lo < hi) {
    size_t m = lo + (hi - lo) / 2;
    const side_item *i = &d->item[m];
    if (i->queue < queue || (i->queue == queue && i->id < id))
      lo = m + 1;
    else
      hi = m;
  }
  return lo;
}

static side_item *side_get(side *d, uint64_t queue, uint64_t id) {
  size_t k = side_find(d, queue, id);
  if (k == d->n || d->item[k].queue != queue || d->item[k].id != id)
    return NULL;
  return &d->item[k];
}

static void side_put(side *d, side_item i, respool_bytes b) {
  size_t k = side_find(d, i.queue, i.id);
  side_grow(d, d->n + 1);
  memmove(&d->item[k + 1], &d->item[k], (d->n - k) * sizeof i);
  i.size = (uint32_t)b.size;
  i.bytes = must(malloc(b.size + 1));
  if (b.size) memcpy(i.bytes, b.data, b.size);
  d->item[k] = i;
  d->n++;
}

static void side_remove(side *d, side_item *i) {
  free(i->bytes);
  size_t k = (size_t)(i - d->item);
  memmove(i, i + 1, (d->n - k - 1) * sizeof *i);
  d->n--;
}

/* ---- transactions -------------------------------------------------------- */

typedef struct change {
  side d;
  journal_work *w;
  bool applied;
} change;

static int put_work(change *t) {
  journal_item i;
  int rc;
  arena a;
  arena_init(&a);
  while ((rc = journal_next(t->w, &i, &a)) == 1) {
    if (i.damaged) abort();
    side_put(&t->d, (side_item){.queue = i.queue, .id = i.id,
                                .token = i.token, .time = i.time,
                                .until = i.until,
                                .priority = (uint32_t)i.priority,
                                .deliveries = i.token != 0}, i.packed);
  }
  arena_free(&a);
  size_t n;
  const journal_share *s = journal_shares(t->w, &n);
  for (size_t k = 0; k < n; k++) {
    side_queue *q = side_queue_of(&t->d, s[k].queue);
    if (q->next_id < s[k].next_id) q->next_id = s[k].next_id;
    q->pushed += s[k].pushed;
    q->done += s[k].done;
    q->delivered += s[k].delivered;
  }
  t->d.applied = journal_position(t->w);
  return rc;
}

/* The write lock is held from here to change_end. */
static int change_begin(stand *s, change *t, int what) {
  *t = (change){.w = NULL};
  int rc = journal_enter(s->j);
  if (rc) return rc;
  rc = side_load(s, &t->d);
  if (!rc) rc = journal_begin(s->j, &t->d.applied, what, &t->w);
  if (!rc && t->w) {
    t->applied = true;
    rc = put_work(t);
  }
  if (!rc) return 0;
  if (t->w) (void)journal_finish(t->w, rc);
  side_free(&t->d);
  journal_leave(s->j);
  return rc;
}

static int64_t ready_at(const side *d, uint64_t queue) {
  int64_t at = JOURNAL_NEVER;
  for (size_t i = side_find(d, queue, 0);
       i < d->n && d->item[i].queue == queue; i++)
    if (d->item[i].until < at) at = d->item[i].until;
  return at;
}

static void view_all(stand *s, const side *d) {
  for (int i = 0; i < SIDE_QUEUES && d->queue[i].number; i++)
    journal_view(s->j, d->queue[i].number, ready_at(d, d->queue[i].number));
}

static void views_unknown(stand *s, const side *d) {
  for (int i = 0; i < SIDE_QUEUES && d->queue[i].number; i++)
    journal_view(s->j, d->queue[i].number, 0);
}

static int sync_and_free(stand *s) {
  journal_state now;
  int rc = journal_now(s->j, &now);
  FAULT_POINT("side not synced");
  if (!rc && !FAULT_WRONG("no sync") && fsync(s->dirfd)) rc = side_broken();
  FAULT_POINT("side synced");
  return rc ? rc : journal_freed(s->j, now.applied);
}

/* Commits when `rc` is 0 and something was changed. */
static int change_end(stand *s, change *t, int rc, bool changed, bool sync) {
  bool save = !rc && (changed || t->applied);
  if (save) views_unknown(s, &t->d);
  FAULT_POINT("side before commit");
  if (save && !rc) rc = side_save(s, &t->d);
  FAULT_POINT("side committed");
  if (t->w) {
    int finished = journal_finish(t->w, save ? rc : RESPOOL_INVALID);
    if (!rc) rc = finished;
  }
  FAULT_POINT("side finished");
  if (!rc) view_all(s, &t->d);
  if (!rc && save && sync) rc = sync_and_free(s);
  side_free(&t->d);
  journal_leave(s->j);
  return rc;
}

int stand_apply(stand *s, int what, bool sync) {
  change t;
  int rc = change_begin(s, &t, what);
  if (rc) return rc;
  rc = change_end(s, &t, 0, sync && !t.applied, sync);
  return rc;
}

int stand_mend(stand *s) {
  int rc = stand_apply(s, JOURNAL_ALL, true);
  if (!rc) rc = journal_enter(s->j);
  if (rc) return rc;
  rc = journal_renew(s->j);
  journal_leave(s->j);
  return rc;
}

/* ---- open ---------------------------------------------------------------- */

int stand_open(stand *s, const char *dir, uint64_t half) {
  side d;
  *s = (stand){.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (s->dirfd < 0) return fail(RESPOOL_IO, "no directory %s", dir);
  int rc = journal_open(s->dirfd, &(journal_options){.half = half}, &s->j);
  if (!rc && fsync(s->dirfd)) rc = side_broken();
  if (!rc) rc = side_load(s, &d);
  if (!rc) {
    rc = journal_start(s->j, stand_id, &d.applied);
    side_free(&d);
  }
  if (rc) stand_close(s);
  return rc;
}

void stand_close(stand *s) {
  journal_close(s->j);
  if (s->dirfd >= 0) close(s->dirfd);
  *s = (stand){.dirfd = -1};
}

/* ---- push ---------------------------------------------------------------- */

/* A row for the queue; the journal is applied when there are too many. */
static int make_row(stand *s, uint64_t queue) {
  change t;
  int rc = change_begin(s, &t, JOURNAL_NOTHING);
  if (rc) return rc;
  uint64_t next = side_queue_of(&t.d, queue)->next_id;
  rc = journal_queue(s->j, queue, next);
  return change_end(s, &t, rc < 0 ? rc : 0, false, false);
}

static int push_to_side(stand *s, uint64_t queue, const respool_bytes *items,
                        size_t n, uint64_t *first) {
  change t;
  int rc = change_begin(s, &t, JOURNAL_ALL);
  if (rc) return rc;
  side_queue *q = side_queue_of(&t.d, queue);
  rc = journal_queue(s->j, queue, q->next_id);
  if (!rc) *first = journal_ids(s->j, queue, q->next_id, n);
  for (size_t i = 0; i < n && !rc; i++)
    side_put(&t.d, (side_item){.queue = queue, .id = *first + i,
                               .time = now_ms()}, items[i]);
  if (!rc) {
    q->next_id = *first + n;
    q->pushed += n;
  }
  return change_end(s, &t, rc, true, true);
}

static int apply_if_due(stand *s, bool due) {
  return due ? stand_apply(s, JOURNAL_OLD, true) : 0;
}

int stand_push(stand *s, uint64_t queue, const respool_bytes *items, size_t n,
               uint64_t *first) {
  journal_push_req r = {.queue = queue, .now = now_ms(), .items = items,
                        .n = n};
  int rc = journal_push(s->j, &r);
  if (rc == JOURNAL_ELSEWHERE) {
    rc = make_row(s, queue);
    if (!rc) rc = journal_push(s->j, &r);
  }
  if (rc == JOURNAL_ELSEWHERE)
    rc = push_to_side(s, queue, items, n, first);
  else if (!rc) {
    *first = r.first;
    rc = journal_flush(s->j, r.end);
  }
  FAULT_POINT("push not told");
  if (rc) return rc;
  journal_wake(s->j, queue, (int)n);
  return apply_if_due(s, r.due);
}

/* ---- take ---------------------------------------------------------------- */

static int copy_item(const side_item *i, taken *out, arena *to) {
  *out = (taken){.id = i->id, .token = i->token, .crashes = i->crashes,
                 .deliveries = i->deliveries};
  return arena_copy(to, (respool_bytes){i->bytes, i->size}, &out->bytes);
}

static int take_from_side(stand *s, uint64_t queue, taken *out, size_t max,
                          int64_t lease_ms, arena *to) {
  change t;
  size_t n = 0;
  int64_t now = now_ms();
  int rc = change_begin(s, &t, JOURNAL_ALL);
  if (rc) return rc;
  rc = journal_queue(s->j, queue, side_queue_of(&t.d, queue)->next_id);
  if (rc == JOURNAL_ELSEWHERE) rc = 0;
  for (size_t k = side_find(&t.d, queue, 0); k < t.d.n && n < max && !rc;
       k++) {
    side_item *i = &t.d.item[k];
    if (i->queue != queue) break;
    if (i->until > now) continue;
    if (i->until && i->token) i->crashes++;
    i->deliveries++;
    i->until = now + lease_ms;
    rc = journal_token(s->j, 0, &i->token);
    if (!rc) rc = copy_item(i, &out[n++], to);
  }
  rc = change_end(s, &t, rc, n > 0, n > 0);
  return rc ? rc : (int)n;
}

/* Learns whether the side has something; 1: nothing that is due now. */
static int learn_view(stand *s, uint64_t queue) {
  change t;
  int rc = change_begin(s, &t, JOURNAL_NOTHING);
  if (rc) return rc;
  side_queue *q = side_queue_of(&t.d, queue);
  rc = journal_queue(s->j, queue, q->next_id);
  int64_t at = ready_at(&t.d, queue);
  if (!rc) journal_view(s->j, queue, at);
  bool none = !rc && at > now_ms();
  rc = change_end(s, &t, rc < 0 ? rc : 0, false, false);
  return rc ? rc : none;
}

static int take_here(stand *s, journal_take_req *r) {
  int rc = journal_take(s->j, r);
  if (rc != JOURNAL_ELSEWHERE) return rc;
  rc = learn_view(s, r->queue);
  return rc == 1 ? journal_take(s->j, r) : rc ? rc : JOURNAL_ELSEWHERE;
}

static int take_now(stand *s, uint64_t queue, taken *out, size_t max,
                    int64_t lease_ms, arena *to, int64_t *next) {
  journal_item items[64];
  int64_t now = now_ms();
  journal_take_req r = {.queue = queue, .bytes = UINT64_MAX, .now = now,
                        .until = now + lease_ms, .items = items,
                        .max = max < 64 ? max : 64, .to = to};
  int rc = take_here(s, &r);
  *next = now;
  if (rc == JOURNAL_ELSEWHERE)
    return take_from_side(s, queue, out, max, lease_ms, to);
  *next = r.next;
  for (size_t i = 0; i < r.n; i++)
    out[i] = (taken){.id = items[i].id, .token = items[i].token,
                     .deliveries = 1, .bytes = items[i].packed};
  return rc ? rc : (int)r.n;
}

int stand_take(stand *s, uint64_t queue, taken *t, size_t max,
               int64_t lease_ms, int64_t wait_ms, arena *to) {
  int64_t deadline = now_ms() + wait_ms, next;
  for (;;) {
    uint32_t seen = journal_watch(s->j, queue);
    int n = take_now(s, queue, t, max, lease_ms, to, &next);
    int64_t now = now_ms();
    if (n || now >= deadline) return n;
    if (next > deadline) next = deadline;
    journal_wait(s->j, queue, seen, next > now ? next - now : 1);
  }
}

/* ---- settle -------------------------------------------------------------- */

static int done_in_side(stand *s, uint64_t queue, const uint64_t *ids,
                        const uint64_t *tokens, size_t n, uint8_t *outcome) {
  change t;
  int good = 0, rc = change_begin(s, &t, JOURNAL_ALL);
  if (rc) return rc;
  for (size_t k = 0; k < n; k++) {
    if (outcome[k] != JOURNAL_IN_LMDB) continue;
    side_item *i = side_get(&t.d, queue, ids[k]);
    outcome[k] = JOURNAL_LOST;
    if (!i || i->token != tokens[k] || !i->until) continue;
    side_remove(&t.d, i);
    side_queue_of(&t.d, queue)->done++;
    outcome[k] = JOURNAL_DONE;
    good++;
  }
  rc = change_end(s, &t, 0, good > 0, good > 0);
  return rc ? rc : good;
}

int stand_done(stand *s, uint64_t queue, const uint64_t *ids,
               const uint64_t *tokens, size_t n, uint8_t *outcome) {
  journal_done_req r = {.queue = queue, .now = now_ms(), .ids = ids,
                        .tokens = tokens, .n = n, .outcome = outcome};
  int rc = journal_done(s->j, &r, false);
  if (rc == JOURNAL_ELSEWHERE) memset(outcome, JOURNAL_IN_LMDB, n);
  if (!rc && r.done) rc = journal_flush(s->j, r.end);
  FAULT_POINT("done not told");
  if (rc < 0) return rc;
  int good = (int)r.done;
  if (memchr(outcome, JOURNAL_IN_LMDB, n)) {
    rc = done_in_side(s, queue, ids, tokens, n, outcome);
    if (rc < 0) return rc;
    good += rc;
  }
  rc = apply_if_due(s, r.due);
  return rc ? rc : good;
}

int stand_retry(stand *s, uint64_t queue, uint64_t id, uint64_t token,
                int64_t delay_ms) {
  change t;
  int rc = change_begin(s, &t, JOURNAL_ALL);
  if (rc) return rc;
  side_item *i = side_get(&t.d, queue, id);
  bool ours = i && i->token == token && i->until;
  if (ours) {
    i->until = delay_ms ? now_ms() + delay_ms : 0;
    i->token = 0;
  }
  rc = change_end(s, &t, 0, ours, ours);
  if (rc) return rc;
  journal_wake(s->j, queue, 1);
  return ours ? 0 : RESPOOL_LEASE_LOST;
}

/* ---- look ---------------------------------------------------------------- */

/* First the journal, then the snapshot: what was applied in between is left
   out of the first. */
static int each_of_queue(const side *d, uint64_t queue,
                         const journal_seen *seen, size_t n,
                         stand_each_fn *each, void *arg) {
  int rc = 0;
  for (size_t k = side_find(d, queue, 0);
       k < d->n && d->item[k].queue == queue && !rc; k++)
    rc = each(arg, &d->item[k], 0);
  for (size_t i = 0; i < n && !rc; i++) {
    const journal_item *e = &seen[i].item;
    if (seen[i].pos < d->applied.pos) continue;
    side_item it = {.queue = queue, .id = e->id, .token = e->token,
                    .time = e->time, .until = e->until,
                    .size = (uint32_t)e->packed.size,
                    .bytes = (uint8_t *)(uintptr_t)e->packed.data};
    rc = e->damaged ? side_broken() : each(arg, &it, 1);
  }
  return rc;
}

int stand_each(stand *s, stand_each_fn *each, void *arg) {
  journal_seen *seen = must(malloc(JOURNAL_ITEMS * sizeof *seen));
  int rc = 0;
  for (uint64_t queue = 1; queue <= SIDE_QUEUES && rc >= 0; queue++) {
    side d;
    arena a;
    arena_init(&a);
    size_t n = 0;
    do
      rc = journal_look(s->j, queue, 0, seen, JOURNAL_ITEMS, &n, &a);
    while (rc == JOURNAL_ELSEWHERE);
    if (!rc) rc = side_load(s, &d);
    if (!rc) {
      rc = each_of_queue(&d, queue, seen, n, each, arg);
      side_free(&d);
    }
    arena_free(&a);
    if (rc) break;
  }
  free(seen);
  return rc;
}

int stand_count(stand *s, uint64_t queue, uint64_t *pushed, uint64_t *done) {
  journal_counts c;
  side d;
  int rc;
  do
    rc = journal_count(s->j, queue, 0, &c);
  while (rc == JOURNAL_ELSEWHERE);
  if (!rc) rc = side_load(s, &d);
  if (rc) return rc;
  const side_queue *q = side_queue_of(&d, queue);
  *pushed = q->pushed + c.pushed;
  *done = q->done + c.done;
  side_free(&d);
  return 0;
}

int stand_check(stand *s, journal_finding_fn *each, void *arg) {
  side d;
  int rc = journal_enter(s->j);
  if (rc) return rc;
  rc = side_load(s, &d);
  if (!rc) rc = journal_check(s->j, &d.applied, each, arg);
  if (!rc) side_free(&d);
  journal_leave(s->j);
  return rc;
}
