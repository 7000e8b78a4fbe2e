/* SPDX-License-Identifier: MIT */
/*
 * The ledger; see ledger.h. Some payloads are small, some fill several pages,
 * some are blobs.
 */
#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BIG 40000

typedef struct entry {
  unsigned may; /* places */
  int twice;    /* may it be? */
  int found;    /* times */
  unsigned where;
} entry;

static entry *entries;
static char payloads[LEDGER_ITEMS][BIG];
static int findings;

void ledger_begin(void) {
  entries = mmap(NULL, LEDGER_ITEMS * sizeof *entries,
                 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (entries == MAP_FAILED) abort();
  for (int n = 0; n < LEDGER_ITEMS; n++) {
    memset(payloads[n], 'a' + n % 26, BIG);
    memcpy(payloads[n], "item ..", 7);
    payloads[n][5] = (char)('0' + n / 10);
    payloads[n][6] = (char)('0' + n % 10);
  }
}

void ledger_clear(void) {
  for (int n = 0; n < LEDGER_ITEMS; n++)
    entries[n] = (entry){.may = NOWHERE};
}

void ledger_note(int n, enum place to, int rc) {
  if (rc == 0)
    entries[n].may = to;
  else if (rc == RESPOOL_UNKNOWN_OUTCOME)
    entries[n].may |= to;
}

void ledger_intend(int n, enum place to) {
  entries[n].may |= to;
}

void ledger_allow_twice(int n) {
  entries[n].twice = 1;
}

static size_t size_of(int n) {
  return n % 16 == 5 ? BIG : n % 16 == 6 ? 3000 : (size_t)(7 + n);
}

respool_payload ledger_payload(int n) {
  return (respool_payload){.body = {payloads[n], size_of(n)}};
}

int ledger_number(respool_bytes body) {
  const char *b = body.data;
  if (body.size < 7 || memcmp(b, "item ", 5)) return -1;
  int n = (b[5] - '0') * 10 + b[6] - '0';
  return n >= 0 && n < LEDGER_ITEMS && body.size == size_of(n) &&
                 !memcmp(b, payloads[n], body.size) ? n : -1;
}

/* ---- verifying ---------------------------------------------------------- */

static void found(const char *what, int n) {
  printf("  not so: item %d %s\n", n, what);
  findings++;
}

static int broken(void *arg, const char *finding) {
  (void)arg;
  printf("  check: %s\n", finding);
  findings++;
  return 0;
}

static void fails(const char *what) {
  printf("  cannot %s: %s\n", what, respool_error_text());
  findings++;
}

static void see(respool_bytes body, enum place where) {
  int n = ledger_number(body);
  if (n < 0) {
    found("is not what was pushed", n);
    return;
  }
  entries[n].found++;
  entries[n].where = where;
}

static int read_queue(void *arg, const char *name) {
  respool_queue *q;
  respool_page *p;
  respool_cursor at = {0};
  size_t n = 1;
  if (respool_queue_find(arg, name, &q)) return fails("find a queue"), 0;
  while (n > 0 && respool_browse(q, -1, 100, &at, &p) == 0) {
    n = respool_page_length(p);
    for (size_t i = 0; i < n; i++)
      see(respool_page_item(p, i)->body, IN_QUEUE);
    respool_page_free(p);
  }
  if (n > 0) fails("browse a queue");
  respool_queue_free(q);
  return 0;
}

static int read_dlq(void *arg, const char *name) {
  respool_list_options o = RESPOOL_LIST_OPTIONS_INIT;
  respool_dead_letters *l;
  o.limit = LEDGER_ITEMS;
  if (respool_dead_list(arg, name, &o, &l)) return fails("list a DLQ"), 0;
  for (size_t i = 0; i < respool_dead_letters_length(l); i++)
    see(respool_dead_letters_at(l, i)->body, IN_DLQ);
  respool_dead_letters_free(l);
  return 0;
}

static void compare(void) {
  for (int n = 0; n < LEDGER_ITEMS; n++) {
    const entry *e = &entries[n];
    if (e->found > 1 + e->twice)
      found("is in two places", n);
    else if (!e->found && !(e->may & NOWHERE))
      found("is lost", n);
    else if (e->found && !(e->may & e->where))
      found(e->may == NOWHERE ? "should be gone" : "is in the wrong place",
            n);
  }
}

int ledger_verify(const char *path) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool *s;
  findings = 0;
  o.no_create = 1;
  for (int n = 0; n < LEDGER_ITEMS; n++) entries[n].found = 0;
  int rc = respool_open(path, &o, &s);
  if (rc == RESPOOL_NOT_FOUND) {
    compare();
    return findings;
  }
  if (rc) return fails("open the store"), findings;
  if (respool_check(s, broken, NULL)) fails("check the store");
  if (respool_queues(s, read_queue, s)) fails("list queues");
  if (respool_dead_letter_queues(s, read_dlq, s)) fails("list DLQs");
  compare();
  respool_close(s);
  return findings;
}
