/* SPDX-License-Identifier: MIT */
/*
 * Calls that happen once; see call.h.
 *
 * Ensures, whatever the connection does meanwhile: 1 a call that answers 0 has
 * happened, once; 2 one that answers another code has not happened and never
 * will, but where that is UNKNOWN_OUTCOME, or CORRUPT as the server has gone
 * back.
 */
#include "postgres/client/call.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/leases.h"

#define RESOLVE 30000
#define TRIES 5          /* after deadlocks and the like */
#define ID_BLOCK 65536
#define TOKEN_BLOCK 4096
#define REMEMBERED 3600000 /* ms that a change is sure to be noted there */
#define SLOTS 64         /* that maintenance leaves alone */
#define SLOT_USES 300
#define SLOT_TURNS 128
#define CALLS 300        /* with one row: its versions are a chain, too */

void session_init(session *l, const url *u, _Atomic bool *prepare,
               struct random *chance) {
  memset(l, 0, sizeof *l);
  connection_init(&l->at, u, prepare);
  l->chance = chance;
  l->patience = u->patience;
  l->resolve = u->patience > RESOLVE ? u->patience : RESOLVE;
  l->slot = (int)(random_next(chance) * SLOTS);
}

void session_close(session *l) {
  connection_close(&l->at);
}

int session_slot(session *l) {
  unsigned turn = ++l->used / SLOT_USES % SLOT_TURNS;
  return l->slot + (int)turn * SLOTS;
}

/* ---- ids of calls ------------------------------------------------------- */

static void put_time(uint8_t id[16], int64_t ms) {
  for (int i = 5; i >= 0; i--, ms >>= 8) id[i] = (uint8_t)ms;
}

static int64_t wall_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A UUID of version 7 (RFC 9562): the time, then 74 random bits. Those of old
   rows lie together. */
static void make_row(uint8_t id[16], struct random *chance) {
  uint64_t a = (uint64_t)(random_next(chance) * 0x1p53);
  uint64_t b = (uint64_t)(random_next(chance) * 0x1p53);
  put_time(id, wall_now());
  for (int i = 6; i < 11; i++, a >>= 8) id[i] = (uint8_t)a;
  for (int i = 11; i < 16; i++, b >>= 8) id[i] = (uint8_t)b;
  id[6] = (uint8_t)(0x70 | (id[6] & 0x0f));
  id[8] = (uint8_t)(0x80 | (id[8] & 0x3f));
}

static void put_number(uint8_t to[2], int n) {
  to[0] = (uint8_t)((unsigned)n >> 8);
  to[1] = (uint8_t)n;
}

void call_begin(session *l, call *k) {
  if (!k->changes) return;
  if (!l->calls || l->calls == CALLS) {
    make_row(l->call.row, l->chance);
    l->calls = 0;
  }
  put_number(l->call.no, ++l->calls);
  put_number(l->call.more, -l->calls);
  k->id = l->call;
}

void call_put(call *k, values *v, bool is_first) {
  k->changes = true;
  put_uuid(v, k->id.row);
  put_ready(v, is_first ? k->id.no : k->id.more, 2);
}

void call_clear(call *k) {
  for (size_t i = 0; i < k->n; i++) request_clear(&k->requests[i]);
  free(k->answer);
  k->answer = NULL;
  k->n_answer = 0;
}

/* ---- a server that went back ------------------------------------------- */

/* The answers of v1_seen. */
enum back { BACK_NOT, BACK_CHANGE, BACK_TOKENS, BACK_IDS };

static int gone_back(const session *l, enum back what) {
  static const char *const found[] = {
    "", "a commit that was on its disk is not there",
    "it gives out tokens again", "it gives out ids again"};
  return fail(RESPOOL_CORRUPT, "%.120s has gone back: %s", l->at.url->shown,
              found[what]);
}

static bool remembers(const session *l) {
  return l->last_at && clock_mono() - l->last_at < REMEMBERED;
}

