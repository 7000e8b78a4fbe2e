/* SPDX-License-Identifier: MIT */
/*
 * Time zones; see zone.h. A file lists the changes of the past and of some
 * years to come; the rule behind them (a POSIX TZ string) goes on from there.
 */
#include "schedule/zone.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "schedule/civil.h"

enum { FILE_MAX = 1 << 18, HEADER = 44, NAME_MAX_SIZE = 64 };

/* The day of a yearly change: Jn (no 29 February), n, or Mm.w.d. */
typedef struct change_day {
  enum { NO_LEAP_DAY, DAY_OF_YEAR, WEEK_OF_MONTH } kind;
  int n, week, weekday; /* `n`: the day, or the month */
  int32_t time;         /* seconds after midnight, by the clock before */
} change_day;

typedef struct yearly_rule {
  bool given, has_summer;
  int32_t standard, summer; /* offsets */
  change_day begins, ends;
} yearly_rule;

typedef struct change {
  int64_t at;
  int32_t offset; /* from then on */
} change;

struct zone {
  int32_t first; /* the offset before all changes */
  size_t n;
  change *changes;
  yearly_rule rule;
};

/* ---- the yearly rule ---------------------------------------------------- */

/* A reader of characters; `bad` is sticky. */
typedef struct scanner {
  const char *at;
  bool bad;
} scanner;

static bool skip(scanner *s, char c) {
  if (*s->at != c) return false;
  s->at++;
  return true;
}

static int scan_number(scanner *s, int min, int max) {
  int n = 0;
  const char *begin = s->at;
  while (*s->at >= '0' && *s->at <= '9' && n <= max)
    n = n * 10 + *s->at++ - '0';
  if (s->at == begin || n < min || n > max) s->bad = true;
  return n;
}

/* [+-]h[h][:mm[:ss]] in seconds. */
static int32_t scan_time(scanner *s, int max_hours) {
  int sign = skip(s, '-') ? -1 : (skip(s, '+'), 1);
  int32_t t = scan_number(s, 0, max_hours) * 3600;
  if (skip(s, ':')) t += scan_number(s, 0, 59) * 60;
  if (skip(s, ':')) t += scan_number(s, 0, 59);
  return sign * t;
}

static void scan_abbreviation(scanner *s) {
  const char *begin = s->at;
  bool quoted = skip(s, '<');
  while (*s->at && (quoted ? *s->at != '>' : !strchr("0123456789+-,", *s->at)))
    s->at++;
  if (quoted && !skip(s, '>')) s->bad = true;
  if (s->at == begin) s->bad = true;
}

static change_day scan_change_day(scanner *s) {
  change_day d = {.time = 2 * 3600};
  if (skip(s, 'M')) {
    d.kind = WEEK_OF_MONTH;
    d.n = scan_number(s, 1, 12);
    if (!skip(s, '.')) s->bad = true;
    d.week = scan_number(s, 1, 5);
    if (!skip(s, '.')) s->bad = true;
    d.weekday = scan_number(s, 0, 6);
  } else if (skip(s, 'J')) {
    d.kind = NO_LEAP_DAY;
    d.n = scan_number(s, 1, 365);
  } else {
    d.kind = DAY_OF_YEAR;
    d.n = scan_number(s, 0, 365);
  }
  if (skip(s, '/')) d.time = scan_time(s, 167);
  return d;
}

/* A POSIX TZ string, as RFC 8536 section 3.3 extends it. */
static bool scan_rule(yearly_rule *r, const char *text) {
  scanner s = {.at = text};
  memset(r, 0, sizeof *r);
  if (!*text) return true;
  r->given = true;
  scan_abbreviation(&s);
  r->standard = -scan_time(&s, 24);
  if (!*s.at) return !s.bad;
  r->has_summer = true;
  scan_abbreviation(&s);
  r->summer = *s.at && *s.at != ',' ? -scan_time(&s, 24) : r->standard + 3600;
  if (!skip(&s, ',')) return false;
  r->begins = scan_change_day(&s);
  if (!skip(&s, ',')) return false;
  r->ends = scan_change_day(&s);
  return !s.bad && !*s.at;
}

