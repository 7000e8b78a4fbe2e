/* SPDX-License-Identifier: MIT */
/*
 * Marks of takes; see marks.h.
 */
#include "postgres/record/marks.h"

#include <stdlib.h>

#include "base/clock.h"
#include "postgres/record/taken.h"

#define BACK 10000 /* ms that a look goes behind the marks: `patience` */
#define EACH 1000  /* ms between two such looks, or two at all there is, */
#define SHARE 50   /* and so many times as long as the first of them took, */
#define MOST 60000 /* but no more than this: it may have waited for a server */

enum look marks_look(const marks *m) {
  int64_t now = clock_mono();
  if (!m->n || now >= m->look_all) return LOOK_ALL;
  return now >= m->look_back ? LOOK_BACK : LOOK_ON;
}

void marks_put(values *v, const marks *m, enum look how) {
  if (how == LOOK_ALL) {
    put_null(v);
    return;
  }
  array_begin(v, TYPE_INT8, m->n);
  for (size_t i = 0; i < m->n; i += 2) {
    add_int8(v, m->at[i]);
    add_int8(v, m->at[i + 1] - (how == LOOK_BACK ? BACK : 0));
  }
  array_end(v);
}

/* Without memory for it a range has no mark, and is looked through as a
   whole. */
static void keep(marks *m, int64_t range, int64_t mark) {
  size_t i = 0;
  while (i < m->n && m->at[i] != range) i += 2;
  if (i == m->n) {
    int64_t *more = realloc(m->at, (i + 2) * sizeof *more);
    if (!more) return;
    m->at = more;
    m->n = i + 2;
  }
  m->at[i] = range;
  m->at[i + 1] = mark;
}

void marks_keep(marks *m, const PGresult *r, enum look how, int64_t sent) {
  int64_t now = clock_mono(), pause = (now - sent) * SHARE;
  if (pause < EACH) pause = EACH;
  if (pause > MOST) pause = MOST;
  int64_t next = now + pause;
  size_t n = taken_marks(r);
  if (how == LOOK_ALL) m->n = 0; /* what it has not come to is seen later */
  for (size_t i = 0; i + 1 < n; i += 2)
    keep(m, taken_mark(r, i), taken_mark(r, i + 1));
  if (how == LOOK_ALL) m->look_all = next;
  if (how == LOOK_BACK) m->look_back = next;
}

void marks_free(marks *m) {
  free(m->at);
  m->at = NULL;
  m->n = 0;
}
