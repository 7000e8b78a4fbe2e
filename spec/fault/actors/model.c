/* SPDX-License-Identifier: MIT */
/*
 * The lives of items, and a store held against them; see model.h.
 */
#include "model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- names -------------------------------------------------------------- */

static const char *const names[QUEUES] = {
  "?", "orders", "follow", "lines", "short", "kept", "dead", "again", "twins",
  "latest", "shared", "after",
};

const char *place_name(int place) {
  int queue = place & QUEUE_OF;
  return queue < QUEUES ? names[queue] : "?";
}

int place_find(const char *name) {
  for (int i = 1; i < QUEUES; i++)
    if (!strcmp(names[i], name)) return i;
  return GONE;
}

const char *wrong_name(int kind) {
  static const char *const kinds[WRONGS] = {
    "open", "check", "pages", "lost", "twice", "half", "after", "crash",
  };
  return kind >= 0 && kind < WRONGS ? kinds[kind] : "?";
}

/* ---- payloads ----------------------------------------------------------- */

static size_t body_size(uint32_t tag) {
  return tag % 61 ? 120 : BODY_MAX;
}

size_t body_make(uint32_t tag, uint8_t body[BODY_MAX]) {
  uint32_t x = tag * 2654435761u + 1;
  size_t n = body_size(tag);
  memcpy(body, &tag, sizeof tag);
  for (size_t i = sizeof tag; i < n; i++) {
    x = x * 1664525u + 1013904223u;
    body[i] = (uint8_t)(x >> 24);
  }
  return n;
}

respool_bytes body_result(uint32_t tag, uint8_t body[BODY_MAX]) {
  size_t n = body_make(TAGS + tag, body);
  return (respool_bytes){body, n < RESPOOL_RESULT_MAX ? n : RESPOOL_RESULT_MAX};
}

uint32_t body_tag(respool_bytes b) {
  uint8_t body[BODY_MAX];
  uint32_t tag;
  if (b.size < sizeof tag) return UINT32_MAX;
  memcpy(&tag, b.data, sizeof tag);
  if (tag >= TAGS || b.size != body_size(tag)) return UINT32_MAX;
  body_make(tag, body);
  return memcmp(body, b.data, b.size) ? UINT32_MAX : tag;
}

/* ---- lives -------------------------------------------------------------- */

model *model_new(void) {
  model *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (m == MAP_FAILED) {
    perror("mmap");
    exit(EXIT_FAILURE);
  }
  return m;
}

void model_reset(model *m) {
  uint32_t n = m->n_tags < TAGS ? m->n_tags : TAGS;
  memset(m->lives, 0, n * sizeof m->lives[0]);
  m->n_tags = m->n_units = 0;
  m->opened = m->stop = false;
  memset(m->beats, 0, sizeof m->beats);
}

static void too_many(const char *what) {
  fprintf(stderr, "too many %s for the model\n", what);
  abort();
}

uint32_t model_tag(model *m) {
  uint32_t tag = m->n_tags++;
  if (tag >= TAGS) too_many("tags");
  m->lives[tag].n = 1;
  return tag;
}

uint16_t model_unit(model *m) {
  uint32_t unit = ++m->n_units;
  if (unit >= UNITS) too_many("units");
  return (uint16_t)unit;
}

static void tell(const model *m, event e) {
  if (m->tell) m->tell(&e);
}

uint8_t model_begin(model *m, uint32_t tag, stage to) {
  life *l = &m->lives[tag];
  uint8_t index = l->n;
  if (index >= STAGES) too_many("stages");
  l->stages[index] = to;
  l->n = (uint8_t)(index + 1);
  tell(m, (event){.kind = EV_BEGIN, .tag = tag, .index = index, .stage = to});
  return index;
}

static void raise(life *l, uint8_t index) {
  uint8_t was = l->acked;
  while (was < index && !atomic_compare_exchange_weak(&l->acked, &was, index))
    ;
}

void model_ack(model *m, uint32_t tag, uint8_t index, uint64_t id) {
  raise(&m->lives[tag], index);
  tell(m, (event){.kind = EV_ACK, .tag = tag, .index = index, .id = id});
}

void model_void(model *m, uint32_t tag, uint8_t index) {
  life *l = &m->lives[tag];
  l->stages[index] = l->stages[index - 1];
  raise(l, index);
  tell(m, (event){.kind = EV_VOID, .tag = tag, .index = index});
}

void model_held(model *m, int place, uint64_t id) {
  tell(m, (event){.kind = EV_HELD, .id = id,
                  .stage = {.place = (uint8_t)place}});
}

static void opened(model *m, int64_t now) {
  if (!m->opened) m->time = now;
  m->opened = true;
}

void model_opened(model *m, int64_t now) {
  opened(m, now);
  tell(m, (event){.kind = EV_OPENED, .id = (uint64_t)now});
}

