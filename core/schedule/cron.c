/* SPDX-License-Identifier: MIT */
/*
 * Cron expressions; see cron.h. The search goes by the clock of the zone, in
 * minutes, from one stretch with the same offset to the next.
 */
#include "schedule/cron.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "schedule/civil.h"

/* 29 February may be eight years away. */
enum { FAR_YEARS = 9, HOUR_MINUTES = 60, DAY_MINUTES = 1440 };

/* ---- reading ------------------------------------------------------------ */

typedef struct field {
  const char *name, *rule;
  int min, max;
  const char *names; /* of three letters each, from `first` on */
  int first;
} field;

static const field FIELDS[] = {
  {"the minute", "0 to 59", 0, 59, "", 0},
  {"the hour", "0 to 23", 0, 23, "", 0},
  {"the day of the month", "1 to 31", 1, 31, "", 0},
  {"the month", "1 to 12 or jan to dec", 1, 12,
   "janfebmaraprmayjunjulaugsepoctnovdec", 1},
  {"the day of the week", "0 to 7 or sun to sat", 0, 7,
   "sunmontuewedthufrisat", 0},
};
enum { N_FIELDS = 5, WEEKDAY = 4 };

static int bad_field(const field *f) {
  char rule[128];
  snprintf(rule, sizeof rule,
           "of %s: *, numbers, ranges a-b and steps /n, with commas between",
           f->rule);
  char what[64];
  snprintf(what, sizeof what, "%s of a cron expression", f->name);
  return invalid(what, rule);
}

/* A number or a name; -1 if it is neither, or out of range. */
static int read_value(const field *f, const char **s) {
  int n = 0, digits = 0;
  for (size_t i = 0; i + 3 <= strlen(f->names); i += 3)
    if (strncasecmp(*s, f->names + i, 3) == 0 &&
        !isalnum((unsigned char)(*s)[3])) {
      *s += 3;
      return f->first + (int)(i / 3);
    }
  for (; **s >= '0' && **s <= '9' && digits < 4; digits++)
    n = n * 10 + *(*s)++ - '0';
  return digits && digits < 4 && n >= f->min && n <= f->max ? n : -1;
}

/* A step behind "/", 1 without one; 0 is none. */
static int read_step(const char **s) {
  int n = 0;
  if (**s != '/') return 1;
  for (++*s; **s >= '0' && **s <= '9' && n < 1000; ++*s)
    n = n * 10 + **s - '0';
  return n < 1000 ? n : 0;
}

/* One part of a list: "*", "a", "a-b", each with a step if it likes. */
static bool read_part(const field *f, const char **s, uint64_t *bits) {
  int from = f->min, to = f->max;
  if (**s == '*') {
    ++*s;
  } else {
    from = to = read_value(f, s);
    if (**s == '-') {
      ++*s;
      to = read_value(f, s);
      if (f == &FIELDS[WEEKDAY] && to == 0 && from > 0) to = 7;
    } else if (**s == '/') {
      to = f->max;
    }
  }
  int step = read_step(s);
  if (from < 0 || to < from || step == 0) return false;
  for (int i = from; i <= to; i += step) *bits |= UINT64_C(1) << i;
  return true;
}

/* A field ends at `end`. */
static int read_field(const field *f, const char *s, const char *end,
                      uint64_t *bits) {
  *bits = 0;
  do {
    if (!read_part(f, &s, bits)) return bad_field(f);
  } while (s < end && *s == ',' && s++);
  return s == end ? 0 : bad_field(f);
}

