/* SPDX-License-Identifier: MIT */
/*
 * Flow: whether, when and how many items of a queue may be taken. Three things
 * decide: a hold, the bucket of a rate, and a breaker. Engines keep a flow with
 * the queue, and compute it here; where there is none yet, NULL stands for one
 * in which nothing has happened.
 *
 * The bucket holds burst * per units and gains `items` of them each ms; an item
 * costs `per`. So it is exact in integers.
 */
#ifndef POLICY_FLOW_H
#define POLICY_FLOW_H

#include "policy/outcome.h"

typedef struct flow {
  int64_t held_until; /* 0: it is not held */
  char why[RESPOOL_REASON_MAX + 1];
  int64_t level, level_at; /* the bucket at that time; 0: it is full */
  int breaker;             /* enum respool_breaker */
  int64_t until;   /* open: no probe before; half open: no further one, unless
                      there are fewer than the policy says */
  uint64_t probes; /* whose outcome is not known */
  int64_t failed_at;               /* the last failure in a row */
  size_t n_row, n_old;             /* failures in a row; of earlier settles */
  uint64_t row[BREAKER_FAILURES_MAX]; /* their ids, while it is closed */
  uint64_t outages, opened;        /* counters */
  size_t n_openings;
  respool_opening openings[RESPOOL_OPENINGS]; /* newest first */
} flow;

/* How much the bucket of a rate holds. */
int64_t rate_bucket(const queue_config *c);

/* Is there nothing in it that is worth storing? */
bool flow_is_idle(const flow *f, int64_t now);

/* When nothing of it matters any more: no hold, a full bucket, a breaker that
   is closed or may be. */
int64_t flow_rests(const flow *f, const queue_config *c, int64_t now);

/* How many items may be taken now; of 0 `*due` becomes when to look again. */
uint64_t flow_allows(const flow *f, const queue_config *c, int64_t now,
                     int64_t *due);

/* `n` items were taken under a lease up to `until`. */
void flow_taken(flow *f, const queue_config *c, int64_t now, uint64_t n,
                int64_t until);

/* A lease was extended. */
void flow_extended(flow *f, int64_t until);

/* Holds the queue, at least as long as it is held already; 0 ends that. */
void flow_hold(flow *f, int64_t now, int64_t ms, respool_bytes why);

/* Notes the marks of claim items [from, to) of a batch: holds of those without
   a partition, and what the breaker is to know. */
void flow_settled(flow *f, const queue_config *c, int64_t now,
                  const respool_batch *batch, const mark *marks,
                  const mark *all, const batch_claim *h);

/* Notes one mark in its breaker. */
void flow_note(flow *f, const queue_config *c, int64_t now, const mark *m,
               uint64_t id);

/* Which outages spend no attempt, once all marks of a settle are noted: all
   where the breaker is not closed; an item's last where others failed in a row
   with it. */
enum excuse flow_excuse(const flow *f, const queue_config *c);

/* The policy changes: the bucket keeps its whole items, a breaker that is
   gone is closed. */
void flow_policy(flow *f, const queue_config *from, const queue_config *to,
                 int64_t now);

/* The queue's clock jumps by so many ms: what was to last goes on lasting as
   long. */
void flow_shift(flow *f, int64_t by);

void flow_tell(const flow *f, const queue_config *c, int64_t now,
               respool_flow *out);

/* As one CBOR array. */
void flow_pack(packer *p, const flow *f);
void flow_unpack(unpacker *u, flow *f);

#endif
