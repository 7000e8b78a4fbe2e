/* SPDX-License-Identifier: MIT */
/*
 * Talking to a server; see connection.h. The connection stays in pipeline
 * mode but for scripts.
 */
#include "postgres/client/connection.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define HOSTS_MAX 32

void connection_init(connection *c, const url *u, _Atomic bool *prepare) {
  memset(c, 0, sizeof *c);
  c->url = u;
  c->prepare = prepare;
}

void request_clear(request *r) {
  if (r->result) pq.clear(r->result);
  r->result = NULL;
}

void connection_close(connection *c) {
  if (!c->c) return;
  if (c->pid == getpid()) pq.finish(c->c);
  /* else the socket is the parent's, and so is what libpq holds */
  c->c = NULL;
  memset(c->prepared, 0, sizeof c->prepared);
}

static int broken(connection *c, bool sent, const char *why, pg_failure *f) {
  failure_broken(f, sent, why);
  connection_close(c);
  return -1;
}

/* ---- waiting ------------------------------------------------------------ */

/* Waits for any of two descriptors: what the first is ready for, 0 at the
   deadline or when the other (-1: none) can be read. */
static int wait_for_either(int fd, short events, int other, int64_t deadline) {
  struct pollfd p[2] = {{.fd = fd, .events = events},
                        {.fd = other, .events = POLLIN}};
  for (;;) {
    int64_t left = deadline - clock_mono();
    if (left < 0) left = 0;
    int n = poll(p, 2, left > 3600000 ? 3600000 : (int)left);
    if (n > 0) return p[0].revents;
    if (n == 0 && clock_mono() >= deadline) return 0;
    if (n < 0 && errno != EINTR) return POLLERR;
  }
}

/* Waits for the socket: what it is ready for, 0 at the deadline. */
static int wait_for(const connection *c, short events, int64_t deadline) {
  return wait_for_either(pq.socket(c->c), events, -1, deadline);
}

bool wait_readable(int fd, int64_t deadline) {
  return wait_for_either(fd, POLLIN, -1, deadline) != 0;
}

static const char *timed_out(void) {
  return "the server did not answer in time";
}

/* ---- connecting --------------------------------------------------------- */

/* A warning at the commit: the wait for a standby was cut off. It is known by
   the function that gives it, as its SQLSTATE is also that of the last words
   of a server that is stopped. */
static void hear_notice(void *arg, const PGresult *r) {
  connection *c = arg;
  const char *from = pq.resultErrorField(r, PG_FUNCTION);
  if (from && !strcmp(from, "SyncRepWaitForLSN")) c->doubtful = true;
}

/* The `k`-th of a list with commas; the only one stands for all. */
static char *piece(const char *list, size_t k) {
  const char *at = list;
  if (!strchr(list, ',')) return strdup(list);
  while (k-- > 0 && strchr(at, ',')) at = strchr(at, ',') + 1;
  return strndup(at, strcspn(at, ","));
}

static bool is_list(const char *key) {
  return !strcmp(key, "host") || !strcmp(key, "hostaddr") ||
         !strcmp(key, "port");
}

static size_t count_hosts(const url *u) {
  size_t most = 1;
  for (size_t i = 0; i < u->n; i++) {
    size_t n = 1;
    if (!is_list(u->keys[i])) continue;
    for (const char *p = u->values[i]; *p; p++) n += *p == ',';
    if (n > most) most = n;
  }
  return most < HOSTS_MAX ? most : HOSTS_MAX;
}

static int64_t patience_of(const url *u) {
  for (size_t i = 0; i < u->n; i++)
    if (!strcmp(u->keys[i], "connect_timeout"))
      return atoi(u->values[i]) > 0 ? atoi(u->values[i]) * 1000 : INT64_MAX;
  return 2000;
}

