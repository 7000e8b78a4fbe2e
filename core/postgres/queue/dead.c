/* SPDX-License-Identifier: MIT */
/*
 * Dead letters; see dead.h. Dead letters in a row that go to the same queue
 * with the same priority and counts are pushed together; an item with a key is
 * pushed by itself.
 */
#include "postgres/queue/dead.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "postgres/queue/records.h"
#include "record/dead/record.h"
#include "record/fields.h"

static void put_numbers(values *v, const uint64_t *numbers, size_t n) {
  array_begin(v, TYPE_INT8, n);
  for (size_t i = 0; i < n; i++) add_int8(v, (int64_t)numbers[i]);
  array_end(v);
}

/* ---- removing ----------------------------------------------------------- */

static void plan_remove(plan *p, const char *dlq, const uint64_t *numbers,
                        size_t n, bool strict, size_t *at) {
  values *v = plan_add(p, STATEMENT_DEAD_REMOVE, at);
  put_text(v, dlq);
  plan_put_call(p, v);
  put_numbers(v, numbers, n);
  put_bool(v, strict);
}

void dead_remove_plan(plan *p, removing *w, const char *dlq,
                      dead_remove_req *r) {
  w->r = r;
  plan_remove(p, dlq, r->numbers, r->n, r->strict, &w->request);
}

static uint64_t removed_by(plan *p, size_t at) {
  const PGresult *a = plan_answer(p, at);
  return (uint64_t)(a ? value_int(a, 0, 0) : plan_noted(p));
}

void dead_remove_end(plan *p, removing *w) {
  w->r->removed = removed_by(p, w->request);
}

int pg_dead_purge(pg_env *e, session *l, const char *dlq, dead_purge_req *r) {
  plan p;
  plan_init(&p, e, l);
  values *v = plan_add(&p, STATEMENT_DEAD_PURGE, NULL);
  put_text(v, dlq);
  put_int8(v, (int64_t)r->from);
  put_int4(v, (int64_t)r->limit);
  put_int8(v, r->options->died_before);
  put_bytes(v, r->options->group);
  r->upto = r->from;
  r->removed = 0;
  r->more = false;
  int rc = plan_run(&p, false);
  const PGresult *a = rc ? NULL : plan_answer(&p, 0);
  if (a) {
    r->upto = (uint64_t)value_int(a, 0, 0);
    r->removed = (uint64_t)value_int(a, 0, 1);
    r->more = value_bool(a, 0, 2);
  }
  plan_free(&p);
  return rc;
}

/* ---- moving ------------------------------------------------------------- */

/* Items on their way to one queue. */
typedef struct moved_run {
  char to[RESPOOL_NAME_MAX + 1];
  uint64_t number; /* of its first dead letter */
  builder items;
  append_req push;
  append_req *list[1];
  appending append;
} moved_run;

static int damaged(uint64_t number, const char *of) {
  return fail(RESPOOL_CORRUPT, "dead letter %llu of DLQ '%.120s' is damaged",
              (unsigned long long)number, of);
}

static void free_try(dead_move *m) {
  for (size_t i = 0; i < m->n_runs; i++) builder_free(&m->runs[i].items);
  free(m->runs);
  free(m->found);
  arena_free(&m->memory);
}

void dead_move_free(dead_move *m) {
  free_try(m);
  free(m->dying);
}

/* Reads those that are there. */
static int read_dead(plan *p, const move_req *r, plan *looked) {
  plan_init(looked, p->e, p->l);
  values *v = plan_add(looked, STATEMENT_DEAD_GET, NULL);
  put_text(v, r->dlq);
  array_begin(v, TYPE_INT8, r->n);
  for (size_t i = 0; i < r->n; i++) add_int8(v, (int64_t)r->moves[i].number);
  array_end(v);
  return plan_run(looked, false);
}

/* The stored dead letter; false: it is gone. */
static bool find_dead(const PGresult *r, uint64_t number, respool_bytes *out) {
  for (int i = 0; i < pq.ntuples(r); i++) {
    if ((uint64_t)value_int(r, i, 0) != number) continue;
    *out = value_bytes(r, i, 1);
    return true;
  }
  return false;
}

