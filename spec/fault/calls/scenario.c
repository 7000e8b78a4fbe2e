/* SPDX-License-Identifier: MIT */
/*
 * The scenario; see scenario.h. A verb that fails must say one of the codes
 * that its fault may cause, and must succeed when it is called again, as only
 * one call fails. What has an unknown outcome is not tried again: the ledger
 * leaves both places open.
 */
#include "scenario.h"

#include <stdio.h>
#include <string.h>

#include "ledger.h"

typedef struct life {
  enum fault fault;
  int careless, findings;
  const char *path;
  respool *s;
  respool_queue *q, *keyed;
} life;

/* ---- what may be said --------------------------------------------------- */

/* The codes of each fault. A short read of a file's head is taken for a file
   that is no store, a short write for a disk that is full. */
static int may_say(enum fault f, int rc) {
  if (f == FAULT_MEMORY) return rc == RESPOOL_NOMEM;
  if (rc == RESPOOL_UNKNOWN_OUTCOME || rc == RESPOOL_IO) return 1;
  if (rc == RESPOOL_NOSPACE) return f == FAULT_ENOSPC || f == FAULT_SHORT;
  return f == FAULT_SHORT && rc == RESPOOL_VERSION;
}

static void finding(life *l, const char *verb, int rc) {
  printf("  not so: %s says %s: %s\n", verb, respool_errname(rc),
         respool_error_text());
  l->findings++;
}

/* What a verb said. */
static int said(life *l, const char *verb, int rc) {
  if (rc && !(faults_fired() && may_say(l->fault, rc))) finding(l, verb, rc);
  return rc;
}

/* What it said the second time, when there is nothing left to fail. */
static int must(life *l, const char *verb, int rc) {
  if (rc) finding(l, verb, rc);
  return rc;
}

/* Twice at most; not again after an unknown outcome. */
#define TRY(l, rc, verb, call) \
  do { \
    rc = said(l, verb, call); \
    if (rc && rc != RESPOOL_UNKNOWN_OUTCOME) rc = must(l, verb, call); \
  } while (0)

/* Twice at most, for what may be repeated whatever came of it. */
#define REPEAT(l, rc, verb, call) \
  do { \
    rc = said(l, verb, call); \
    if (rc) rc = must(l, verb, call); \
  } while (0)

/* ---- the steps ---------------------------------------------------------- */

static int open_all(life *l) {
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  int rc;
  REPEAT(l, rc, "open", respool_open(l->path, NULL, &l->s));
  if (rc) return rc;
  o.max_attempts = 2;
  REPEAT(l, rc, "queue_open", respool_queue_open(l->s, "jobs", &o, &l->q));
  if (rc) return rc;
  o.keep_done = 3600000;
  o.dlq = "lost";
  REPEAT(l, rc, "queue_open",
         respool_queue_open(l->s, "keyed", &o, &l->keyed));
  return rc;
}

/* Items `from` to `to` in one commit. */
static void push(life *l, respool_queue *q, int from, int to,
                 const respool_push_options *o) {
  respool_payload items[LEDGER_ITEMS];
  int rc;
  for (int n = from; n <= to; n++) items[n - from] = ledger_payload(n);
  if (o && o->dedup) items[0].key = (respool_bytes){"key", 3};
  size_t count = (size_t)(to - from + 1);
  if (l->careless)
    rc = respool_push(q, items, count, o, NULL), rc = 0;
  else
    TRY(l, rc, "push", respool_push(q, items, count, o, NULL));
  for (int n = from; n <= to; n++) ledger_note(n, IN_QUEUE, rc);
}

static void push_all(life *l) {
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  push(l, l->q, 0, 7, NULL);
  o.delay = 3600000;
  o.priority = 3;
  push(l, l->q, 8, 8, &o);
  o = (respool_push_options)RESPOOL_PUSH_OPTIONS_INIT;
  o.dedup = 60000;
  o.on_conflict = RESPOOL_CONFLICT_REPLACE;
  push(l, l->keyed, 9, 9, &o);
  o = (respool_push_options)RESPOOL_PUSH_OPTIONS_INIT;
  o.ttl = 0;
  push(l, l->keyed, 10, 10, &o); /* dead by its first take */
  ledger_intend(10, IN_DLQ);
}

/* Has its thread seen an outcome that is unknown? It tries again then. */
static int flushes_failed(respool_buffer *b) {
  respool_buffer_stats stats = RESPOOL_BUFFER_STATS_INIT;
  return respool_buffer_stat(b, &stats) == 0 && stats.failures > 0;
}

