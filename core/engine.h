/* SPDX-License-Identifier: MIT */
/*
 * The engine seam: what a storage engine must do for the verbs above it. It
 * lies at the state machine (append, claim, settle, ...), not at get and
 * put, so that a server may implement the same list. The time is passed in.
 *
 * An engine's work is done in its transactions: one writer at a time, any
 * number of readers. A function here that changes things is called in a
 * write transaction; it returns 0, or a code of its own failure. A failure
 * that comes before anything was changed fails that operation alone. Once
 * something was changed, which `changes` tells, the transaction as a whole
 * must be given up. What a function fills (batches, pages) holds only when the
 * transaction ends well.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include "commit/commit.h"
#include "record/dead_notices.h"
#include "record/page.h"

typedef struct txn txn;

/* What all engines share of an open environment; an engine's own begins
   with it. */
typedef struct env {
  const struct engine *engine;
  committer commit;
  int pid; /* of the process that opened it */
} env;

/* A queue's policy as stored. */
typedef struct queue_config {
  int64_t lease, max_lease, max_attempts, max_crashes, ttl, cooldown;
  int64_t on_exhausted, on_expire, ordered, max_items, max_bytes;
  int64_t overflow, keep_done, keep_done_bytes, keep_dead;
  respool_weights weights;
  respool_backoff backoff;
  char dlq[RESPOOL_NAME_MAX + 1];
} queue_config;

typedef struct append_req {
  const builder *builder;
  int priority;
  int64_t delay, at, ttl;
  uint64_t attempts;  /* already spent; a replay that keeps them */
  respool_bytes memo; /* remembered from before a replay */
  uint64_t max_store; /* pushes must leave the store below; 0: any */
  respool_bytes key;  /* of the batch's one item, or empty */
  int on_conflict;
  int64_t dedup;
  int reason;         /* enum respool_flush_reason */
  bool apart;         /* pushed item by item: where all have no room, some
                         may overflow, not all must */
  uint64_t first;     /* out; of an item that was ignored, its twin's */
  bool held;          /* out: it was ignored */
  bool never;         /* out, when FULL: the empty queue has no room either */
  uint64_t ending;    /* out: changes made to end what had expired; */
  bool only_ended;    /* nothing else was changed */
  _Atomic int64_t *bound; /* out: the queue's max_queue_bytes; may be NULL */
  notices *notices;   /* of dead letters that it makes; NULL: nobody asks */
} append_req;

typedef struct claim_req {
  uint64_t items, bytes;
  int64_t lease; /* KEEP: the queue's */
  notices *notices; /* of dead letters that it makes; NULL: nobody asks */
  bool more;     /* out: stopped early, there may be something yet */
} claim_req;

typedef struct settle_req {
  respool_batch *batch;
  const mark *marks; /* an outcome for each of its items, or none */
  bool strict; /* any hold lost: LEASE_LOST and nothing happens */
  struct random *chance;
  notices *notices; /* of dead letters that it makes; NULL: nobody asks */
} settle_req;

typedef struct move_req {
  const char *dlq, *to; /* to NULL: each dead letter's own queue */
  const respool_move *moves;
  size_t n;
  bool keep_attempts;
  const respool_replay *replay;
  uint64_t moved; /* out */
} move_req;

/* When something may be taken. */
typedef struct outlook {
  bool ready;
  int64_t next_due; /* wall time of the next waiting or leased; 0: none */
} outlook;

/* Records that one commit of a removal takes at most. */
#define REMOVAL_PAGE 1000