static PGconn *start(const url *u, size_t host) {
  const char *here[URL_OPTIONS + 1];
  char *own[URL_OPTIONS] = {NULL};
  for (size_t i = 0; i <= u->n; i++) here[i] = u->values[i];
  for (size_t i = 0; i < u->n; i++)
    if (is_list(u->keys[i])) here[i] = own[i] = piece(u->values[i], host);
  PGconn *c = pq.connectStartParams((const char *const *)u->keys, here, 0);
  for (size_t i = 0; i < u->n; i++) free(own[i]);
  return c;
}

static int drive(connection *c, int64_t deadline, pg_failure *f) {
  int next = PG_POLL_WRITING;
  while (next != PG_POLL_OK) {
    short events = next == PG_POLL_READING ? POLLIN : POLLOUT;
    if (!wait_for(c, events, deadline))
      return broken(c, false, timed_out(), f);
    next = pq.connectPoll(c->c);
    if (next == PG_POLL_FAILED) {
      failure_broken(f, false, pq.errorMessage(c->c));
      connection_close(c);
      return -1;
    }
  }
  return 0;
}

static int set_up(connection *c, pg_failure *f) {
  if (pq.serverVersion(c->c) < 120000)
    return broken(c, false, "PostgreSQL 12 or newer is needed", f);
  pq.setNoticeReceiver(c->c, hear_notice, c);
  if (pq.setnonblocking(c->c, 1) || !pq.enterPipelineMode(c->c))
    return broken(c, false, pq.errorMessage(c->c), f);
  return 0;
}

static int try_host(connection *c, size_t host, int64_t deadline,
                    pg_failure *f) {
  c->c = start(c->url, host);
  c->pid = getpid();
  c->doubtful = false;
  if (!c->c) return broken(c, false, "not enough memory", f);
  if (pq.status(c->c) == PG_CONNECTION_BAD)
    return broken(c, false, pq.errorMessage(c->c), f);
  int rc = drive(c, deadline, f);
  if (!rc) rc = set_up(c, f);
  c->opened += !rc;
  return rc;
}

int connection_open(connection *c, int64_t deadline, pg_failure *f) {
  size_t n = count_hosts(c->url);
  int64_t patience = patience_of(c->url);
  if (c->c && c->pid != getpid()) connection_close(c);
  if (c->c) return 0;
  for (size_t i = 0; i < n; i++) {
    int64_t now = clock_mono(), end = deadline;
    if (patience < deadline - now) end = now + patience;
    memset(f, 0, sizeof *f); /* what the host before said */
    if (!try_host(c, i, end, f)) return 0;
  }
  return -1;
}

/* ---- sending ------------------------------------------------------------ */

static bool is_prepared(const connection *c, const request *r, bool relaxed) {
  return c->prepared[relaxed][r->statement];
}

static void name_of(enum statement s, bool relaxed, char name[64]) {
  snprintf(name, 64, "respool_%s%s", statement_name(s), relaxed ? "_r" : "");
}

static int send_one(connection *c, const request *r, bool relaxed,
                    bool prepare) {
  const values *v = r->values;
  char name[64], text[STATEMENT_TEXT];
  name_of(r->statement, relaxed, name);
  if (prepare)
    return pq.sendQueryPrepared(c->c, name, v->n, v->at, v->length, v->format,
                                1);
  statement_text(r->statement, c->url->quoted, relaxed, text);
  return pq.sendQueryParams(c->c, text, v->n, NULL, v->at, v->length,
                            v->format, 1);
}

static int send_prepare(connection *c, const request *r, bool relaxed) {
  char name[64], text[STATEMENT_TEXT];
  name_of(r->statement, relaxed, name);
  statement_text(r->statement, c->url->quoted, relaxed, text);
  return pq.sendPrepare(c->c, name, text, 0, NULL);
}

/* Is an earlier request of the same statement being prepared already? */
static bool repeats(const request *r, size_t i) {
  for (size_t k = 0; k < i; k++)
    if (r[k].statement == r[i].statement) return true;
  return false;
}

