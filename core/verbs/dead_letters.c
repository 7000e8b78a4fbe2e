/* SPDX-License-Identifier: MIT */
/*
 * Dead letters: listing, counting, removing, and moving them back; and the
 * jobs that remember how far a replay has come.
 */
#include "verbs/store.h"

#include <stdlib.h>
#include <string.h>

static int dlq_check(const respool *s, const char *dlq) {
  int rc = store_check(s);
  return rc ? rc : name_check(dlq, "dlq");
}

/* ---- listing ------------------------------------------------------------ */

typedef struct list_op {
  op op;
  const char *dlq;
  const respool_list_options *options;
  respool_dead_letters *dead_letters;
  uint64_t count;
  packer groups;
} list_op;

static int run_list(txn *t, op *o) {
  list_op *p = (list_op *)o;
  return engine_lmdb.dead_letters(t, p->dlq, p->options, p->dead_letters);
}

int respool_dead_list(respool *s, const char *dlq,
                      const respool_list_options *o,
                          respool_dead_letters **out) {
  static const respool_list_options defaults = RESPOOL_LIST_OPTIONS_INIT;
  list_op p = {.dlq = dlq, .options = o ? o : &defaults};
  int rc = dlq_check(s, dlq);
  if (!rc && p.options->size != sizeof *o)
    rc = invalid("options.size", "set by _INIT");
  if (rc) return rc;
  p.dead_letters = calloc(1, sizeof *p.dead_letters);
  if (!p.dead_letters) return fail(RESPOOL_NOMEM, "not enough memory");
  rc = store_read(s, &p.op, run_list);
  if (rc)
    respool_dead_letters_free(p.dead_letters);
  else
    *out = p.dead_letters;
  return rc;
}

int respool_dead_get(respool *s, const char *dlq, uint64_t number,
                     respool_dead_letters **out) {
  respool_list_options o = RESPOOL_LIST_OPTIONS_INIT;
  respool_dead_letters *l = NULL;
  o.after = number - 1;
  o.upto = number;
  o.limit = 1;
  int rc = number ? respool_dead_list(s, dlq, &o, &l) : dlq_check(s, dlq);
  if (rc) return rc;
  if (respool_dead_letters_length(l)) {
    *out = l;
    return 0;
  }
  respool_dead_letters_free(l);
  return fail(RESPOOL_NOT_FOUND,
              "there is no dead letter %llu in DLQ \"%.120s\"",
              (unsigned long long)number, dlq);
}

static int run_count(txn *t, op *o) {
  list_op *p = (list_op *)o;
  return engine_lmdb.dead_count(t, p->dlq, &p->count);
}

int respool_dead_count(respool *s, const char *dlq, uint64_t *n) {
  list_op p = {.dlq = dlq};
  int rc = dlq_check(s, dlq);
  if (!rc) rc = store_read(s, &p.op, run_count);
  if (!rc) *n = p.count;
  return rc;
}

static int run_groups(txn *t, op *o) {
  list_op *p = (list_op *)o;
  return engine_lmdb.dead_groups(t, p->dlq, &p->groups);
}

static int each_group(const packer *p, respool_group_fn each, void *arg) {
  int rc = 0;
  unpacker u;
  unpacker_init(&u, p->data, p->len);
  while (u.at < u.end && !u.rc && !rc) {
    unpack_array(&u);
    respool_bytes group = unpack_phrase(&u);
    respool_bytes reason = unpack_phrase(&u);
    rc = each(arg, group, reason, unpack_uint(&u));
  }
  return rc;
}

int respool_dead_groups(respool *s, const char *dlq, respool_group_fn each,
                        void *arg) {
  list_op p = {.dlq = dlq};
  int rc = dlq_check(s, dlq);
  if (rc) return rc;
  packer_init(&p.groups);
  rc = store_read(s, &p.op, run_groups);
  if (!rc) rc = each_group(&p.groups, each, arg);
  packer_free(&p.groups);
  return rc;
}

/* ---- removing ----------------------------------------------------------- */

typedef struct drop_op {
  op op;
  const char *dlq;
  const uint64_t *numbers;
  size_t n;
  const respool_purge_options *options;
  uint64_t after, removed;
  uint64_t from; /* `after` of the run before */
  pace pace;
  bool more;
} drop_op;

static int run_remove(txn *t, op *o) {
  drop_op *p = (drop_op *)o;
  return engine_lmdb.dead_remove(t, p->dlq, p->numbers, p->n, &p->removed);
}

int respool_dead_remove(respool *s, const char *dlq, const uint64_t *numbers,
                        size_t n, uint64_t *removed) {
  drop_op p = {.dlq = dlq, .numbers = numbers, .n = n};
  int rc = dlq_check(s, dlq);
  if (!rc) rc = store_run(s, &p.op, run_remove, true);
  if (!rc && removed) *removed = p.removed;
  return rc;
}

