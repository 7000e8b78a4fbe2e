/* SPDX-License-Identifier: MIT */
/*
 * Dead letters: listing, counting, removing, and moving them back; and the
 * named replays, which remember how far a replay has come.
 */
#include <stdlib.h>
#include <string.h>

#include "record/dead/group.h"
#include "record/dead/record.h"
#include "verbs/dead_letters.h"
#include "verbs/produce/push.h"

static int dlq_check(const respool *s, const char *dlq) {
  int rc = store_check(s);
  return rc ? rc : name_check(dlq, "dlq");
}

/* ---- listing ------------------------------------------------------------ */

int respool_dead_list(respool *s, const char *dlq,
                      const respool_list_options *o,
                      respool_dead_letters **out) {
  static const respool_list_options defaults = RESPOOL_LIST_OPTIONS_INIT;
  if (!o) o = &defaults;
  int rc = dlq_check(s, dlq);
  if (!rc) rc = SIZE_CHECK(o, RESPOOL_LIST_OPTIONS_INIT);
  if (rc) return rc;
  respool_dead_letters *l = calloc(1, sizeof *l);
  if (!l) return fail(RESPOOL_NOMEM, "not enough memory");
  query look = {.kind = QUERY_DEAD_LIST, .name = dlq,
                .dead_list = {.options = o, .out = l}};
  rc = store_look(s, &look);
  if (rc)
    respool_dead_letters_free(l);
  else
    *out = l;
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
  return dead_letter_gone(dlq, number);
}

int respool_dead_count(respool *s, const char *dlq, uint64_t *n) {
  query look = {.kind = QUERY_DEAD_COUNT, .name = dlq};
  int rc = dlq_check(s, dlq);
  if (!rc) rc = store_look(s, &look);
  if (!rc) *n = look.number;
  return rc;
}

static int each_group(const packer *p, respool_group_fn each, void *arg) {
  int rc = 0;
  unpacker u;
  unpacker_init(&u, p->data, p->len);
  while (u.at < u.end && !u.rc && !rc) {
    respool_dead_group g = dead_group_unpack(&u);
    rc = each(arg, &g);
  }
  return rc;
}

int respool_dead_groups(respool *s, const char *dlq, respool_group_fn each,
                        void *arg) {
  packer groups;
  query look = {.kind = QUERY_DEAD_GROUPS, .name = dlq, .texts = &groups};
  int rc = dlq_check(s, dlq);
  if (rc) return rc;
  packer_init(&groups);
  rc = store_look(s, &look);
  if (!rc) rc = each_group(&groups, each, arg);
  packer_free(&groups);
  return rc;
}

/* ---- pushing ------------------------------------------------------------ */

static int dead_push_check(const respool_dead_push_options *o) {
  int rc = SIZE_CHECK(o, RESPOOL_DEAD_PUSH_OPTIONS_INIT);
  if (!rc && o->dlq) rc = name_check(o->dlq, "dlq");
  if (!rc && o->reason) rc = name_check(o->reason, "reason");
  return rc;
}

int respool_dead_push(respool_queue *q, const respool_payload *payload,
                      const respool_dead_push_options *o, uint64_t *number) {
  static const respool_dead_push_options defaults =
      RESPOOL_DEAD_PUSH_OPTIONS_INIT;
  respool_push_options push = RESPOOL_PUSH_OPTIONS_INIT;
  builder b;
  if (!o) o = &defaults;
  int rc = queue_check(q);
  if (!rc) rc = dead_push_check(o);
  if (rc) return rc;
  push.priority = o->priority;
  push.version = o->version;
  dead_push failed = {o->reason ? o->reason : "rejected", o->dlq, o->error,
                      o->trace, o->group, o->attempts};
  rc = push_build(q->store, payload, 1, &push, &b);
  step p = push_step(q, &b, (respool_bytes){NULL, 0}, &push);
  p.append.dead = &failed;
  if (!rc) rc = store_commit_step(q->store, &p, true);
  if (!rc && number) *number = p.append.number;
  builder_free(&b);
  return rc;
}

