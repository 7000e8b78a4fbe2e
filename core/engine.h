/* SPDX-License-Identifier: MIT */
/*
 * The engine seam: what a storage engine must do for the verbs above it. It
 * lies at the state machine (append, claim, settle, ...), not at get and put,
 * and its requests are data, so that an engine may merge them, run them
 * again, or send them to a server in one round trip.
 *
 * Writes are units of steps, which an engine applies in groups; reads are
 * queries. A step and a query hold their arguments and, once the engine has
 * run them, their results, which mean something only when the unit or query
 * came to 0. What they point to is the caller's and stays as it is until
 * then; an engine may run a unit several times, so each run sets all results
 * anew.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <pthread.h>
#include <unistd.h>

#include "base/error.h"
#include "policy/policy.h"
#include "record/batch.h"
#include "record/dead/notices.h"
#include "record/leases.h"

/* The time of a unit or query by the engine's own clock, read when it runs.
   Any other is a manual clock's, in milliseconds since 1970. */
#define SERVER_TIME INT64_MIN

/* The part of an open environment that all engines share; an engine's own
   begins with it. */
typedef struct env {
  const struct engine *engine;
  struct committer *commit;
  void (*closing)(struct env *e); /* called before it is closed; or NULL */
  /* Asked again and again by an apply that waits `ms` for another process;
     after false it gives up: all units come to LOCKED, unchanged. Other calls
     ask it too, for themselves. NULL: ask wait_goes_on. */
  bool (*goes_on)(struct env *e, int64_t ms, const char *whom);
  _Atomic int waits_for; /* the pid that an apply waits for; -1: not known */
  _Atomic int bell; /* one more than the descriptor to be rung; 0: none */
  int pid; /* of the process that opened it */
} env;

/* Wakes the program's event loop, if it asked for that: something may be ready
   for it. A bell that is full has been rung already. */
static inline void env_ring(env *e) {
  uint64_t one = 1;
  int bell = e->bell;
  if (bell && write(bell - 1, &one, sizeof one) < 0) return;
}

/* ---- steps --------------------------------------------------------------- */

/* Why one step of a unit was refused; rc 0: it was not. */
typedef struct refusal {
  int rc;
  failure failure;
} refusal;

static inline void refusal_note(refusal *r, int rc) {
  r->rc = rc;
  failure_keep(&r->failure);
}

typedef struct append_req {
  const builder *builder;
  int priority;
  int64_t delay, at, ttl;
  uint64_t attempts;  /* already spent; a replay that keeps them, or a move */
  uint64_t deliveries, crashes; /* of an item that moves */
  respool_bytes failures;       /* the same, packed */
  respool_bytes memo; /* remembered from before a replay or a move */
  bool lives; /* of a move: a full queue refuses it, and does not bury it */
  uint64_t max_store; /* pushes must leave the store below; 0: any */
  bool no_journal;    /* of the LMDB engine */
  respool_bytes key;  /* of the builder's one item, or empty */
  int on_conflict;
  int64_t dedup;
  int reason;         /* enum respool_flush_reason */
  bool partial_ok;    /* without room for all items only some may overflow */
  _Atomic int64_t *bound; /* set to the queue's max_queue_bytes; or NULL */
  notices *notices;   /* of dead letters that it makes; or NULL */
  const struct dead_push *dead; /* it becomes dead letters; NULL: items */
  const batch_claim *owner; /* left out if the unit's settle has found that
                               lease lost, or the item cancelled; or NULL */
  const mark *owner_mark;   /* with it: of the item, in its batch */
  refusal *refusal;   /* result: EXISTS, FULL, NOT_FOUND or TOO_LARGE, after
                         which the other steps are tried still; NULL: the unit
                         ends there */
  uint64_t first;     /* result: the first id; a duplicate's, its twin's */
  uint64_t number;    /* result: of the last dead letter, if `dead` is set */
  bool duplicate;     /* result: ignored, as its key was in use */
  bool never_fits;    /* result, when FULL: an empty queue has no room either */
  uint64_t expired_changes; /* the LMDB engine's own: changes that ended */
  bool only_expired;        /* expired items; nothing else was changed */
} append_req;

typedef struct claim_req {
  uint64_t items, bytes; /* at most; bytes 0: no bound */
  int64_t lease;         /* KEEP: the queue's */
  uint64_t worker;       /* that the token is to name; 0: none */
  notices *notices;      /* of dead letters that it makes; or NULL */
  respool_batch *batch;  /* result: what was taken; emptied first */
  bool more;             /* result: stopped early, there may be something yet */
  int64_t due_in;        /* result, when nothing was taken: milliseconds until
                            something may be; INT64_MAX: nothing is waiting */
} claim_req;

