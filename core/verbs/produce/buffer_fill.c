/* SPDX-License-Identifier: MIT */
/*
 * Gathering items for a flush; see buffer_fill.h.
 */
#include "verbs/produce/buffer_fill.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"

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
  bytes_free(it->partition);
}

static void slot_free(merge_slot *s) {
  bytes_free(s->name);
  payload_free(&s->item);
  free(s);
}

static void group_free(push_group *p) {
  bytes_free(p->key);
  builder_free(&p->builder);
  free(p);
}

void fill_free(buffer_fill *l) {
  for (push_group *p = l->groups, *next; p; p = next) {
    next = p->next;
    group_free(p);
  }
  for (merge_slot *s = l->slots, *next; s; s = next) {
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
#define GROUP_COST \
  (sizeof(push_group) + FIRST_BYTES + 4 * sizeof(built_segment) + 4 * ALLOC)
#define SLOT_COST (sizeof(merge_slot) + 2 * sizeof(merge_slot *) + 5 * ALLOC)

static uint64_t group_memory(const push_group *p) {
  return GROUP_COST + p->key.size + p->builder.bytes.len +
         p->builder.blobs.len;
}

static uint64_t payload_memory(const respool_payload *it) {
  return payload_weight(it) + it->codec.size + it->origin.queue.size +
         it->partition.size;
}

static uint64_t slot_memory(const merge_slot *s) {
  return SLOT_COST + s->name.size + payload_memory(&s->item);
}

/* ---- groups -------------------------------------------------------------- */

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

respool_push_options group_options(const push_group *p, int64_t now) {
  respool_push_options o = p->options;
  if (!is_timed(&o) || now <= p->since) return o;
  int64_t gone = now - p->since;
  if (o.delay > 0) o.delay = less(o.delay, gone);
  if (o.ttl != RESPOOL_KEEP && o.ttl != RESPOOL_UNLIMITED)
    o.ttl = less(o.ttl, gone);
  return o;
}

/* A new group at the end of the fill. */
static push_group *add_group(buffer_fill *l, const respool_payload *it,
                      const respool_push_options *o, int64_t now) {
  push_group *p = calloc(1, sizeof *p);
  if (!p) return NULL;
  p->options = *o;
  p->begun = now;
  builder_init(&p->builder, o->version);
  if (copy_bytes(it->key, &p->key)) {
    free(p);
    return NULL;
  }
  if (l->last_group)
    l->last_group->next = p;
  else
    l->groups = p;
  l->last_group = p;
  l->memory += group_memory(p);
  return p;
}

static bool near(int64_t a, int64_t b) {
  return a - b < NEAR && b - a < NEAR;
}

/* The group that takes an item; one with a key is by itself. */
static push_group *group_for(buffer_fill *l, const respool_payload *it,
                      const respool_push_options *o, int64_t now) {
  push_group *p = l->last_group;
  if (p && !p->key.size && !it->key.size &&
      same_options(&p->options, o) &&
      (now == p->begun || near(now, p->begun)))
    return p;
  return add_group(l, it, o, now);
}

/* Takes the last group off again, if nothing came into it. */
static void drop_empty_group(buffer_fill *l) {
  push_group *last = l->last_group, **p = &l->groups, *before = NULL;
  if (last->builder.n_items) return;
  for (; *p != last; p = &(*p)->next) before = *p;
  *p = NULL;
  l->last_group = before;
  l->memory -= group_memory(last);
  group_free(last);
}

/* Adds to the groups what is counted already. For want of memory the fill
   stays as it was. Part of fill_add, as that is what every push pays for. */
__attribute__((always_inline))
static inline int pack(buffer_fill *l, const respool_payload *it,
                       const respool_push_options *o, int64_t now) {
  push_group *p = group_for(l, it, o, now);
  item i = {.body = it->body, .headers = it->headers, .key = it->key,
            .codec = it->codec, .origin = it->origin,
            .partition = it->partition};
  if (!p) return no_memory();
  uint64_t before = p->builder.bytes.len + p->builder.blobs.len;
  if (!builder_try(&p->builder, &i)) {
    drop_empty_group(l);
    return no_memory();
  }
  l->memory += p->builder.bytes.len + p->builder.blobs.len - before;
  p->bytes += payload_weight(it);
  if (now > p->since) p->since = now;
  return 0;
}

int fill_add(buffer_fill *l, const respool_payload *it,
             const respool_push_options *o, int64_t now) {
  merge_slot *s = NULL;
  if (l->slots) return fill_put(l, &s, (respool_bytes){NULL, 0}, it, o, now);
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

static merge_slot **bucket(const buffer_fill *l, respool_bytes name) {
  uint64_t sum = XXH3_64bits(name.data, name.size);
  return &l->buckets[sum & (l->n_buckets - 1)];
}

merge_slot *fill_find(const buffer_fill *l, respool_bytes name) {
  merge_slot *s = l->n_buckets ? *bucket(l, name) : NULL;
  while (s && (s->name.size != name.size ||
               memcmp(s->name.data, name.data, name.size)))
    s = s->chain;
  return s;
}

static void chain_slot(buffer_fill *l, merge_slot *s) {
  merge_slot **first = bucket(l, s->name);
  s->chain = *first;
  *first = s;
}

/* As many buckets as slots, or twice as many. */
static int grow_buckets(buffer_fill *l) {
  if (l->n_slots < l->n_buckets) return 0;
  size_t n = l->n_buckets ? l->n_buckets * 2 : 64;
  merge_slot **buckets = calloc(n, sizeof *buckets);
  if (!buckets) return no_memory();
  free(l->buckets);
  l->buckets = buckets;
  l->n_buckets = n;
  for (merge_slot *s = l->slots; s; s = s->next)
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
  if (!rc) rc = copy_bytes(from->partition, &to->partition);
  to->origin.id = from->origin.id;
  to->origin.pushed_at = from->origin.pushed_at;
  if (rc) payload_free(to);
  return rc;
}

/* Gives a slot its new content. */
static int fill_slot(buffer_fill *l, merge_slot *s, const respool_payload *it,
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
static int new_slot(buffer_fill *l, respool_bytes name, merge_slot **out) {
  merge_slot *s = calloc(1, sizeof *s);
  int rc = s ? copy_bytes(name, &s->name) : no_memory();
  if (!rc) rc = grow_buckets(l);
  if (!rc)
    *out = s;
  else if (s)
    slot_free(s);
  return rc;
}

static void join_slot(buffer_fill *l, merge_slot *s) {
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

int fill_put(buffer_fill *l, merge_slot **s, respool_bytes name,
             const respool_payload *it, const respool_push_options *o,
             int64_t now) {
  if (*s) return fill_slot(l, *s, it, o, now);
  merge_slot *added;
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
static int pack_slots(buffer_fill *l) {
  int rc = 0;
  while (l->slots && !rc) {
    merge_slot *s = l->slots;
    rc = pack(l, &s->item, &s->options, s->since);
    if (rc) break;
    l->slots = s->next;
    l->memory -= slot_memory(s);
    slot_free(s);
  }
  if (!l->slots) l->last_slot = NULL;
  return rc;
}

int fill_end(buffer_fill *l) {
  int rc = pack_slots(l);
  for (push_group *p = l->groups; p && !rc; p = p->next)
    rc = builder_finish(&p->builder);
  return rc;
}

/* ---- in smaller groups --------------------------------------------------- */

bool fill_halve(buffer_fill *l) {
  push_group *p = l->groups;
  push_group *rest = p->builder.n_items > 1 ? calloc(1, sizeof *rest) : NULL;
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
    group_free(rest);
    return false;
  }
  l->memory -= group_memory(p);
  builder_free(&p->builder);
  p->builder = first;
  rest->bytes = p->bytes - p->bytes / 2;
  p->bytes /= 2;
  rest->next = p->next;
  p->next = rest;
  if (l->last_group == p) l->last_group = rest;
  l->memory += group_memory(p) + group_memory(rest);
  return true;
}

void fill_shift(buffer_fill *l) {
  push_group *p = l->groups;
  l->groups = p->next;
  if (!l->groups) l->last_group = NULL;
  l->items -= p->builder.n_items;
  l->bytes -= p->bytes;
  l->memory -= group_memory(p);
  group_free(p);
}
