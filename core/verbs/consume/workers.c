/* SPDX-License-Identifier: MIT */
/*
 * Workers: who takes items, and what they have in hand. A worker is an entry
 * by its number; which leases are its own the tokens of these say.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record/fields.h"
#include "verbs/queue/queue.h"
#include "verbs/store/reports.h"

#define LAST "last" /* name of the one entry of its kind */

enum {
  FIELDS = 8,
  TRIES = 10,    /* while others change the same worker */
  ENDED = 100    /* leases that one commit ends */
};

/* A worker as its entry keeps it; the pointers of `w` lead to the texts beside
   it. */
typedef struct stored_worker {
  respool_worker w;
  uint64_t revision;
  char entry[RESPOOL_NAME_MAX + 1];
  char name[RESPOOL_NAME_MAX + 1];
  char queue[RESPOOL_NAME_MAX + 1];
  char host[RESPOOL_NAME_MAX + 1];
  char process[RESPOOL_NAME_MAX + 1];
} stored_worker;

/* ---- records ------------------------------------------------------------ */

static void worker_pack(packer *p, const respool_worker *w) {
  pack_array(p, FIELDS);
  pack_phrase(p, phrase_of(w->name));
  pack_phrase(p, phrase_of(w->queue));
  pack_phrase(p, phrase_of(w->host));
  pack_phrase(p, phrase_of(w->process));
  pack_int(p, w->pid);
  pack_int(p, w->started_at);
  pack_int(p, w->seen_at);
  pack_bool(p, w->stopping);
}

static void unpack_worker(unpacker *u, stored_worker *s) {
  unpack_expect(u, unpack_array(u) == FIELDS);
  unpack_name(u, s->name);
  unpack_name(u, s->queue);
  unpack_name(u, s->host);
  unpack_name(u, s->process);
  s->w.pid = unpack_int(u);
  s->w.started_at = unpack_int(u);
  s->w.seen_at = unpack_int(u);
  s->w.stopping = unpack_bool(u);
}

static void name_entry(stored_worker *s, uint64_t number) {
  s->w.number = number;
  snprintf(s->entry, sizeof s->entry, "%07llu", (unsigned long long)number);
}

/* The next of [name, revision, bytes]; false at the end, and with u->rc set
   where it is damaged. */
static bool next_worker(unpacker *u, stored_worker *s) {
  unpacker fields;
  unsigned long long number = 0;
  memset(s, 0, sizeof *s);
  if (u->at >= u->end || u->rc) return false;
  unpack_array(u);
  unpack_name(u, s->entry);
  s->revision = unpack_uint(u);
  respool_bytes b = unpack_bytes(u);
  unpacker_init(&fields, b.data, b.size);
  if (!u->rc) unpack_worker(&fields, s);
  if (fields.rc) u->rc = fields.rc;
  if (sscanf(s->entry, "%llu", &number) != 1) u->rc = RESPOOL_CORRUPT;
  s->w.size = sizeof s->w;
  s->w.number = number;
  s->w.name = s->name;
  s->w.queue = s->queue;
  s->w.host = s->host;
  s->w.process = s->process;
  return u->rc == 0;
}

static int damaged(const stored_worker *s) {
  return fail(RESPOOL_CORRUPT, "worker '%.160s' is damaged", s->entry);
}

/* ---- reading ------------------------------------------------------------ */

/* Entries as they were looked at. */
typedef struct workers {
  packer bytes;
  unpacker at;
  int64_t now;
} workers;

static int look(respool *s, int kind, const char *entry, workers *l) {
  query q = {.kind = QUERY_ENTRIES, .name = entry,
             .entries = {.kind = kind, .out = &l->bytes}};
  packer_init(&l->bytes);
  int rc = store_look(s, &q);
  unpacker_init(&l->at, l->bytes.data, l->bytes.len);
  l->now = q.entries.now;
  return rc;
}

static int find(respool *s, uint64_t number, stored_worker *out,
                int64_t *now) {
  workers l;
  memset(out, 0, sizeof *out);
  name_entry(out, number);
  int rc = look(s, ENTRY_WORKER, out->entry, &l);
  bool there = !rc && next_worker(&l.at, out);
  if (!rc && l.at.rc) rc = damaged(out);
  *now = l.now;
  packer_free(&l.bytes);
  return rc || there ? rc : fail(RESPOOL_NOT_FOUND, "there is no worker %llu",
                                 (unsigned long long)number);
}

