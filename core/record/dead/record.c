/* SPDX-License-Identifier: MIT */
/*
 * Making, packing and unpacking of dead letters; see record.h.
 */
#include "record/dead/record.h"

#include <string.h>

#include "record/fields.h"

dead dead_of(const death *d, const char *queue, const respool_item *i,
             respool_bytes packed) {
  dead l = {.failures = d->failures, .item = packed, .memo = d->memo};
  l.r.reason = phrase_of(d->reason);
  l.r.group = phrase_cut(d->group, FAILURE_TEXT);
  l.r.error = phrase_cut(d->error, FAILURE_TEXT);
  l.r.queue = phrase_of(queue);
  l.r.id = i->id;
  l.r.priority = i->about->priority;
  l.r.items = d->items;
  l.r.version = i->about->version;
  l.r.pushed_at = i->about->pushed_at;
  l.r.died_at = d->at;
  l.r.first_failed_at = failures_first(d->failures);
  l.r.attempts = d->attempts;
  l.r.deliveries = d->deliveries;
  l.r.crashes = d->crashes;
  return l;
}

int death_of_push(arena *a, const dead_push *f, int64_t at, death *d) {
  respool_failure one = {at, f->error, f->group, f->trace};
  packer p;
  *d = (death){.reason = f->reason, .dlq = f->dlq, .group = f->group,
               .error = f->error, .attempts = f->attempts, .items = 1,
               .at = at};
  if (!f->error.size) return 0;
  packer_init(&p);
  failures_add(&p, (respool_bytes){NULL, 0}, &one);
  int rc = p.rc;
  if (!rc) rc = arena_copy(a, (respool_bytes){p.data, p.len}, &d->failures);
  packer_free(&p);
  return rc;
}

int death_number(const char *reason) {
  int i = 0;
  if (!strcmp(reason, "expired")) return -1;
  while (i < RESPOOL_DEATH_OTHER && strcmp(reason, respool_death_name(i)))
    i++;
  return i;
}

/* ---- stored ------------------------------------------------------------- */

void dead_pack(packer *p, respool_bytes key, const dead *l) {
  const respool_dead_letter *r = &l->r;
  size_t start = p->len;
  record_begin(p, 19);
  pack_uint(p, DEAD_FORMAT);
  pack_bytes(p, key.data, key.size);
  pack_phrase(p, r->reason);
  pack_phrase(p, r->group);
  pack_phrase(p, r->queue);
  pack_uint(p, r->id);
  pack_int(p, r->priority);
  pack_uint(p, r->items);
  pack_int(p, r->pushed_at);
  pack_int(p, r->died_at);
  pack_int(p, r->first_failed_at);
  pack_uint(p, r->attempts);
  pack_uint(p, r->deliveries);
  pack_uint(p, r->crashes);
  pack_uint(p, r->version);
  pack_phrase(p, r->error);
  if (l->failures.size)
    pack_raw(p, l->failures.data, l->failures.size);
  else
    pack_null(p);
  pack_raw(p, l->item.data, l->item.size);
  pack_memo(p, l->memo);
  sum_put(p, start, key_seed(key));
}

void dead_fields_unpack(unpacker *u, dead *l) {
  respool_dead_letter *r = &l->r;
  memset(l, 0, sizeof *l);
  r->reason = unpack_phrase(u);
  r->group = unpack_phrase(u);
  r->queue = unpack_phrase(u);
  r->id = unpack_uint(u);
  r->priority = unpack_priority(u);
  r->items = unpack_uint(u);
  r->pushed_at = unpack_int(u);
  r->died_at = unpack_int(u);
  r->first_failed_at = unpack_int(u);
  r->attempts = unpack_uint(u);
  r->deliveries = unpack_uint(u);
  r->crashes = unpack_uint(u);
  r->version = unpack_uint(u);
  r->error = unpack_phrase(u);
  l->failures = unpack_failures(u);
  l->item = unpack_skip(u);
  l->memo = unpack_memo(u);
}

bool dead_unpack(respool_bytes key, respool_bytes b, dead *l) {
  unpacker u;
  record_open(&u, b, 19, key_seed(key));
  unpack_expect(&u, unpack_uint(&u) == DEAD_FORMAT);
  unpack_bytes(&u);
  dead_fields_unpack(&u, l);
  return u.rc == 0;
}

/* ---- shown -------------------------------------------------------------- */

static int copy_strings(arena *a, respool_dead_letter *r) {
  respool_bytes *all[] = {&r->reason, &r->group, &r->error, &r->queue};
  int rc = 0;
  for (size_t i = 0; i < sizeof all / sizeof *all && !rc; i++)
    rc = arena_copy(a, *all[i], all[i]);
  return rc;
}

static int copy_failures(arena *a, respool_dead_letter *r,
                         respool_bytes packed) {
  failure_list h;
  respool_bytes copy;
  int rc = arena_copy(a, packed, &copy);
  if (rc || !failures_read(copy, &h) || !h.n) return rc;
  respool_failure *f = arena_alloc(a, h.n * sizeof *f);
  if (!f) return RESPOOL_NOMEM;
  memcpy(f, h.kept, h.n * sizeof *f);
  r->history = f;
  r->history_length = h.n;
  r->failures = h.count;
  return 0;
}

int dead_show_damaged(arena *a, respool_bytes stored, respool_dead_letter *r) {
  memset(r, 0, sizeof *r);
  r->reason = phrase_of("damaged");
  r->error = phrase_of("the dead letter's checksum does not hold");
  r->items = 1;
  r->damaged = 1;
  return arena_copy(a, stored, &r->body);
}

int dead_show_fields(arena *a, const dead *l, respool_dead_letter *r) {
  *r = l->r;
  int rc = copy_strings(a, r);
  if (!rc) rc = copy_failures(a, r, l->failures);
  return rc ? rc : arena_copy(a, l->memo, &r->memo);
}

int dead_show(arena *a, respool_bytes key, respool_bytes stored,
              respool_dead_letter *r, dead *l) {
  return dead_unpack(key, stored, l) ? dead_show_fields(a, l, r)
                                     : dead_show_damaged(a, stored, r);
}

/* An item that cannot be read is shown as its bytes. */
static respool_bytes unreadable(respool_bytes packed) {
  respool_bytes bytes;
  return item_unpack_damaged(packed, &bytes) ? bytes : packed;
}

void dead_show_item(respool_dead_letter *r, const item *i,
                    respool_bytes packed) {
  item bytes = {.body = unreadable(packed)};
  r->damaged = !i;
  if (!i) i = &bytes;
  r->body = i->body;
  ITEM_SHOW(r, i);
}

int dead_keep_marks(arena *a, respool_dead_letter *r) {
  respool_bytes *kept[] = {&r->key, &r->codec, &r->original_codec,
                           &r->origin.queue, &r->partition};
  int rc = 0;
  r->body = r->headers = r->original = (respool_bytes){NULL, 0};
  for (size_t i = 0; i < sizeof kept / sizeof *kept && !rc; i++)
    rc = arena_copy(a, *kept[i], kept[i]);
  return rc;
}

void dead_renew(item *i, const dead *l, const respool_move *m) {
  i->replays++;
  if (!i->origin.queue.size)
    i->origin = (respool_origin){l->r.queue, l->r.id, l->r.pushed_at};
  if (!m->payload) return;
  if (!i->original.size) {
    i->original = i->body;
    i->original_codec = i->codec;
  }
  i->body = m->payload->body;
  i->codec = m->payload->codec;
  if (m->payload->headers.size) i->headers = m->payload->headers;
}
