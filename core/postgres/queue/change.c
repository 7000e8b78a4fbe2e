/* SPDX-License-Identifier: MIT */
#include "postgres/queue/change.h"

#include <stdlib.h>
#include <string.h>

#include "policy/outcome.h"
#include "postgres/env/bells.h"
#include "postgres/queue/append.h"
#include "postgres/queue/take.h"
#include "postgres/record/items.h"
#include "record/dead/record.h"

#define TRIES 20 /* while others change the same item */

/* The item as it was seen. */
typedef struct seen {
  pg_env *e;
  session *l;
  int64_t now;
  const char *name;
  change_req *r;
  pg_queue queue;
  plan look;
  taken run;
  respool_bytes failures, sum;
  respool_page page; /* the item alone */
  bool outdated;     /* its body is not the one that was to be replaced */
} seen;

/* ---- looking ------------------------------------------------------------ */

static int damaged(const seen *s) {
  return fail(RESPOOL_CORRUPT, "item %llu of queue '%.120s' is damaged",
              (unsigned long long)s->r->id, s->name);
}

static int gone(const seen *s) {
  return fail(RESPOOL_NOT_FOUND, "there is no item %llu in queue '%.120s'",
              (unsigned long long)s->r->id, s->name);
}

/* A lease that has run out has crashed. */
static int note_lapse(seen *s) {
  if (s->run.state != 1 || s->run.due > pg_now(s->e, s->now)) return 0;
  s->run.crashes++;
  return outcome_add_failure(&s->page.memory, s->failures, s->run.due,
                             &outcome_lapse, &s->failures);
}

static int read_item(seen *s, const PGresult *a) {
  damage bad = {NULL, 0, 0};
  taken *t = &s->run;
  if (!taken_read(a, 0, t)) return damaged(s);
  uint32_t i = (uint32_t)(s->r->id - t->first);
  size_t at = (size_t)RUN_ENTRY * (t->skip + i) + 4;
  if (at + 8 > t->bytes.size) return damaged(s);
  s->sum = (respool_bytes){(const uint8_t *)t->bytes.data + at, 8};
  int rc = taken_failures(&s->page.memory, a, t, &s->failures);
  respool_item_about about = taken_about(t, s->failures);
  if (rc || !items_read(&s->page, t, i, 1, &about, &bad, NULL))
    rc = fail(RESPOOL_NOMEM, "not enough memory");
  free(bad.of);
  if (!rc && (s->page.n != 1 || s->page.items[0].id != s->r->id))
    rc = damaged(s);
  return rc ? rc : note_lapse(s);
}

static int look(seen *s) {
  values *v = plan_add(&s->look, STATEMENT_GET, NULL);
  put_int4(v, s->queue.id);
  put_int8(v, (int64_t)s->r->id);
  int rc = plan_run(&s->look, false);
  const PGresult *a = rc ? NULL : plan_answer(&s->look, 0);
  if (rc) return rc;
  return a && pq.ntuples(a) ? read_item(s, a) : gone(s);
}

/* ---- the requests ------------------------------------------------------- */

static values *begin(plan *p, const seen *s, enum statement of) {
  values *v = plan_add(p, of, NULL);
  plan_put_queue(p, v, s->queue.id);
  plan_put_wall(p, v);
  plan_put_call(p, v);
  put_int8(v, (int64_t)s->r->id);
  if (of == STATEMENT_RUN_NOW || of == STATEMENT_CANCEL) return v;
  put_int4(v, (int64_t)s->run.deliveries);
  put_bytes(v, s->sum);
  return v;
}

static void ring(const plan *p, int queue) {
  const PGresult *a = plan_answer(p, 0);
  if (a && value_bool(a, 0, 0)) bells_ring(p->e->bells, queue);
}

static int run_now(seen *s, plan *p) {
  begin(p, s, STATEMENT_RUN_NOW);
  int rc = plan_run(p, false);
  if (!rc) ring(p, s->queue.id);
  return rc;
}

static int cancel(const seen *s, plan *p) {
  begin(p, s, STATEMENT_CANCEL);
  return plan_run(p, false);
}

static int kill_item(seen *s, plan *p) {
  death d = {.reason = "killed", .items = 1, .at = pg_now(s->e, s->now),
             .error = s->r->error, .failures = s->failures,
             .memo = s->run.memo, .attempts = s->run.attempts,
             .deliveries = s->run.deliveries, .crashes = s->run.crashes};
  if (!d.error.size) d.error = failures_error(s->failures);
  const char *dlq = s->queue.config.dlq;
  dead l = dead_of(&d, s->name, &s->page.items[0], s->page.packed[0]);
  packer record;
  packer_init(&record);
  dead_pack(&record, phrase_of(dlq), &l);
  values *v = begin(p, s, STATEMENT_KILL);
  put_text(v, dlq);
  put_bytes(v, (respool_bytes){"", 0});
  put_bytes(v, phrase_of(d.reason));
  put_int4(v, death_number(d.reason));
  put_bytes(v, (respool_bytes){record.data, record.len});
  if (record.rc) p->rc = record.rc;
  int rc = plan_run(p, false);
  packer_free(&record);
  if (rc) return rc;
  const PGresult *a = plan_answer(p, 0);
  int64_t number = a ? value_int(a, 0, 0) : plan_noted(p);
  if (s->r->notices)
    notices_add(&p->notices, s->r->notices, dlq, (uint64_t)number);
  notices_post(p->notices);
  p->notices = NULL;
  return 0;
}