typedef struct engine {
  int (*open)(const char *path, const respool_options *o, env **e);
  void (*close)(env *e);
  int (*compact)(const char *path, const char *to, respool_compaction *out);

  int (*begin)(env *e, bool write, txn **t);
  uint64_t (*changes)(const txn *t); /* rises with each; and on errors */
  int (*commit)(txn *t);         /* ends it, also on failure */
  void (*abort)(txn *t);
  int (*sync)(env *e);           /* what was committed is on disk */
  uint64_t (*last_txn)(env *e);  /* cheap, also across processes */

  /* queues */
  int (*queue_open)(txn *t, const char *name, const respool_queue_options *o);
  /* whether an open with these options would change nothing */
  int (*queue_agrees)(txn *t, const char *name,
                      const respool_queue_options *o, bool *agrees);
  int (*queue_config)(txn *t, const char *name, queue_config *out);
  int (*queue_stat)(txn *t, const char *name, int64_t now,
                    respool_queue_stats *out);
  int (*queue_pause)(txn *t, const char *name, bool paused);
  /* of an empty one: what it remembers, `limit` records at most; itself */
  int (*queue_forget)(txn *t, const char *name, int limit, bool *more);
  int (*queue_drop)(txn *t, const char *name);
  int (*names)(txn *t, int which, packer *out); /* array of texts */

  /* life of an item */
  /* TOO_LARGE for a push with an item that the queue could never hold */
  int (*fits)(txn *t, const char *queue, append_req *r);
  int (*append)(txn *t, const char *queue, int64_t now, append_req *r);
  int (*outlook)(txn *t, const char *queue, int64_t now, outlook *out);
  int (*claim)(txn *t, const char *queue, int64_t now, claim_req *r,
               respool_batch *batch);
  int (*settle)(txn *t, const char *queue, int64_t now, settle_req *r);
  int (*extend)(txn *t, const char *queue, int64_t now, int64_t lease,
                uint64_t token, batch_claim *claims, size_t n);

  /* looking, and removing by hand */
  int (*peek)(txn *t, const char *queue, int64_t now, size_t limit,
              respool_page *p);
  int (*get)(txn *t, const char *queue, int64_t now, uint64_t id,
             respool_page *p);
  int (*browse)(txn *t, const char *queue, int64_t now, int state,
                size_t limit, respool_cursor *at, respool_page *p);
  int (*remove)(txn *t, const char *queue, int64_t now, uint64_t id);
  int (*purge)(txn *t, const char *queue, int64_t now, size_t limit,
               uint64_t *removed, bool *more);

  /* dead letters and jobs */
  int (*dead_letters)(txn *t, const char *dlq, const respool_list_options *o,
                 respool_dead_letters *l);
  int (*dead_count)(txn *t, const char *dlq, uint64_t *n);
  /* [group, reason, count], one after the other */
  int (*dead_groups)(txn *t, const char *dlq, packer *out);
  int (*dead_remove)(txn *t, const char *dlq, const uint64_t *numbers,
                       size_t n, uint64_t *removed);
  int (*dead_purge)(txn *t, const char *dlq,
                      const respool_purge_options *o, size_t limit,
                      uint64_t *after, uint64_t *removed, bool *more);
  int (*dead_move)(txn *t, int64_t now, move_req *r);
  int (*replay_load)(txn *t, const char *name, respool_replay *out);
  int (*replay_save)(txn *t, const respool_replay *replay);
  int (*replay_remove)(txn *t, const char *name);

  /* history and care */
  int (*history)(txn *t, const char *queue, respool_moment *at, size_t limit,
                 respool_page *p);
  int (*maintenance)(txn *t, const char *queue, int64_t now, size_t limit,
              respool_maintenance *out);
  int (*free_readers)(env *e, respool_maintenance *out);

  /* writes a number that rises, and reads it */
  int (*probe_write)(txn *t, uint64_t *number);
  int (*probe_read)(txn *t, uint64_t *number);

  int (*stat)(txn *t, respool_store_stats *out);
  int (*check)(txn *t, packer *findings); /* texts, one after the other */
  int (*repair)(const char *from, const char *to, respool_finding_fn each,
                void *arg, respool_salvage *out);
} engine;

/* What `names` lists. */
enum { NAMES_QUEUES, NAMES_DLQS, NAMES_REPLAYS };

extern const engine engine_lmdb;

#endif
