/* SPDX-License-Identifier: MIT */
/*
 * Marks: where takes of a queue have begun to find something, in each range of
 * the index that they look through. Each take begins at those of the last, so
 * that it does not walk over the entries of runs that are over: while somebody
 * holds a snapshot none of those can be removed. A run may lie behind a mark,
 * as one whose push was under way when the mark was made. So a take that finds
 * nothing looks behind the marks, and another does once a second; as often one
 * looks at all there is. Where so much is over that these looks take long they
 * are less frequent, but there is one a minute at least.
 */
#ifndef POSTGRES_MARKS_H
#define POSTGRES_MARKS_H

#include "postgres/client/values.h"

typedef struct marks {
  int64_t *at; /* pairs: a range, see range_of in take.sql, and its mark */
  size_t n;    /* numbers */
  /* when a take is to look behind the marks again, and when at all there is, by
     the monotonic clock */
  int64_t look_back, look_all;
} marks;

enum look {
  LOOK_ALL,
  LOOK_BACK, /* as long as any transaction should have been under way */
  LOOK_ON    /* from the marks on */
};

/* How the next take is to look. */
enum look marks_look(const marks *m);

/* The parameter of a take. */
void marks_put(values *v, const marks *m, enum look how);

/* Keeps the marks of an answer; the take was sent at `sent`. */
void marks_keep(marks *m, const PGresult *r, enum look how, int64_t sent);

void marks_free(marks *m);

#endif