/* Three items through a buffer; its thread flushes two of them. */
static void push_buffered(life *l) {
  respool_buffer_options o = RESPOOL_BUFFER_OPTIONS_INIT;
  respool_buffer *b;
  int rc;
  o.items = 2;
  REPEAT(l, rc, "buffer_open", respool_buffer_open(l->q, &o, &b));
  if (rc) return;
  for (int n = 11; n <= 13; n++) {
    respool_payload p = ledger_payload(n);
    TRY(l, rc, "buffer_push", respool_buffer_push(b, &p, NULL));
    if (!rc) ledger_intend(n, IN_QUEUE);
  }
  rc = said(l, "buffer_flush", respool_buffer_flush(b));
  int twice = rc == RESPOOL_UNKNOWN_OUTCOME;
  if (rc) rc = must(l, "buffer_flush", respool_buffer_flush(b));
  twice |= flushes_failed(b);
  for (int n = 11; n <= 13; n++) {
    ledger_note(n, IN_QUEUE, rc);
    if (twice) ledger_allow_twice(n);
  }
  respool_buffer_free(b);
}

/* ---- settling ----------------------------------------------------------- */

static const int OUTCOMES[] = {RESPOOL_DONE, RESPOOL_RETRY, RESPOOL_RELEASE,
                               RESPOOL_SNOOZE, RESPOOL_DEAD, RESPOOL_DROP};

static enum place place_after(const respool_item *i, int kind) {
  if (kind == RESPOOL_DEAD) return IN_DLQ;
  if (kind == RESPOOL_DONE || kind == RESPOOL_DROP) return NOWHERE;
  return kind == RESPOOL_RETRY && i->about->attempts == 1 ? IN_DLQ : IN_QUEUE;
}

static respool_outcome outcome(int kind) {
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  o.kind = kind;
  o.delay = 0;
  o.error = respool_text("did not go well");
  o.group = respool_text("scenario");
  if (kind == RESPOOL_RETRY) o.memo = (respool_bytes){"memo", 4};
  return o;
}

/* Each item another outcome, from outcome `turn` on; -1 leaves an item. */
static void mark_batch(life *l, respool_batch *batch, size_t turn,
                       int *outcomes) {
  for (size_t i = 0; i < respool_batch_length(batch); i++) {
    int rc;
    outcomes[i] = OUTCOMES[(i + turn) % 6];
    respool_outcome o = outcome(outcomes[i]);
    TRY(l, rc, "mark", respool_batch_mark(batch, i, &o));
    if (rc) outcomes[i] = -1;
  }
}

static void note_batch(const respool_batch *batch, const int *outcomes,
                       int rc) {
  for (size_t i = 0; i < respool_batch_length(batch); i++) {
    const respool_item *it = respool_batch_item(batch, i);
    int n = ledger_number(it->body);
    if (n >= 0 && outcomes[i] >= 0)
      ledger_note(n, place_after(it, outcomes[i]), rc);
  }
}

/* Settles with a follow-up and the next take in the same commit. */
static respool_batch *settle(life *l, respool_batch *batch, size_t turn,
                           int follow_up) {
  int outcomes[LEDGER_ITEMS], rc;
  respool_batch *next = NULL;
  respool_payload p = ledger_payload(follow_up);
  respool_handover h = {l->keyed, &p, 1, NULL, 0};
  respool_take_options take = RESPOOL_TAKE_OPTIONS_INIT;
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  take.items = 4;
  o.pushes = &h;
  o.n_pushes = 1;
  o.take = &take;
  mark_batch(l, batch, turn, outcomes);
  TRY(l, rc, "settle", respool_batch_settle(batch, &o, &next));
  note_batch(batch, outcomes, rc);
  ledger_note(follow_up, IN_QUEUE, rc);
  respool_batch_free(batch);
  return next;
}

static respool_batch *take(life *l, respool_queue *q, uint64_t items) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *batch = NULL;
  int rc;
  o.items = items;
  TRY(l, rc, "take", respool_take(q, &o, &batch));
  return batch;
}

static void work(life *l) {
  int rc;
  respool_batch *batch = take(l, l->q, 6);
  if (!batch) return;
  TRY(l, rc, "extend", respool_batch_extend(batch, 60000));
  REPEAT(l, rc, "keep", respool_batch_keep(batch));
  respool_batch_unkeep(batch);
  batch = settle(l, batch, 0, 14);
  if (batch) batch = settle(l, batch, 3, 15);
  if (batch) batch = settle(l, batch, 1, 16);
  respool_batch_free(batch); /* its items stay leased */
}

static void transact(life *l) {
  respool_tx *tx;
  respool_batch *batch = take(l, l->keyed, 1);
  int rc, done = batch ? ledger_number(respool_batch_item(batch, 0)->body) : -1;
  respool_outcome o = outcome(RESPOOL_DONE);
  respool_payload p = ledger_payload(17);
  REPEAT(l, rc, "tx_begin", respool_tx_begin(l->s, &tx));
  if (rc) return;
  TRY(l, rc, "tx_push", respool_tx_push(tx, l->q, &p, 1, NULL, NULL));
  if (batch) TRY(l, rc, "tx_mark", respool_tx_mark(tx, batch, 0, &o));
  TRY(l, rc, "tx_commit", respool_tx_commit(tx));
  ledger_note(17, IN_QUEUE, rc);
  if (done >= 0) ledger_note(done, NOWHERE, rc);
  respool_tx_free(tx);
  respool_batch_free(batch);
}

/* ---- dead letters
   ------------------------------------------------------------ */

