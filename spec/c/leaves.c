/* SPDX-License-Identifier: MIT */
/*
 * The leaves of the core that nothing in Lua reaches as they are: error
 * lines, clocks, chance, and backoff at the ends of its ranges. Prints what
 * does not hold; exits 0 when everything does.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "holds.h"


/* ---- errors ------------------------------------------------------------ */

static void each_code_has_its_texts(void) {
#define VISIT(name, code, text) \
  HOLDS(strcmp(respool_errname(code), #name) == 0); \
  HOLDS(strcmp(respool_strerror(code), text) == 0); \
  HOLDS(*text != '\0' && !strchr(text, '\n'));
  RESPOOL_ERRORS(VISIT)
#undef VISIT
  HOLDS(strcmp(respool_errname(1), "?") == 0);
  HOLDS(strcmp(respool_errname(-1000), "?") == 0);
  HOLDS(strcmp(respool_strerror(-1000), "unknown error") == 0);
}

static void a_failure_keeps_one_short_line(void) {
  char name[1000];
  HOLDS(fail(RESPOOL_FULL, "queue '%s' is %s", "a", "full") ==
        RESPOOL_FULL);
  HOLDS(strcmp(respool_error_text(), "queue 'a' is full") == 0);
  fail(RESPOOL_FULL, "two\nlines\x7f");
  HOLDS(strcmp(respool_error_text(), "two?lines?") == 0);
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  fail(RESPOOL_FULL, "%s", name);
  HOLDS(strlen(respool_error_text()) == FAIL_LINE - 1);
}

static void a_line_may_be_said_again(void) {
  failure kept;
  fail_of_store(fail(RESPOOL_FULL, "disk"));
  failure_keep(&kept);
  fail(RESPOOL_IO, "tape");
  HOLDS(!respool_error_of_store());
  failure_tell(&kept);
  HOLDS(strcmp(respool_error_text(), "disk") == 0);
  HOLDS(respool_error_of_store());
  fail(RESPOOL_IO, "store: %s", respool_error_text());
  HOLDS(strcmp(respool_error_text(), "store: disk") == 0);
}

static void an_options_struct_of_another_size_is_refused(void) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool *s = NULL;
  o.size = 7;
  HOLDS(respool_open("nowhere", &o, &s) == RESPOOL_INVALID);
  char text[100];
  snprintf(text, sizeof text, "size is 7, expected %zu: initialise with "
           "RESPOOL_OPTIONS_INIT", sizeof o);
  HOLDS(strcmp(respool_error_text(), text) == 0);
}

static void *fail_elsewhere(void *arg) {
  HOLDS(strcmp(respool_error_text(), "") == 0);
  fail(RESPOOL_IO, "elsewhere");
  return arg;
}

static void a_line_belongs_to_its_thread(void) {
  pthread_t thread;
  fail(RESPOOL_IO, "here");
  pthread_create(&thread, NULL, fail_elsewhere, NULL);
  pthread_join(thread, NULL);
  HOLDS(strcmp(respool_error_text(), "here") == 0);
}


/* ---- clocks ------------------------------------------------------------ */

static void a_manual_clock_moves_only_by_hand(void) {
  struct clock wall, hand;
  clock_init(&wall, false);
  int64_t before = clock_now(&wall);
  clock_init(&hand, true);
  int64_t start = clock_now(&hand);
  HOLDS(before <= start && start <= clock_now(&wall));
  HOLDS(before > INT64_C(1700000000000)); /* ms, not s */
  clock_advance(&hand, 1500);
  HOLDS(clock_now(&hand) == start + 1500);
  clock_advance(&hand, -2000);
  HOLDS(clock_now(&hand) == start - 500);
  clock_advance(&hand, INT64_MAX);
  HOLDS(clock_now(&hand) == INT64_MAX);
  clock_advance(&hand, INT64_MIN);
  clock_advance(&hand, INT64_MIN);
  HOLDS(clock_now(&hand) == INT64_MIN);
}

static int64_t told(const struct timespec *t) {
  return (int64_t)t->tv_sec * 1000 + t->tv_nsec / 1000000;
}

static void a_deadline_lies_ahead(void) {
  struct timespec t;
  for (int64_t ms = 1; ms < 5000; ms += 333) {
    int64_t now = clock_mono();
    clock_deadline(&t, ms);
    HOLDS(t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
    HOLDS(told(&t) >= now + ms && told(&t) <= clock_mono() + ms);
  }
  clock_deadline(&t, -5);
  HOLDS(told(&t) <= clock_mono());
  clock_deadline(&t, INT64_MAX);
  HOLDS(t.tv_sec > 3000000000);
}


/* ---- chance ------------------------------------------------------------ */

static void a_seed_repeats_its_sequence(void) {
  struct random a, b, c;
  double sum = 0;
  random_init(&a, 42);
  random_init(&b, 42);
  for (int i = 0; i < 100000; i++) {
    double u = random_next(&a);
    HOLDS(u >= 0 && u < 1 && u == random_next(&b));
    sum += u;
  }
  HOLDS(sum > 49000 && sum < 51000);
  random_init(&b, 0);
  random_init(&c, 0);
  HOLDS(random_next(&b) != random_next(&c));
}

/* The first numbers of the published generator for the seed 1234567. */
static void the_sequence_is_splitmix64(void) {
  static const uint64_t published[] = {
    UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
    UINT64_C(9817491932198370423), UINT64_C(4593380528125082431),
  };
  struct random r;
  random_init(&r, 1234567);
  for (size_t i = 0; i < sizeof published / sizeof *published; i++)
    HOLDS(random_next(&r) == (double)(published[i] >> 11) * 0x1p-53);
}


/* ---- backoff ----------------------------------------------------------- */

static const double chances[] = { 0, 0.25, 0.5, 0x1.fffffffffffffp-1 };
static const int64_t times[] = {
  0, 1, 3, 1000, 86400000, INT64_C(9007199254740993), INT64_MAX / 2,
  INT64_MAX - 1, INT64_MAX
};
static const double factors[] = { 1, 1.000001, 2, 1e10, 1e308 };

#define LENGTH(a) (sizeof(a) / sizeof *(a))

static void stays_within(const respool_backoff *b, uint64_t attempt) {
  for (size_t i = 0; i < LENGTH(chances); i++)
    for (size_t p = 0; p < LENGTH(times); p++) {
      int64_t d = respool_backoff_delay(b, attempt, times[p], chances[i]);
      HOLDS(d >= 0 && d <= b->max);
    }
}

static void stays_within_for_all_attempts(const respool_backoff *b) {
  HOLDS(respool_backoff_check(b) == 0);
  stays_within(b, 0);
  for (uint64_t n = 1; n <= 10000; n += 1 + n / 7)
    stays_within(b, n);
  for (int bit = 13; bit < 64; bit++)
    stays_within(b, UINT64_C(1) << bit);
  stays_within(b, 10000);
  stays_within(b, UINT64_MAX);
}

static void no_delay_leaves_its_range(void) {
  respool_backoff b = { .ratio = 0.3, .count = LENGTH(times) };
  memcpy(b.list, times, sizeof times);
  for (b.kind = 0; b.kind <= RESPOOL_BACKOFF_DECORRELATED; b.kind++)
    for (b.jitter = 0; b.jitter <= RESPOOL_JITTER_RATIO; b.jitter++)
      for (size_t i = 0; i < LENGTH(times); i++)
        for (size_t m = i; m < LENGTH(times); m++) {
          b.initial = times[i];
          b.max = times[m];
          b.step = times[LENGTH(times) - 1 - i];
          b.factor = factors[(i + m) % LENGTH(factors)];
          stays_within_for_all_attempts(&b);
        }
}

/* Up to the cap the integers are exact, also beyond 2^53. */
static void whole_numbers_stay_exact(void) {
  respool_backoff b = { .kind = RESPOOL_BACKOFF_LINEAR };
  b.initial = INT64_C(9007199254740993);
  b.step = 1;
  b.max = RESPOOL_UNLIMITED;
  HOLDS(respool_backoff_delay(&b, 3, 0, 0) == INT64_C(9007199254740995));
  b.kind = RESPOOL_BACKOFF_CONSTANT;
  HOLDS(respool_backoff_delay(&b, 3, 0, 0) == INT64_C(9007199254740993));
  b.kind = RESPOOL_BACKOFF_FIBONACCI;
  HOLDS(respool_backoff_delay(&b, 3, 0, 0) == 2 * b.initial);
}

static void nothing_grows_to_nothing(void) {
  respool_backoff b = { .factor = 1e10, .max = 5000 };
  for (b.kind = 0; b.kind <= RESPOOL_BACKOFF_FIBONACCI; b.kind++)
    HOLDS(respool_backoff_delay(&b, UINT64_MAX, 0, 0) == 0);
}

static void the_default_is_what_the_header_says(void) {
  respool_backoff b;
  respool_backoff_default(&b);
  HOLDS(respool_backoff_check(&b) == 0);
  HOLDS(b.jitter == RESPOOL_JITTER_FULL);
  b.jitter = RESPOOL_JITTER_NONE;
  HOLDS(respool_backoff_delay(&b, 0, 0, 0) == 1000);
  HOLDS(respool_backoff_delay(&b, 1, 0, 0) == 1000);
  HOLDS(respool_backoff_delay(&b, 2, 0, 0) == 2000);
  HOLDS(respool_backoff_delay(&b, 12, 0, 0) == 2048000);
  HOLDS(respool_backoff_delay(&b, 13, 0, 0) == 3600000);
}

static void is_refused(respool_backoff b, const char *field) {
  HOLDS(respool_backoff_check(&b) == RESPOOL_INVALID);
  HOLDS(strstr(respool_error_text(), field) != NULL);
}

#define REFUSED(field, assignment) \
  do { \
    respool_backoff b; \
    respool_backoff_default(&b); \
    assignment; \
    is_refused(b, "'" field "'"); \
  } while (0)

static void a_bad_field_is_named(void) {
  REFUSED("kind", b.kind = 7);
  REFUSED("kind", b.kind = -1);
  REFUSED("jitter", b.jitter = 4);
  REFUSED("initial", b.initial = -1);
  REFUSED("max", b.max = 999);
  REFUSED("factor", b.factor = 0.999);
  REFUSED("factor", b.factor = -0.0 / 0.0);
  REFUSED("factor", b.factor = 1e308 * 10);
  REFUSED("factor", (b.kind = RESPOOL_BACKOFF_POLYNOMIAL, b.factor = -1));
  REFUSED("step", (b.kind = RESPOOL_BACKOFF_LINEAR, b.step = -1));
  REFUSED("ratio", (b.jitter = RESPOOL_JITTER_RATIO, b.ratio = 1.5));
  REFUSED("ratio", (b.jitter = RESPOOL_JITTER_RATIO, b.ratio = 0.0 / 0.0));
  REFUSED("list", b.kind = RESPOOL_BACKOFF_LIST);
  REFUSED("list", (b.kind = RESPOOL_BACKOFF_LIST, b.count = 65));
  REFUSED("list", (b.kind = RESPOOL_BACKOFF_LIST, b.count = 2,
                   b.list[1] = -1));
}

int main(void) {
  CHECK(each_code_has_its_texts());
  CHECK(a_failure_keeps_one_short_line());
  CHECK(a_line_may_be_said_again());
  CHECK(an_options_struct_of_another_size_is_refused());
  CHECK(a_line_belongs_to_its_thread());
  CHECK(a_manual_clock_moves_only_by_hand());
  CHECK(a_deadline_lies_ahead());
  CHECK(a_seed_repeats_its_sequence());
  CHECK(the_sequence_is_splitmix64());
  CHECK(no_delay_leaves_its_range());
  CHECK(whole_numbers_stay_exact());
  CHECK(nothing_grows_to_nothing());
  CHECK(the_default_is_what_the_header_says());
  CHECK(a_bad_field_is_named());
  return exit_status();
}
