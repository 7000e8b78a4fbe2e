/* SPDX-License-Identifier: MIT */
/*
 * Flow: holds and outages in the settle of a batch, reported to the server
 * before the settle itself; see sql/flow.sql.
 */
#ifndef POSTGRES_FLOW_H
#define POSTGRES_FLOW_H

#include "policy/outcome.h"
#include "postgres/queue/plan.h"

/* Adds a request if the outcomes of the batch concern the flow of the queue, or
   of its partitions. */
void flow_note_plan(plan *p, const pg_queue *q, const settle_req *r);

#endif