static bool wants_prepare(const connection *c, const request *r, size_t i,
                          bool relaxed, bool prepare) {
  return prepare && !is_prepared(c, &r[i], relaxed) && !repeats(r, i);
}

/* Sends what libpq has queued, reading what arrives, so that neither side
   waits for the other to read. */
static int flush(connection *c, const char **why) {
  int left;
  while ((left = pq.flush(c->c)) > 0) {
    int events = wait_for(c, POLLIN | POLLOUT, c->until);
    *why = timed_out();
    if (!events) return -1;
    c->until = clock_mono() + c->slack;
    if (events & POLLIN && !pq.consumeInput(c->c)) break;
  }
  if (!left) return 0;
  *why = pq.errorMessage(c->c);
  return -1;
}

static int send_all(connection *c, request *r, size_t n, bool relaxed,
                    bool prepare, pg_failure *f) {
  const char *why = NULL;
  bool ok = true;
  for (size_t i = 0; i < n && ok; i++) {
    if (wants_prepare(c, r, i, relaxed, prepare))
      ok = send_prepare(c, &r[i], relaxed);
    if (ok) ok = send_one(c, &r[i], relaxed, prepare);
  }
  if (!ok || !pq.pipelineSync(c->c))
    return broken(c, false, pq.errorMessage(c->c), f);
  if (flush(c, &why)) return broken(c, true, why, f);
  return 0;
}

/* ---- receiving ---------------------------------------------------------- */

/* The next result, or NULL where a command's end with `*why` unset; with
   `*why` the connection is of no more use. */
static PGresult *receive(connection *c, const char **why) {
  while (pq.isBusy(c->c)) {
    if (!wait_for(c, POLLIN, c->until)) {
      *why = timed_out();
      return NULL;
    }
    c->until = clock_mono() + c->slack;
    if (!pq.consumeInput(c->c)) {
      *why = pq.errorMessage(c->c);
      return NULL;
    }
  }
  PGresult *r = pq.getResult(c->c);
  if (!r && pq.status(c->c) != PG_CONNECTION_OK)
    *why = pq.errorMessage(c->c);
  return r;
}

/* One command's result: kept in `*to`, or where it has failed in `*f`, which
   the first failure fills. True when it went well. */
static bool take_result(PGresult *r, PGresult **to, pg_failure *f) {
  int status = pq.resultStatus(r);
  if (status == PG_TUPLES_OK || status == PG_COMMAND_OK) {
    if (to)
      *to = r;
    else
      pq.clear(r);
    return true;
  }
  if (status != PG_PIPELINE_ABORTED && !*f->sqlstate && !*f->text)
    failure_read(f, r);
  pq.clear(r);
  return false;
}

/* The result of one command, and the NULL that ends it. */
static int receive_one(connection *c, PGresult **to, pg_failure *f,
                       bool *ok) {
  const char *why = NULL;
  PGresult *r = receive(c, &why);
  *ok = r && take_result(r, to, f);
  if (r && !why) r = receive(c, &why);
  if (!why) return 0;
  if (!*f->text || !*f->sqlstate) failure_broken(f, true, why);
  return -1;
}

/* The commit may fail itself: then a NULL stands behind its result. */
static int receive_sync(connection *c, pg_failure *f) {
  const char *why = NULL;
  bool over = false, failed = false;
  while (!over) {
    PGresult *r = receive(c, &why);
    if (!r && (why || !failed)) {
      failure_broken(f, true, why ? why : "a reply is missing");
      return -1;
    }
    failed = r && pq.resultStatus(r) != PG_PIPELINE_SYNC;
    over = r && !failed;
    if (failed) failure_read(f, r);
    if (r) pq.clear(r);
    if (failed && f->broken) return -1;
  }
  return 0;
}