typedef struct settle_req {
  respool_batch *batch; /* result: `lost`, of it and of its claims */
  const mark *marks;    /* an outcome for each item, or none; or NULL: */
  mark all;             /* this for each */
  bool strict;          /* any lease lost: LEASE_LOST and nothing happens */
  struct random *random;
  notices *notices;     /* of dead letters that it makes; or NULL */
} settle_req;

typedef struct extend_req {
  int64_t lease;       /* from now; KEEP: the queue's */
  uint64_t token;
  batch_claim *claims; /* result: `lost` */
  size_t n;
} extend_req;

typedef struct remove_req {
  const uint64_t *ids;
  size_t n;
  bool strict;      /* one that is gone or leased fails the step */
  uint64_t removed; /* result */
} remove_req;

/* A change of one item, which is not leased, but for CANCEL. */
enum item_change {
  ITEM_RUN_NOW, ITEM_KILL, ITEM_MOVE, ITEM_EDIT,
  ITEM_CANCEL /* removes it, or to the history; its lease is over */
};

typedef struct change_req {
  enum item_change kind;
  uint64_t id;
  respool_bytes error;   /* of KILL; empty: that of the last failure */
  const char *to;        /* of MOVE: another queue */
  const respool_payload *payload; /* of EDIT; without headers: the item's */
  uint64_t version;      /* of that payload */
  respool_bytes was;     /* of EDIT: the body that it replaces; data NULL:
                            any */
  uint64_t max_store;    /* of MOVE and EDIT, as of a push */
  notices *notices;      /* of dead letters that it makes; or NULL */
  uint64_t moved;        /* result of MOVE: the id there */
} change_req;

/* Entries are bytes of the library's own, under a kind and a name, with a
   revision that rises with each save: whoever saves one knows that nobody has
   changed it since it was read. */
enum entry_kind {
  ENTRY_SCHEDULE = 1,
  ENTRY_WORKER,
  ENTRY_LAST_WORKER, /* its revision counts the numbers given to workers */
  ENTRY_PROGRESS,
  ENTRY_DAY,  /* samples: see verbs/store/samples.c */
  ENTRY_HOUR,
  ENTRY_MINUTE,
  ENTRY_RESULT /* the LMDB engine's own */
};

typedef struct entry_req {
  int kind;
  uint64_t revision;   /* of the stored one; 0: there is none */
  respool_bytes bytes; /* data NULL: it is removed */
} entry_req;

/* One page of a long removal. */
typedef struct purge_req {
  size_t limit;     /* records, about */
  bool first;       /* of a drop: the first page, BUSY if items are leased */
  uint64_t removed; /* result */
  bool more;        /* result: there is another page */
} purge_req;

typedef struct dead_remove_req {
  const uint64_t *numbers;
  size_t n;
  bool strict;      /* one that is gone fails the step */
  uint64_t removed; /* result */
} dead_remove_req;

typedef struct dead_purge_req {
  const respool_purge_options *options;
  size_t limit;     /* dead letters looked at, REMOVAL_PAGE at most */
  uint64_t from;    /* only numbers above */
  uint64_t upto;    /* result: the last number looked at */
  uint64_t removed; /* result */
  bool more;        /* result: there is another page */
} dead_purge_req;

typedef struct move_req {
  const char *dlq, *to; /* to NULL: each dead letter's own queue */
  const respool_move *moves;
  size_t n;
  bool strict;    /* one that is gone fails the step */
  bool keep_attempts;
  const respool_replay *replay; /* saved with it; or NULL */
  notices *notices; /* of dead letters that it makes; or NULL */
  uint64_t moved; /* result */
} move_req;

/* Records that one commit of a removal takes at most. */
#define REMOVAL_PAGE 1000