stage model_last(const model *m, uint32_t tag) {
  const life *l = &m->lives[tag];
  return l->stages[l->n - 1];
}

void model_play(model *m, const event *e) {
  life *l = &m->lives[e->tag < TAGS ? e->tag : 0];
  if (e->kind == EV_OPENED) opened(m, (int64_t)e->id);
  if (e->kind == EV_BEGIN) {
    l->stages[e->index] = e->stage;
    l->n = (uint8_t)(e->index + 1);
    if (e->tag >= m->n_tags) m->n_tags = e->tag + 1;
  }
  if (e->kind == EV_VOID) l->stages[e->index] = l->stages[e->index - 1];
  if (e->kind == EV_ACK || e->kind == EV_VOID) raise(l, e->index);
}

/* ---- what is in the store ----------------------------------------------- */

typedef struct look {
  const model *m;
  respool *s;
  wrong_fn *found;
  void *arg;
  stage at[TAGS];      /* where each tag is; only of `seen` */
  uint8_t seen[TAGS];
  int8_t halves[UNITS]; /* of a unit: 1 happened, -1 not */
} look;

__attribute__((format(printf, 3, 4)))
static void found(const look *k, int kind, const char *fmt, ...) {
  char text[400];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  k->found(k->arg, kind, text);
}

static bool failed(const look *k, int rc, const char *what) {
  if (rc)
    found(k, WRONG_AFTER, "%s: %s, %s", what, respool_errname(rc),
          respool_error_text());
  return rc != 0;
}

static void see(look *k, respool_bytes body, int place, uint64_t attempts,
                uint64_t id) {
  uint32_t tag = body_tag(body);
  if (tag >= k->m->n_tags)
    found(k, WRONG_TWICE, "item %llu of %s was never pushed",
          (unsigned long long)id, place_name(place));
  else if (k->seen[tag]++)
    found(k, WRONG_TWICE, "tag %u is in %s and in %s", tag,
          place_name(k->at[tag].place), place_name(place));
  else
    k->at[tag] = (stage){0, (uint8_t)place, (uint8_t)attempts};
}

/* What was done has its result, and what was cancelled none. */
static void see_result(look *k, respool_queue *q, const respool_item *it) {
  uint8_t body[BODY_MAX];
  respool_page *p = NULL;
  respool_bytes want = body_result(body_tag(it->body), body);
  bool done = it->about->state == RESPOOL_FINISHED, same = false;
  int rc = respool_item_result(q, it->id, &p);
  if (!rc) {
    respool_bytes is = respool_page_item(p, 0)->body;
    same = is.size == want.size && !memcmp(is.data, want.data, want.size);
  }
  if (done ? !same : rc != RESPOOL_NOT_FOUND)
    found(k, WRONG_HALF, "the result of tag %u, %s: %s",
          body_tag(it->body), done ? "done" : "cancelled",
          rc ? respool_errname(rc) : same ? "is there" : "another");
  respool_page_free(p);
}

static void see_history(look *k, respool_queue *q, int queue) {
  respool_history_cursor at = {0, 0};
  size_t n = 1;
  while (n > 0) {
    respool_page *p;
    if (failed(k, respool_history(q, &at, 1000, &p), "history")) break;
    n = respool_page_length(p);
    for (size_t i = 0; i < n; i++) {
      const respool_item *it = respool_page_item(p, i);
      bool done = it->about->state == RESPOOL_FINISHED;
      see(k, it->body, queue | (done ? DONE : CANCELLED),
          it->about->attempts, it->id);
      see_result(k, q, it);
    }
    respool_page_free(p);
  }
}

static int see_queue(void *arg, const char *name) {
  look *k = arg;
  respool_queue *q;
  respool_cursor at = {0};
  size_t n = 1;
  if (failed(k, respool_queue_find(k->s, name, &q), "find")) return 0;
  while (n > 0) {
    respool_page *p;
    if (failed(k, respool_browse(q, -1, 1000, &at, &p), "browse")) break;
    n = respool_page_length(p);
    for (size_t i = 0; i < n; i++) {
      const respool_item *it = respool_page_item(p, i);
      see(k, it->body, place_find(name), it->about->attempts, it->id);
    }
    respool_page_free(p);
  }
  see_history(k, q, place_find(name));
  respool_queue_free(q);
  return 0;
}

static int see_dlq(void *arg, const char *name) {
  look *k = arg;
  respool_list_options o = RESPOOL_LIST_OPTIONS_INIT;
  respool_dead_letters *l;
  o.limit = TAGS;
  if (failed(k, respool_dead_list(k->s, name, &o, &l), "list")) return 0;
  for (size_t i = 0; i < respool_dead_letters_length(l); i++) {
    const respool_dead_letter *x = respool_dead_letters_at(l, i);
    see(k, x->body, DLQ | place_find(name), x->attempts, x->id);
  }
  respool_dead_letters_free(l);
  return 0;
}

