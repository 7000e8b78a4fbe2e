/* SPDX-License-Identifier: MIT */
/*
 * SQLSTATEs to codes. The first of the table whose prefix fits counts.
 */
#include "postgres/client/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
  const char *prefix;
  int code;
  bool broken; /* to be left: the server goes, or is the wrong one */
} states[] = {
  {"40001", RESPOOL_BUSY, false}, {"40P01", RESPOOL_BUSY, false},
  {"40003", RESPOOL_UNKNOWN_OUTCOME, true},
  {"55P03", RESPOOL_BUSY, false}, {"53300", RESPOOL_BUSY, true},
  {"57014", RESPOOL_TIMEOUT, false},
  {"53100", RESPOOL_NOSPACE, false}, {"53200", RESPOOL_NOMEM, false},
  {"54", RESPOOL_TOO_LARGE, false}, {"22001", RESPOOL_TOO_LARGE, false},
  {"22021", RESPOOL_INVALID, false}, /* see failure_code */
  {"23505", RESPOOL_EXISTS, false},
  {"3F000", RESPOOL_VERSION, false}, {"42P01", RESPOOL_VERSION, false},
  {"42883", RESPOOL_VERSION, false}, {"42703", RESPOOL_VERSION, false},
  {"3D000", RESPOOL_NOT_FOUND, false}, /* no such database */
  {"28", RESPOOL_DENIED, false}, {"42501", RESPOOL_DENIED, false},
  {"XX001", RESPOOL_CORRUPT, false}, {"XX002", RESPOOL_CORRUPT, false},
  {"08P01", RESPOOL_IO, false}, /* what we sent made no sense */
  {"25006", RESPOOL_IO, true}, /* a standby: the primary is elsewhere */
  {"57P", RESPOOL_IO, true}, {"08", RESPOOL_IO, true},
  {"25P03", RESPOOL_IO, true}, {"25P02", RESPOOL_IO, true},
};

static const size_t n_states = sizeof states / sizeof *states;

static size_t find(const char *sqlstate) {
  size_t i = 0;
  while (i < n_states &&
         strncmp(sqlstate, states[i].prefix, strlen(states[i].prefix)))
    i++;
  return i;
}

/* The first line of a text. */
static void copy_line(char *to, size_t size, const char *from) {
  size_t n = from ? strcspn(from, "\n") : 0;
  if (n >= size) n = size - 1;
  if (n) memcpy(to, from, n);
  to[n] = '\0';
}

void failure_read(pg_failure *f, const PGresult *r) {
  memset(f, 0, sizeof *f);
  copy_line(f->sqlstate, sizeof f->sqlstate,
            pq.resultErrorField(r, PG_SQLSTATE));
  copy_line(f->text, sizeof f->text, pq.resultErrorField(r, PG_MESSAGE));
  copy_line(f->detail, sizeof f->detail, pq.resultErrorField(r, PG_DETAIL));
  size_t i = find(f->sqlstate);
  f->broken = !*f->sqlstate || (i < n_states && states[i].broken);
  f->sent = true;
}

void failure_broken(pg_failure *f, bool sent, const char *why) {
  memset(f, 0, sizeof *f);
  copy_line(f->text, sizeof f->text, why);
  f->broken = true;
  f->sent = sent;
}

bool failure_is(const pg_failure *f, const char *sqlstate) {
  return !strcmp(f->sqlstate, sqlstate);
}

bool failure_passes(const pg_failure *f) {
  return failure_is(f, "40001") || failure_is(f, "40P01");
}

int failure_code(const pg_failure *f, const char *store) {
  if (!strncmp(f->sqlstate, "RS0", 3)) { /* said by respool itself */
    int code = -atoi(f->sqlstate + 3);
    return fail(code > -30 ? code : RESPOOL_BUSY, "%s", f->text);
  }
  size_t i = find(f->sqlstate);
  int code = i < n_states ? states[i].code : RESPOOL_IO;
  if (code == RESPOOL_VERSION)
    return fail(code, "no respool schema of a known version in %.80s: %.100s",
                store, f->text);
  if (code == RESPOOL_INVALID) /* the only texts that users choose */
    return fail(code, "names of queues, DLQs, replays and schedules "
                "must be UTF-8 in a database");
  if (strstr(f->text, "no encryption")) /* at its end, which might be cut */
    return fail(code, "%.80s: no entry of its pg_hba.conf lets this user in "
                "without encryption; sslmode=require asks for TLS", store);
  return fail(code, "%.80s: %.150s", store, f->text);
}
