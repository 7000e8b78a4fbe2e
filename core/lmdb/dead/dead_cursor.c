/* SPDX-License-Identifier: MIT */
/*
 * Cursors over dead letters; see dead_cursor.h. A run lies under its last
 * number, so that the first record from a number on is the one that has it.
 */
#include "lmdb/dead/dead_cursor.h"

#include <stddef.h>
#include <string.h>

uint64_t dead_first_of(uint64_t last, uint64_t count) {
  return count && count <= last ? last - count + 1 : last;
}

void dead_cursor_open(dead_cursor *w, txn *t, uint32_t of, uint64_t from,
                      bool down) {
  memset(w, 0, offsetof(dead_cursor, at));
  w->dlq = of;
  w->from = from;
  w->down = down;
  cur_open(&w->c, t, DB_DEAD_LETTERS);
}

void dead_cursor_close(dead_cursor *w) {
  cur_close(&w->c);
}

/* ---- records ------------------------------------------------------------ */

/* Is the record under the cursor of this DLQ? */
static bool is_own(dead_cursor *w) {
  uint32_t of;
  return dead_key_read(w->c.key, &of, &w->last, &w->count) && of == w->dlq;
}

/* The record that has the number, or the next behind it, or downwards the next
   before it. */
static bool seek(dead_cursor *w) {
  key k = dead_key(w->dlq, w->from, 0);
  bool found = cur_seek(&w->c, key_bytes(&k)) && is_own(w);
  if (found || !w->down || w->c.t->rc) return found;
  k = dead_key(w->dlq, UINT64_MAX, UINT16_MAX);
  return cur_floor(&w->c, key_bytes(&k)) && is_own(w);
}

/* Numbers that do not rise (or fall) come from a damaged tree, in which a walk
   may never end: that is an error. */
static bool move_on(dead_cursor *w) {
  uint64_t before = w->last;
  if (!(w->down ? cur_prev(&w->c) : cur_next(&w->c)) || !is_own(w))
    return false;
  if (w->down ? w->last < before : w->last > before) return true;
  txn_fail(w->c.t, RESPOOL_CORRUPT);
  return false;
}

/* Notes where the dead letters of the run begin. */
static void find_letters(dead_cursor *w) {
  const uint8_t *start = w->c.value.data;
  dead_reader r = w->run;
  uint32_t at = (uint32_t)(r.u.at - start);
  for (w->n_before = 0; dead_run_next(&r); at = (uint32_t)(r.u.at - start))
    w->at[w->n_before++] = at;
}

static bool next_record(dead_cursor *w) {
  bool found = w->begun ? move_on(w) : seek(w);
  w->begun = true;
  if (!found) return false;
  w->damaged = !dead_run_open(w->c.key, w->c.value, &w->run);
  if (w->damaged)
    w->run.left = 1;
  else if (w->down)
    find_letters(w);
  return true;
}

/* ---- dead letters ------------------------------------------------------- */

/* The one before, of the run. */
static bool previous_here(dead_cursor *w) {
  if (!w->n_before) return false;
  w->run.u.at = (const uint8_t *)w->c.value.data + w->at[--w->n_before];
  w->run.left = 1;
  return dead_run_next(&w->run);
}

static bool next_here(dead_cursor *w) {
  if (w->damaged) {
    w->number = w->last;
    return w->run.left && !--w->run.left;
  }
  if (!(w->down ? previous_here(w) : dead_run_next(&w->run))) return false;
  w->number = w->run.l.r.number;
  return true;
}

/* A run may begin before the number asked for, or downwards end behind it. */
static bool is_wanted(const dead_cursor *w) {
  return w->down ? w->number <= w->from : w->number >= w->from;
}

bool dead_cursor_next(dead_cursor *w) {
  do
    while (w->begun && next_here(w))
      if (is_wanted(w)) return true;
  while (next_record(w));
  return false;
}
