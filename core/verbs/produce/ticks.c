/* SPDX-License-Identifier: MIT */
/*
 * Ticks: an item is pushed at each tick of a schedule.
 *
 * Ensures: 1. A tick's push and the schedule's next tick are one commit, which
 * is refused when another process has saved the schedule since it was read: so
 * each tick is fired once. 2. The next tick never moves back, whatever the
 * clock does.
 */
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "verbs/produce/push.h"
#include "verbs/produce/schedule_times.h"
#include "verbs/produce/schedules.h"

enum { AGAIN = 1000 /* ms until a schedule that failed is tried again */ };

int respool_schedule_tick(respool *s, const char *name, respool_tick *out) {
  schedules l;
  stored_schedule d;
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "schedule");
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_TICK_INIT);
  if (rc) return rc;
  rc = schedule_find(s, name, &l, &d);
  if (!rc) rc = tick_plan(&d, l.now, out);
  packer_free(&l.bytes);
  return rc;
}

/* An item of a tick says which: { schedule = name, at = seconds }. */
static void pack_headers(packer *p, const char *name, int64_t at) {
  pack_map(p, 2);
  pack_text(p, "schedule", 8);
  pack_string(p, name, strlen(name));
  pack_text(p, "at", 2);
  if (at % 1000)
    pack_double(p, (double)at / 1000);
  else
    pack_int(p, at / 1000);
}

/* Pushes the item of the tick `at`, and saves what the schedule has become if
   `with_it`. */
static int push_tick(respool *s, stored_schedule *d,
                     const respool_payload *payload, int64_t at,
                     bool with_it, uint64_t *id) {
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  respool_payload whole = {.body = payload->body, .codec = payload->codec};
  respool_queue *q = NULL;
  packer headers, record;
  builder b;
  int rc = respool_queue_find(s, d->queue, &q);
  if (rc) return rc;
  o.priority = d->d.priority;
  o.version = d->d.version;
  packer_init(&headers);
  packer_init(&record);
  pack_headers(&headers, d->name, at);
  schedule_pack(&record, &d->d);
  whole.headers = (respool_bytes){headers.data, headers.len};
  rc = push_build(s, &whole, 1, &o, &b);
  if (!rc && (headers.rc || record.rc))
    rc = fail(RESPOOL_NOMEM, "not enough memory for a schedule");
  if (!rc) {
    step steps[] = {push_step(q, &b, whole.key, &o), schedule_step(d, &record)};
    unit u = {.steps = steps, .n = with_it ? 2 : 1, .durable = true};
    rc = store_commit(s, &u);
    if (!rc && id) *id = steps[0].append.first;
  }
  builder_free(&b);
  packer_free(&headers);
  packer_free(&record);
  respool_queue_free(q);
  return rc;
}

/* The tick as it was planned for `d`, which it changes. */
static int fire(respool *s, stored_schedule *d, const respool_tick *t,
                const respool_payload *payload, uint64_t *id) {
  d->d.next_at = t->next_at;
  d->d.missed_ticks += t->late;
  if (!t->at) return schedule_save(s, d);
  d->d.last_at = t->at;
  d->d.fired++;
  return push_tick(s, d, payload, t->at, true, id);
}

static int no_payload(const char *name) {
  return fail(RESPOOL_INVALID, "the payload of schedule '%.160s' is made by a "
              "program at each tick", name);
}

static int given_or_stored(const stored_schedule *d,
                           const respool_payload **payload) {
  if (!*payload) *payload = &d->d.payload;
  return (*payload)->body.data ? 0 : no_payload(d->name);
}

int respool_schedule_fire(respool *s, const char *name, const respool_tick *t,
                          const respool_payload *payload, uint64_t *id) {
  schedules l;
  stored_schedule d;
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "schedule");
  if (!rc) rc = SIZE_CHECK(t, RESPOOL_TICK_INIT);
  if (rc) return rc;
  rc = schedule_find(s, name, &l, &d);
  if (!rc && t->at) rc = given_or_stored(&d, &payload);
  d.revision = t->revision;
  if (!rc) rc = fire(s, &d, t, payload, id);
  packer_free(&l.bytes);
  return rc;
}

int respool_schedule_run(respool *s, const char *name,
                         const respool_payload *payload, uint64_t *id) {
  schedules l;
  stored_schedule d;
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "schedule");
  if (rc) return rc;
  rc = schedule_find(s, name, &l, &d);
  if (!rc) rc = given_or_stored(&d, &payload);
  if (!rc) rc = push_tick(s, &d, payload, l.now, false, id);
  packer_free(&l.bytes);
  return rc;
}

/* ---- all that are due --------------------------------------------------- */

typedef struct firing {
  respool *s;
  int64_t end; /* by the monotonic clock */
  int64_t next;
  respool_fired *out;
} firing;

/* Has another process saved it since? Then that one has fired it. */
static bool is_changed(respool *s, const stored_schedule *d) {
  schedules l;
  stored_schedule now;
  int rc = schedule_find(s, d->name, &l, &now);
  packer_free(&l.bytes);
  return rc == RESPOOL_NOT_FOUND || (!rc && now.revision != d->revision);
}

static void note_failure(firing *f, int rc) {
  f->out->failed = rc;
  snprintf(f->out->error_text, sizeof f->out->error_text, "%s",
           respool_error_text());
}

/* 0: nothing more is due of it. 1: there may be. -1: it failed. */
static int fire_next(firing *f, stored_schedule *d, int64_t now) {
  respool_tick t;
  failure why;
  int rc = tick_plan(d, now, &t);
  if (!rc && !t.due) return 0;
  FAULT_POINT("schedule read");
  if (!rc) rc = fire(f->s, d, &t, &d->d.payload, NULL);
  if (!rc) {
    d->revision++;
    f->out->fired += t.at != 0;
    return 1;
  }
  failure_keep(&why);
  if (rc == RESPOOL_LOCKED && is_changed(f->s, d)) {
    d->d.next_at = now; /* look again */
    return 0;
  }
  failure_tell(&why);
  note_failure(f, rc);
  return -1;
}

static void fire_all_of(firing *f, stored_schedule *d, int64_t now) {
  int more = 1;
  while (more > 0 && clock_mono() < f->end) more = fire_next(f, d, now);
  int64_t next = more < 0 ? now + AGAIN : d->d.next_at;
  if (!d->d.paused && next && next < f->next) f->next = next;
}

int respool_schedules_fire(respool *s, int64_t ms, respool_fired *out) {
  schedules l;
  stored_schedule d;
  int rc = store_check(s);
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_FIRED_INIT);
  if (!rc && ms < 0) rc = invalid("ms", "0 or more");
  if (rc) return rc;
  firing f = {s, ms ? time_after(clock_mono(), ms) : INT64_MAX, INT64_MAX,
              out};
  *out = (respool_fired)RESPOOL_FIRED_INIT;
  rc = schedules_look(s, NULL, &l);
  while (!rc && schedule_unpack(&l.at, &d))
    if (d.d.payload.body.data) fire_all_of(&f, &d, l.now);
  if (!rc && l.at.rc) rc = schedule_damaged(&d);
  packer_free(&l.bytes);
  out->next_in = f.next == INT64_MAX ? RESPOOL_UNLIMITED
                 : f.next > l.now ? f.next - l.now : 0;
  return rc;
}