static const char *by_name(const char *expression) {
  static const char *const names[][2] = {
    {"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},
    {"@midnight", "0 0 * * *"}, {"@weekly", "0 0 * * 0"},
    {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcasecmp(expression, names[i][0]) == 0) return names[i][1];
  return expression;
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

static int not_five_fields(void) {
  return invalid("a cron expression",
                 "five fields (minute, hour, day of the month, month, day of "
                 "the week) or @hourly, @daily, @weekly, @monthly, @yearly");
}

static int read_fields(const char *s, uint64_t bits[N_FIELDS]) {
  int n = 0;
  for (;;) {
    while (is_blank(*s)) s++;
    if (!*s) return n == N_FIELDS ? 0 : not_five_fields();
    const char *end = s;
    while (*end && !is_blank(*end)) end++;
    if (n == N_FIELDS) return not_five_fields();
    int rc = read_field(&FIELDS[n], s, end, &bits[n]);
    if (rc) return rc;
    n++;
    s = end;
  }
}

/* Has a month a day of the month field? A weekday is in every month. */
static bool has_a_day(const cron *c) {
  if (c->any_day || !c->any_weekday) return true;
  for (int month = 1; month <= 12; month++)
    for (int day = 1; day <= days_in_month(2000, month); day++)
      if (c->months >> month & 1 && c->days >> day & 1) return true;
  return false;
}

int cron_parse(cron *c, const char *expression) {
  uint64_t bits[N_FIELDS];
  if (!expression || strlen(expression) > 255) return not_five_fields();
  if (*expression == '@' && by_name(expression) == expression)
    return not_five_fields();
  int rc = read_fields(by_name(expression), bits);
  if (rc) return rc;
  if (bits[WEEKDAY] >> 7 & 1) bits[WEEKDAY] |= 1; /* Sunday */
  *c = (cron){.minutes = bits[0], .hours = (uint32_t)bits[1],
              .days = (uint32_t)bits[2], .months = (uint32_t)bits[3],
              .weekdays = (uint32_t)bits[WEEKDAY] & 0x7f};
  c->every_hour = c->hours == 0xffffff;
  c->any_day = c->days == 0xfffffffe;
  c->any_weekday = c->weekdays == 0x7f;
  if (has_a_day(c)) return 0;
  return invalid("the day of a cron expression", "one that its months have");
}

/* ---- searching by the clock --------------------------------------------- */

static bool day_matches(const cron *c, const civil *d, int64_t days) {
  bool day = c->days >> d->day & 1;
  bool weekday = c->weekdays >> weekday_of(days) & 1;
  if (!(c->months >> d->month & 1)) return false;
  return c->any_day || c->any_weekday ? day && weekday : day || weekday;
}

/* The first minute of a day, from `from` on, that matches; -1: none. */
static int minute_of_day(const cron *c, int from) {
  for (int hour = from / HOUR_MINUTES; hour < 24; hour++) {
    int begin = hour == from / HOUR_MINUTES ? from % HOUR_MINUTES : 0;
    uint64_t left = c->minutes >> begin;
    if (c->hours >> hour & 1 && left)
      return hour * HOUR_MINUTES + begin + __builtin_ctzll(left);
  }
  return -1;
}

/* The day after `days` on which to go on: the next month's first where this
   month is left out. */
static int64_t next_day(const cron *c, const civil *d, int64_t days) {
  if (c->months >> d->month & 1) return days + 1;
  return days + days_in_month(d->year, d->month) - d->day + 1;
}

/* The first minute from `from` on, by the clock, that matches; INT64_MAX if
   there is none before `limit`. */
static int64_t next_match(const cron *c, int64_t from, int64_t limit) {
  int64_t days = floor_div(from, DAY_MINUTES);
  int minute = (int)floor_mod(from, DAY_MINUTES);
  while (days * DAY_MINUTES < limit) {
    civil d = civil_of(days);
    int at = day_matches(c, &d, days) ? minute_of_day(c, minute) : -1;
    if (at >= 0) return days * DAY_MINUTES + at;
    days = next_day(c, &d, days);
    minute = 0;
  }
  return INT64_MAX;
}

/* ---- the zone ----------------------------------------------------------- */

/* Rounded up, as a minute that has begun is over. */
static int64_t minute_from(int64_t seconds) {
  return -floor_div(-seconds, 60);
}

/* Is an expression that leaves hours out due in the hour that is missing
   where a span begins? */
static bool is_due_in_gap(const cron *c, const zone_span *s) {
  int64_t gap = minute_from(s->from + s->before);
  int64_t end = minute_from(s->from + s->offset);
  return !c->every_hour && s->from != INT64_MIN && gap < end &&
         next_match(c, gap, end) < end;
}

/* From where on the clock of a span shows what it has not shown before. */
static int64_t first_new_minute(const cron *c, const zone_span *s) {
  if (c->every_hour || s->from == INT64_MIN || s->before <= s->offset)
    return INT64_MIN;
  return minute_from(s->from + s->before);
}

/* The first moment of a span, from `at` on, in seconds; or INT64_MAX. */
static int64_t next_in_span(const cron *c, const zone_span *s, int64_t at,
                            int64_t limit) {
  if (at <= s->from && is_due_in_gap(c, s)) return s->from;
  int64_t from = minute_from(at + s->offset), fresh = first_new_minute(c, s);
  int64_t to = s->to < limit ? s->to : limit;
  int64_t m = next_match(c, from > fresh ? from : fresh,
                         minute_from(to + s->offset));
  if (m == INT64_MAX || m * 60 - s->offset >= to) return INT64_MAX;
  return m * 60 - s->offset;
}

int64_t cron_next(const cron *c, const zone *z, int64_t after) {
  int64_t at = floor_div(after, 1000) + 1;
  int64_t limit = at + (int64_t)FAR_YEARS * 366 * DAY_SECONDS;
  while (at < limit) {
    zone_span s = zone_at(z, at);
    int64_t found = next_in_span(c, &s, at, limit);
    if (found != INT64_MAX) return found * 1000;
    at = s.to;
  }
  return INT64_MAX;
}