/* ---- removing ----------------------------------------------------------- */

int respool_dead_remove(respool *s, const char *dlq, const uint64_t *numbers,
                        size_t n, uint64_t *removed) {
  step p = {.kind = STEP_DEAD_REMOVE, .name = dlq,
            .dead_remove = {.numbers = numbers, .n = n}};
  int rc = dlq_check(s, dlq);
  if (!rc) rc = store_commit_step(s, &p, true);
  if (!rc && removed) *removed = p.dead_remove.removed;
  return rc;
}

int respool_dead_purge(respool *s, const char *dlq,
                       const respool_purge_options *o, uint64_t *removed) {
  static const respool_purge_options all = RESPOOL_PURGE_OPTIONS_INIT;
  step p = {.kind = STEP_DEAD_PURGE, .name = dlq,
            .dead_purge.options = o ? o : &all};
  dead_purge_req *r = &p.dead_purge;
  commit_size size = {REMOVAL_PAGE, REMOVAL_PAGE};
  uint64_t sum = 0;
  int rc = dlq_check(s, dlq);
  if (!rc) rc = SIZE_CHECK(r->options, RESPOOL_PURGE_OPTIONS_INIT);
  for (bool more = true; more && !rc;) {
    r->limit = size.page;
    rc = store_commit_step(s, &p, true);
    if (!rc) {
      sum += r->removed;
      r->from = r->upto;
      more = r->more;
    }
    rc = adjust_commit_size(&size, rc);
  }
  if (!rc && removed) *removed = sum;
  return rc;
}

/* ---- moving ------------------------------------------------------------- */

int replay_check(const respool_replay *r) {
  int rc = SIZE_CHECK(r, RESPOOL_REPLAY_INIT);
  if (rc) return rc;
  if (r->state < 0 || r->state > RESPOOL_REPLAY_CANCELLED)
    return invalid("replay.state", "one of enum respool_replay_state");
  rc = name_check(r->name, "replay");
  return rc ? rc : name_check(r->dlq, "replay.dlq");
}

static int move_check(respool *s, const respool_move *moves, size_t n,
                      const respool_move_options *o) {
  int rc = SIZE_CHECK(o, RESPOOL_MOVE_OPTIONS_INIT);
  if (rc) return rc;
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
  step p = {.kind = STEP_DEAD_MOVE, .name = dlq, .move = {
    .dlq = dlq, .to = o->to ? o->to->name : NULL, .moves = moves, .n = n,
    .keep_attempts = o->keep_attempts, .replay = o->replay,
    .notices = store_notices(s),
  }};
  rc = store_commit_step(s, &p, true);
  if (!rc && moved) *moved = p.move.moved;
  return rc;
}

/* ---- named replays ------------------------------------------------------ */

int respool_replay_load(respool *s, const char *name, respool_replay *out) {
  respool_replay replay = RESPOOL_REPLAY_INIT;
  query look = {.kind = QUERY_REPLAY, .name = name, .replay = &replay};
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "replay");
  if (!rc) rc = store_look(s, &look);
  if (!rc) *out = replay;
  return rc;
}

int respool_replay_save(respool *s, const respool_replay *replay) {
  step p = {.kind = STEP_REPLAY_SAVE, .name = replay->name,
            .replay = replay};
  int rc = store_check(s);
  if (!rc) rc = replay_check(replay);
  return rc ? rc : store_commit_step(s, &p, true);
}

static int commit_named(respool *s, step_kind kind, const char *name) {
  step p = {.kind = kind, .name = name};
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "replay");
  return rc ? rc : store_commit_step(s, &p, true);
}

int respool_replay_cancel(respool *s, const char *name) {
  return commit_named(s, STEP_REPLAY_CANCEL, name);
}

int respool_replay_remove(respool *s, const char *name) {
  return commit_named(s, STEP_REPLAY_REMOVE, name);
}
