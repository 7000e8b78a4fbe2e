/* SPDX-License-Identifier: MIT */
/*
 * Pages of items and of dead letters: growing arrays over one arena. Their
 * public readers are here too.
 */
#include "record/page.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/error.h"

/* ---- items -------------------------------------------------------------- */

void page_init(respool_page *p) {
  memset(p, 0, sizeof *p);
}

void page_clear(respool_page *p) {
  arena_free(&p->memory);
  free(p->items);
  free(p->packed);
  free(p->damaged);
  page_init(p);
}

void page_reset(respool_page *p) {
  arena_reset(&p->memory);
  p->n = p->n_damaged = 0;
}

size_t page_memory(const respool_page *p) {
  return p->memory.bytes + p->cap * (sizeof *p->items + sizeof *p->packed) +
         p->cap_damaged * sizeof *p->damaged;
}

bool page_reserve(respool_page *p, size_t n) {
  size_t cap = p->cap;
  return array_grow(&p->packed, p->n, n, &cap, sizeof *p->packed) &&
         array_grow(&p->items, p->n, n, &p->cap, sizeof *p->items);
}

respool_item *page_add(respool_page *p, respool_bytes packed) {
  if (p->n == p->cap && !page_reserve(p, 1)) return NULL;
  p->packed[p->n] = packed;
  return &p->items[p->n++];
}

respool_item_about *page_about(respool_page *p, const respool_item_about *a) {
  respool_item_about *own = arena_alloc(&p->memory, sizeof *own);
  if (own) *own = *a;
  return own;
}

bool page_fill(respool_page *p, respool_item *out, uint64_t id,
               const respool_item_about *like, const item *i) {
  *out = (respool_item){id, i->body, like};
  if (item_is_bare(i)) return true;
  respool_item_about *own = page_about(p, like);
  out->about = own;
  if (own) ITEM_SHOW(own, i);
  return own;
}

item page_item(const respool_item *i) {
  const respool_item_about *a = i->about;
  return (item){.body = i->body, .headers = a->headers,
                .original = a->original, .key = a->key, .codec = a->codec,
                .original_codec = a->original_codec, .replays = a->replays,
                .origin = a->origin, .partition = a->partition};
}

bool page_note_damaged(respool_page *p, uint64_t id) {
  if (!array_grow(&p->damaged, p->n_damaged, 1, &p->cap_damaged,
                  sizeof *p->damaged))
    return false;
  p->damaged[p->n_damaged++] = id;
  return true;
}

size_t respool_page_length(const respool_page *p) {
  return p ? p->n : 0;
}

const respool_item *respool_page_item(const respool_page *p, size_t i) {
  return p && i < p->n ? &p->items[i] : NULL;
}

const uint64_t *respool_page_damaged(const respool_page *p, size_t *n) {
  *n = p ? p->n_damaged : 0;
  return *n ? p->damaged : NULL;
}

void respool_page_free(respool_page *p) {
  if (!p) return;
  page_clear(p);
  free(p);
}

/* ---- dead letters -------------------------------------------------------- */

void dead_letters_clear(respool_dead_letters *l) {
  arena_free(&l->memory);
  free(l->dead_letters);
  memset(l, 0, sizeof *l);
}

bool dead_letters_reserve(respool_dead_letters *l, size_t n) {
  return array_grow(&l->dead_letters, l->n, n, &l->cap,
                    sizeof *l->dead_letters);
}

respool_dead_letter *dead_letters_add(respool_dead_letters *l) {
  return dead_letters_reserve(l, 1) ? &l->dead_letters[l->n++] : NULL;
}

int dead_letter_gone(const char *dlq, uint64_t number) {
  return fail(RESPOOL_NOT_FOUND,
              "there is no dead letter %llu in DLQ '%.120s'",
              (unsigned long long)number, dlq);
}

size_t respool_dead_letters_length(const respool_dead_letters *l) {
  return l ? l->n : 0;
}

const respool_dead_letter *respool_dead_letters_at(
    const respool_dead_letters *l, size_t i) {
  return l && i < l->n ? &l->dead_letters[i] : NULL;
}

void respool_dead_letters_free(respool_dead_letters *l) {
  if (!l) return;
  dead_letters_clear(l);
  free(l);
}