static int receive_all(connection *c, request *r, size_t n, bool relaxed,
                       bool prepare, pg_failure *f) {
  bool was[STATEMENT_COUNT], ok;
  memcpy(was, c->prepared[relaxed], sizeof was);
  for (size_t i = 0; i < n; i++) {
    if (prepare && !was[r[i].statement] && !repeats(r, i)) {
      if (receive_one(c, NULL, f, &ok)) return -1;
      c->prepared[relaxed][r[i].statement] = ok;
    }
    bool first = !*f->sqlstate;
    if (receive_one(c, &r[i].result, f, &ok)) return -1;
    if (first && *f->sqlstate) f->at = i;
  }
  return receive_sync(c, f);
}

/* ---- running ------------------------------------------------------------ */

static void set_deadline(connection *c, int64_t deadline) {
  c->until = deadline;
  c->slack = deadline - clock_mono();
}

static int run(connection *c, request *r, size_t n, bool relaxed,
               bool prepare, int64_t deadline, pg_failure *f) {
  memset(f, 0, sizeof *f);
  for (size_t i = 0; i < n; i++) r[i].result = NULL;
  int rc = connection_open(c, deadline, f);
  if (rc) return rc;
  set_deadline(c, deadline);
  rc = send_all(c, r, n, relaxed, prepare, f);
  if (!rc) rc = receive_all(c, r, n, relaxed, prepare, f);
  if (!rc && c->doubtful) /* as good as no answer */
    failure_broken(f, true, "the commit did not wait for a standby");
  if (rc || f->broken) connection_close(c);
  if (!rc && !*f->sqlstate && !f->broken) return 0;
  for (size_t i = 0; i < n; i++) request_clear(&r[i]);
  return -1;
}

/* A pooler hands each transaction to another server, which has not prepared
   the statement, or has for somebody else. */
static bool is_pooled(const pg_failure *f) {
  return failure_is(f, "26000") || failure_is(f, "42P05");
}

int connection_run(connection *c, request *r, size_t n, bool relaxed,
                   int64_t deadline, pg_failure *f) {
  bool prepare = *c->prepare;
  int rc = run(c, r, n, relaxed, prepare, deadline, f);
  if (!rc || !prepare || !is_pooled(f)) return rc;
  *c->prepare = false;
  return run(c, r, n, relaxed, false, deadline, f);
}

/* ---- scripts and notifications ------------------------------------------ */

static int run_script(connection *c, const char *sql, pg_failure *f) {
  const char *why = NULL;
  PGresult *r;
  if (!pq.sendQuery(c->c, sql) || flush(c, &why))
    return broken(c, true, why ? why : pq.errorMessage(c->c), f);
  while ((r = receive(c, &why))) take_result(r, NULL, f);
  if (why) return broken(c, true, why, f);
  return *f->sqlstate ? -1 : 0;
}

int connection_script(connection *c, const char *sql, int64_t deadline,
                      pg_failure *f) {
  memset(f, 0, sizeof *f);
  int rc = connection_open(c, deadline, f);
  if (rc) return rc;
  pq.exitPipelineMode(c->c);
  set_deadline(c, deadline);
  rc = run_script(c, sql, f);
  if (f->broken) connection_close(c);
  if (c->c) pq.enterPipelineMode(c->c);
  return rc;
}

static bool next_notice(connection *c, char *text, size_t size) {
  bool any = false;
  pg_notify *n;
  while ((n = pq.notifies(c->c))) {
    snprintf(text, size, "%s", n->extra);
    pq.freemem(n);
    any = true;
  }
  return any;
}

bool connection_hear(connection *c, int64_t deadline, int wake, char *text,
                     size_t size, pg_failure *f) {
  memset(f, 0, sizeof *f);
  while (!next_notice(c, text, size)) {
    if (!wait_for_either(pq.socket(c->c), POLLIN, wake, deadline))
      return false;
    if (!pq.consumeInput(c->c)) {
      broken(c, true, pq.errorMessage(c->c), f);
      return false;
    }
  }
  return true;
}
