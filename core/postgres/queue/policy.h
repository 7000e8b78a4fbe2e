/* SPDX-License-Identifier: MIT */
/*
 * Steps on queues as a whole: policy, pause, removal. Each is a call of its
 * own.
 */
#ifndef POSTGRES_POLICY_H
#define POSTGRES_POLICY_H

#include "postgres/queue/plan.h"

int pg_queue_open(pg_env *e, session *l, int64_t now, const char *name,
                  const respool_queue_options *o);
int pg_queue_pause(pg_env *e, session *l, const char *name, bool paused);
int pg_queue_hold(pg_env *e, session *l, int64_t now, const char *name,
                  int64_t ms, respool_bytes why, respool_bytes partition);
int pg_queue_drop(pg_env *e, session *l, int64_t now, const char *name,
                  purge_req *r);
int pg_purge(pg_env *e, session *l, int64_t now, const char *name,
             purge_req *r);
int pg_remove(pg_env *e, session *l, int64_t now, const char *name,
              remove_req *r);

#endif
