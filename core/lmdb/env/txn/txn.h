/* SPDX-License-Identifier: MIT */
/*
 * Transactions of LMDB. A txn carries a sticky `rc`: after the first failure
 * every step is a no-op that finds nothing, and txn_commit returns it, so that
 * the code above is straight lines. Values that are read point into the map (or
 * into a page of this transaction) and are valid until the next change in the
 * same transaction; keys and values that are written are copied.
 */
#ifndef TXN_H
#define TXN_H

#include <lmdb.h>
#include <pthread.h>

#include "base/clock.h"
#include "engine.h"
#include "lmdb/env/txn/commits.h"
#include "lmdb/env/txn/turn.h"

/* The tables. The first have a tree of LMDB's, a named database, each; the
   small ones from DB_QUEUES on share TREE_STATE, where their keys begin with
   their number, and TREE_RECENT, which lies over it; see recent.h. */
enum db {
  DB_META,         /* name -> format version, store id, counters */
  DB_SEGMENTS,     /* queue, space, priority, first id, count -> segment */
  DB_DEAD_LETTERS, /* DLQ, last number, count -> run of dead letters */
  DB_HISTORY,      /* queue, done_at, id -> finished item */
  DB_BLOBS,        /* blob, part -> part */
  DB_QUEUES,       /* name -> policy, state, counters */
  DB_DLQS,         /* name -> DLQ */
  DB_REPLAYS,      /* name -> named replay */
  DB_NOTES,        /* name -> note */
  DB_REMAINING,    /* segment key -> bitmap of its unsettled items */
  DB_CLAIMS,       /* queue, space, priority, first id -> claim */
  DB_DUE,          /* queue, priority, visible_at, space, first id -> null */
  DB_EXPIRIES,     /* queue, expires_at, segment key -> null */
  DB_KEYS,         /* queue, key -> owner */
  DB_WINDOWS,      /* queue, until, key -> null */
  DB_ENTRIES,      /* kind, name -> revision, bytes */
  DB_PARTITIONS,   /* queue, name -> partition */
  DB_PARTITION_ITEMS, /* queue, partition, priority, kind, first id -> ids */
  DB_TURNS,        /* queue, priority, number -> names of partitions */
  DB_PARTITION_DUE, /* queue, at, name -> null */
  DB_LONES,        /* queue, run, name -> lone items of a run */
  DB_COUNT
};

enum { TREE_STATE = DB_QUEUES, TREE_RECENT, TREE_COUNT };

static inline bool db_shared(enum db db) {
  return db >= DB_QUEUES;
}

static inline int db_tree(enum db db) {
  return db_shared(db) ? TREE_STATE : (int)db;
}

#define TREE_KEY_MAX 511 /* LMDB's */

/* Has a tree the records of all tables that share? */
static inline bool tree_shared(int which) {
  return which >= TREE_STATE;
}

/* A key as it lies in the tree of its table; `room` is for those that are
   longer there. */
typedef struct tree_key {
  uint8_t b[TREE_KEY_MAX + 1];
} tree_key;

respool_bytes tree_key_of(enum db db, respool_bytes key, tree_key *room);

/* Bytes as LMDB has them, and back. */
static inline MDB_val to_val(respool_bytes b) {
  return (MDB_val){b.size, (void *)(uintptr_t)b.data};
}

static inline respool_bytes to_bytes(MDB_val v) {
  return (respool_bytes){v.mv_data, v.mv_size};
}

typedef struct lmdb_env lmdb_env;

/* Files that are opened beside LMDB; their rooms know more than this one. */
typedef struct env_beside {
  /* With the directory locked, before LMDB is opened. */
  int (*open)(lmdb_env *e);
  /* LMDB is open, and durable. */
  int (*start)(lmdb_env *e);
  /* The store is not what its path says any more, or is again. */
  void (*away)(lmdb_env *e, bool gone);
  void (*close)(lmdb_env *e); /* also when it was not opened */
} env_beside;