/* Begins another run unless the dead letter fits the last one. */
static moved_run *run_for(dead_move *m, uint64_t number, const char *to,
                          const dead *l, bool alone) {
  uint64_t attempts = m->r->keep_attempts ? l->r.attempts : 0;
  moved_run *r = m->n_runs ? &m->runs[m->n_runs - 1] : NULL;
  if (r && !alone && !r->push.key.size && !strcmp(r->to, to) &&
      r->push.priority == l->r.priority && r->push.attempts == attempts &&
      r->items.version == l->r.version && !r->push.memo.size && !l->memo.size)
    return r;
  if (!array_grow(&m->runs, m->n_runs, 1, &m->cap_runs, sizeof *m->runs))
    return NULL;
  r = &m->runs[m->n_runs++];
  memset(r, 0, sizeof *r);
  strcpy(r->to, to);
  r->number = number;
  builder_init(&r->items, l->r.version);
  r->push = (append_req){.priority = l->r.priority, .ttl = RESPOOL_KEEP,
                         .attempts = attempts, .notices = m->r->notices};
  if (arena_copy(&m->memory, l->memo, &r->push.memo)) return NULL;
  return r;
}

/* Which item holds a key, 0: none, and until when at least. */
static int find_key(plan *p, int queue, respool_bytes key, uint64_t *id,
                    int64_t *until) {
  plan look;
  plan_init(&look, p->e, p->l);
  values *v = plan_add(&look, STATEMENT_KEY, NULL);
  put_int4(v, queue);
  put_bytes(v, key);
  int rc = plan_run(&look, false);
  *id = 0;
  if (!rc && pq.ntuples(plan_answer(&look, 0))) {
    *id = (uint64_t)value_int(plan_answer(&look, 0), 0, 0);
    *until = value_int(plan_answer(&look, 0), 0, 1);
  }
  plan_free(&look);
  return rc;
}

/* Has another item of this move got the key? */
static bool is_given(const dead_move *m, const moved_run *r,
                     respool_bytes key) {
  for (const moved_run *x = m->runs; x < r; x++)
    if (!strcmp(x->to, r->to) && x->push.key.size == key.size &&
        !memcmp(x->push.key.data, key.data, key.size))
      return true;
  return false;
}

/* An item gets its key back, unless another item holds it by now; what is left
   of the key's window goes on. */
static int give_key(plan *p, dead_move *m, moved_run *r, const dead *l,
                    item *i) {
  pg_queue q;
  uint64_t owner;
  int64_t until = 0, now = pg_now(p->e, p->now);
  int rc = known_find(p->e, p->l, r->to, &q);
  if (!rc) rc = find_key(p, q.id, i->key, &owner, &until);
  if (rc) return rc;
  bool own = owner == l->r.id && phrase_is(l->r.queue, r->to);
  if ((owner && !own) || is_given(m, r, i->key)) {
    i->key.size = 0;
    return 0;
  }
  r->push.on_conflict = own ? RESPOOL_CONFLICT_REPLACE : RESPOOL_CONFLICT_FAIL;
  r->push.dedup = until > now ? until - now : 0;
  return arena_copy(&m->memory, i->key, &r->push.key);
}

static const char *target(const move_req *r, const dead *l,
                          char own[RESPOOL_NAME_MAX + 1]) {
  if (r->to) return r->to;
  size_t n = l->r.queue.size <= RESPOOL_NAME_MAX ? l->r.queue.size : 0;
  if (n) memcpy(own, l->r.queue.data, n);
  own[n] = '\0';
  return own;
}

static int add_item(plan *p, dead_move *m, const respool_move *move, dead *l) {
  char own[RESPOOL_NAME_MAX + 1];
  item i;
  blob_ref ref;
  unpacker u;
  int rc = 0;
  unpacker_init(&u, l->item.data, l->item.size);
  if (!item_unpack(&u, &i, &ref) || ref.number)
    return damaged(move->number, m->r->dlq);
  if (move->payload) l->r.version = move->version;
  dead_renew(&i, l, move);
  bool keyed = i.key.size > 0;
  moved_run *r = run_for(m, move->number, target(m->r, l, own), l, keyed);
  if (!r) return fail(RESPOOL_NOMEM, "not enough memory to replay");
  if (keyed) rc = give_key(p, m, r, l, &i);
  if (!rc) builder_add(&r->items, &i);
  return rc;
}

