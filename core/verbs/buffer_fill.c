/* SPDX-License-Identifier: MIT */
/*
 * Gathering items for a flush; see load.h.
 */
#include "verbs/buffer_fill.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/error.h"

#define NEAR 10 /* ms between pushes whose times are taken for the same */

static void bytes_free(respool_bytes b) {
  free((void *)(uintptr_t)b.data);
}

static void payload_free(const respool_payload *it) {
  bytes_free(it->body);
  bytes_free(it->headers);
  bytes_free(it->key);
  bytes_free(it->codec);
  bytes_free(it->origin.queue);
}

static void slot_free(slot *s) {
  bytes_free(s->name);
  payload_free(&s->item);
  free(s);
}

static void part_free(part *p) {
  bytes_free(p->key.key);
  builder_free(&p->builder);
  free(p);
}

void load_free(load *l) {
  for (part *p = l->parts, *next; p; p = next) {
    next = p->next;
    part_free(p);
  }
  for (slot *s = l->slots, *next; s; s = next) {
    next = s->next;
    slot_free(s);
  }
  free(l->buckets);
  memset(l, 0, sizeof *l);
}

static int no_memory(void) {
  return fail(RESPOOL_NOMEM, "not enough memory for a buffered push");
}

int copy_bytes(respool_bytes from, respool_bytes *to) {
  *to = (respool_bytes){NULL, from.size};
  if (!from.size) return 0;
  void *copy = malloc(from.size);
  if (!copy) return no_memory();
  memcpy(copy, from.data, from.size);
  to->data = copy;
  return 0;
}

/* ---- memory ------------------------------------------------------------- */

#define ALLOC 24       /* of malloc's own, and what it rounds up */
#define FIRST_BYTES 256 /* that a batch has to begin with */
#define PART_COST                                                              \
  (sizeof(part) + FIRST_BYTES + 4 * sizeof(built_segment) + 4 * ALLOC)
#define SLOT_COST (sizeof(slot) + 2 * sizeof(slot *) + 5 * ALLOC)

static uint64_t part_memory(const part *p) {
  return PART_COST + p->key.key.size + p->builder.bytes.len +
         p->builder.blobs.len;
}

static uint64_t payload_memory(const respool_payload *it) {
  return payload_weight(it) + it->codec.size + it->origin.queue.size;
}

static uint64_t slot_memory(const slot *s) {
  return SLOT_COST + s->name.size + payload_memory(&s->item);
}

/* ---- parts -------------------------------------------------------------- */

static bool same_options(const respool_push_options *a,
                         const respool_push_options *b) {
  return a->priority == b->priority && a->delay == b->delay && a->at == b->at &&
         a->ttl == b->ttl && a->version == b->version;
}

bool is_timed(const respool_push_options *o) {
  return o->delay > 0 || (o->ttl != RESPOOL_KEEP &&
                          o->ttl != RESPOOL_UNLIMITED);
}

static int64_t less(int64_t time, int64_t gone) {
  return time > gone ? time - gone : 0;
}

respool_push_options part_options(const part *p, int64_t now) {
  respool_push_options o = p->options;
  if (!is_timed(&o) || now <= p->since) return o;
  int64_t gone = now - p->since;
  if (o.delay > 0) o.delay = less(o.delay, gone);
  if (o.ttl != RESPOOL_KEEP && o.ttl != RESPOOL_UNLIMITED)
    o.ttl = less(o.ttl, gone);
  return o;
}

/* A new part at the end of the load. */
static part *add_part(load *l, const respool_payload *it,
                      const respool_push_options *o, int64_t now) {
  part *p = calloc(1, sizeof *p);
  if (!p) return NULL;
  p->options = *o;
  p->begun = now;
  builder_init(&p->builder, o->version);
  if (copy_bytes(it->key, &p->key.key)) {
    free(p);
    return NULL;
  }
  if (l->last_part)
    l->last_part->next = p;
  else
    l->parts = p;
  l->last_part = p;
  l->memory += part_memory(p);
  return p;
}

