/* SPDX-License-Identifier: MIT */
#include "flow_book.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../crowd.h"
#include "../marks.h"
#include "record/leases.h"

book *s;

void book_begin(void) {
  struct timespec t;
  memset((void *)s, 0, offsetof(book, takes));
  clock_gettime(CLOCK_REALTIME, &t);
  s->began = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void raise_to(_Atomic uint64_t *n, uint64_t to) {
  uint64_t was = *n;
  while (was < to && !atomic_compare_exchange_weak(n, &was, to)) continue;
}

/* ---- what an item bears -------------------------------------------------- */

uint32_t tag_of(const respool_item *i) {
  uint32_t tag = 0, pushed = s->tag[i->id];
  if (!payload_whole(i->body.data, i->body.size, &tag) ||
      (pushed && pushed != tag))
    bad("the payload of %lu is another", (unsigned long)i->id);
  return tag;
}

respool_bytes result_of(uint8_t bytes[TEXT], uint32_t tag) {
  payload_fill(bytes, tag, 4 + tag % 15 * 4);
  return (respool_bytes){bytes, 4 + tag % 15 * 4};
}

respool_progress progress_of(char text[TEXT], uint64_t id, uint64_t token,
                             unsigned k) {
  respool_progress p = RESPOOL_PROGRESS_INIT;
  int n = snprintf(text, TEXT, "%lu %u", (unsigned long)token, k);
  p.done = (int64_t)((id + k) % 1001);
  p.text = (respool_bytes){text, (size_t)n};
  return p;
}

uint64_t report_number(uint64_t token, unsigned k) {
  return token_number(token) << 8 | k;
}

/* As in the book; 0: it has none. */
static uint64_t report_of(const respool_item *it) {
  char text[TEXT], want[TEXT];
  unsigned long token = 0;
  unsigned k = 0;
  respool_bytes is = it->about->progress_text;
  if (!it->about->progress_at) return 0;
  snprintf(text, sizeof text, "%.*s", (int)is.size, (const char *)is.data);
  sscanf(text, "%lu %u", &token, &k);
  respool_progress p = progress_of(want, it->id, token, k);
  if (strcmp(text, want) || p.done != it->about->progress)
    bad("the progress of %lu is another: %s", (unsigned long)it->id, text);
  return report_number(token, k);
}

void see_progress(const respool_item *it) {
  uint64_t is = report_of(it), told = s->reported[it->id];
  uint64_t lease = token_number(it->about->lease);
  if (is && is >> 8 != lease)
    bad("%lu has the progress of another lease", (unsigned long)it->id);
  if (is > s->reporting[it->id])
    bad("%lu has progress that nobody made", (unsigned long)it->id);
  if (!lease || told >> 8 != lease) return;
  if (is < told) bad("the progress of %lu is lost", (unsigned long)it->id);
  s->shown++;
}

static void compare_result(uint64_t id, respool_bytes is) {
  uint8_t bytes[TEXT];
  respool_bytes want = result_of(bytes, s->tag[id]);
  if (s->tag[id] &&
      (is.size != want.size || memcmp(is.data, want.data, want.size)))
    bad("the result of %lu is another", (unsigned long)id);
  if (!s->ending[id])
    bad("%lu has a result, and nobody gave it", (unsigned long)id);
}

bool see_result(respool_queue *q, uint64_t id) {
  respool_page *p = NULL;
  bool done = s->done[id], cancelled = s->cancelled[id];
  int rc = respool_item_result(q, id, &p);
  if (rc == RESPOOL_NOT_FOUND) {
    if (done) bad("the result of %lu is gone", (unsigned long)id);
    return false;
  }
  must("result", rc);
  if (cancelled)
    bad("%lu was cancelled, and has a result", (unsigned long)id);
  compare_result(id, respool_page_item(p, 0)->body);
  respool_page_free(p);
  return true;
}

/* ---- all of them --------------------------------------------------------- */

enum { WAITING = 1, FINISHED = 2, WITHDRAWN = 4 };
static uint8_t *there; /* of each id */

static void see(uint64_t id, uint8_t where) {
  if (there[id]) bad("%lu is in two places", (unsigned long)id);
  there[id] |= where;
}

static void see_queue(respool_queue *q) {
  respool_cursor at = {0};
  respool_page *p;
  size_t n;
  do {
    must("browse", respool_browse(q, -1, 500, &at, &p));
    n = respool_page_length(p);
    for (size_t i = 0; i < n; i++) {
      const respool_item *it = respool_page_item(p, i);
      tag_of(it);
      see_progress(it);
      see(it->id, WAITING);
    }
    respool_page_free(p);
  } while (n);
}

static void see_over(respool_queue *q, const respool_item *it) {
  bool done = it->about->state == RESPOOL_FINISHED;
  see(it->id, done ? FINISHED : WITHDRAWN);
  tag_of(it);
  if (!(done ? s->ending[it->id] : s->cancelling[it->id]))
    bad("%lu is over, and nobody ended it", (unsigned long)it->id);
  if (see_result(q, it->id) != done)
    bad("%lu is %s", (unsigned long)it->id,
        done ? "done without a result" : "cancelled with a result");
}

static void see_history(respool_queue *q) {
  respool_history_cursor at = {0, 0};
  respool_page *p;
  size_t n;
  do {
    must("history", respool_history(q, &at, 500, &p));
    n = respool_page_length(p);
    for (size_t i = 0; i < n; i++) see_over(q, respool_page_item(p, i));
    respool_page_free(p);
  } while (n);
}

void see_all(respool_queue *q) {
  there = calloc(IDS, 1);
  see_queue(q);
  see_history(q);
  for (uint64_t id = 1; id < IDS; id++) {
    if (s->pushed[id] && !there[id]) bad("%lu is lost", (unsigned long)id);
    if (s->done[id] && there[id] != FINISHED)
      bad("%lu was done, and is not", (unsigned long)id);
    if (s->cancelled[id] && there[id] != WITHDRAWN)
      bad("%lu was cancelled, and is not", (unsigned long)id);
  }
  free(there);
}