static int add_all(plan *p, dead_move *m, const PGresult *stored) {
  int rc = 0;
  for (size_t i = 0; i < m->r->n && !rc; i++) {
    const respool_move *move = &m->r->moves[i];
    respool_bytes b;
    dead l;
    if (!find_dead(stored, move->number, &b)) {
      if (m->r->strict) rc = dead_letter_gone(m->r->dlq, move->number);
      continue;
    }
    m->found[m->n_found++] = move->number;
    rc = dead_unpack(phrase_of(m->r->dlq), b, &l) ? add_item(p, m, move, &l)
                            : damaged(move->number, m->r->dlq);
  }
  return rc;
}

static bool is_dying(const dead_move *m, const moved_run *r) {
  for (size_t i = 0; i < m->n_dying; i++)
    if (m->dying[i] == r->number) return true;
  return false;
}

static int plan_pushes(plan *p, dead_move *m) {
  int rc = 0;
  for (size_t i = 0; i < m->n_runs && !rc; i++) {
    moved_run *r = &m->runs[i];
    rc = builder_finish(&r->items);
    if (rc) return fail(rc, "not enough memory to replay");
    r->push.builder = &r->items;
    r->list[0] = &r->push;
    append_begin(&r->append, r->to, r->list);
    if (is_dying(m, r)) r->append.fit = 0;
    rc = append_plan(p, &r->append);
  }
  return rc;
}

/* The named replay has counted all dead letters; those that were gone are
   subtracted. */
static void plan_replay(plan *p, const dead_move *m) {
  if (!m->r->replay) return;
  respool_replay *replay = plan_alloc(p, sizeof *replay);
  if (!replay) return;
  *replay = *m->r->replay;
  uint64_t gone = m->r->n - m->n_found;
  replay->moved -= gone < replay->moved ? gone : replay->moved;
  replay_save_plan(p, replay);
}

int dead_move_plan(plan *p, dead_move *m, move_req *r) {
  plan looked;
  free_try(m); /* the last one */
  *m = (dead_move){.r = r, .request = NO_REQUEST, .dying = m->dying,
                   .n_dying = m->n_dying, .cap_dying = m->cap_dying};
  m->found = calloc(r->n + 1, sizeof *m->found);
  if (!m->found) return fail(RESPOOL_NOMEM, "not enough memory to replay");
  int rc = read_dead(p, r, &looked);
  if (!rc) rc = add_all(p, m, plan_answer(&looked, 0));
  plan_free(&looked);
  if (rc) return rc;
  if (m->n_found)
    plan_remove(p, r->dlq, m->found, m->n_found, true, &m->request);
  rc = plan_pushes(p, m);
  if (!rc) plan_replay(p, m);
  return rc;
}

void dead_move_end(plan *p, dead_move *m) {
  m->r->moved = m->request == NO_REQUEST ? 0 : removed_by(p, m->request);
  for (size_t i = 0; i < m->n_runs; i++) append_end(p, &m->runs[i].append);
}

void dead_move_undo(plan *p, dead_move *m) {
  for (size_t i = m->n_runs; i-- > 0;) append_undo(p, &m->runs[i].append);
}

const char *dead_move_target(const dead_move *m, size_t at) {
  for (size_t i = 0; i < m->n_runs; i++)
    if (m->runs[i].append.push == at) return m->runs[i].to;
  return NULL;
}

static bool let_die(dead_move *m, moved_run *r) {
  if (!array_grow(&m->dying, m->n_dying, 1, &m->cap_dying, sizeof *m->dying))
    return false;
  m->dying[m->n_dying++] = r->number;
  return true;
}

/* The runs behind it to the same queue are tried against the same room, so that
   one refusal does for all of them. */
bool dead_move_refused(const plan *p, dead_move *m, size_t at) {
  moved_run *r = m->runs;
  append_room room;
  while (r->append.push != at) r++;
  const char *to = r->to;
  if (!append_refused(p, &r->append, &room) || !let_die(m, r)) return false;
  for (r++; r < m->runs + m->n_runs; r++)
    if (r->append.push != NO_REQUEST && !strcmp(r->to, to) &&
        !append_takes_room(&r->append, &room) && !let_die(m, r))
      return false;
  return true;
}

bool dead_move_passes(const plan *p, const dead_move *m) {
  const pg_failure *f = &p->call.why;
  return failure_is(f, "RS017") || (failure_is(f, "RS007") && !m->r->strict);
}