typedef enum step_kind {
  STEP_APPEND,        /* FULL, TOO_LARGE, EXISTS, NOT_FOUND */
  STEP_CLAIM,
  STEP_SETTLE,
  STEP_EXTEND,
  STEP_REMOVE,
  STEP_CHANGE,        /* NOT_FOUND, BUSY; of MOVE and EDIT as APPEND; LOCKED:
                         another has changed the item */
  STEP_PURGE,         /* all items that are not leased */
  STEP_QUEUE_OPEN,    /* makes the queue, or changes its policy */
  STEP_QUEUE_PAUSE,
  STEP_QUEUE_HOLD,
  STEP_QUEUE_DROP,    /* pauses the queue, removes a page of what is in it,
                         and with the last one the queue */
  STEP_DEAD_REMOVE,
  STEP_DEAD_PURGE,
  STEP_DEAD_MOVE,
  STEP_REPLAY_SAVE,   /* LOCKED: it is at another revision */
  STEP_REPLAY_CANCEL, /* NOT_FOUND: it is not running */
  STEP_REPLAY_REMOVE,
  STEP_ENTRY,         /* LOCKED: it is at another revision */
  STEP_NOTE,          /* saves a note, or removes it: NOT_FOUND */
  STEP_MAINTAIN,      /* a page of what a queue's maintenance has to do */
  STEP_PROBE          /* writes a number that rises */
} step_kind;

typedef struct step {
  step_kind kind;
  const char *name; /* of its queue, DLQ, named replay or note */
  union {
    append_req append;
    claim_req claim;
    settle_req settle;
    extend_req extend;
    remove_req remove;
    change_req change;
    purge_req purge; /* and drop */
    const respool_queue_options *policy;
    bool paused;
    struct {
      int64_t ms;
      respool_bytes why;
      respool_bytes partition; /* empty: the queue */
    } hold;
    dead_remove_req dead_remove;
    dead_purge_req dead_purge;
    move_req move;
    const respool_replay *replay;
    respool_bytes note; /* data NULL: removed */
    entry_req entry;
    struct {
      size_t limit;
      notices *notices; /* of dead letters that it makes; or NULL */
      respool_maintenance out; /* result */
    } maintain;
    uint64_t probe;            /* result */
  };
} step;

/* ---- units --------------------------------------------------------------- */

/* Steps that stand or fall together. */
typedef struct unit {
  step *steps;
  size_t n;
  int64_t now;       /* or SERVER_TIME */
  bool durable;      /* over when it is on disk, and what it has seen of
                        others' work, too */
  bool relaxed;      /* of a store that leaves flushes to its system */
  bool barrier;      /* and all that was committed before it */
  int64_t until;     /* by the monotonic clock: gives up waiting for other
                        processes then, LOCKED; 0: never */
  int rc;            /* result */
  failure failure;   /* result: what was wrong, if rc is not 0 */
  size_t failed;     /* result: the step that failed, if one did */
  bool wrote;        /* result: it changed something */
  bool needs_flush;  /* the LMDB engine's own */
  size_t ran;        /* the same: steps that its journal did */
  _Atomic bool done; /* from here on the committer's; see commit.h: it is
                        over */
  bool leaves;
  void (*ended)(struct unit *u);
  void *owner;
  int turn;          /* which futex its waiter sleeps on */
  struct unit *next;
} unit;

typedef struct unit_list {
  unit *first, **end;
} unit_list;

static inline void unit_list_init(unit_list *l) {
  l->first = NULL;
  l->end = &l->first;
}

static inline void unit_list_add(unit_list *l, unit *u) {
  u->next = NULL;
  *l->end = u;
  l->end = &u->next;
}

static inline unit *unit_list_pop(unit_list *l) {
  unit *u = l->first;
  if (!u) return NULL;
  l->first = u->next;
  if (!l->first) l->end = &l->first;
  return u;
}

/* Notes the result of a unit; a failure's message is this thread's last. */
static inline void unit_note(unit *u, int rc) {
  u->rc = rc;
  if (rc) failure_keep(&u->failure);
}

/* ---- queries ------------------------------------------------------------- */

typedef enum query_kind {
  QUERY_AGREES,       /* would STEP_QUEUE_OPEN change nothing? NOT_FOUND */
  QUERY_POLICY,
  QUERY_QUEUE_STAT,
  QUERY_FLOW,
  QUERY_PARTITIONS,
  QUERY_FITS,         /* TOO_LARGE, INVALID: the queue never takes it */
  QUERY_OUTLOOK,
  QUERY_PEEK,
  QUERY_GET,
  QUERY_BROWSE,
  QUERY_HISTORY,
  QUERY_RESULT,       /* of a finished item that is kept; NOT_FOUND */
  QUERY_LEASES,
  QUERY_HELD,         /* is an item leased under a token? */
  QUERY_DEAD_LIST,
  QUERY_DEAD_COUNT,
  QUERY_DEAD_GROUPS,  /* as dead_group.h packs them, one after the other */
  QUERY_REPLAY,
  QUERY_ENTRIES,
  QUERY_NOTE,         /* its bytes in `texts`; NOT_FOUND */
  QUERY_QUEUES,       /* an array of names */
  QUERY_DLQS,         /* the same */
  QUERY_REPLAYS,      /* the same */
  QUERY_NOTES,        /* the same */
  QUERY_PROBE,        /* reads what STEP_PROBE wrote last */
  QUERY_STORE_STAT,
  QUERY_CHECK         /* findings, texts one after the other */
} query_kind;

