/* SPDX-License-Identifier: MIT */
#include "postgres/queue/records.h"

#include <string.h>

#include "record/dead/replay.h"
#include "record/fields.h"

#define CANCEL_TRIES 100

void replay_save_plan(plan *p, const respool_replay *replay) {
  packer record;
  respool_bytes copy = {"", 0};
  respool_replay next = *replay;
  next.revision++;
  packer_init(&record);
  replay_pack(&record, &next);
  sum_put(&record, 0, key_seed(phrase_of(replay->name)));
  if (record.rc ||
      arena_copy(&p->memory, (respool_bytes){record.data, record.len}, &copy))
    p->rc = RESPOOL_NOMEM;
  packer_free(&record);
  values *v = plan_add(p, STATEMENT_REPLAY_SAVE, NULL);
  put_text(v, replay->name);
  plan_put_call(p, v);
  put_int8(v, (int64_t)replay->revision);
  put_bytes(v, copy);
}

void entry_plan(plan *p, const char *name, const entry_req *r) {
  values *v = plan_add(p, STATEMENT_ENTRY_SAVE, NULL);
  put_int2(v, r->kind);
  put_text(v, name);
  plan_put_call(p, v);
  put_int8(v, (int64_t)r->revision);
  put_bytes(v, r->bytes);
}

void note_plan(plan *p, const char *name, respool_bytes note) {
  values *v = plan_add(p, STATEMENT_NOTE_SAVE, NULL);
  put_text(v, name);
  plan_put_call(p, v);
  put_bytes(v, note);
}

int pg_replay_load(pg_env *e, session *l, const char *name,
                   respool_replay *out) {
  plan p;
  plan_init(&p, e, l);
  put_text(plan_add(&p, STATEMENT_REPLAY_LOAD, NULL), name);
  int rc = plan_run(&p, false);
  const PGresult *r = rc ? NULL : plan_answer(&p, 0);
  if (r && (!pq.ntuples(r) || value_null(r, 0, 0)))
    rc = fail(RESPOOL_NOT_FOUND, "there is no named replay '%.160s'", name);
  else if (r && !replay_unpack(key_seed(phrase_of(name)),
                               value_bytes(r, 0, 0), out))
    rc = fail(RESPOOL_CORRUPT, "named replay '%.160s' is damaged", name);
  plan_free(&p);
  if (!rc) strcpy(out->name, name);
  return rc;
}

static int cancel_once(pg_env *e, session *l, const char *name) {
  respool_replay stored = RESPOOL_REPLAY_INIT;
  plan p;
  int rc = pg_replay_load(e, l, name, &stored);
  if (rc) return rc;
  if (stored.state != RESPOOL_REPLAY_RUNNING)
    return fail(RESPOOL_NOT_FOUND, "named replay '%.160s' is not running",
                name);
  stored.state = RESPOOL_REPLAY_CANCELLED;
  plan_init(&p, e, l);
  replay_save_plan(&p, &stored);
  rc = plan_run(&p, false);
  plan_free(&p);
  return rc;
}

int pg_replay_cancel(pg_env *e, session *l, const char *name) {
  int rc = RESPOOL_LOCKED; /* its runner saves it all the time */
  for (int i = 0; i < CANCEL_TRIES && rc == RESPOOL_LOCKED; i++)
    rc = cancel_once(e, l, name);
  return rc;
}

int pg_replay_remove(pg_env *e, session *l, const char *name) {
  plan p;
  plan_init(&p, e, l);
  put_text(plan_add(&p, STATEMENT_REPLAY_REMOVE, NULL), name);
  int rc = plan_run(&p, false);
  plan_free(&p);
  return rc;
}
