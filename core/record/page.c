/* SPDX-License-Identifier: MIT */
/*
 * Pages of items and of letters: growing arrays over one arena. Their
 * public readers are here too.
 */
#include "record/page.h"

#include <stdlib.h>
#include <string.h>

/* Grows an array to hold `more` than `n`; false when out of memory. */
static bool room(void **v, size_t n, size_t more, size_t *cap, size_t size) {
  if (more <= *cap - n) return true;
  size_t wanted = *cap ? *cap * 2 : 8;
  if (wanted < n + more) wanted = n + more;
  void *bigger = realloc(*v, wanted * size);
  if (!bigger) return false;
  *v = bigger;
  *cap = wanted;
  return true;
}

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

bool page_reserve(respool_page *p, size_t n) {
  size_t cap = p->cap;
  return room((void **)&p->packed, p->n, n, &cap, sizeof *p->packed) &&
         room((void **)&p->items, p->n, n, &p->cap, sizeof *p->items);
}

respool_item *page_add(respool_page *p, respool_bytes packed) {
  if (!page_reserve(p, 1)) return NULL;
  p->packed[p->n] = packed;
  return &p->items[p->n++];
}

void page_fill(respool_item *out, uint64_t id, int lane, const item *i,
               const segment *g) {
  *out = (respool_item){
    .id = id, .lane = lane, .body = i->body, .headers = i->headers,
    .original = i->original, .key = i->key, .replays = i->replays,
    .pushed_at = g->pushed_at, .expires_at = g->expires_at,
    .version = g->version};
}

bool page_note_damaged(respool_page *p, uint64_t id) {
  if (!room((void **)&p->damaged, p->n_damaged, 1, &p->cap_damaged,
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

/* ---- letters ------------------------------------------------------------ */

void letters_clear(respool_letters *l) {
  arena_free(&l->memory);
  free(l->letters);
  memset(l, 0, sizeof *l);
}

respool_letter *letters_add(respool_letters *l) {
  if (!room((void **)&l->letters, l->n, 1, &l->cap, sizeof *l->letters))
    return NULL;
  respool_letter *r = &l->letters[l->n++];
  memset(r, 0, sizeof *r);
  return r;
}

size_t respool_letters_length(const respool_letters *l) {
  return l ? l->n : 0;
}

const respool_letter *respool_letters_at(const respool_letters *l, size_t i) {
  return l && i < l->n ? &l->letters[i] : NULL;
}

void respool_letters_free(respool_letters *l) {
  if (!l) return;
  letters_clear(l);
  free(l);
}

/* ---- lots --------------------------------------------------------------- */

hold *lot_add_hold(respool_lot *lot) {
  if (!room((void **)&lot->holds, lot->n_holds, 1, &lot->cap_holds,
            sizeof *lot->holds))
    return NULL;
  hold *h = &lot->holds[lot->n_holds++];
  memset(h, 0, sizeof *h);
  return h;
}

int lot_add_death(respool_lot *lot, const char *box, uint64_t number) {
  if (!room((void **)&lot->died, lot->n_died, 1, &lot->cap_died,
            sizeof *lot->died))
    return RESPOOL_NOMEM;
  obituary *d = &lot->died[lot->n_died++];
  d->number = number;
  strcpy(d->box, box);
  return 0;
}

void lot_clear(respool_lot *lot) {
  page_clear(&lot->page);
  free(lot->marks);
  lot->marks = NULL;
  lot->n_holds = 0;
  lot->token = 0;
  lot->lost = 0;
}
