/* SPDX-License-Identifier: MIT */
/*
 * Cron expressions, zones and dates. Without an argument it runs its own
 * checks. With "compare" it reads lines of an expression, a zone, a moment and
 * the next one that is expected, with tabs between, and says which differ.
 */
#include <inttypes.h>

#include "holds.h"
#include "schedule/civil.h"
#include "schedule/cron.h"

/* The next moment in seconds, -1: none, -2: refused. */
static int64_t next(const char *expression, const char *name, int64_t after) {
  cron c;
  zone *z = NULL;
  if (cron_parse(&c, expression)) return -2;
  WORKS(zone_load("timezone", name, &z));
  if (!z) return -2;
  int64_t ms = cron_next(&c, z, after * 1000);
  zone_free(z);
  return ms == INT64_MAX ? -1 : ms / 1000;
}

static void a_date_is_its_days_number(void) {
  for (int64_t days = -800000; days < 800000; days++) {
    civil c = civil_of(days);
    if (days_of(c.year, c.month, c.day) == days) continue;
    HOLDS(days_of(c.year, c.month, c.day) == days);
    return;
  }
  HOLDS(days_of(1970, 1, 1) == 0 && days_of(2000, 3, 1) == 11017);
  HOLDS(weekday_of(days_of(2026, 11, 29)) == 0);
}

static bool is_refused(const char *expression) {
  cron c;
  return cron_parse(&c, expression) == RESPOOL_INVALID;
}

static void what_is_not_an_expression_is_refused(void) {
  static const char *const wrong_ones[] = {
    "", " ", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *",
    "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 8",
    "*/0 * * * *", "-1 * * * *", "5-1 * * * *", "1, * * * *", ",1 * * * *",
    "1-2-3 * * * *", "1//2 * * * *", "* * * foo *", "* * * * monday",
    "@reboot", "@", "a b c d e", "* * 30 2 *", "* * 31 2,4,6,9,11 *",
    "1- * * * *", "*/ * * * *", "** * * * *", "1 2 3 4 5;", "0x1 * * * *",
    "99999999999 * * * *", "* * * jan5 *", "\n* * * * *",
  };
  for (size_t i = 0; i < sizeof wrong_ones / sizeof *wrong_ones; i++)
    if (!is_refused(wrong_ones[i])) {
      HOLDS(is_refused(wrong_ones[i]));
      printf("  %s\n", wrong_ones[i]);
    }
  HOLDS(is_refused(NULL));
  cron c;
  cron_parse(&c, "* 24 * * *");
  HOLDS(strstr(respool_error_text(), "the hour of a cron expression"));
}

static void names_and_days_are_read(void) {
  const int64_t t = 1764547200; /* 2025-12-01, a Monday */
  HOLDS(next("@daily", "UTC", t) == t + 86400);
  HOLDS(next("@Hourly", "UTC", t) == t + 3600);
  HOLDS(next("0 0 * JAN Mon-Fri", "UTC", t) == days_of(2026, 1, 1) * 86400);
  HOLDS(next("0 0 * * 7", "UTC", t) == t + 6 * 86400);
  HOLDS(next("0 0 * * fri-sun", "UTC", t) == t + 4 * 86400);
  HOLDS(next("0 0 29 2 *", "UTC", t) == days_of(2028, 2, 29) * 86400);
  HOLDS(next("0 0 29 2 *", "UTC", days_of(2097, 1, 1) * 86400) ==
        days_of(2104, 2, 29) * 86400);
}

static void no_name_leads_out_of_the_database(void) {
  static const char *const names[] = {
    "", "../../../etc/passwd", "/etc/localtime", "Europe", "Europe/Nowhere",
    "tzdata.zi", "leapseconds", "right/Europe/Berlin ", "Europe/Berlin\n",
  };
  zone *z = NULL;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    HOLDS(zone_load("timezone", names[i], &z) == RESPOOL_INVALID);
    HOLDS(strncmp(respool_error_text(), "timezone must be", 16) == 0);
  }
  HOLDS(zone_load("timezone", NULL, &z) == RESPOOL_INVALID && !z);
}

static void a_rule_goes_on_when_the_list_ends(void) {
  /* 2101-06-01 12:00 in Berlin and in Sydney */
  const int64_t june = days_of(2101, 6, 1) * 86400;
  HOLDS(next("0 12 1 6 *", "Europe/Berlin", june - 86400) == june + 36000);
  HOLDS(next("0 12 1 6 *", "Australia/Sydney", june - 86400) == june + 7200);
  HOLDS(next("0 12 1 1 *", "Australia/Sydney", june) ==
        days_of(2102, 1, 1) * 86400 + 3600);
}

static int compare(void) {
  char expression[256], name[64];
  int64_t after, expected;
  size_t n = 0, differing = 0;
  while (scanf("%255[^\t]\t%63[^\t]\t%" SCNd64 "\t%" SCNd64 "\n", expression,
               name, &after, &expected) == 4) {
    int64_t found = next(expression, name, after);
    n++;
    if (found == expected || differing++ > 20) continue;
    printf("\"%s\" in %s after %" PRId64 ": %" PRId64 ", not %" PRId64 "\n",
           expression, name, after, found, expected);
  }
  printf("%zu compared, %zu differ\n", n, differing);
  return differing || wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "compare") == 0) return compare();
  CHECK(a_date_is_its_days_number());
  CHECK(what_is_not_an_expression_is_refused());
  CHECK(names_and_days_are_read());
  CHECK(no_name_leads_out_of_the_database());
  CHECK(a_rule_goes_on_when_the_list_ends());
  return exit_status();
}
