/* SPDX-License-Identifier: MIT */
/*
 * Waking those who wait for items, across processes. Queues share the words
 * of the block by number: one that is woken in vain looks and sleeps again. A
 * sleeper that is killed as it is woken takes the call with it, hence the
 * slices of a second.
 */
#include "lmdb/journal/futex.h"
#include "lmdb/journal/slots.h"

#define SLICE_MS 1000

static word *word_of(journal *j, uint64_t queue) {
  return &j->c->word[queue % WORDS];
}

uint32_t journal_watch(journal *j, uint64_t queue) {
  return control_usable(j) ? 0 : atomic_load(&word_of(j, queue)->wake);
}

void journal_wait(journal *j, uint64_t queue, uint32_t seen, int64_t ms) {
  if (ms <= 0 || control_usable(j)) return;
  word *w = word_of(j, queue);
  atomic_fetch_add(&w->sleepers, 1);
  futex_wait(&w->wake, seen, ms < SLICE_MS ? ms : SLICE_MS);
  atomic_fetch_sub(&w->sleepers, 1);
}

void journal_wake(journal *j, uint64_t queue, int n) {
  if (control_usable(j)) return;
  word *w = word_of(j, queue);
  atomic_fetch_add(&w->wake, 1);
  if (atomic_load(&w->sleepers)) futex_wake(&w->wake, n);
}
