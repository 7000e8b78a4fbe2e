/* SPDX-License-Identifier: MIT */
/*
 * The producer's buffer. Pushes go to one fill; a flush takes it off and
 * commits it as one unit, while the next fill is begun. Invariants:
 *
 *   1. At most one flush runs, so fills are committed in push order.
 *   2. A fill, or the groups of one that had no room as a whole, leaves memory
 *      only when its commit returned 0, or with the store.
 *   3. `committed` counts the pushes whose fills left; a barrier waits for it
 *      to reach `pushed` as it was.
 */
#include "verbs/produce/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "threads/thread.h"

#define BUFFER_BYTES ((uint64_t)64 << 20) /* max_bytes, if not given */
#define RETRY_MIN 100   /* ms */
#define RETRY_MAX 30000
#define HEAD 16         /* bytes that an item takes beside its payload */

static int64_t buffer_now(const respool_buffer *b) {
  return timers_now(&b->queue->store->timers);
}

/* ---- triggers ----------------------------------------------------------- */

static bool reached(uint64_t have, uint64_t limit) {
  return limit && have >= limit;
}

/* The trigger that has been reached, or 0. */
static int trigger(const respool_buffer *b) {
  if (reached(b->filling.items, b->o.items)) return RESPOOL_FLUSH_ITEMS;
  if (reached(b->filling.bytes, b->o.bytes)) return RESPOOL_FLUSH_BYTES;
  if (reached(b->filling.pushes, b->o.pushes)) return RESPOOL_FLUSH_PUSHES;
  return RESPOOL_FLUSH_NONE;
}

static int64_t interval_end(const respool_buffer *b) {
  if (!b->o.interval || !b->filling.pushes) return TIMER_NEVER;
  return time_after(b->filling.first_at, b->o.interval);
}

/* ---- flushing ----------------------------------------------------------- */

/* A flush on its way: a step for each part of the fill. */
typedef struct flush {
  respool_buffer *b;
  int reason;
} flush;

/* The steps of the first `n` parts. */
static void make_steps(const flush *f, step *steps, size_t n) {
  push_group *p = f->b->flushing_fill.groups;
  for (size_t i = 0; i < n; i++, p = p->next) {
    respool_push_options left = group_options(p, buffer_now(f->b));
    steps[i] = push_step(f->b->queue, &p->builder, p->key, &left);
    steps[i].append.partial_ok = true;
    steps[i].append.reason = i ? RESPOOL_FLUSH_NONE : f->reason;
  }
}

/* Commits the first `n` parts of the fill. */
static int commit_groups(flush *f, size_t n) {
  step *steps = calloc(n, sizeof *steps);
  if (!steps) return fail(RESPOOL_NOMEM, "not enough memory for a flush");
  unit u = {.steps = steps, .n = n, .durable = true};
  make_steps(f, steps, n);
  int rc = store_commit(f->b->queue->store, &u);
  free(steps);
  return rc == RESPOOL_TOO_LARGE ? RESPOOL_FULL : rc; /* bound lowered? */
}

/* Takes the fill off, unless one is still being flushed. */
static void take_fill(respool_buffer *b) {
  if (b->flushing_fill.pushes) return;
  b->flushing_fill = b->filling;
  b->flushing_memory = b->flushing_fill.memory;
  memset(&b->filling, 0, sizeof b->filling);
}

static void note_failure(respool_buffer *b, int rc) {
  failure_keep(&b->failure);
  b->failed = rc;
  b->failures++;
  b->queue->store->buffers.failures++;
  b->retry = b->retry ? b->retry * 2 : RETRY_MIN;
  if (b->retry > RETRY_MAX) b->retry = RETRY_MAX;
  b->retry_at = buffer_now(b) + b->retry;
  timers_arm(&b->queue->store->timers, &b->timer, b->retry_at);
}

static void note_result(respool_buffer *b, int rc, int reason) {
  b->rc = rc;
  if (rc) {
    note_failure(b, rc);
    return;
  }
  b->flushes[reason]++;
  b->retry = b->retry_at = 0;
  b->committed += b->flushing_fill.pushes;
  fill_free(&b->flushing_fill);
  b->flushing_memory = 0;
}

static size_t count_groups(const buffer_fill *l) {
  size_t n = 0;
  for (const push_group *p = l->groups; p; p = p->next) n++;
  return n;
}

/* There is no room for the whole fill: commits as much of it as there is room
   for, in order, so that also a fill larger than the queue gets there. */
