/* SPDX-License-Identifier: MIT */
/*
 * Records beside the queues: named replays, entries, notes.
 */
#ifndef POSTGRES_RECORDS_H
#define POSTGRES_RECORDS_H

#include "postgres/queue/plan.h"

/* Saves an entry, or removes it. */
void entry_plan(plan *p, const char *name, const entry_req *r);

/* Saves a note, or removes it. */
void note_plan(plan *p, const char *name, respool_bytes note);

void replay_save_plan(plan *p, const respool_replay *replay);
int pg_replay_load(pg_env *e, session *l, const char *name,
                   respool_replay *out);
int pg_replay_cancel(pg_env *e, session *l, const char *name);
int pg_replay_remove(pg_env *e, session *l, const char *name);

#endif
