/* SPDX-License-Identifier: MIT */
/*
 * Fires an hourly schedule of the queue "q", hour by hour on a clock moved by
 * hand, and is killed on the way:
 *
 *   schedule STORE HOURS [POINT PASSES [RULE]]
 *
 * at that point (see points.c), after it was passed so many times; RULE is
 * broken meanwhile. Ends with 0 when the point was not passed so often. At a
 * point with "=" in front it stops instead, until it is continued.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../points.h"
#include "respool.h"

enum { HOUR = 3600000 };
static const int64_t BASE = (int64_t)500000 * HOUR; /* in the year 2027 */

static int to_hour(respool *s, int hour) {
  return respool_advance(s, BASE + (int64_t)hour * HOUR - respool_now(s));
}

static int make(respool *s) {
  respool_schedule d = RESPOOL_SCHEDULE_INIT;
  respool_queue *q;
  int rc = respool_queue_open(s, "q", NULL, &q);
  if (rc) return rc;
  respool_queue_free(q);
  d.cron = "@hourly";
  d.queue = "q";
  d.payload.body = (respool_bytes){"\x01", 1};
  d.missed = RESPOOL_MISSED_ALL;
  return respool_schedule_save(s, "hourly", &d);
}

static int fire(respool *s, int hours) {
  int rc = to_hour(s, 0);
  if (!rc) rc = make(s);
  for (int h = 1; h <= hours && !rc; h++) {
    respool_fired fired = RESPOOL_FIRED_INIT;
    rc = to_hour(s, h);
    if (!rc) rc = respool_schedules_fire(s, 0, &fired);
    if (!rc) rc = fired.failed;
  }
  return rc;
}

int main(int argc, char **argv) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool *s;
  if (argc < 3) {
    fprintf(stderr, "usage: schedule STORE HOURS [POINT PASSES [RULE]]\n");
    return 2;
  }
  o.manual_clock = 1;
  point_break(argc > 5 ? argv[5] : NULL);
  if (argc > 4) point_arm_name(argv[3], atoi(argv[4]));
  if (argc > 4 && argv[3][0] == '=') point_stop(argv[3] + 1, atoi(argv[4]));
  int rc = respool_open(argv[1], &o, &s);
  if (!rc) {
    rc = fire(s, atoi(argv[2]));
    if (rc) fprintf(stderr, "%s\n", respool_error_text());
    respool_close(s);
  }
  return rc != 0;
}