int respool_workers(respool *s, respool_worker_fn each, void *arg) {
  workers l;
  stored_worker w;
  int rc = store_check(s);
  if (!rc && !each) rc = invalid("each", "given");
  if (rc) return rc;
  rc = look(s, ENTRY_WORKER, NULL, &l);
  while (!rc && next_worker(&l.at, &w)) rc = each(arg, &w.w);
  if (!rc && l.at.rc) rc = damaged(&w);
  packer_free(&l.bytes);
  return rc;
}

/* ---- saving ------------------------------------------------------------- */

static int save(respool *s, const stored_worker *w) {
  packer p;
  packer_init(&p);
  worker_pack(&p, &w->w);
  step save = {.kind = STEP_ENTRY, .name = w->entry,
               .entry = {ENTRY_WORKER, w->revision, {p.data, p.len}}};
  int rc = p.rc ? fail(p.rc, "not enough memory for a worker")
                : store_commit_step(s, &save, false);
  packer_free(&p);
  return rc;
}

static int text_check(const char *name, const char *text) {
  return text && strlen(text) > RESPOOL_NAME_MAX
             ? invalid(name, "at most 255 bytes") : 0;
}

static int worker_check(respool_worker *w) {
  int rc = name_check(w->queue, "queue");
  if (!rc && !w->name) rc = invalid("name", "given");
  if (!rc) rc = text_check("name", w->name);
  if (!rc) rc = text_check("host", w->host);
  if (!rc) rc = text_check("process", w->process);
  if (!w->host) w->host = "";
  if (!w->process) w->process = "";
  return rc;
}

/* How often a number was given. */
static int last_given(respool *s, uint64_t *n) {
  workers l;
  char name[RESPOOL_NAME_MAX + 1];
  int rc = look(s, ENTRY_LAST_WORKER, LAST, &l);
  *n = 0;
  if (!rc && l.at.at < l.at.end) {
    unpack_array(&l.at);
    unpack_name(&l.at, name);
    *n = unpack_uint(&l.at);
  }
  packer_free(&l.bytes);
  return rc;
}

/* The number behind the last that was given, or the next that is free: those
   of the gone come again only when all have had their turn, as they may still
   work, and leases may bear them. */
static int free_number(respool *s, uint64_t given, stored_worker *to) {
  workers l;
  stored_worker w;
  uint64_t from = given % RESPOOL_WORKER_MAX + 1, lowest = 1, at = from;
  int rc = look(s, ENTRY_WORKER, NULL, &l);
  while (!rc && next_worker(&l.at, &w)) {
    if (w.w.number == lowest) lowest++;
    if (w.w.number == at) at++;
  }
  if (!rc && l.at.rc) rc = damaged(&w);
  if (at > RESPOOL_WORKER_MAX) at = lowest;
  if (!rc && at > RESPOOL_WORKER_MAX)
    rc = fail(RESPOOL_FULL, "there are too many workers");
  name_entry(to, at);
  to->w.started_at = to->w.seen_at = l.now;
  packer_free(&l.bytes);
  return rc;
}

/* Both are refused where another was given a number meanwhile. */
static int give_number(respool *s, stored_worker *w) {
  uint64_t given;
  packer p;
  packer_init(&p);
  int rc = last_given(s, &given);
  if (!rc) rc = free_number(s, given, w);
  worker_pack(&p, &w->w);
  step steps[] = {
    {.kind = STEP_ENTRY, .name = LAST,
     .entry = {ENTRY_LAST_WORKER, given, {"", 0}}},
    {.kind = STEP_ENTRY, .name = w->entry,
     .entry = {ENTRY_WORKER, 0, {p.data, p.len}}}};
  unit u = {.steps = steps, .n = 2};
  if (!rc && p.rc) rc = fail(p.rc, "not enough memory for a worker");
  if (!rc) rc = store_commit(s, &u);
  packer_free(&p);
  return rc;
}

int respool_worker_start(respool *s, const respool_worker *given,
                         uint64_t *number) {
  int rc = store_check(s);
  if (!rc) rc = SIZE_CHECK(given, RESPOOL_WORKER_INIT);
  if (rc) return rc;
  stored_worker w = {.w = *given};
  rc = worker_check(&w.w);
  w.w.stopping = 0;
  if (!rc) rc = RESPOOL_LOCKED;
  for (int i = 0; i < TRIES && rc == RESPOOL_LOCKED; i++)
    rc = give_number(s, &w);
  if (!rc) *number = w.w.number;
  return rc;
}

