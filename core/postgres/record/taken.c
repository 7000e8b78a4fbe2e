/* SPDX-License-Identifier: MIT */
/*
 * Reading of v1_taken, in the order of its columns.
 */
#include "postgres/record/taken.h"

#include <string.h>

enum column {
  KIND, PLACE, TOKEN, NOW, NEXT_DUE, MARKS, POLICY, CREDITS,
  FIRST, N, LIVE, SKIP, BITS, DUE, STATE, PRIORITY, ATTEMPTS, DELIVERIES,
  CRASHES, DELAY, PUSHED_AT, EXPIRES_AT, VERSION, LAPSES, HISTORY, MEMO, BYTES
};

bool taken_head_read(const PGresult *r, taken_head *h) {
  if (pq.ntuples(r) < 1 || value_null(r, 0, NOW)) return false;
  *h = (taken_head){
    .token = (uint64_t)value_int(r, 0, TOKEN), .now = value_int(r, 0, NOW),
    .next_due = value_int(r, 0, NEXT_DUE),
    .policy = (int32_t)value_int(r, 0, POLICY)};
  return true;
}

static uint32_t count(const PGresult *r, int row, int column) {
  return (uint32_t)value_int(r, row, column);
}

/* A varbit: its length in bits, then the bits. */
static bool read_bits(const PGresult *r, int row, taken *t) {
  respool_bytes b = value_bytes(r, row, BITS);
  t->bits = NULL;
  if (!b.data) return true;
  t->bits = (const uint8_t *)b.data + 4;
  return b.size >= 4 + (t->n + 7) / 8;
}

bool taken_read(const PGresult *r, int row, taken *t) {
  int kind = (int)value_int(r, row, KIND);
  if (kind == TAKEN_HEAD || value_null(r, row, FIRST)) return false;
  *t = (taken){
    .kind = kind, .place = (int)value_int(r, row, PLACE),
    .token = (uint64_t)value_int(r, row, TOKEN),
    .first = (uint64_t)value_int(r, row, FIRST), .n = count(r, row, N),
    .live = count(r, row, LIVE), .skip = count(r, row, SKIP),
    .due = value_int(r, row, DUE), .state = (int)value_int(r, row, STATE),
    .priority = (int)value_int(r, row, PRIORITY),
    .attempts = count(r, row, ATTEMPTS),
    .deliveries = count(r, row, DELIVERIES),
    .crashes = count(r, row, CRASHES),
    .version = (uint64_t)value_int(r, row, VERSION),
    .delay = value_int(r, row, DELAY),
    .pushed_at = value_int(r, row, PUSHED_AT),
    .expires_at = value_int(r, row, EXPIRES_AT),
    .n_lapses = value_count(r, row, LAPSES),
    .history = value_bytes(r, row, HISTORY),
    .memo = value_bytes(r, row, MEMO), .bytes = value_bytes(r, row, BYTES),
    .row = row};
  return read_bits(r, row, t);
}

int64_t taken_lapse(const PGresult *r, const taken *t, size_t i) {
  return value_element(r, t->row, LAPSES, i);
}

bool taken_live(const taken *t, uint32_t i) {
  return i < t->n && (!t->bits || run_bit(t->bits, i));
}

size_t taken_credits(const PGresult *r, int64_t *out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = value_element(r, 0, CREDITS, i);
  return value_count(r, 0, CREDITS);
}

size_t taken_marks(const PGresult *r) {
  return value_count(r, 0, MARKS);
}

int64_t taken_mark(const PGresult *r, size_t i) {
  return value_element(r, 0, MARKS, i);
}

size_t taken_dropped(const PGresult *r, uint64_t *items) {
  *items = (uint64_t)value_int(r, 0, LIVE);
  return (size_t)value_int(r, 0, N);
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