/* ---- held against the model --------------------------------------------- */

static bool same(stage want, stage is) {
  return want.place == is.place &&
         (is.place == GONE || want.attempts == ANY ||
          want.attempts == is.attempts);
}

static const char *part_name(int place) {
  return place & DLQ         ? "DLQ "
         : place & DONE      ? "what is done in "
         : place & CANCELLED ? "what is cancelled in " : "";
}

static void lost(look *k, uint32_t tag) {
  const life *l = &k->m->lives[tag];
  stage want = l->stages[l->acked], is = k->at[tag];
  found(k, WRONG_LOST, "tag %u is in %s%s after %u failures; stage %u of %u "
        "(%s%s, %u) was acknowledged", tag, part_name(is.place),
        place_name(is.place), is.attempts, l->acked, l->n - 1,
        part_name(want.place), place_name(want.place), want.attempts);
}

static void note_unit(look *k, uint32_t tag, uint16_t unit, int happened) {
  if (!unit) return;
  if (k->halves[unit] == -happened)
    found(k, WRONG_HALF, "of unit %u a part has happened; %s tag %u", unit,
          happened > 0 ? "also" : "not", tag);
  k->halves[unit] = (int8_t)happened;
}

/* The stages it may be in say which units have happened for certain. */
static void compare_tag(look *k, uint32_t tag) {
  const life *l = &k->m->lives[tag];
  int n = l->n;
  int first = n, last = -1;
  for (int i = 0; i < n; i++) {
    if (!same(l->stages[i], k->at[tag])) continue;
    if (first == n) first = i;
    last = i;
  }
  if (last < l->acked && n) lost(k, tag);
  if (last < 0) return;
  for (int i = 1; i <= first; i++) note_unit(k, tag, l->stages[i].unit, 1);
  for (int i = last + 1; i < n; i++)
    note_unit(k, tag, l->stages[i].unit, -1);
}

void model_compare(const model *m, respool *s, wrong_fn *report, void *arg) {
  static _Thread_local look k;
  uint32_t n = m->n_tags;
  k.m = m, k.s = s, k.found = report, k.arg = arg;
  memset(k.at, 0, n * sizeof k.at[0]);
  memset(k.seen, 0, n);
  memset(k.halves, 0, sizeof k.halves);
  failed(&k, respool_queues(s, see_queue, &k), "queues");
  failed(&k, respool_dead_letter_queues(s, see_dlq, &k), "DLQs");
  for (uint32_t tag = 0; tag < n; tag++) compare_tag(&k, tag);
}

static int finding(void *arg, const char *text) {
  found(arg, WRONG_CHECK, "%s", text);
  return 0;
}

void model_check(const model *m, respool *s, wrong_fn *report, void *arg) {
  static _Thread_local look k;
  k.found = report, k.arg = arg;
  failed(&k, respool_check(s, finding, &k), "check");
  model_compare(m, s, report, arg);
}

/* ---- and used ----------------------------------------------------------- */

/* Takes one item, if there is any, and settles it as done. */
static int use_one(respool_queue *q, bool *any) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_batch *batch = NULL;
  done.kind = RESPOOL_DONE;
  int rc = respool_take(q, NULL, &batch);
  *any = batch != NULL;
  if (!rc && batch) rc = respool_batch_mark_rest(batch, &done);
  if (!rc && batch) rc = respool_batch_settle(batch, NULL, NULL);
  respool_batch_free(batch);
  return rc;
}

static int use_queue(void *arg, const char *name) {
  look *k = arg;
  respool_queue *q;
  bool any;
  if (failed(k, respool_queue_find(k->s, name, &q), "find")) return 0;
  failed(k, use_one(q, &any), name);
  respool_queue_free(q);
  return 0;
}

static void push_and_end(const look *k, respool_queue *q) {
  respool_payload item = {.body = {"after", 5}};
  bool any = false;
  if (failed(k, respool_push(q, &item, 1, NULL, NULL), "push")) return;
  if (!failed(k, use_one(q, &any), "take") && !any)
    found(k, WRONG_AFTER, "what was pushed is not delivered");
}

void model_use(respool *s, wrong_fn *report, void *arg) {
  static _Thread_local look k;
  respool_queue *q;
  k.s = s, k.found = report, k.arg = arg;
  failed(&k, respool_queues(s, use_queue, &k), "queues");
  if (failed(&k, respool_queue_open(s, "after", NULL, &q), "open queue"))
    return;
  push_and_end(&k, q);
  respool_queue_free(q);
  failed(&k, respool_check(s, finding, &k), "check");
}
