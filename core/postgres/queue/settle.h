/* SPDX-License-Identifier: MIT */
/*
 * Settle: the outcomes of a batch, worked out here by the policy that is
 * remembered, applied by the server to the runs that are still leased.
 */
#ifndef POSTGRES_SETTLE_H
#define POSTGRES_SETTLE_H

#include "policy/outcome.h"
#include "postgres/queue/burial.h"

typedef struct settling {
  const char *name; /* of the queue */
  settle_req *r;
  bool plain;       /* all that is left in its runs is done */
  fates fates;
  size_t request, awaited;
  uint64_t *firsts;   /* of the runs that are settled */
  size_t n_firsts;
  size_t fresh_gone;  /* items that these have found cancelled */
} settling;

/* `tell`: pushes of the same unit ask which leases were lost. */
int settle_plan(plan *p, settling *w, const char *name, settle_req *r,
                bool tell);
void settle_end(plan *p, settling *w);
void settle_free(settling *w);

/* It was refused as leases were lost: says so, with how many items. */
int settle_refused(const plan *p, settling *w);

/* It was refused as the breaker says something else of outages, or as attempts
   were given back since the take: goes by that from now on. */
void settle_excuse(const plan *p, settling *w);
void settle_recount(const plan *p, settling *w);

/* It was refused as items were cancelled since the take: looks which. */
int settle_find_gone(const plan *p, settling *w);

#endif
