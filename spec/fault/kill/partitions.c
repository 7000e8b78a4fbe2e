/* SPDX-License-Identifier: MIT */
/*
 * Works on a queue with partitions, of each of which two items may be leased,
 * and is killed on the way:
 *
 *   partitions STORE ROUNDS [POINT PASSES [RULE]]
 *
 * at that point (see points.c), after it was passed so many times; RULE is
 * broken meanwhile. The clock is moved by hand, so that some leases run out.
 * For each round of pushes that has returned it prints a line. Ends with 0 when
 * the point was not passed so often.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../points.h"
#include "respool.h"

enum { LEASE = 1000, STEP = 350, MOST = 2, TENANTS = 3, EACH = 3 };
static const int64_t BASE = (int64_t)1800000000000; /* in the year 2027 */

static int open_queue(respool *s, respool_queue **q) {
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  o.partition_concurrency = MOST;
  o.lease = LEASE;
  o.max_attempts = o.max_crashes = RESPOOL_UNLIMITED;
  return respool_queue_open(s, "q", &o, q);
}

static int push(respool_queue *q) {
  static const char *const tenants[TENANTS] = {"a", "b", "c"};
  respool_payload list[TENANTS * EACH];
  for (int i = 0; i < TENANTS * EACH; i++)
    list[i] = (respool_payload){
      .body = {"\x01", 1}, .partition = respool_text(tenants[i % TENANTS])};
  int rc = respool_push(q, list, TENANTS * EACH, NULL, NULL);
  if (!rc && write(1, "pushed\n", 7) != 7) rc = RESPOOL_IO;
  return rc;
}

/* Of each four items two are done, one fails, and one keeps its lease. */
static int settle(respool_batch *b) {
  respool_outcome done = RESPOOL_OUTCOME_INIT, failed = RESPOOL_OUTCOME_INIT;
  int rc = 0;
  done.kind = RESPOOL_DONE;
  failed.kind = RESPOOL_RETRY;
  failed.delay = STEP;
  for (size_t i = 0; i < respool_batch_length(b) && !rc; i++) {
    uint64_t n = respool_batch_item(b, i)->id % 4;
    if (n < 3) rc = respool_batch_mark(b, i, n < 2 ? &done : &failed);
  }
  return rc ? rc : respool_batch_settle(b, NULL, NULL);
}

static int work(respool_queue *q) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *b;
  o.items = 20;
  int rc = respool_take(q, &o, &b);
  if (rc || !b) return rc;
  rc = settle(b);
  respool_batch_free(b);
  return rc;
}

static int go_round(respool *s, respool_queue *q, int rounds) {
  int rc = 0;
  for (int i = 0; i < rounds && !rc; i++) {
    rc = respool_advance(s, STEP);
    if (!rc) rc = push(q);
    for (int j = 0; j < 3 && !rc; j++) rc = work(q);
  }
  return rc;
}

int main(int argc, char **argv) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool_queue *q;
  respool *s;
  if (argc < 3) {
    fprintf(stderr, "usage: partitions STORE ROUNDS [POINT PASSES [RULE]]\n");
    return 2;
  }
  o.manual_clock = 1;
  point_break(argc > 5 ? argv[5] : NULL);
  if (argc > 4) point_arm_name(argv[3], atoi(argv[4]));
  int rc = respool_open(argv[1], &o, &s);
  if (!rc) {
    rc = respool_advance(s, BASE - respool_now(s));
    if (!rc) rc = open_queue(s, &q);
    if (!rc) {
      rc = go_round(s, q, atoi(argv[2]));
      respool_queue_free(q);
    }
    if (rc) fprintf(stderr, "%s\n", respool_error_text());
    respool_close(s);
  }
  return rc != 0;
}