/* The item packed for `id`, as a run of one; once it fits queue `q`. */
static int pack_run(run_writer *w, const item *i, uint64_t id,
                    const pg_queue *q, const char *name,
                    respool_bytes *bytes) {
  builder b;
  builder_cursor c = {0};
  respool_bytes packed;
  builder_init(&b, 0);
  builder_add(&b, i);
  append_req fits = {.builder = &b};
  int rc = builder_finish(&b);
  if (rc) rc = fail(rc, "not enough memory");
  if (!rc) rc = append_fits(q, name, &fits);
  if (!rc && builder_next(&b, &c, &packed)) {
    run_begin(w, id);
    run_add(w, packed);
    rc = run_end(w, bytes);
  }
  builder_free(&b);
  return rc;
}

static int send_move(seen *s, plan *p, const pg_queue *to, uint64_t id,
                     respool_bytes bytes) {
  values *v = begin(p, s, STATEMENT_MOVE);
  put_int4(v, to->id);
  put_int8(v, (int64_t)id);
  put_int8(v, (int64_t)s->page.items[0].body.size);
  put_bytes(v, bytes);
  int rc = plan_run(p, false);
  if (rc) return rc;
  s->r->moved = id;
  ring(p, to->id);
  return 0;
}

static int move_item(seen *s, plan *p) {
  const respool_item *from = &s->page.items[0];
  item i = page_item(from);
  pg_queue to;
  run_writer w;
  uint64_t id;
  respool_bytes bytes;
  if (!i.origin.queue.size)
    i.origin = (respool_origin){phrase_of(s->name), from->id,
                                from->about->pushed_at};
  int rc = known_load(s->e, s->l, s->r->to, &to);
  if (!rc) rc = session_ids(s->l, 1, &id);
  if (rc) return rc;
  run_writer_init(&w);
  rc = pack_run(&w, &i, id, &to, s->r->to, &bytes);
  if (!rc) rc = send_move(s, p, &to, id, bytes);
  run_writer_free(&w);
  if (rc && rc != RESPOOL_UNKNOWN_OUTCOME) session_ids_back(s->l, id, 1);
  return rc;
}

static int edit(seen *s, plan *p) {
  respool_bytes was = s->r->was, is = s->page.items[0].body, bytes;
  item i = page_item(&s->page.items[0]);
  run_writer w;
  if (was.data &&
      (was.size != is.size || memcmp(was.data, is.data, is.size)))
    s->outdated = true;
  if (s->outdated) return RESPOOL_LOCKED;
  i.body = s->r->payload->body;
  i.codec = s->r->payload->codec;
  if (s->r->payload->headers.size) i.headers = s->r->payload->headers;
  run_writer_init(&w);
  int rc = pack_run(&w, &i, s->r->id, &s->queue, s->name, &bytes);
  if (!rc) {
    values *v = begin(p, s, STATEMENT_EDIT);
    put_int8(v, (int64_t)s->r->version);
    put_bytes(v, bytes);
    rc = plan_run(p, false);
  }
  run_writer_free(&w);
  return rc;
}

/* ---- change ------------------------------------------------------------- */

static int perform(seen *s, plan *p) {
  bool blind = s->r->kind == ITEM_RUN_NOW || s->r->kind == ITEM_CANCEL;
  int rc = blind ? 0 : look(s);
  if (rc) return rc;
  switch (s->r->kind) {
    case ITEM_RUN_NOW: return run_now(s, p);
    case ITEM_KILL: return kill_item(s, p);
    case ITEM_MOVE: return move_item(s, p);
    case ITEM_EDIT: return edit(s, p);
    case ITEM_CANCEL: return cancel(s, p);
  }
  return fail(RESPOOL_INVALID, "a change of an unknown kind");
}

/* Ends expired items of the target that are in the way: of its key, or of
   room. */
static int end_expired(seen *s, const plan *p) {
  uint64_t id = strtoull(p->call.why.detail, NULL, 10), ended;
  size_t runs;
  return take_expired(s->e, s->l, s->now, s->r->to, 1, id, s->r->notices,
                      &ended, &runs);
}

/* `*again`: it is to be tried once more. */
static int change(seen *s, bool *again) {
  plan p;
  plan_init(&p, s->e, s->l);
  p.now = s->look.now = s->now;
  int rc = perform(s, &p);
  bool expired = rc && failure_is(&p.call.why, REFUSED_EXPIRED);
  *again = rc == RESPOOL_LOCKED && !s->outdated;
  if (expired && !(rc = end_expired(s, &p))) *again = true;
  plan_free(&p);
  return rc;
}

/* In words that name the queue. */
static int explain(const seen *s, int rc) {
  unsigned long long id = s->r->id;
  if (rc == RESPOOL_NOT_FOUND && s->r->kind != ITEM_MOVE)
    return gone(s);
  if (rc == RESPOOL_BUSY)
    return fail(rc, "item %llu of queue '%.120s' is leased", id, s->name);
  if (rc == RESPOOL_LOCKED)
    return fail(rc, "item %llu of queue '%.120s' was changed by another", id,
                s->name);
  return rc;
}

int pg_change(pg_env *e, session *l, int64_t now, const char *name,
              change_req *r) {
  int rc = RESPOOL_LOCKED;
  bool again = true;
  for (int i = 0; i < TRIES && again; i++) {
    seen s = {.e = e, .l = l, .now = now, .name = name, .r = r};
    rc = known_load(e, l, name, &s.queue);
    if (rc) return rc;
    page_init(&s.page);
    plan_init(&s.look, e, l);
    rc = change(&s, &again);
    plan_free(&s.look);
    page_clear(&s.page);
    rc = explain(&s, rc);
  }
  return rc;
}