static int run_purge(txn *t, op *o) {
  drop_op *p = (drop_op *)o;
  p->after = p->from;
  return engine_lmdb.dead_purge(t, p->dlq, p->options, p->pace.page,
                                  &p->after, &p->removed, &p->more);
}

int respool_dead_purge(respool *s, const char *dlq,
                       const respool_purge_options *o, uint64_t *removed) {
  static const respool_purge_options all = RESPOOL_PURGE_OPTIONS_INIT;
  drop_op p = {.dlq = dlq, .options = o ? o : &all,
               .pace = {REMOVAL_PAGE, REMOVAL_PAGE}};
  uint64_t sum = 0;
  int rc = dlq_check(s, dlq);
  if (!rc && p.options->size != sizeof *o)
    rc = invalid("options.size", "set by _INIT");
  for (bool more = true; more && !rc;) {
    rc = store_run(s, &p.op, run_purge, true);
    if (!rc) {
      sum += p.removed;
      p.from = p.after;
      more = p.more;
    }
    rc = pace_after(&p.pace, rc);
  }
  if (!rc && removed) *removed = sum;
  return rc;
}

/* ---- moving ------------------------------------------------------------- */

typedef struct move_op {
  op op;
  respool *s;
  move_req req;
} move_op;

static int run_move(txn *t, op *o) {
  move_op *p = (move_op *)o;
  return engine_lmdb.dead_move(t, respool_now(p->s), &p->req);
}

static int replay_check(const respool_replay *j) {
  if (j->size != sizeof *j) return invalid("replay.size", "set by _INIT");
  if (j->state < 0 || j->state > RESPOOL_REPLAY_FINISHED)
    return invalid("replay.state", "one of enum respool_replay_state");
  int rc = name_check(j->name, "replay");
  return rc ? rc : name_check(j->dlq, "replay.dlq");
}

static int move_check(respool *s, const respool_move *moves, size_t n,
                      const respool_move_options *o) {
  if (o->size != sizeof *o) return invalid("options.size", "set by _INIT");
  if (o->to && o->to->store->env != s->env)
    return invalid("to", "a queue of the same store");
  for (size_t i = 0; i < n; i++)
    if (moves[i].payload && moves[i].payload->body.size > s->max_item_bytes)
      return fail(RESPOOL_TOO_LARGE, "a transformed item of %zu bytes is "
                  "over max_item_bytes", moves[i].payload->body.size);
  return o->replay ? replay_check(o->replay) : 0;
}

int respool_dead_move(respool *s, const char *dlq, const respool_move *moves,
                      size_t n, const respool_move_options *o,
                      uint64_t *moved) {
  static const respool_move_options defaults = RESPOOL_MOVE_OPTIONS_INIT;
  if (!o) o = &defaults;
  int rc = dlq_check(s, dlq);
  if (!rc) rc = move_check(s, moves, n, o);
  if (rc) return rc;
  move_op p = {.s = s, .req = {
    .dlq = dlq, .to = o->to ? o->to->name : NULL, .moves = moves, .n = n,
    .keep_attempts = o->keep_attempts, .replay = o->replay,
  }};
  rc = store_run(s, &p.op, run_move, true);
  if (!rc && moved) *moved = p.req.moved;
  return rc;
}

/* ---- jobs --------------------------------------------------------------- */

typedef struct replay_op {
  op op;
  const char *name;
  const respool_replay *save;
  respool_replay out;
} replay_op;

static int run_load(txn *t, op *o) {
  replay_op *p = (replay_op *)o;
  return engine_lmdb.replay_load(t, p->name, &p->out);
}

int respool_replay_load(respool *s, const char *name, respool_replay *out) {
  replay_op p = {.name = name, .out = RESPOOL_REPLAY_INIT};
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "replay");
  if (!rc) rc = store_read(s, &p.op, run_load);
  if (!rc) *out = p.out;
  return rc;
}

static int run_save(txn *t, op *o) {
  return engine_lmdb.replay_save(t, ((replay_op *)o)->save);
}

int respool_replay_save(respool *s, const respool_replay *replay) {
  replay_op p = {.save = replay};
  int rc = store_check(s);
  if (!rc) rc = replay_check(replay);
  return rc ? rc : store_run(s, &p.op, run_save, true);
}

static int run_forget(txn *t, op *o) {
  return engine_lmdb.replay_remove(t, ((replay_op *)o)->name);
}

int respool_replay_remove(respool *s, const char *name) {
  replay_op p = {.name = name};
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "replay");
  return rc ? rc : store_run(s, &p.op, run_forget, true);
}
