/* SPDX-License-Identifier: MIT */
#include "postgres/check.h"

#include "postgres/queue/plan.h"
#include "postgres/record/taken.h"
#include "record/dead/record.h"
#include "record/dead/replay.h"
#include "record/fields.h"

#define PAGE 64 /* rows that one call looks at */
#define PATIENCE 600000 /* ms; the invariants need all there is */

typedef struct checking {
  pg_env *e;
  session *l;
  packer *to;
  plan p;
} checking;

#define find(k, ...) pack_finding((k)->to, __VA_ARGS__)

/* The next call; the answer of the last is gone. */
static values *ask(checking *k, enum statement s) {
  plan_free(&k->p);
  plan_init(&k->p, k->e, k->l);
  return plan_add(&k->p, s, NULL);
}

/* Its answer; NULL: `*rc` says why. */
static const PGresult *answer(checking *k, int *rc) {
  *rc = plan_run(&k->p, false);
  return *rc ? NULL : plan_answer(&k->p, 0);
}

static int invariants(checking *k) {
  int rc;
  ask(k, STATEMENT_CHECK);
  const PGresult *r = answer(k, &rc);
  for (int i = 0; r && i < pq.ntuples(r); i++)
    pack_phrase(k->to, value_bytes(r, i, 0));
  return rc;
}

/* ---- checksums ---------------------------------------------------------- */

static void check_run(checking *k, const taken *t, const char *of) {
  run_reader r;
  unsigned long long first = t->first;
  if (!run_open(&r, t->bytes, t->first, t->n, t->skip)) {
    find(k, "%srun %llu: its bytes are damaged", of, first);
    return;
  }
  for (uint32_t i = 0; i < t->n; i++) {
    respool_bytes packed;
    if (taken_live(t, i) && !run_item(&r, i, &packed))
      find(k, "%sitem %llu: its checksum does not hold", of, first + i);
  }
}

/* How far a walk over rows is: what its statement goes on behind. */
typedef struct place {
  int64_t queue, at, behind;
} place;

/* Walks over the rows of a statement, a page a call. put() writes where to go
   on, row() looks at a row and moves the place. */
static int walk(checking *k, enum statement s,
                void (*put)(values *v, const place *p),
                void (*row)(checking *k, const PGresult *r, int i, place *p)) {
  place at = {0};
  for (int rc, n = PAGE; n == PAGE;) {
    values *v = ask(k, s);
    put(v, &at);
    put_int4(v, PAGE);
    const PGresult *r = answer(k, &rc);
    if (!r) return rc;
    n = pq.ntuples(r);
    for (int i = 0; i < n; i++) row(k, r, i, &at);
  }
  return 0;
}

static void put_run(values *v, const place *p) {
  put_int8(v, p->behind);
}

static void look_at_run(checking *k, const PGresult *r, int i, place *p) {
  taken t = {0};
  bool whole = taken_read(r, i, &t);
  if (whole)
    check_run(k, &t, "");
  else
    find(k, "run %llu: its row is damaged", (unsigned long long)t.first);
  p->behind = (int64_t)t.first;
}

static int runs(checking *k) {
  return walk(k, STATEMENT_SCAN, put_run, look_at_run);
}

static void put_moment(values *v, const place *p) {
  put_int4(v, p->queue);
  put_int8(v, p->at);
  put_int8(v, p->behind);
}

static void look_at_finished(checking *k, const PGresult *r, int i, place *p) {
  taken t;
  p->queue = taken_read_finished(r, i, &t);
  check_run(k, &t, "history: ");
  p->at = t.due;
  p->behind = (int64_t)t.first;
}

static int history(checking *k) {
  return walk(k, STATEMENT_SCAN_HISTORY, put_moment, look_at_finished);
}

/* Rows of v1_scan_dead. */
enum { BOX, NAME, NUMBER, RECORD };

static void put_number(values *v, const place *p) {
  put_int4(v, p->queue);
  put_int8(v, p->behind);
}

static void look_at_dead(checking *k, const PGresult *r, int i, place *p) {
  dead l;
  respool_bytes name = value_bytes(r, i, NAME);
  p->queue = value_int(r, i, BOX);
  p->behind = value_int(r, i, NUMBER);
  if (!dead_unpack(name, value_bytes(r, i, RECORD), &l))
    find(k, "dead letter %lld of DLQ '%.*s': its checksum does not hold",
         (long long)p->behind, (int)name.size, (const char *)name.data);
}

static int dead_letters(checking *k) {
  return walk(k, STATEMENT_SCAN_DEAD, put_number, look_at_dead);
}

static int replays(checking *k) {
  int rc;
  ask(k, STATEMENT_SCAN_REPLAYS);
  const PGresult *r = answer(k, &rc);
  for (int i = 0; r && i < pq.ntuples(r); i++) {
    respool_replay replay = RESPOOL_REPLAY_INIT;
    respool_bytes name = value_bytes(r, i, 0);
    if (!replay_unpack(key_seed(name), value_bytes(r, i, 1), &replay))
      find(k, "named replay '%.*s': its checksum does not hold",
           (int)name.size, (const char *)name.data);
  }
  return rc;
}

int pg_check(pg_env *e, session *l, packer *findings) {
  static int (*const parts[])(checking *k) = {invariants, runs, history,
                                              dead_letters, replays};
  checking k = {.e = e, .l = l, .to = findings};
  int rc = 0;
  plan_init(&k.p, e, l);
  l->patience = PATIENCE;
  for (size_t i = 0; i < sizeof parts / sizeof *parts && !rc; i++)
    rc = parts[i](&k);
  l->patience = e->url.patience;
  plan_free(&k.p);
  return rc ? rc : findings->rc;
}
