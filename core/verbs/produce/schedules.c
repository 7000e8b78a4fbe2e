/* SPDX-License-Identifier: MIT */
/*
 * Schedules: items pushed at the ticks of a cron expression.
 *
 * Ensures: 1. A tick's push and the schedule's next tick are one commit, which
 * is refused when another process has saved the schedule since it was read: so
 * each tick is fired once. 2. The next tick never moves back, whatever the
 * clock does.
 */
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "schedule/cron.h"
#include "verbs/produce/push.h"
#include "verbs/produce/schedule_record.h"

enum {
  LATE = 60000,      /* ms after which a tick counts as missed */
  COUNTED = 100000,  /* missed ticks that are counted at most, at once */
  SAVE_TRIES = 10,   /* while others change the schedule */
  AGAIN = 1000       /* ms until a schedule that failed is tried again */
};

/* ---- reading ------------------------------------------------------------ */

/* Entries as they were looked at. */
typedef struct schedules {
  packer bytes;
  unpacker at;
  int64_t now;
} schedules;

static int look(respool *s, const char *name, schedules *l) {
  query q = {.kind = QUERY_ENTRIES, .name = name,
             .entries = {.kind = ENTRY_SCHEDULE, .out = &l->bytes}};
  packer_init(&l->bytes);
  int rc = store_look(s, &q);
  unpacker_init(&l->at, l->bytes.data, l->bytes.len);
  l->now = q.entries.now;
  return rc;
}

static int damaged(const stored_schedule *d) {
  return fail(RESPOOL_CORRUPT, "schedule '%.160s' is damaged", d->name);
}

static int find(respool *s, const char *name, schedules *l,
                stored_schedule *out) {
  int rc = look(s, name, l);
  if (rc || schedule_unpack(&l->at, out)) return rc;
  return l->at.rc ? damaged(out)
                  : fail(RESPOOL_NOT_FOUND, "there is no schedule '%.160s'",
                         name);
}

int respool_schedules(respool *s, const char *name, respool_schedule_fn each,
                      void *arg) {
  schedules l;
  stored_schedule d;
  int rc = store_check(s);
  if (!rc && name) rc = name_check(name, "schedule");
  if (!rc && !each) rc = invalid("each", "given");
  if (rc) return rc;
  rc = name ? find(s, name, &l, &d) : look(s, NULL, &l);
  if (!rc && name) rc = each(arg, &d.d);
  while (!rc && !name && schedule_unpack(&l.at, &d)) rc = each(arg, &d.d);
  if (!rc && l.at.rc) rc = damaged(&d);
  packer_free(&l.bytes);
  return rc;
}

/* ---- times -------------------------------------------------------------- */

typedef struct times {
  cron cron;
  zone *zone;
} times;

static int times_of(const respool_schedule *d, times *t) {
  t->zone = NULL;
  int rc = cron_parse(&t->cron, d->cron);
  return rc ? rc : zone_load("timezone", d->timezone, &t->zone);
}

/* 0: there is none. */
static int64_t next_tick(const times *t, int64_t after) {
  int64_t next = cron_next(&t->cron, t->zone, after);
  return next == INT64_MAX ? 0 : next;
}

static bool is_late(int64_t tick, int64_t now) {
  return now - tick > LATE;
}

/* All that are due, as one: the last of them, and how many were late. */
static void gather_ticks(const times *t, int64_t now, respool_tick *out) {
  int64_t tick = out->next_at;
  for (int i = 0; tick && tick <= now; i++) {
    out->late += is_late(tick, now);
    out->at = tick;
    tick = next_tick(t, tick);
    if (i >= COUNTED && is_late(tick, now)) /* no longer counted */
      tick = next_tick(t, now - LATE - 1);
  }
  out->next_at = tick;
}

static int plan_tick(const stored_schedule *s, int64_t now,
                     respool_tick *out) {
  times t;
  const respool_schedule *d = &s->d;
  *out = (respool_tick)RESPOOL_TICK_INIT;
  out->revision = s->revision;
  out->next_at = d->next_at;
  if (d->paused) out->next_at = 0;
  if (!out->next_at || d->next_at > now) return 0;
  int rc = times_of(d, &t);
  if (rc) return rc;
  out->due = 1;
  if (d->missed == RESPOOL_MISSED_ALL) {
    out->at = d->next_at;
    out->late = is_late(out->at, now);
    out->next_at = next_tick(&t, out->at);
  } else
    gather_ticks(&t, now, out);
  if (d->missed == RESPOOL_MISSED_NONE && is_late(out->at, now)) out->at = 0;
  zone_free(t.zone);
  return 0;
}

int respool_schedule_tick(respool *s, const char *name, respool_tick *out) {
  schedules l;
  stored_schedule d;
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "schedule");
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_TICK_INIT);
  if (rc) return rc;
  rc = find(s, name, &l, &d);
  if (!rc) rc = plan_tick(&d, l.now, out);
  packer_free(&l.bytes);
  return rc;
}

/* ---- saving ------------------------------------------------------------- */

static step save_step(const stored_schedule *s, const packer *p) {
  return (step){.kind = STEP_ENTRY, .name = s->name,
                .entry = {ENTRY_SCHEDULE, s->revision, {p->data, p->len}}};
}

static int save(respool *s, const stored_schedule *d) {
  packer p;
  packer_init(&p);
  schedule_pack(&p, &d->d);
  step save = save_step(d, &p);
  int rc = p.rc ? fail(p.rc, "not enough memory for a schedule")
                : store_commit_step(s, &save, true);
  packer_free(&p);
  return rc;
}

