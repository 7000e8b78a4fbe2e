/* SPDX-License-Identifier: MIT */
/*
 * What journal_work marks and journal_replay reads: what a caller was told,
 * or was about to do, with an item of a queue. Payloads tell by themselves
 * whether they are whole.
 */
#ifndef FAULT_MARKS_H
#define FAULT_MARKS_H

#include <stdint.h>
#include <string.h>

enum { TOLD_PUSHED = 1, SETTLES = 2, TOLD_DONE = 4 };
enum { QUEUES = 2 };

static inline void payload_fill(uint8_t *p, uint32_t tag, uint32_t n) {
  for (uint32_t i = 0; i + 4 <= n; i += 4) {
    uint32_t x = tag * 2654435761u + i;
    memcpy(p + i, &x, 4);
  }
  memcpy(p, &tag, 4);
}

/* Is it as payload_fill made it? The tag into `*tag`. */
static inline int payload_whole(const void *p, size_t n, uint32_t *tag) {
  uint8_t want[1024];
  if (n < 4 || n > sizeof want) return 0;
  memcpy(tag, p, 4);
  payload_fill(want, *tag, (uint32_t)n);
  return !memcmp(want, p, n);
}

#endif