/* Has the connection been asked, or is there nothing to ask about? */
static bool has_looked(const session *l) {
  return l->looked_back == l->at.opened + !l->at.c;
}

static int ask_back(session *l, int64_t deadline, enum back *what,
                    pg_failure *f) {
  values v;
  request r = {.statement = STATEMENT_SEEN, .values = &v};
  values_init(&v);
  put_uuid(&v, remembers(l) ? l->last.row : NULL);
  put_ready(&v, l->last.no, 2);
  put_int8(&v, (int64_t)l->tokens.end);
  put_int8(&v, (int64_t)l->ids.end);
  values_end(&v);
  int rc = connection_run(&l->at, &r, 1, false, deadline, f);
  *what = rc ? BACK_NOT : (enum back)value_int(r.result, 0, 0);
  if (!rc) request_clear(&r);
  values_free(&v);
  return rc;
}

/* Asks a new connection whether what the session has seen is there: 0, or
   CORRUPT. Where it could not be asked, has_looked says so, and `*f` why. */
static int look_back(session *l, int64_t deadline, pg_failure *f) {
  enum back what;
  if (!l->tokens.end && !l->ids.end && !l->last_at) {
    l->looked_back = l->at.opened + !l->at.c;
    return 0;
  }
  if (connection_open(&l->at, deadline, f) || has_looked(l)) return 0;
  if (ask_back(l, deadline, &what, f)) return 0;
  if (what) {
    connection_close(&l->at);
    return gone_back(l, what);
  }
  l->looked_back = l->at.opened;
  return 0;
}

static void note_change(session *l, const call *k) {
  if (!k->changes || k->relaxed) return;
  l->last = k->id;
  l->last_at = clock_mono();
}

/* ---- finding out -------------------------------------------------------- */

static void nap(const session *l, int64_t ms) {
  double share = 0.5 + random_next(l->chance) / 2;
  int64_t us = (int64_t)((double)ms * 1000 * share);
  struct timespec t = {us / 1000000, us % 1000000 * 1000};
  nanosleep(&t, NULL);
}

static int keep_answer(call *k, const PGresult *r) {
  size_t n = value_count(r, 0, 1);
  k->answer = calloc(n + 1, sizeof *k->answer);
  if (!k->answer) return RESPOOL_NOMEM;
  for (size_t i = 0; i < n; i++) k->answer[i] = value_element(r, 0, 1, i);
  k->n_answer = n;
  return 0;
}

/* Asks once whether the call has happened: 1 yes, 0 no and never, -1 nobody
   answers. */
static int ask(session *l, call *k, const values *v, int64_t deadline) {
  request r = {.statement = STATEMENT_RESOLVE, .values = (values *)v};
  pg_failure f;
  if (connection_run(&l->at, &r, 1, false, deadline, &f)) return -1;
  int happened = value_bool(r.result, 0, 0);
  if (happened && keep_answer(k, r.result)) happened = -1;
  request_clear(&r);
  return happened;
}

/* Likewise, with `*rc` set where a server answers that has gone back: there the
   row says nothing, and is to stay as it is. */
static int find_out(session *l, call *k, int *rc) {
  int64_t end = clock_mono() + l->resolve, pause = 10;
  int happened = -1;
  pg_failure f;
  values v;
  values_init(&v);
  put_uuid(&v, k->id.row);
  put_ready(&v, k->id.no, 2);
  values_end(&v);
  while (happened < 0 && clock_mono() < end) {
    if ((*rc = look_back(l, end, &f))) break;
    if (has_looked(l)) happened = ask(l, k, &v, end);
    if (happened >= 0) break;
    nap(l, pause);
    pause = pause * 2 < 1000 ? pause * 2 : 1000;
  }
  values_free(&v);
  return happened;
}

/* ---- running ------------------------------------------------------------ */

static int unknown(const session *l, const char *why) {
  return fail(RESPOOL_UNKNOWN_OUTCOME, "%.80s: %.150s", l->at.url->shown, why);
}

