/* SPDX-License-Identifier: MIT */
/*
 * Reading of v1_taken.
 */
#include "postgres/record/taken.h"

#include <string.h>

enum column { NUMBERS, REST, BYTES };
enum rest { BITS, HISTORY, MEMO };

/* Numbers of a row, by its kind: see packed in common.sql, and v1_take for a
   fresh run that is the head, too. */
enum { KIND, TOKEN, NOW, POLICY };
enum head { NEXT_DUE = POLICY + 1, DROPPED, DROPPED_ITEMS, N_MARKS, MARKS };
enum run { PLACE = KIND + 1, RUN_TOKEN, DUE, FIRST, N, LIVE, SKIP, STATE,
           PRIORITY, ATTEMPTS, DELIVERIES, CRASHES, DELAY, PUSHED_AT,
           EXPIRES_AT, VERSION, LAPSES };
enum fresh { FRESH_DUE = POLICY + 1, FRESH_FIRST, FRESH_N, FRESH_SKIP,
             FRESH_PRIORITY, FRESH_PUSHED_AT, FRESH_VERSION, FRESH_MARKS };

static int64_t number(const PGresult *r, int row, int i) {
  return value_element(r, row, NUMBERS, (size_t)i);
}

static size_t count(const PGresult *r, int row) {
  return value_count(r, row, NUMBERS);
}

/* 0 where the row makes no sense: it is no head then. */
static int kind_of(const PGresult *r, int row) {
  return count(r, row) >= MARKS ? (int)number(r, row, KIND) : TAKEN_HEAD;
}

bool taken_head_read(const PGresult *r, taken_head *h) {
  if (pq.ntuples(r) < 1 || count(r, 0) < MARKS) return false;
  int kind = kind_of(r, 0);
  if (kind != TAKEN_HEAD && kind != TAKEN_FRESH) return false;
  *h = (taken_head){
    .token = (uint64_t)number(r, 0, TOKEN), .now = number(r, 0, NOW),
    .next_due = kind == TAKEN_FRESH ? 0 : number(r, 0, NEXT_DUE),
    .policy = (int32_t)number(r, 0, POLICY)};
  return true;
}

/* A varbit: its length in bits, then the bits. */
static bool read_rest(const PGresult *r, int row, taken *t) {
  respool_bytes b = value_part(r, row, REST, BITS);
  t->history = value_part(r, row, REST, HISTORY);
  t->memo = value_part(r, row, REST, MEMO);
  t->bits = b.data ? (const uint8_t *)b.data + 4 : NULL;
  return !b.data || b.size >= 4 + (t->n + 7) / 8;
}

static bool read_fresh(const PGresult *r, int row, taken *t) {
  if (count(r, row) < FRESH_MARKS) return false;
  *t = (taken){
    .kind = TAKEN_RUN, .place = 1, .token = (uint64_t)number(r, row, TOKEN),
    .first = (uint64_t)number(r, row, FRESH_FIRST),
    .n = (uint32_t)number(r, row, FRESH_N),
    .live = (uint32_t)number(r, row, FRESH_N),
    .skip = (uint32_t)number(r, row, FRESH_SKIP),
    .due = number(r, row, FRESH_DUE), .state = 1,
    .priority = (int)number(r, row, FRESH_PRIORITY), .deliveries = 1,
    .version = (uint64_t)number(r, row, FRESH_VERSION),
    .pushed_at = number(r, row, FRESH_PUSHED_AT),
    .bytes = value_bytes(r, row, BYTES), .row = row};
  return true;
}

bool taken_read(const PGresult *r, int row, taken *t) {
  int kind = kind_of(r, row);
  if (kind == TAKEN_FRESH) return read_fresh(r, row, t);
  if (kind == TAKEN_HEAD || count(r, row) < LAPSES) return false;
  *t = (taken){
    .kind = kind, .place = (int)number(r, row, PLACE),
    .token = (uint64_t)number(r, row, RUN_TOKEN),
    .first = (uint64_t)number(r, row, FIRST),
    .n = (uint32_t)number(r, row, N), .live = (uint32_t)number(r, row, LIVE),
    .skip = (uint32_t)number(r, row, SKIP), .due = number(r, row, DUE),
    .state = (int)number(r, row, STATE),
    .priority = (int)number(r, row, PRIORITY),
    .attempts = (uint64_t)number(r, row, ATTEMPTS),
    .deliveries = (uint64_t)number(r, row, DELIVERIES),
    .crashes = (uint64_t)number(r, row, CRASHES),
    .version = (uint64_t)number(r, row, VERSION),
    .delay = number(r, row, DELAY), .pushed_at = number(r, row, PUSHED_AT),
    .expires_at = number(r, row, EXPIRES_AT),
    .n_lapses = count(r, row) - LAPSES,
    .bytes = value_bytes(r, row, BYTES), .row = row};
  return read_rest(r, row, t);
}

int64_t taken_lapse(const PGresult *r, const taken *t, size_t i) {
  return number(r, t->row, LAPSES + (int)i);
}

bool taken_live(const taken *t, uint32_t i) {
  return i < t->n && (!t->bits || run_bit(t->bits, i));
}

/* Marks, and behind them credits. */
size_t taken_marks(const PGresult *r) {
  if (kind_of(r, 0) == TAKEN_FRESH) return count(r, 0) - FRESH_MARKS;
  return (size_t)number(r, 0, N_MARKS);
}

int64_t taken_mark(const PGresult *r, size_t i) {
  int from = kind_of(r, 0) == TAKEN_FRESH ? FRESH_MARKS : MARKS;
  return number(r, 0, from + (int)i);
}

size_t taken_credits(const PGresult *r, int64_t *out, size_t n) {
  if (kind_of(r, 0) == TAKEN_FRESH) return 0;
  size_t from = MARKS + taken_marks(r);
  for (size_t i = 0; i < n; i++) out[i] = number(r, 0, (int)(from + i));
  return count(r, 0) > from ? count(r, 0) - from : 0;
}

size_t taken_dropped(const PGresult *r, uint64_t *items) {
  *items = (uint64_t)number(r, 0, DROPPED_ITEMS);
  return (size_t)number(r, 0, DROPPED);
}

/* Columns of the table history. */
enum { H_QUEUE, H_DONE_AT, H_FIRST, H_PUSHED_AT, H_VERSION, H_N, H_SKIP,
       H_KEPT, H_ATTEMPTS, H_DELIVERIES, H_PRIORITY, H_BITS, H_BYTES,
       H_CANCELLED };

int taken_read_finished(const PGresult *r, int row, taken *t) {
  respool_bytes bits = value_bytes(r, row, H_BITS);
  *t = (taken){
    .first = (uint64_t)value_int(r, row, H_FIRST),
    .n = (uint32_t)value_int(r, row, H_N),
    .skip = (uint32_t)value_int(r, row, H_SKIP),
    .due = value_int(r, row, H_DONE_AT), .state = 2,
    .priority = (int)value_int(r, row, H_PRIORITY),
    .attempts = (uint64_t)value_int(r, row, H_ATTEMPTS),
    .deliveries = (uint64_t)value_int(r, row, H_DELIVERIES),
    .version = (uint64_t)value_int(r, row, H_VERSION),
    .pushed_at = value_int(r, row, H_PUSHED_AT),
    .bytes = value_bytes(r, row, H_BYTES), .row = row,
    .cancelled = value_bool(r, row, H_CANCELLED)};
  t->bits = bits.data ? (const uint8_t *)bits.data + 4 : NULL;
  return (int)value_int(r, row, H_QUEUE);
}
