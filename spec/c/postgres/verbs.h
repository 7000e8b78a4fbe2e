/* SPDX-License-Identifier: MIT */
/*
 * The server's verbs in few words, for programs that check them one by one,
 * each check on a queue of its own in one schema: postgres_... URL. Time is
 * moved by hand. A program prints what does not hold, and exits 0 when
 * everything does.
 */
#ifndef POSTGRES_VERBS_H
#define POSTGRES_VERBS_H

#include "../holds.h"
#include "kit.h"

extern kit store;
extern const char *location; /* the program's argument */
extern char schema[64];

/* A program begins and ends with these; its arguments are main's. */
void verbs_open(int n, char **v);
int verbs_close(void);

kit_queue queue_of(const kit_policy *p); /* a new one */
void pass(int64_t ms);
uint64_t push(int q, size_t n); /* the first id */
int push_key(int q, int on_conflict, int64_t dedup, uint64_t *id);
size_t take(int q, int want, kit_batch *b);
int settle(int q, const kit_batch *b, const char *outcomes); /* or: lost runs */

/* A figure of a queue, by its column in v1_stat. */
enum { NOW, PAUSED, POLICY, READY, LEASED, SCHEDULED, RETRYING, DEAD,
       DEAD_BYTES, DEAD_DROPPED, BYTES,
       OLDEST, NEXT_DUE, PUSHED, DONE, DIED, EXPIRED, REMOVED, DROPPED,
       DELIVERED, RETRIED, RELEASED, SNOOZED, CRASHED, LEASE_LOST, DAMAGED,
       KEPT, KEPT_BYTES };
int64_t stat_of(int q, int what);

int script(kit *k, const char *sql); /* statements without parameters */

#endif