enum next { AGAIN, OVER };

/* The next step of a call whose connection broke. A server that refuses it is
   asked again less and less often, twice a second at least. */
static enum next after_break(session *l, call *k, int tries, int64_t end,
                             int *rc) {
  if (k->changes && k->why.sent) {
    int happened = find_out(l, k, rc);
    if (happened < 0 && !*rc) *rc = unknown(l, k->why.text);
    if (happened < 0) l->calls = 0; /* its row may be locked for long */
    k->resolved = happened > 0;
    if (happened) return OVER;
  }
  if (clock_mono() < end) {
    nap(l, 50 << (tries < 3 ? tries : 3));
    return AGAIN;
  }
  *rc = failure_code(&k->why, l->at.url->shown);
  return OVER;
}

static enum next after_failure(session *l, call *k, int tries, int64_t end,
                               int *rc) {
  if (k->why.broken) return after_break(l, k, tries, end, rc);
  if (failure_passes(&k->why) && tries < TRIES) {
    nap(l, 5 << tries);
    return AGAIN;
  }
  *rc = failure_code(&k->why, l->at.url->shown);
  return OVER;
}

int call_run(session *l, call *k) {
  int64_t end = clock_mono() + l->patience;
  int rc = 0;
  if (l->at.c && l->at.pid != getpid())
    return fail(RESPOOL_FORKED, "%s", respool_strerror(RESPOOL_FORKED));
  k->resolved = false;
  for (size_t i = 0; i < k->n; i++) {
    rc = values_end(k->requests[i].values);
    if (rc) return fail(rc, "%s", respool_strerror(rc));
  }
  for (int tries = 0;; tries++) {
    int64_t deadline = clock_mono() + l->patience;
    if ((rc = look_back(l, deadline, &k->why))) return rc;
    call_begin(l, k);
    if (has_looked(l) && !connection_run(&l->at, k->requests, k->n, k->relaxed,
                                         deadline, &k->why)) {
      note_change(l, k);
      return 0;
    }
    if (after_failure(l, k, tries, end, &rc) == OVER) {
      if (k->resolved) note_change(l, k);
      return rc;
    }
  }
}

/* ---- ids of items, tokens of leases ------------------------------------- */

static int fetch_block(session *l, block *b, enum statement s, uint64_t size) {
  values v;
  request r = {.statement = s, .values = &v};
  call k = {.requests = &r, .n = 1};
  values_init(&v);
  int rc = call_run(l, &k);
  uint64_t first = rc ? 0 : (uint64_t)value_int(r.result, 0, 0);
  call_clear(&k);
  values_free(&v);
  if (rc) return rc;
  if (first < b->end)
    return gone_back(l, s == STATEMENT_IDS ? BACK_IDS : BACK_TOKENS);
  b->next = first;
  b->end = first + size;
  return 0;
}

/* Ids of one call may cross into the next block when no other client came in
   between; else what is left of the old one is passed over. */
int session_ids(session *l, uint64_t n, uint64_t *first) {
  block *b = &l->ids;
  if (n > ID_BLOCK)
    return fail(RESPOOL_TOO_LARGE, "%llu items at once, %d at most",
                (unsigned long long)n, ID_BLOCK);
  if (b->next + n > b->end || !b->end) {
    int rc = fetch_block(l, b, STATEMENT_IDS, ID_BLOCK);
    if (rc) return rc;
  }
  *first = b->next;
  b->next += n;
  return 0;
}

void session_ids_back(session *l, uint64_t first, uint64_t n) {
  if (l->ids.next == first + n) l->ids.next = first;
}

int session_token(session *l, uint64_t worker, uint64_t *token) {
  block *b = &l->tokens;
  if (b->next == b->end) {
    int rc = fetch_block(l, b, STATEMENT_TOKENS, TOKEN_BLOCK);
    if (rc) return rc;
  }
  *token = token_make(b->next++, worker);
  return 0;
}