int respool_worker_seen(respool *s, uint64_t number, int *stopping) {
  stored_worker w;
  int64_t now;
  int rc = store_check(s);
  if (!rc) rc = RESPOOL_LOCKED;
  for (int i = 0; i < TRIES && rc == RESPOOL_LOCKED; i++) {
    rc = find(s, number, &w, &now);
    if (!rc && now > w.w.seen_at) w.w.seen_at = now;
    if (!rc) rc = save(s, &w);
  }
  if (!rc) *stopping = w.w.stopping;
  return rc;
}

int respool_worker_stop(respool *s, uint64_t number) {
  stored_worker w;
  int64_t now;
  int rc = store_check(s);
  if (!rc) rc = RESPOOL_LOCKED;
  for (int i = 0; i < TRIES && rc == RESPOOL_LOCKED; i++) {
    rc = find(s, number, &w, &now);
    if (rc || w.w.stopping) break;
    w.w.stopping = 1;
    rc = save(s, &w);
  }
  return rc;
}

/* ---- leases ------------------------------------------------------------- */

static int find_leases(respool *s, const char *queue, leases *l) {
  query q = {.kind = QUERY_LEASES, .name = queue, .leases = l};
  *l = (leases){NULL, 0, 0};
  return store_look(s, &q);
}

int respool_leases(respool_queue *q, respool_lease_fn each, void *arg) {
  leases l;
  arena texts;
  int rc = queue_check(q);
  if (!rc && !each) rc = invalid("each", "given");
  if (rc) return rc;
  rc = find_leases(q->store, q->name, &l);
  arena_init(&texts);
  respool_lease *out = calloc(l.n + 1, sizeof *out);
  if (!rc && !out) rc = fail(RESPOOL_NOMEM, "not enough memory for leases");
  for (size_t i = 0; i < l.n && !rc; i++) {
    const lease_found *f = &l.of[i];
    out[i] = (respool_lease){.worker = token_worker(f->token),
                             .items = f->items, .first = f->claim.first,
                             .until = f->until};
  }
  if (!rc) rc = reports_of_leases(q->store, q->name, &l, out, &texts);
  for (size_t i = 0; i < l.n && !rc; i++) rc = each(arg, &out[i]);
  free(out);
  arena_free(&texts);
  leases_free(&l);
  return rc;
}

/* Ends the leases from `*i` on that a worker has, as many as one commit does:
   an extension by nothing. */
static int end_some(respool *s, const stored_worker *w, leases *l, size_t *i,
                    uint64_t *items) {
  step steps[ENDED];
  const lease_found *ended[ENDED];
  unit u = {.steps = steps};
  for (; *i < l->n && u.n < ENDED; (*i)++) {
    lease_found *f = &l->of[*i];
    if (token_worker(f->token) != w->w.number) continue;
    ended[u.n] = f;
    steps[u.n++] = (step){.kind = STEP_EXTEND, .name = w->queue,
                          .extend = {0, f->token, &f->claim, 1}};
  }
  int rc = u.n ? store_commit(s, &u) : 0;
  for (size_t k = 0; k < u.n && !rc; k++)
    if (!ended[k]->claim.lost) *items += ended[k]->items;
  return rc;
}

static int end_leases(respool *s, const stored_worker *w, uint64_t *items) {
  leases l;
  size_t i = 0;
  int rc = find_leases(s, w->queue, &l);
  while (!rc && i < l.n) rc = end_some(s, w, &l, &i, items);
  leases_free(&l);
  return rc == RESPOOL_NOT_FOUND ? 0 : rc; /* the queue was dropped */
}

static int remove_worker(respool *s, uint64_t number) {
  stored_worker w;
  int64_t now;
  int rc = RESPOOL_LOCKED;
  for (int i = 0; i < TRIES && rc == RESPOOL_LOCKED; i++) {
    rc = find(s, number, &w, &now);
    step gone = {.kind = STEP_ENTRY, .name = w.entry,
                 .entry = {ENTRY_WORKER, w.revision, {NULL, 0}}};
    if (!rc) rc = store_commit_step(s, &gone, false);
  }
  return rc;
}

int respool_worker_end(respool *s, uint64_t number, uint64_t *items) {
  stored_worker w;
  int64_t now;
  uint64_t ended = 0;
  int rc = store_check(s);
  if (!rc) rc = find(s, number, &w, &now);
  if (!rc && items) rc = end_leases(s, &w, &ended);
  if (rc) return rc;
  rc = remove_worker(s, number);
  if (rc == RESPOOL_NOT_FOUND && items) rc = 0; /* by another meanwhile */
  if (!rc && items) *items = ended;
  return rc;
}
