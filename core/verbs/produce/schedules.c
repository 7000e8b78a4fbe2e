/* SPDX-License-Identifier: MIT */
/*
 * Schedules: making, changing, pausing, removing and listing them; see ticks.c
 * for what they push.
 */
#include "verbs/produce/schedules.h"

#include <string.h>

#include "verbs/produce/schedule_times.h"

enum { SAVE_TRIES = 10 /* while others change the schedule */ };

/* ---- reading ------------------------------------------------------------ */

int schedules_look(respool *s, const char *name, schedules *l) {
  query q = {.kind = QUERY_ENTRIES, .name = name,
             .entries = {.kind = ENTRY_SCHEDULE, .out = &l->bytes}};
  packer_init(&l->bytes);
  int rc = store_look(s, &q);
  unpacker_init(&l->at, l->bytes.data, l->bytes.len);
  l->now = q.entries.now;
  return rc;
}

int schedule_damaged(const stored_schedule *d) {
  return fail(RESPOOL_CORRUPT, "schedule '%.160s' is damaged", d->name);
}

int schedule_find(respool *s, const char *name, schedules *l,
                stored_schedule *out) {
  int rc = schedules_look(s, name, l);
  if (rc || schedule_unpack(&l->at, out)) return rc;
  return l->at.rc ? schedule_damaged(out)
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
  rc = name ? schedule_find(s, name, &l, &d) : schedules_look(s, NULL, &l);
  if (!rc && name) rc = each(arg, &d.d);
  while (!rc && !name && schedule_unpack(&l.at, &d)) rc = each(arg, &d.d);
  if (!rc && l.at.rc) rc = schedule_damaged(&d);
  packer_free(&l.bytes);
  return rc;
}

/* ---- saving ------------------------------------------------------------- */

step schedule_step(const stored_schedule *s, const packer *p) {
  return (step){.kind = STEP_ENTRY, .name = s->name,
                .entry = {ENTRY_SCHEDULE, s->revision, {p->data, p->len}}};
}

int schedule_save(respool *s, const stored_schedule *d) {
  packer p;
  packer_init(&p);
  schedule_pack(&p, &d->d);
  step save = schedule_step(d, &p);
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
  int rc = schedule_find(s, name, &l, &stored);
  if (rc == RESPOOL_NOT_FOUND) {
    rc = 0;
    strcpy(stored.name, name);
  }
  if (!rc) change(d, t, l.now, &stored, &same);
  if (!rc && !same) rc = schedule_save(s, &stored);
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
  int rc = schedule_find(s, name, &l, &d);
  if (!rc && d.d.paused != paused) {
    rc = pause_it(&d, l.now, paused);
    if (!rc) rc = schedule_save(s, &d);
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
  int rc = schedule_find(s, name, &l, &d);
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