static int flush_some(flush *f) {
  respool_buffer *b = f->b;
  int rc = 0;
  while (b->flushing_fill.groups && !rc) {
    rc = commit_groups(f, 1);
    if (rc == RESPOOL_FULL && fill_halve(&b->flushing_fill)) {
      rc = 0;
    } else if (!rc) {
      f->reason = RESPOOL_FLUSH_NONE;
      pthread_mutex_lock(&b->lock);
      fill_shift(&b->flushing_fill);
      b->flushing_memory = b->flushing_fill.memory;
      pthread_mutex_unlock(&b->lock);
    }
  }
  return rc;
}

/* One flush. Called with the lock, which is released while it commits. */
static int flush_fill(respool_buffer *b, int reason) {
  flush f = {.b = b, .reason = reason};
  take_fill(b);
  if (!b->flushing_fill.pushes) return 0;
  b->flushing = true;
  b->flush_reason = RESPOOL_FLUSH_NONE;
  pthread_mutex_unlock(&b->lock);
  int rc = fill_end(&b->flushing_fill);
  if (!rc) rc = commit_groups(&f, count_groups(&b->flushing_fill));
  if (rc == RESPOOL_FULL) rc = flush_some(&f);
  pthread_mutex_lock(&b->lock);
  b->flushing = false;
  note_result(b, rc, reason);
  pthread_cond_broadcast(&b->changed);
  return rc;
}

/* When the timer is to look again. */
static int64_t next_look(const respool_buffer *b, int64_t now) {
  if (b->flushing_fill.pushes && b->retry_at) return b->retry_at;
  if (b->flush_reason || trigger(b)) return now;
  return interval_end(b);
}

static int reason_now(const respool_buffer *b, int64_t now) {
  if (b->flush_reason) return b->flush_reason;
  if (trigger(b)) return trigger(b);
  return interval_end(b) <= now ? RESPOOL_FLUSH_INTERVAL
                                : RESPOOL_FLUSH_NONE;
}

static int64_t run_timer(timer *t) {
  respool_buffer *b = (respool_buffer *)t;
  pthread_mutex_lock(&b->lock);
  int64_t now = buffer_now(b);
  int reason = reason_now(b, now);
  bool again = b->flushing_fill.pushes && b->retry_at <= now;
  if (!b->flushing && (reason || again) && !(b->retry_at > now))
    flush_fill(b, reason ? reason : RESPOOL_FLUSH_INTERVAL);
  now = buffer_now(b);
  int64_t next = b->flushing ? now + 1 : next_look(b, now);
  pthread_mutex_unlock(&b->lock);
  return next;
}

/* ---- opening ------------------------------------------------------------ */

static int options_check(const respool_buffer_options *o) {
  int rc = SIZE_CHECK(o, RESPOOL_BUFFER_OPTIONS_INIT);
  if (rc) return rc;
  if (o->interval < 0) return invalid("interval", "0 or more");
  bool timed = o->interval && o->interval != RESPOOL_UNLIMITED;
  if (!o->items && !o->bytes && !o->pushes && !timed)
    return fail(RESPOOL_INVALID, "a buffer needs items, bytes, pushes or "
                "interval");
  return 0;
}

static void free_buffer(respool_buffer *b) {
  fill_free(&b->filling);
  fill_free(&b->flushing_fill);
  pthread_mutex_destroy(&b->lock);
  pthread_cond_destroy(&b->changed);
  respool_queue_free(b->queue);
  free(b);
}

int buffer_new(respool_queue *q, const respool_buffer_options *o,
               respool_buffer **out) {
  int rc = queue_check(q);
  if (!rc) rc = o ? options_check(o) : invalid("options", "given");
  if (rc) return rc;
  respool_buffer *b = calloc(1, sizeof *b);
  if (!b) return fail(RESPOOL_NOMEM, "not enough memory for a buffer");
  b->queue = respool_queue_ref(q);
  b->refs = 1;
  b->o = *o;
  if (!b->o.max_bytes) b->o.max_bytes = BUFFER_BYTES;
  b->timer.at = TIMER_NEVER;
  b->timer.run = run_timer;
  pthread_mutex_init(&b->lock, NULL);
  cond_init_monotonic(&b->changed);
  rc = timers_add(&q->store->timers, &b->timer);
  if (rc)
    free_buffer(b);
  else
    *out = b;
  return rc;
}

static void wait_flushed(respool_buffer *b) {
  while (b->flushing) pthread_cond_wait(&b->changed, &b->lock);
}

bool buffer_is_empty(respool_buffer *b) {
  return !b->flushing && !b->flushing_fill.pushes && !b->filling.pushes;
}