struct lmdb_env {
  env base;
  commits commits;
  turns turn;
  MDB_env *mdb;
  MDB_dbi trees[TREE_COUNT];
  pthread_rwlock_t reopen_lock; /* held for writing while it is opened again */
  _Atomic bool must_reopen; /* an I/O error: to be opened again before use */
  bool memory;
  bool read_only;
  bool unsynced; /* flushed by whoever makes it */
  int look_rc; /* the result of the look at its format */
  unsigned max_readers;
  size_t map_size;
  char *path, *absolute;
  int dirfd;
  uint64_t dev, ino; /* of the directory */
  int held[2];                  /* its files, kept for files_check */
  uint64_t data_ino, lock_ino;
  _Atomic int64_t looked_at;    /* by files_check */
  const char *_Atomic gone;     /* why it is not what the path says; or NULL */
  unsigned refs;
  struct lmdb_env *next; /* in the registry */
  uint64_t used;         /* bytes, as last counted and added to since */
  uint64_t used_at;      /* commit of the count */
  uint64_t disk_end;     /* the disk has room for the file up to here */
  void *states;          /* kept by queue/unit.c, as of commit `states_txn` */
  size_t states_txn;
  void (*states_free)(void *states);
  void *names; /* of partitions that may be there; kept by partition/lones.c, by
                  whoever writes */
  void (*names_free)(void *names);
  const env_beside *beside; /* or NULL */
  struct journal *journal;  /* NULL: none, in memory and read-only */
  bool started;             /* what is beside */
  _Atomic int flushing;     /* flushes of what units have done: these wait for
                               the journal and do not give way to others, as
                               the units must not run again */
  int64_t unflushed_since;  /* relaxed units, or 0; see lmdb/small.c */
  void *known;              /* queues, as lmdb/small.c knows them */
};

typedef struct txn {
  lmdb_env *env;
  MDB_txn *mdb;
  bool write;
  int rc;               /* sticky */
  uint64_t changes;
  uint64_t claimed;     /* of the disk, for pages still to be written */
  size_t small_changes; /* of the tables that share */
  MDB_cursor *at[TREE_COUNT]; /* of a write transaction: where point access
                           was last, so that its neighbours are found from
                           there; LMDB frees them with the transaction */
  struct queue *queues; /* loaded so far */
  struct queue *last_queue; /* that was asked for by its number, or NULL */
  struct dlq *dlqs;
  notices *notices_to;  /* of the operation that runs, or NULL */
  notice *notices;      /* to be posted when it has committed */
  bool entered;         /* the journal's write lock is held */
  struct journal_work *work; /* of the journal, applied in this; or NULL */
  uint64_t work_changes;     /* how many of the changes that were */
} txn;

/* Reports an error of LMDB; returns respool's code for it. */
int txn_env_fail(const lmdb_env *e, const char *what, int rc);

/* The number of the last commit, by the data alone. */
uint64_t txn_env_newest(const lmdb_env *e);

/* Takes this process's turn to write, or TURN_REFUSED; see turn.h. */
int txn_take_turn(lmdb_env *e);
void txn_end_turn(lmdb_env *e);

/* Copies an environment, without its free pages, to a new file. */
int txn_env_copy(lmdb_env *e, int fd);
int txn_env_sync(lmdb_env *e);
int txn_env_readers(lmdb_env *e, int *dead); /* frees their slots */

int txn_begin(lmdb_env *e, bool write, txn *t);
int txn_commit(txn *t); /* 0; else nothing has changed, or UNKNOWN_OUTCOME */
void txn_abort(txn *t);

/* Was `last` the commit just before this transaction? */
bool txn_follows(const txn *t, size_t last);
size_t txn_number(const txn *t);

/* Notes a failure of LMDB, or another, if it is the first; 0 is none. */
void txn_check(txn *t, int rc);
void txn_fail(txn *t, int rc);

/* Notes a failure that has been told. */
void txn_note(txn *t, int rc);

/* A tree as it lies in the file: the number of its entries, and one by its
   key there; false when there is none. */
size_t txn_entries(txn *t, int which);
bool txn_get_in(txn *t, int which, respool_bytes key, respool_bytes *value);

/* A cursor of a write transaction for point access, not to be closed; 0, or
   LMDB's error. */
int txn_point(txn *t, int which, MDB_cursor **c);

/* Deletes what point access has just found in a tree. */
void txn_del_here(txn *t, int which);

/* Is `from` before `to` in the order of a sound database? */
bool key_rises(respool_bytes from, respool_bytes to);

#endif