/* Whether a claim is worth its while. An engine whose claim costs no more
   than a look says `ready` without looking, as the claim answers the rest. */
typedef struct outlook {
  bool ready;
  int64_t due_in;   /* as in claim_req, when it is not ready */
  int64_t next_due; /* the LMDB engine's own */
} outlook;

typedef struct look_req {
  uint64_t id;   /* of GET and RESULT */
  respool_bytes key; /* of GET, not empty: the item that it belongs to */
  int state;     /* of BROWSE */
  size_t limit;
  union {
    respool_cursor cursor;         /* of BROWSE: from, and result: upto */
    respool_history_cursor moment; /* of HISTORY: the same */
  };
  respool_page *page; /* result */
} look_req;

/* Partitions of a queue, each as [name, ready, leased, waiting, held_until,
   held_for, allowed, allowed_at, breaker, breaker_until, outages, opened]. */
typedef struct partitions_req {
  const respool_partitions_options *options;
  packer *out; /* result, one after the other */
} partitions_req;

typedef struct query {
  query_kind kind;
  const char *name; /* of its queue, DLQ or named replay */
  int64_t now;      /* or SERVER_TIME */
  union {
    struct {
      const respool_queue_options *options;
      bool yes; /* result */
    } agrees;
    queue_config *policy;           /* result */
    respool_queue_stats *queue_stat; /* result */
    respool_flow *flow;              /* result */
    partitions_req partitions;
    append_req *fits;
    outlook outlook; /* result */
    look_req look;
    leases *leases; /* result */
    struct {
      uint64_t id, token;
      bool yes; /* result */
    } held;
    struct {
      const respool_list_options *options;
      respool_dead_letters *out; /* result */
    } dead_list;
    struct {
      int kind;
      packer *out; /* result: [name, revision, bytes], one after the other */
      int64_t now; /* result: the time of the look */
    } entries;                      /* of the name; NULL: all of the kind */
    uint64_t number;                /* result: of a count or probe */
    packer *texts;                  /* result */
    respool_replay *replay;         /* result */
    respool_store_stats *store_stat; /* result */
  };
} query;

/* ---- the engine ---------------------------------------------------------- */

/* The events to wait for: items to take, room for some; or ends of items. */
enum wait_for { WAIT_ITEMS, WAIT_ENDS };

/* Functions that return int return 0 or an error code, with fail() called. */
typedef struct engine {
  /* A commit takes so long that a group is worth waiting for units that are
     about to come. */
  bool gathers;
  /* An apply may wait for other processes: see env.waits_for. */
  bool waits_for_others;

  /* Opens an environment, or shares one that is open in this process. Where
     it has no committer yet, `first` is called before anybody else has it;
     when that fails so does the opening. */
  int (*open)(const char *path, const respool_options *o,
              int (*first)(env *e), env **e);

  /* Gives up one handle; the last one closes the environment. */
  void (*close)(env *e);

  /* Runs the units of `group` in their order, each on its own or many in one
     transaction. A unit that fails changes nothing, except that an append
     may end expired items. Moves those whose outcome is final to `ended`, the
     others to `kept`, where those that earlier calls kept lie. Without a
     group it finishes all that are kept. One call at a time. */
  void (*apply)(env *e, unit_list *group, unit_list *kept, unit_list *ended);

  int (*look)(env *e, query *q);

  /* Waits until something of that kind may have been committed to the queue
     since `*seen`, or for `ms`; then sets `*seen`. 0 in `*seen` is never up
     to date. */
  int (*wait)(env *e, const char *queue, enum wait_for what, uint64_t *seen,
              int64_t ms);

  /* Everything that was committed before is on disk on return. */
  int (*flush)(env *e);

  /* Upkeep of the store as a whole; NULL: there is none. */
  int (*maintain)(env *e, respool_maintenance *out);

  /* Makes the roles that applications are given; NULL: there are none. */
  int (*grant)(env *e);

  /* Of a store in files; NULL where there are none. */
  int (*compact)(const char *path, const char *to, respool_compaction *out);
  int (*repair)(const char *from, const char *to, respool_finding_fn each,
                void *arg, respool_salvage *out);
} engine;

#endif