static int64_t day_of_change(const change_day *d, int64_t year) {
  int64_t first = days_of(year, 1, 1);
  if (d->kind == DAY_OF_YEAR) return first + d->n;
  if (d->kind == NO_LEAP_DAY) {
    bool after_leap_day = d->n >= 60 && days_in_month(year, 2) == 29;
    return first + d->n - 1 + after_leap_day;
  }
  first = days_of(year, d->n, 1);
  int day = 1 + (d->weekday - weekday_of(first) + 7) % 7 + (d->week - 1) * 7;
  return first + (day > days_in_month(year, d->n) ? day - 7 : day) - 1;
}

static int64_t moment_of_change(const change_day *d, int64_t year,
                                int32_t before) {
  return day_of_change(d, year) * DAY_SECONDS + d->time - before;
}

/* ---- the file ----------------------------------------------------------- */

static int64_t big_endian(const uint8_t *b, int size) {
  uint64_t n = b[0] & 0x80 ? ~(uint64_t)0 : 0;
  for (int i = 0; i < size; i++) n = n << 8 | b[i];
  return (int64_t)n;
}

/* The counts of a header, RFC 8536 section 3.1. */
typedef struct counts {
  size_t utc, std, leap, times, types, chars;
} counts;

static bool read_counts(const uint8_t *b, size_t size, counts *c) {
  if (size < HEADER || memcmp(b, "TZif", 4) != 0 || b[4] < '2') return false;
  size_t *const n[] = {&c->utc, &c->std, &c->leap,
                       &c->times, &c->types, &c->chars};
  for (int i = 0; i < 6; i++) {
    int64_t v = big_endian(b + 20 + 4 * i, 4);
    if (v < 0 || v > FILE_MAX) return false;
    *n[i] = (size_t)v;
  }
  return true;
}

/* Bytes of the data behind a header. */
static size_t data_size(const counts *c, size_t time_size) {
  return c->times * (time_size + 1) + c->types * 6 + c->chars +
         c->leap * (time_size + 4) + c->std + c->utc;
}

/* The changes; `types` follows the times and the type of each. */
static bool read_changes(zone *z, const uint8_t *b, const counts *c) {
  const uint8_t *type_of = b + c->times * 8, *types = type_of + c->times;
  z->changes = calloc(c->times + 1, sizeof *z->changes);
  if (!z->changes) return false;
  z->first = (int32_t)big_endian(types, 4);
  for (size_t i = 0; i < c->times; i++) {
    change *x = &z->changes[z->n++];
    if (type_of[i] >= c->types) return false;
    x->at = big_endian(b + i * 8, 8);
    x->offset = (int32_t)big_endian(types + type_of[i] * 6, 4);
    if (i > 0 && x->at <= x[-1].at) return false;
    if (x->offset < -DAY_SECONDS || x->offset > DAY_SECONDS) return false;
  }
  return true;
}

/* "\n", the rule, "\n". */
static bool read_footer(zone *z, const uint8_t *b, size_t size) {
  char text[128];
  const uint8_t *end = size > 1 ? memchr(b + 1, '\n', size - 1) : NULL;
  size_t n = end ? (size_t)(end - b) - 1 : 0;
  if (!end || *b != '\n' || n >= sizeof text || memchr(b, 0, n)) return false;
  memcpy(text, b + 1, n);
  text[n] = 0;
  return scan_rule(&z->rule, text);
}

/* The second block has times of 64 bits. */
static bool read_zone(zone *z, const uint8_t *b, size_t size) {
  counts c;
  if (!read_counts(b, size, &c)) return false;
  size_t skipped = HEADER + data_size(&c, 4);
  if (skipped > size || !read_counts(b + skipped, size - skipped, &c))
    return false;
  b += skipped + HEADER;
  size -= skipped + HEADER;
  if (data_size(&c, 8) > size || !c.types || c.leap) return false;
  return read_changes(z, b, &c) &&
         read_footer(z, b + data_size(&c, 8), size - data_size(&c, 8));
}

/* No name leads out of the database. */
static bool is_name(const char *name) {
  size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                          "0123456789_+-/");
  return n > 0 && n < NAME_MAX_SIZE && !name[n] && *name != '/';
}

static int no_such_zone(const char *what) {
  return invalid(what, "\"UTC\" or the name of a time zone of the system's tz "
                       "database (package tzdata), as \"Europe/Berlin\"");
}