static int schedule_check(const char *name, const respool_schedule *d,
                          times *t) {
  int rc = name_check(name, "schedule");
  if (!rc) rc = SIZE_CHECK(d, RESPOOL_SCHEDULE_INIT);
  if (rc) return rc;
  if (!d->cron || strlen(d->cron) > RESPOOL_NAME_MAX)
    return invalid("cron", "an expression of at most 255 bytes");
  if (d->missed < 0 || d->missed > RESPOOL_MISSED_NONE)
    return invalid("missed", "one, all or none");
  if (d->priority < 0 || d->priority >= RESPOOL_PRIORITIES)
    return invalid("priority", "0 to 255");
  if (d->payload.body.size > RESPOOL_NOTE_MAX)
    return fail(RESPOOL_TOO_LARGE, "the payload of schedule '%.120s' has %zu "
                "bytes; at most %zu are kept", name, d->payload.body.size,
                RESPOOL_NOTE_MAX);
  if (d->payload.codec.size > RESPOOL_NAME_MAX)
    return invalid("codec", "at most 255 bytes");
  rc = times_of(d, t);
  return rc ? rc : name_check(d->queue, "queue");
}

static int check_queue(respool *s, const char *name) {
  respool_queue *q = NULL;
  int rc = respool_queue_find(s, name, &q);
  respool_queue_free(q);
  return rc;
}

/* Changes the stored schedule to `d`; `*same`: it is that already. */
static void change(const respool_schedule *d, const times *t, int64_t now,
                   stored_schedule *stored, bool *same) {
  respool_schedule next = *d;
  bool fresh = !stored->revision;
  *same = !fresh && schedule_same(&stored->d, d);
  next.paused = stored->d.paused;
  next.last_at = stored->d.last_at;
  next.fired = stored->d.fired;
  next.missed_ticks = stored->d.missed_ticks;
  next.made_at = fresh ? now : stored->d.made_at;
  next.next_at = fresh || !schedule_same_times(&stored->d, d)
                     ? next_tick(t, now) : stored->d.next_at;
  stored->d = next;
}

static int save_once(respool *s, const char *name, const respool_schedule *d,
                     const times *t) {
  schedules l;
  stored_schedule stored;
  bool same = false;
  int rc = find(s, name, &l, &stored);
  if (rc == RESPOOL_NOT_FOUND) {
    rc = 0;
    strcpy(stored.name, name);
  }
  if (!rc) change(d, t, l.now, &stored, &same);
  if (!rc && !same) rc = save(s, &stored);
  packer_free(&l.bytes);
  return rc;
}

int respool_schedule_save(respool *s, const char *name,
                          const respool_schedule *given) {
  times t = {.zone = NULL};
  int rc = store_check(s);
  if (rc) return rc;
  respool_schedule d = *given;
  if (!d.timezone) d.timezone = "UTC";
  rc = schedule_check(name, &d, &t);
  if (!rc) rc = check_queue(s, d.queue);
  if (!rc) rc = RESPOOL_LOCKED;
  for (int i = 0; i < SAVE_TRIES && rc == RESPOOL_LOCKED; i++)
    rc = save_once(s, name, &d, &t);
  zone_free(t.zone);
  return rc;
}

/* ---- pausing, removing -------------------------------------------------- */

/* Ticks during the pause are over: they are not made up. */
static int pause_it(stored_schedule *d, int64_t now, bool paused) {
  times t;
  int rc = 0;
  d->d.paused = paused;
  if (paused) return 0;
  rc = times_of(&d->d, &t);
  if (!rc) d->d.next_at = next_tick(&t, now);
  zone_free(t.zone);
  return rc;
}

static int pause_once(respool *s, const char *name, bool paused) {
  schedules l;
  stored_schedule d;
  int rc = find(s, name, &l, &d);
  if (!rc && d.d.paused != paused) {
    rc = pause_it(&d, l.now, paused);
    if (!rc) rc = save(s, &d);
  }
  packer_free(&l.bytes);
  return rc;
}

int respool_schedule_pause(respool *s, const char *name, int paused) {
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "schedule");
  if (!rc) rc = RESPOOL_LOCKED;
  for (int i = 0; i < SAVE_TRIES && rc == RESPOOL_LOCKED; i++)
    rc = pause_once(s, name, paused != 0);
  return rc;
}

static int remove_once(respool *s, const char *name) {
  schedules l;
  stored_schedule d = {.revision = 0};
  int rc = find(s, name, &l, &d);
  step gone = {.kind = STEP_ENTRY, .name = name,
               .entry = {ENTRY_SCHEDULE, d.revision, {NULL, 0}}};
  packer_free(&l.bytes);
  return rc ? rc : store_commit_step(s, &gone, true);
}

int respool_schedule_remove(respool *s, const char *name) {
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "schedule");
  if (!rc) rc = RESPOOL_LOCKED;
  for (int i = 0; i < SAVE_TRIES && rc == RESPOOL_LOCKED; i++)
    rc = remove_once(s, name);
  return rc;
}

/* ---- firing ------------------------------------------------------------- */

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
    step steps[] = {push_step(q, &b, whole.key, &o), save_step(d, &record)};
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
  if (!t->at) return save(s, d);
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
  rc = find(s, name, &l, &d);
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
  rc = find(s, name, &l, &d);
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
  int rc = find(s, d->name, &l, &now);
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
  int rc = plan_tick(d, now, &t);
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
  rc = look(s, NULL, &l);
  while (!rc && schedule_unpack(&l.at, &d))
    if (d.d.payload.body.data) fire_all_of(&f, &d, l.now);
  if (!rc && l.at.rc) rc = damaged(&d);
  packer_free(&l.bytes);
  out->next_in = f.next == INT64_MAX ? RESPOOL_UNLIMITED
                 : f.next > l.now ? f.next - l.now : 0;
  return rc;
}
