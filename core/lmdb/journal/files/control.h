/* SPDX-License-Identifier: MIT */
/*
 * The control block and its locks. The block is a file that is mapped by all
 * processes that have the store open; its layout is frozen: fields are only
 * taken from what is reserved, another order is another LAYOUT. It holds
 * nothing that the files do not tell, but leases and tokens.
 *
 * A lock is a byte of the file locked by F_OFD_SETLK, which the kernel drops
 * when the last descriptor goes, behind a mutex for the threads of a process,
 * which share the descriptor. `dirty` tells that a holder died inside. Waiters
 * sleep on a word of the block, in slices: a wake-up may be lost with whom it
 * woke, and a holder that dies wakes nobody.
 */
#ifndef JOURNAL_CONTROL_H
#define JOURNAL_CONTROL_H

#include <pthread.h>
#include <stdatomic.h>

#include "lmdb/journal/journal.h"

enum { STATE_LOCK, FLUSH_LOCK, WRITE_LOCK, LOCKS };

#define CONTROL_MAGIC 0x6a6c7072u
#ifndef CONTROL_LAYOUT /* a spec has a build of another version */
#define CONTROL_LAYOUT 2u /* 1: without TREE_RECENT */
#endif
#define PAGE 4096u
#define INDEX_SIZE 32768u /* a power of two, twice the items */
#define WORDS 64u

enum { SLOT_FREE, SLOT_READY, SLOT_LEASED };

/* A live item. `state` is written last when it is leased. */
typedef struct slot {
  uint64_t id, pos, token;
  int64_t time, expires, until;
  uint32_t at, len, sum; /* the payload: from pos, bytes, checksum */
  uint32_t span;         /* bytes of its record */
  uint32_t next;         /* free or ready after this one, + 1 */
  uint16_t row;
  uint8_t priority;
  _Atomic uint8_t state;
} slot;

/* A lease, kept over a repair. */
typedef struct kept {
  uint64_t queue, id, token;
  int64_t until;
} kept;

typedef struct tally {
  uint64_t pushed, pushed_bytes, done;
} tally;

/* A queue with items here, or lately. */
typedef struct row {
  _Atomic uint64_t number;       /* 0: free */
  _Atomic uint64_t next_id;      /* to give */
  uint64_t stored_next;          /* LMDB has it as */
  uint64_t used;                 /* rises, to find the idlest */
  uint64_t ready, leased, bytes;
  _Atomic int64_t lmdb_at;       /* see journal_view */
  int64_t min_until, min_expires; /* no lease or item ends before */
  tally old, fresh;  /* by the half that an item was pushed in: before the
                        current one, and in it */
  uint64_t delivered, delivered_stored;
  tally leaving;     /* of the application under way */
  uint64_t leaving_next, leaving_delivered;
  uint32_t first, last;    /* ready items, + 1 */
  uint32_t known;          /* does next_id regard LMDB? */
  uint16_t priority, mixed; /* of ready items: one, or several */
  _Atomic int64_t clock; /* the latest time of a push, a take or LMDB */
  journal_figures figures;
  uint64_t reserved[4];
} row;

typedef struct word {
  _Atomic uint32_t wake, sleepers;
} word;

typedef struct point { /* in the log, and the sum of the record before */
  uint64_t pos, chain;
} point;

typedef struct control {
  _Atomic uint32_t magic;
  uint32_t layout;
  uint64_t size, pidns;
  char boot[40];
  uint8_t store[16];
  uint64_t half, start, seed; /* of the file */
  _Atomic uint32_t dirty[4];
  _Atomic uint64_t tail, flushed, freed, applying;
  point applied[2];           /* the one that `which` says */
  _Atomic uint32_t which;
  _Atomic uint32_t failed, made, generation;
  _Atomic uint32_t flush_word, flush_waiters;
  uint64_t chain;             /* sum at the tail */
  point current;              /* where the current half began */
  uint64_t applying_chain;
  _Atomic uint64_t token, due_told, flushes, repairs;
  uint64_t used, live;
  uint32_t free, unused;
  _Atomic uint64_t applied_pos; /* of applied, for those without the lock */
  uint64_t reserved[25];
  _Atomic uint32_t holder[4];  /* pids; of each lock */
  _Atomic uint32_t lock_word[4], lock_waiters[4];
  word word[WORDS];
  row row[JOURNAL_QUEUES];
  uint16_t index[INDEX_SIZE]; /* by queue and id: slot + 1 */
  slot slot[JOURNAL_ITEMS];
  _Atomic uint32_t n_kept; /* + 1; not 0: the slots are being built anew */
  kept kept[JOURNAL_ITEMS];
} control;

/* `made`: is there a file? CANNOT: there was no room for one. */
enum { MADE_NO, MADE_YES, MADE_CANNOT };

struct journal {
  control *c; /* NULL: closed, or a child of fork */
  int dirfd, cfd, fd;
  bool first, started, forked;
  _Atomic bool away;
  uint8_t store[16];
  journal_waits waits;
  uint32_t pid; /* a child of fork lets go of it */
  uint64_t want_half;
  _Atomic uint32_t generation; /* of the file that fd is */
  pthread_mutex_t lock[LOCKS], reopening;
  _Atomic uint32_t turned_away; /* pushes, as there was no room for the file */
  uint8_t *record; /* being built; under STATE_LOCK */
  struct journal *next; /* in this process */
};

/* ---- control.c ---- */

/* Opens the file, or makes it; then, with its byte 0 locked (lock_here), maps
   it. */
int control_open(journal *j);
int control_map(journal *j);
void control_close(journal *j);

/* The first has built the block: others may come. */
int control_publish(journal *j);
void control_boot(char boot[40]);

/* A copy of rows and slots of the block of this store, if it is of this boot
   and built: for those who may not write. NULL: there is none, or no memory. To
   be freed. */
control *control_copy(int dirfd, const uint8_t store[16]);

/* 0, or the code for a handle that cannot be used. */
int control_usable(const journal *j);

static inline point applied_point(control *c) {
  return c->applied[atomic_load(&c->which) & 1];
}

#endif