void buffer_destroy(respool_buffer *b) {
  timers_remove(&b->queue->store->timers, &b->timer);
  free_buffer(b);
}

void buffer_forget(respool_buffer *b) {
  if (pthread_mutex_trylock(&b->lock)) return;
  if (b->flushing) return;
  fill_free(&b->filling);
  fill_free(&b->flushing_fill);
  respool_queue_free(b->queue);
  free(b);
}

void buffer_orphan(respool_buffer *b) {
  pthread_mutex_lock(&b->lock);
  wait_flushed(b);
  while (!buffer_is_empty(b) && !flush_fill(b, RESPOOL_FLUSH_CLOSE)) continue;
  b->orphaned = true;
  pthread_mutex_unlock(&b->lock);
}

respool *respool_buffer_store(const respool_buffer *b) {
  return b->queue->store;
}

/* ---- pushing ------------------------------------------------------------ */

static uint64_t memory(const respool_buffer *b) {
  return b->filling.memory + b->flushing_memory;
}

/* A buffer is full for its queue or, when its flushes fail for the store, for
   that. */
static int no_room(const respool_buffer *b) {
  bool of_store = b->rc && (b->rc != RESPOOL_FULL || b->failure.of_store);
  int rc = fail(RESPOOL_FULL, "the buffer of queue '%.120s' is full%s%.80s",
              b->queue->name, b->rc ? ": " : "", b->rc ? b->failure.text : "");
  return of_store ? fail_of_store(rc) : rc;
}

static bool has_room(const respool_buffer *b, uint64_t size) {
  return memory(b) + size + HEAD <= b->o.max_bytes || !memory(b);
}

/* Flushes what was pushed, as no other trigger may come. Called with the lock.
   A manual clock has no thread, so it is done here. */
static void make_room(respool_buffer *b) {
  respool *s = b->queue->store;
  if (s->clock.manual) {
    if (!b->retry_at) flush_fill(b, RESPOOL_FLUSH_BYTES);
    return;
  }
  if (!b->flush_reason) b->flush_reason = RESPOOL_FLUSH_BYTES;
  timers_arm(&s->timers, &b->timer, next_look(b, buffer_now(b)));
}

/* Waits for the next flush, one second at most. Called with the lock, which is
   released while waiting. */
static void wait_change(respool_buffer *b, int64_t ms) {
  struct timespec t;
  clock_deadline(&t, ms < 1000 ? ms : 1000);
  pthread_cond_timedwait(&b->changed, &b->lock, &t);
}

/* Makes sure of room for `size` bytes more, waiting `wait`. Called with the
   lock. */
static int await_room(respool_buffer *b, uint64_t size, int64_t wait) {
  if (has_room(b, size)) return 0;
  make_room(b);
  int64_t end = time_after(clock_mono(), wait);
  while (!has_room(b, size)) {
    int64_t left = end - clock_mono();
    if (wait == 0) return no_room(b);
    if (left <= 0 || b->queue->store->clock.manual)
      return fail(RESPOOL_TIMEOUT, "the buffer of queue '%.120s' had no "
                  "room in time", b->queue->name);
    wait_change(b, left);
  }
  return 0;
}

/* Counts a push and sees whether a flush is due. Called with the lock. A
   manual clock has no thread, so the flush is done here. */
static void count_push(respool_buffer *b) {
  respool *s = b->queue->store;
  b->pushed++;
  if (b->filling.pushes++ == 0) b->filling.first_at = buffer_now(b);
  int reason = trigger(b);
  if (!reason && b->filling.pushes > 1) return;
  if (reason && s->clock.manual && !b->retry_at) {
    flush_fill(b, reason);
    return;
  }
  if (reason) b->flush_reason = reason;
  timers_arm(&s->timers, &b->timer, next_look(b, buffer_now(b)));
}

static int buffer_check(respool_buffer *b, const respool_payload *it,
                        const respool_push_options *o) {
  if (!b) return fail(RESPOOL_INVALID, "the buffer is NULL");
  uint64_t size;
  int rc = queue_check(b->queue);
  if (!rc) rc = push_check(b->queue->store, it, 1, o, &size);
  if (!rc) rc = push_fits(b->queue, it, o);
  if (!rc && it->key.size && o->on_conflict == RESPOOL_CONFLICT_FAIL)
    return invalid("on_conflict", "ignore or replace in a buffer");
  return rc;
}

/* When a push was made, as far as its options make it matter. */
static int64_t time_of(const respool_buffer *b,
                       const respool_push_options *o) {
  return is_timed(o) ? buffer_now(b) : 0;
}