static respool_dead_letters *list(life *l, const char *dlq) {
  respool_dead_letters *dead_letters = NULL;
  int rc;
  REPEAT(l, rc, "dead_list",
         respool_dead_list(l->s, dlq, NULL, &dead_letters));
  return dead_letters;
}

/* The first dead letter goes back to its queue with a named replay that counts
   it. */
static void replay(life *l, const respool_dead_letter *dead) {
  respool_replay replay = RESPOOL_REPLAY_INIT;
  respool_move move = {.number = dead->number};
  respool_move_options o = RESPOOL_MOVE_OPTIONS_INIT;
  int rc, n = ledger_number(dead->body);
  uint64_t moved;
  strcpy(replay.name, "mend");
  strcpy(replay.dlq, "jobs");
  replay.cursor = dead->number;
  o.replay = &replay;
  TRY(l, rc, "dead_move",
      respool_dead_move(l->s, "jobs", &move, 1, &o, &moved));
  if (n >= 0) ledger_note(n, IN_QUEUE, rc);
  if (rc) return;
  TRY(l, rc, "replay_load", respool_replay_load(l->s, "mend", &replay));
  TRY(l, rc, "replay_save", respool_replay_save(l->s, &replay));
}

static void remove_dead(life *l, const respool_dead_letter *dead) {
  uint64_t removed;
  int rc, n = ledger_number(dead->body);
  TRY(l, rc, "dead_remove",
      respool_dead_remove(l->s, "jobs", &dead->number, 1, &removed));
  if (n >= 0) ledger_note(n, NOWHERE, rc);
}

static int each_group(void *arg, const respool_dead_group *g) {
  (void)arg, (void)g;
  return 0;
}

static void read_dead_letters(life *l) {
  respool_dead_letters *dead_letters = list(l, "jobs");
  int rc;
  uint64_t n;
  REPEAT(l, rc, "dead_groups",
         respool_dead_groups(l->s, "jobs", each_group, NULL));
  REPEAT(l, rc, "dead_count", respool_dead_count(l->s, "jobs", &n));
  size_t length = dead_letters ? respool_dead_letters_length(dead_letters) : 0;
  if (length > 0) replay(l, respool_dead_letters_at(dead_letters, 0));
  if (length > 1) remove_dead(l, respool_dead_letters_at(dead_letters, 1));
  respool_dead_letters_free(dead_letters);
}

/* ---- looking, removing, caring ------------------------------------------ */

static int each_name(void *arg, const char *name) {
  (void)arg, (void)name;
  return 0;
}

static void look(life *l) {
  respool_page *p;
  respool_queue_stats qs = RESPOOL_QUEUE_STATS_INIT;
  respool_store_stats ss = RESPOOL_STORE_STATS_INIT;
  respool_history_cursor at = {0, 0};
  int rc;
  REPEAT(l, rc, "peek", respool_peek(l->q, 10, &p));
  if (!rc) respool_page_free(p);
  REPEAT(l, rc, "history", respool_history(l->keyed, &at, 10, &p));
  if (!rc) respool_page_free(p);
  REPEAT(l, rc, "queue_stat", respool_queue_stat(l->q, &qs));
  REPEAT(l, rc, "store_stat", respool_store_stat(l->s, &ss));
  REPEAT(l, rc, "queues", respool_queues(l->s, each_name, NULL));
  REPEAT(l, rc, "check", respool_check(l->s, each_name, NULL));
}

/* The delayed item, which nobody has taken. */
static void remove_item(life *l) {
  respool_page *p = NULL;
  respool_cursor at = {0};
  int rc;
  REPEAT(l, rc, "browse",
         respool_browse(l->q, RESPOOL_SCHEDULED, 1, &at, &p));
  if (!rc && respool_page_length(p)) {
    const respool_item *i = respool_page_item(p, 0);
    TRY(l, rc, "remove", respool_remove(l->q, i->id));
    int n = ledger_number(i->body);
    if (n >= 0) ledger_note(n, NOWHERE, rc);
  }
  if (p) respool_page_free(p);
}

static void maintenance(life *l) {
  respool_maintenance c = RESPOOL_MAINTENANCE_INIT;
  uint64_t write_us, read_us;
  int rc;
  REPEAT(l, rc, "maintain", respool_maintain(l->s, 0, &c));
  REPEAT(l, rc, "probe", respool_probe(l->s, &write_us, &read_us));
  REPEAT(l, rc, "pause", respool_queue_pause(l->q, 1));
  REPEAT(l, rc, "flush", respool_flush(l->s));
}

int scenario_run(const char *path, enum fault f, int careless) {
  life l = {.fault = f, .careless = careless, .path = path};
  if (open_all(&l) == 0) {
    push_all(&l);
    push_buffered(&l);
    work(&l);
    transact(&l);
    read_dead_letters(&l);
    look(&l);
    remove_item(&l);
    maintenance(&l);
  }
  respool_queue_free(l.q);
  respool_queue_free(l.keyed);
  respool_close(l.s);
  return l.findings;
}