static bool near(int64_t a, int64_t b) {
  return a - b < NEAR && b - a < NEAR;
}

/* The part that takes an item; one with a key is by itself. */
static part *part_for(load *l, const respool_payload *it,
                      const respool_push_options *o, int64_t now) {
  part *p = l->last_part;
  if (p && !p->key.key.size && !it->key.size &&
      same_options(&p->options, o) &&
      (now == p->begun || near(now, p->begun)))
    return p;
  return add_part(l, it, o, now);
}

/* Takes the last part off again, if nothing came into it. */
static void drop_empty_part(load *l) {
  part *last = l->last_part, **p = &l->parts, *before = NULL;
  if (last->builder.n_items) return;
  for (; *p != last; p = &(*p)->next) before = *p;
  *p = NULL;
  l->last_part = before;
  l->memory -= part_memory(last);
  part_free(last);
}

/* Adds to the parts what is counted already. For want of memory the load
   stays as it was. Part of load_add, as that is what every push pays for. */
__attribute__((always_inline))
static inline int pack(load *l, const respool_payload *it,
                       const respool_push_options *o, int64_t now) {
  part *p = part_for(l, it, o, now);
  item i = {.body = it->body, .headers = it->headers, .key = it->key,
            .codec = it->codec, .origin = it->origin};
  if (!p) return no_memory();
  uint64_t before = p->builder.bytes.len + p->builder.blobs.len;
  if (!builder_try(&p->builder, &i)) {
    drop_empty_part(l);
    return no_memory();
  }
  l->memory += p->builder.bytes.len + p->builder.blobs.len - before;
  p->bytes += payload_weight(it);
  if (now > p->since) p->since = now;
  return 0;
}

int load_add(load *l, const respool_payload *it,
             const respool_push_options *o, int64_t now) {
  slot *s = NULL;
  if (l->slots) return load_put(l, &s, (respool_bytes){NULL, 0}, it, o, now);
  int rc = pack(l, it, o, now);
  if (rc) return rc;
  l->items++;
  l->bytes += payload_weight(it);
  return 0;
}

uint64_t payload_weight(const respool_payload *it) {
  return it->body.size + it->headers.size + it->key.size;
}

/* ---- slots -------------------------------------------------------------- */

static slot **bucket(const load *l, respool_bytes name) {
  uint64_t sum = XXH3_64bits(name.data, name.size);
  return &l->buckets[sum & (l->n_buckets - 1)];
}

slot *load_find(const load *l, respool_bytes name) {
  slot *s = l->n_buckets ? *bucket(l, name) : NULL;
  while (s && (s->name.size != name.size ||
               memcmp(s->name.data, name.data, name.size)))
    s = s->chain;
  return s;
}

static void chain_slot(load *l, slot *s) {
  slot **first = bucket(l, s->name);
  s->chain = *first;
  *first = s;
}

/* As many buckets as slots, or twice as many. */
static int grow_buckets(load *l) {
  if (l->n_slots < l->n_buckets) return 0;
  size_t n = l->n_buckets ? l->n_buckets * 2 : 64;
  slot **buckets = calloc(n, sizeof *buckets);
  if (!buckets) return no_memory();
  free(l->buckets);
  l->buckets = buckets;
  l->n_buckets = n;
  for (slot *s = l->slots; s; s = s->next)
    if (s->name.size) chain_slot(l, s);
  return 0;
}

static int copy_payload(const respool_payload *from, respool_payload *to) {
  *to = (respool_payload){.body = {NULL, 0}};
  int rc = copy_bytes(from->body, &to->body);
  if (!rc) rc = copy_bytes(from->headers, &to->headers);
  if (!rc) rc = copy_bytes(from->key, &to->key);
  if (!rc) rc = copy_bytes(from->codec, &to->codec);
  if (!rc) rc = copy_bytes(from->origin.queue, &to->origin.queue);
  to->origin.id = from->origin.id;
  to->origin.pushed_at = from->origin.pushed_at;
  if (rc) payload_free(to);
  return rc;
}

