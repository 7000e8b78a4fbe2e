/* SPDX-License-Identifier: MIT */
/*
 * Live items and the rows of their queues, in the control block; all with the
 * state lock. A queue's ready items form a list from the oldest on; items are
 * found by queue and id in a hash table.
 */
#ifndef JOURNAL_SLOTS_H
#define JOURNAL_SLOTS_H

#include "lmdb/journal/files/log.h"

/* Forgets all items; rows keep their numbers, ids and views. */
void slots_clear(control *c);

row *row_find(control *c, uint64_t number);          /* NULL: there is none */
row *row_make(control *c, uint64_t number);          /* NULL: no room */
void row_free(row *r);

/* Has the clock gone back by more than queues put up with? Notes `now`. */
bool row_went_back(row *r, int64_t now);
void row_raise_clock(row *r, int64_t now);

/* Takes `n` ids, `least` or above; the first. */
uint64_t row_ids(row *r, uint64_t least, uint64_t n);

/* The items of a PUSH record. False: there are too many. */
bool slots_add(control *c, row *r, const record *rec);
bool slots_fit(const control *c, size_t n);

slot *slot_find(control *c, const row *r, uint64_t id);

/* The first ready item by priority, then age; out of the list once leased. */
slot *slot_first(control *c, const row *r, uint32_t *before);
void slot_lease(control *c, row *r, slot *s, uint32_t before, uint64_t token,
                int64_t until);

/* As it was leased before a repair. */
void slot_lease_again(control *c, slot *s, uint64_t token, int64_t until);

/* Done, or gone to LMDB. */
void slot_done(control *c, slot *s);
void slots_drop(control *c, uint64_t before);

/* What is known of it, without its payload. */
void slot_tell(uint64_t queue, const slot *s, journal_item *i);

/* A piece of the file that was read at once, as items that follow one another
   are often wanted together. Zeroed before the first item; `wanted` is how many
   are, from the next one on. The bytes lie in the caller's arena. */
typedef struct slot_window {
  size_t wanted;
  off_t at;
  size_t len;
  uint8_t *bytes;
} slot_window;

/* Its payload. */
int slot_read(const journal *j, const slot *s, slot_window *w, arena *to,
              journal_item *i);

#endif
