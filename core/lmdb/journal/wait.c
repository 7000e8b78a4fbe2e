/* SPDX-License-Identifier: MIT */
/*
 * Waking those who wait for items, across processes. Queues share the words
 * of the block: a sleeper that is woken for nothing looks and sleeps again. A
 * sleeper that is killed as it is woken takes the call with it, hence the
 * slices of a second.
 */
#include "lmdb/journal/files/slots.h"
#include "threads/futex.h"

#define SLICE_MS 1000

static word *word_of(journal *j, uint64_t key) {
  return &j->c->word[key % WORDS];
}

/* Of those who sleep at one word, some wait for another queue. */
static uint32_t bit_of(uint64_t key) {
  return (uint32_t)1 << key / WORDS % 32;
}

uint32_t journal_watch(journal *j, uint64_t key) {
  return control_usable(j) ? 0 : atomic_load(&word_of(j, key)->wake);
}

void journal_wait(journal *j, uint64_t key, uint32_t seen, int64_t ms) {
  if (ms <= 0 || control_usable(j)) return;
  word *w = word_of(j, key);
  atomic_fetch_add(&w->sleepers, 1);
  futex_wait(&w->wake, FUTEX_SHARED, seen, bit_of(key),
             ms < SLICE_MS ? ms : SLICE_MS);
  atomic_fetch_sub(&w->sleepers, 1);
}

void journal_wake(journal *j, uint64_t key, int n) {
  if (control_usable(j)) return;
  word *w = word_of(j, key);
  atomic_fetch_add(&w->wake, 1);
  if (atomic_load(&w->sleepers))
    futex_wake(&w->wake, FUTEX_SHARED, bit_of(key), n);
}