/* Gives a slot its new content. */
static int fill_slot(load *l, slot *s, const respool_payload *it,
                     const respool_push_options *o, int64_t now) {
  respool_payload copy;
  int rc = copy_payload(it, &copy);
  if (rc) return rc;
  /* differences wrap around when it is less */
  l->bytes += payload_weight(&copy) - payload_weight(&s->item);
  l->memory += payload_memory(&copy) - payload_memory(&s->item);
  payload_free(&s->item);
  s->item = copy;
  s->options = *o;
  s->since = now;
  return 0;
}

/* A slot as it will be found, with nothing in it. */
static int new_slot(load *l, respool_bytes name, slot **out) {
  slot *s = calloc(1, sizeof *s);
  int rc = s ? copy_bytes(name, &s->name) : no_memory();
  if (!rc) rc = grow_buckets(l);
  if (!rc)
    *out = s;
  else if (s)
    slot_free(s);
  return rc;
}

static void join_slot(load *l, slot *s) {
  if (l->last_slot)
    l->last_slot->next = s;
  else
    l->slots = s;
  l->last_slot = s;
  l->items++;
  l->memory += SLOT_COST + s->name.size;
  if (!s->name.size) return;
  l->n_slots++;
  chain_slot(l, s);
}

int load_put(load *l, slot **s, respool_bytes name,
             const respool_payload *it, const respool_push_options *o,
             int64_t now) {
  if (*s) return fill_slot(l, *s, it, o, now);
  slot *added;
  int rc = new_slot(l, name, &added);
  if (rc) return rc;
  rc = fill_slot(l, added, it, o, now);
  if (rc) {
    slot_free(added);
    return rc;
  }
  join_slot(l, added);
  *s = added;
  return 0;
}

/* ---- the end ------------------------------------------------------------ */

/* Folded items become ordinary ones; they can be folded no more. */
static int pack_slots(load *l) {
  int rc = 0;
  while (l->slots && !rc) {
    slot *s = l->slots;
    rc = pack(l, &s->item, &s->options, s->since);
    if (rc) break;
    l->slots = s->next;
    l->memory -= slot_memory(s);
    slot_free(s);
  }
  if (!l->slots) l->last_slot = NULL;
  return rc;
}

int load_end(load *l) {
  int rc = pack_slots(l);
  for (part *p = l->parts; p && !rc; p = p->next) rc = builder_end(&p->builder);
  return rc;
}

/* ---- in smaller parts --------------------------------------------------- */

bool load_halve(load *l) {
  part *p = l->parts;
  part *rest = p->builder.n_items > 1 ? calloc(1, sizeof *rest) : NULL;
  builder first;
  if (!rest) return false;
  rest->options = p->options;
  rest->begun = p->begun;
  rest->since = p->since;
  builder_init(&first, p->builder.version);
  builder_init(&rest->builder, p->builder.version);
  if (builder_split(&p->builder, p->builder.n_items / 2, &first,
                    &rest->builder)) {
    builder_free(&first);
    part_free(rest);
    return false;
  }
  l->memory -= part_memory(p);
  builder_free(&p->builder);
  p->builder = first;
  rest->bytes = p->bytes - p->bytes / 2;
  p->bytes /= 2;
  rest->next = p->next;
  p->next = rest;
  if (l->last_part == p) l->last_part = rest;
  l->memory += part_memory(p) + part_memory(rest);
  return true;
}

void load_shift(load *l) {
  part *p = l->parts;
  l->parts = p->next;
  if (!l->parts) l->last_part = NULL;
  l->items -= p->builder.n_items;
  l->bytes -= p->bytes;
  l->memory -= part_memory(p);
  part_free(p);
}
