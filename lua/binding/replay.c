/* SPDX-License-Identifier: MIT */
/*
 * Replay jobs: the records in which a replay keeps its place.
 */
#include "replay.h"

#include "handle.h"
#include "names.h"
#include "record.h"
#include "result.h"
#include "store.h"
#include "ticket.h"

static respool *store(lua_State *L) {
  return lhandle_object(L, 1, LSTORE);
}

static const record_field JOB[] = {
  RECORD(respool_job, name, NAME),
  RECORD(respool_job, box, NAME),
  RECORD(respool_job, to, NAME),
  RECORD(respool_job, state, INT),
  RECORD(respool_job, cursor, COUNT),
  RECORD(respool_job, upto, COUNT),
  RECORD(respool_job, seen, COUNT),
  RECORD(respool_job, moved, COUNT),
  RECORD(respool_job, skipped, COUNT),
  RECORD(respool_job, failed, COUNT),
  RECORD(respool_job, started_at, TIME),
  RECORD(respool_job, updated_at, TIME),
  RECORD_END
};

const respool_job *ljob_read(lua_State *L, int index, respool_job *job) {
  lrecord_read(L, index, JOB, job);
  return job;
}

/* job_load(store, name): a table. */
static int job_load(lua_State *L) {
  respool *s = store(L);
  respool_job job = RESPOOL_JOB_INIT;
  int rc = respool_job_load(s, luaL_checkstring(L, 2), &job);
  if (rc)
    return lfail(L, rc);
  lrecord_push(L, JOB, &job);
  return 1;
}

/* job_save(store, table). */
typedef struct job_call {
  lcall call;
  respool_job job;
  lname name;
} job_call;

static int run_save(lcall *c) {
  return respool_job_save(c->store, &((job_call *)c)->job);
}

static int job_save(lua_State *L) {
  job_call *c = lcall_of_store(L, sizeof *c);
  c->job.size = sizeof c->job;
  ljob_read(L, 2, &c->job);
  return lcall_do(L, &c->call, run_save, lcall_true);
}

static int run_remove(lcall *c) {
  return respool_job_remove(c->store, ((job_call *)c)->name);
}

static int job_remove(lua_State *L) {
  job_call *c = lcall_of_store(L, sizeof *c);
  lcall_name(L, 2, c->name);
  return lcall_do(L, &c->call, run_remove, lcall_true);
}

static int job_names(lua_State *L) {
  return lnames_list(L, store(L), respool_jobs);
}

static const luaL_Reg METHODS[] = {
  { "job_load", job_load },
  { "job_save", job_save },
  { "job_remove", job_remove },
  { "job_names", job_names },
  { NULL, NULL }
};

void ljob_methods(lua_State *L) {
  compat_register(L, METHODS);
}

static const luaL_Reg WAITING[] = {
  { "job_save", job_save },
  { "job_remove", job_remove },
  { NULL, NULL }
};

void ljob_starters(lua_State *L) {
  lticket_starters(L, "store", WAITING);
}
