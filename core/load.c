/* SPDX-License-Identifier: MIT */
/*
 * Gathering items for a flush; see load.h.
 */
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "error.h"

static void slot_free(slot *s) {
  free((void *)(uintptr_t)s->name.data);
  free((void *)(uintptr_t)s->body.data);
  free((void *)(uintptr_t)s->headers.data);
  free(s);
}

static void part_free(part *p) {
  free((void *)(uintptr_t)p->key.key.data);
  batch_free(&p->batch);
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

static bool same_options(const respool_push_options *a,
                         const respool_push_options *b) {
  return a->lane == b->lane && a->delay == b->delay && a->at == b->at &&
         a->ttl == b->ttl && a->version == b->version;
}

/* A new part at the end of the load. */
static part *add_part(load *l, const respool_payload *it,
                      const respool_push_options *o) {
  part *p = calloc(1, sizeof *p);
  if (!p) return NULL;
  p->options = *o;
  batch_init(&p->batch, o->version);
  if (copy_bytes(it->key, &p->key.key)) {
    free(p);
    return NULL;
  }
  if (l->last_part)
    l->last_part->next = p;
  else
    l->parts = p;
  l->last_part = p;
  return p;
}

/* The part that takes an item; one with a key is by itself. */
static part *part_for(load *l, const respool_payload *it,
                      const respool_push_options *o) {
  part *p = l->last_part;
  if (p && !p->key.key.size && !it->key.size &&
      same_options(&p->options, o))
    return p;
  return add_part(l, it, o);
}

/* Takes the last part off again, if nothing came into it. */
static void drop_empty_part(load *l) {
  part *last = l->last_part, **p = &l->parts, *before = NULL;
  if (last->batch.n_items) return;
  for (; *p != last; p = &(*p)->next) before = *p;
  *p = NULL;
  l->last_part = before;
  part_free(last);
}

/* For want of memory the load stays as it was. */
int load_add(load *l, const respool_payload *it,
             const respool_push_options *o) {
  part *p = part_for(l, it, o);
  item i = {.body = it->body, .headers = it->headers, .key = it->key};
  if (!p) return no_memory();
  if (!batch_try(&p->batch, &i)) {
    drop_empty_part(l);
    return no_memory();
  }
  p->bytes += payload_weight(it);
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
  for (slot *s = l->slots; s; s = s->next) chain_slot(l, s);
  return 0;
}

/* Gives a slot its new content. */
static int fill_slot(load *l, slot *s, const respool_payload *it,
                     const respool_push_options *o) {
  respool_bytes body, headers;
  int rc = copy_bytes(it->body, &body);
  if (!rc && (rc = copy_bytes(it->headers, &headers)) != 0)
    free((void *)(uintptr_t)body.data);
  if (rc) return rc;
  l->bytes -= s->body.size + s->headers.size;
  l->bytes += body.size + headers.size;
  free((void *)(uintptr_t)s->body.data);
  free((void *)(uintptr_t)s->headers.data);
  s->body = body;
  s->headers = headers;
  s->options = *o;
  return 0;
}

static int add_slot(load *l, respool_bytes name, const respool_payload *it,
                    const respool_push_options *o, slot **out) {
  slot *s = calloc(1, sizeof *s);
  int rc = s ? copy_bytes(name, &s->name) : no_memory();
  if (!rc) rc = grow_buckets(l);
  if (!rc) rc = fill_slot(l, s, it, o);
  if (rc) {
    if (s) slot_free(s);
    return rc;
  }
  if (l->last_slot)
    l->last_slot->next = s;
  else
    l->slots = s;
  l->last_slot = s;
  l->n_slots++;
  l->items++;
  chain_slot(l, s);
  *out = s;
  return 0;
}

int load_put(load *l, slot *s, respool_bytes name,
             const respool_payload *it, const respool_push_options *o,
             uint64_t version) {
  int rc = s ? fill_slot(l, s, it, o) : add_slot(l, name, it, o, &s);
  if (!rc) s->version = version;
  return rc;
}

/* ---- the end ------------------------------------------------------------ */

/* Folded items become ordinary ones; they can be folded no more. */
static int pack_slots(load *l) {
  int rc = 0;
  while (l->slots && !rc) {
    slot *s = l->slots;
    respool_payload it = {.body = s->body, .headers = s->headers};
    rc = load_add(l, &it, &s->options);
    if (rc) break;
    l->slots = s->next;
    slot_free(s);
  }
  if (!l->slots) l->last_slot = NULL;
  return rc;
}

int load_end(load *l) {
  int rc = pack_slots(l);
  for (part *p = l->parts; p && !rc; p = p->next) rc = batch_end(&p->batch);
  return rc;
}

/* ---- in smaller parts --------------------------------------------------- */

bool load_halve(load *l) {
  part *p = l->parts;
  part *rest = p->batch.n_items > 1 ? calloc(1, sizeof *rest) : NULL;
  batch first;
  if (!rest) return false;
  rest->options = p->options;
  batch_init(&first, p->batch.version);
  batch_init(&rest->batch, p->batch.version);
  if (batch_split(&p->batch, p->batch.n_items / 2, &first, &rest->batch)) {
    batch_free(&first);
    part_free(rest);
    return false;
  }
  batch_free(&p->batch);
  p->batch = first;
  rest->bytes = p->bytes - p->bytes / 2;
  p->bytes /= 2;
  rest->next = p->next;
  p->next = rest;
  if (l->last_part == p) l->last_part = rest;
  return true;
}

void load_shift(load *l) {
  part *p = l->parts;
  l->parts = p->next;
  if (!l->parts) l->last_part = NULL;
  l->items -= p->batch.n_items;
  l->bytes -= p->bytes;
  part_free(p);
}
