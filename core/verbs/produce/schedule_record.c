/* SPDX-License-Identifier: MIT */
#include "verbs/produce/schedule_record.h"

#include <string.h>

enum { SCHEDULE_FIELDS = 14 };

static void pack_or_null(packer *p, respool_bytes b) {
  if (b.data)
    pack_bytes(p, b.data, b.size);
  else
    pack_null(p);
}

void schedule_pack(packer *p, const respool_schedule *d) {
  pack_array(p, SCHEDULE_FIELDS);
  pack_phrase(p, phrase_of(d->cron));
  pack_phrase(p, phrase_of(d->timezone));
  pack_phrase(p, phrase_of(d->queue));
  pack_or_null(p, d->payload.body);
  pack_phrase(p, d->payload.codec);
  pack_int(p, d->priority);
  pack_uint(p, d->version);
  pack_uint(p, (uint64_t)d->missed);
  pack_bool(p, d->paused);
  pack_int(p, d->next_at);
  pack_int(p, d->last_at);
  pack_uint(p, d->fired);
  pack_uint(p, d->missed_ticks);
  pack_int(p, d->made_at);
}

static void link_texts(stored_schedule *s) {
  s->d.size = sizeof s->d;
  s->d.name = s->name;
  s->d.cron = s->cron;
  s->d.timezone = s->timezone;
  s->d.queue = s->queue;
}

static void unpack_fields(unpacker *u, stored_schedule *s) {
  respool_schedule *d = &s->d;
  unpack_expect(u, unpack_array(u) == SCHEDULE_FIELDS);
  unpack_name(u, s->cron);
  unpack_name(u, s->timezone);
  unpack_name(u, s->queue);
  if (!unpack_null(u)) d->payload.body = unpack_bytes(u);
  d->payload.codec = unpack_phrase(u);
  d->priority = unpack_priority(u);
  d->version = unpack_uint(u);
  d->missed = (int)unpack_uint(u);
  unpack_expect(u, d->missed >= 0 && d->missed <= RESPOOL_MISSED_NONE);
  d->paused = unpack_bool(u);
  d->next_at = unpack_int(u);
  d->last_at = unpack_int(u);
  d->fired = unpack_uint(u);
  d->missed_ticks = unpack_uint(u);
  d->made_at = unpack_int(u);
}

bool schedule_unpack(unpacker *u, stored_schedule *s) {
  unpacker fields;
  memset(s, 0, sizeof *s);
  if (u->at >= u->end || u->rc) return false;
  unpack_array(u);
  unpack_name(u, s->name);
  s->revision = unpack_uint(u);
  respool_bytes b = unpack_bytes(u);
  link_texts(s);
  unpacker_init(&fields, b.data, b.size);
  if (!u->rc) unpack_fields(&fields, s);
  if (fields.rc) u->rc = fields.rc;
  return u->rc == 0;
}

bool schedule_same_times(const respool_schedule *a,
                         const respool_schedule *b) {
  return !strcmp(a->cron, b->cron) && !strcmp(a->timezone, b->timezone);
}

bool schedule_same(const respool_schedule *a, const respool_schedule *b) {
  return schedule_same_times(a, b) && !strcmp(a->queue, b->queue) &&
         a->missed == b->missed && a->priority == b->priority &&
         a->version == b->version &&
         !a->payload.body.data == !b->payload.body.data &&
         phrase_same(a->payload.body, b->payload.body) &&
         phrase_same(a->payload.codec, b->payload.codec);
}