static int read_file(const char *what, const char *name, uint8_t *b,
                     size_t *size) {
  char path[PATH_MAX];
  const char *dir = getenv("TZDIR");
  snprintf(path, sizeof path, "%s/%s",
           dir && *dir ? dir : "/usr/share/zoneinfo", name);
  FILE *f = fopen(path, "rb");
  if (!f && (errno == ENOENT || errno == ENOTDIR)) return no_such_zone(what);
  if (!f) return fail(RESPOOL_IO, "cannot read %s: %s", path, strerror(errno));
  *size = fread(b, 1, FILE_MAX, f);
  int read_error = ferror(f) ? errno : 0;
  fclose(f);
  if (read_error == EISDIR) return no_such_zone(what);
  return read_error ? fail(RESPOOL_IO, "cannot read %s: %s", path,
                           strerror(read_error)) : 0;
}

static int load_file(const char *what, const char *name, zone *z) {
  size_t size = 0;
  uint8_t *b = malloc(FILE_MAX);
  if (!b) return fail(RESPOOL_NOMEM, "out of memory");
  int rc = read_file(what, name, b, &size);
  if (!rc && (size < 4 || memcmp(b, "TZif", 4) != 0)) rc = no_such_zone(what);
  if (!rc && !read_zone(z, b, size))
    rc = fail(RESPOOL_CORRUPT, "the file of time zone %s cannot be read", name);
  free(b);
  return rc;
}

int zone_load(const char *what, const char *name, zone **out) {
  if (!name || !is_name(name)) return no_such_zone(what);
  zone *z = calloc(1, sizeof *z);
  if (!z) return fail(RESPOOL_NOMEM, "out of memory");
  int rc = strcmp(name, "UTC") == 0 ? 0 : load_file(what, name, z);
  if (rc)
    zone_free(z);
  else
    *out = z;
  return rc;
}

void zone_free(zone *z) {
  if (!z) return;
  free(z->changes);
  free(z);
}

/* ---- the span of a moment ----------------------------------------------- */

enum { YEARLY_MAX = 6 }; /* the changes of three years */

static void insert_change(change *list, size_t *n, change x) {
  size_t i = (*n)++;
  for (; i > 0 && list[i - 1].at > x.at; i--) list[i] = list[i - 1];
  list[i] = x;
}

/* The rule's changes about `at`, those that come after the listed ones. */
static size_t yearly_changes(const zone *z, int64_t at, change *list) {
  const yearly_rule *r = &z->rule;
  int64_t year = civil_of(floor_div(at, DAY_SECONDS)).year;
  int64_t last = z->n ? z->changes[z->n - 1].at : INT64_MIN;
  size_t n = 0;
  if (!r->given || !r->has_summer) return 0;
  for (int64_t y = year - 1; y <= year + 1; y++) {
    change begins = {moment_of_change(&r->begins, y, r->standard), r->summer};
    change ends = {moment_of_change(&r->ends, y, r->summer), r->standard};
    if (begins.at > last) insert_change(list, &n, begins);
    if (ends.at > last) insert_change(list, &n, ends);
  }
  return n;
}

/* How many changes are not after `at`. */
static size_t changes_until(const change *list, size_t n, int64_t at) {
  size_t from = 0, to = n;
  while (from < to) {
    size_t mid = from + (to - from) / 2;
    if (list[mid].at <= at)
      from = mid + 1;
    else
      to = mid;
  }
  return from;
}

static void enter_changes(zone_span *s, const change *list, size_t n,
                          int64_t at) {
  size_t past = changes_until(list, n, at);
  for (size_t i = past > 1 ? past - 2 : 0; i < past; i++) {
    s->before = s->offset;
    s->offset = list[i].offset;
    s->from = list[i].at;
  }
  if (past < n && list[past].at < s->to) s->to = list[past].at;
}

zone_span zone_at(const zone *z, int64_t at) {
  change yearly[YEARLY_MAX];
  zone_span s = {INT64_MIN, INT64_MAX, z->first, z->first};
  enter_changes(&s, z->changes, z->n, at);
  if (s.to == INT64_MAX)
    enter_changes(&s, yearly, yearly_changes(z, at, yearly), at);
  return s;
}