int respool_buffer_push(respool_buffer *b, const respool_payload *it,
                        const respool_push_options *o) {
  static const respool_push_options defaults = RESPOOL_PUSH_OPTIONS_INIT;
  if (!o) o = &defaults;
  int rc = buffer_check(b, it, o);
  if (rc) return rc;
  pthread_mutex_lock(&b->lock);
  rc = await_room(b, payload_weight(it), o->wait);
  if (!rc) rc = fill_add(&b->filling, it, o, time_of(b, o));
  if (!rc) count_push(b);
  pthread_mutex_unlock(&b->lock);
  return rc;
}

/* ---- folding ------------------------------------------------------------ */

int respool_buffer_find(respool_buffer *b, respool_bytes name,
                        respool_bytes *body, uint64_t *version) {
  int rc = b ? queue_check(b->queue) : invalid("buffer", "given");
  if (rc) return rc;
  *body = (respool_bytes){NULL, 0};
  *version = 0;
  pthread_mutex_lock(&b->lock);
  const merge_slot *s = fill_find(&b->filling, name);
  if (s) {
    rc = copy_bytes(s->item.body, body);
    *version = s->version;
  }
  pthread_mutex_unlock(&b->lock);
  return rc;
}

static int fold(respool_buffer *b, respool_bytes name, uint64_t version,
                const respool_payload *it, const respool_push_options *o) {
  int rc = await_room(b, payload_weight(it), o->wait);
  if (rc) return rc;
  merge_slot *s = fill_find(&b->filling, name); /* a wait may have flushed it */
  if ((s ? s->version : 0) != version)
    return fail(RESPOOL_BUSY, "the item was flushed or folded meanwhile");
  rc = fill_put(&b->filling, &s, name, it, o, time_of(b, o));
  if (!rc) s->version = ++b->versions;
  return rc;
}

int respool_buffer_fold(respool_buffer *b, respool_bytes name,
                        uint64_t version, const respool_payload *it,
                        const respool_push_options *o) {
  static const respool_push_options defaults = RESPOOL_PUSH_OPTIONS_INIT;
  if (!o) o = &defaults;
  int rc = buffer_check(b, it, o);
  if (rc) return rc;
  if (it->key.size) return invalid("key", "absent from a folded item");
  if (!name.size) return invalid("name", "of 1 byte at least");
  pthread_mutex_lock(&b->lock);
  rc = fold(b, name, version, it, o);
  if (!rc) count_push(b);
  pthread_mutex_unlock(&b->lock);
  return rc;
}

/* ---- the barrier -------------------------------------------------------- */

int buffer_barrier(respool_buffer *b, int reason) {
  int rc = b ? queue_check(b->queue) : invalid("buffer", "given");
  if (rc) return rc;
  pthread_mutex_lock(&b->lock);
  uint64_t target = b->pushed;
  while (!rc && b->committed < target) {
    if (b->flushing)
      wait_flushed(b);
    else
      rc = flush_fill(b, reason);
  }
  pthread_mutex_unlock(&b->lock);
  if (rc) return rc;
  return store_flush(b->queue->store);
}

int respool_buffer_flush(respool_buffer *b) {
  return buffer_barrier(b, RESPOOL_FLUSH_MANUAL);
}

int respool_buffer_drain(respool_buffer *b) {
  return buffer_barrier(b, RESPOOL_FLUSH_CLOSE);
}

void buffer_discard_unflushed(respool_buffer *b) {
  timers_remove(&b->queue->store->timers, &b->timer); /* nobody else flushes */
  buffer_barrier(b, RESPOOL_FLUSH_CLOSE);
  pthread_mutex_lock(&b->lock);
  fill_free(&b->filling);
  fill_free(&b->flushing_fill);
  pthread_mutex_unlock(&b->lock);
}

void buffer_stat(respool_buffer *b, respool_buffer_stats *out) {
  pthread_mutex_lock(&b->lock);
  out->items = b->filling.items + b->flushing_fill.items;
  out->bytes = b->filling.bytes + b->flushing_fill.bytes;
  out->memory = memory(b);
  out->pushed = b->pushed;
  memcpy(out->flushes, b->flushes, sizeof out->flushes);
  out->failures = b->failures;
  out->error = b->rc;
  strcpy(out->error_text, b->rc ? b->failure.text : "");
  pthread_mutex_unlock(&b->lock);
}

int respool_buffer_stat(respool_buffer *b, respool_buffer_stats *out) {
  int rc = b ? queue_check(b->queue) : invalid("buffer", "given");
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_BUFFER_STATS_INIT);
  if (!rc) buffer_stat(b, out);
  return rc;
}
