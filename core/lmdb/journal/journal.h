/* SPDX-License-Identifier: MIT */
/*
 * The journal: a shared log in front of LMDB. Small plain pushes, their
 * leases and their "done" live here; LMDB gets only what is still alive when
 * a half of the log is needed again, or what wants more than a lease.
 *
 * Two files in the store's directory:
 *
 *   journal   a page that says whose it is, and two halves of records
 *   control   a block of memory that all processes share: locks, tail,
 *             flushed position, queues, live items and their leases
 *
 * The journal never calls LMDB; its caller, the engine, reads and writes
 * there and tells it. A *position* is a place in the endless log, 64 bits,
 * and only rises. Positions, each at or behind the next one named:
 *
 *   freed     LMDB durably holds what lies before it: a half may be reused
 *   applied   LMDB's last commit holds what lies before it
 *   tail      the end of the log; flushed, between freed and tail, is on disk
 *
 * Promises, numbered as the checks in check.c and the specs name them:
 *
 *   J1  flushed <= tail; the record of a call that has returned lies before
 *       flushed or freed
 *   J2  what is needed lies in two neighbouring halves
 *   J3  every record from applied to tail is whole and chained; END stands
 *       where the log goes on in the other half
 *   J4  an item is in LMDB or here, never both, never neither
 *   J5  a DONE of an item that was applied before counts for nothing
 *   J6  items before `applying` change only under the write lock
 *   J7  an item that is delivered is on disk
 *   J8  a queue's next id lies above every id in either place
 *   J9  nobody waits at LMDB's own writer lock
 *   J10 after a failed flush nothing is believed until it is written again
 *
 * Order of locks: the write lock (journal_enter), LMDB's writer, the state
 * lock (inside; microseconds, no flush). Calls of any thread; the functions
 * return 0 or a count, a code below 0 with its line, or JOURNAL_ELSEWHERE.
 */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/histogram.h"

typedef struct journal journal;

/* Not here: do it in LMDB, after applying what this journal holds. */
#define JOURNAL_ELSEWHERE 1

#define JOURNAL_HALF ((uint64_t)1 << 20)
#define JOURNAL_QUEUES 128   /* with a row at one time */
#define JOURNAL_ITEMS 16384  /* alive at one time */
#define JOURNAL_BATCH 512    /* items of one push */
#define JOURNAL_PUSH (64u << 10) /* bytes of one push, its record with it */
#define JOURNAL_NEVER INT64_MAX
#define JOURNAL_STEP 1000    /* ms; a clock may go back by less */

/* The position in LMDB's meta: all zero as long as nothing was applied. It is
   stored in the transaction that applies the items. */
typedef struct journal_applied {
  uint64_t pos, chain, seed;
} journal_applied;

/* Asked after `ms` of waiting for process `pid` (0: not known), which may be
   stopped; false gives up, with fail() called: the call answers LOCKED, and
   nothing has happened. `over` is called when the wait is over. */
typedef struct journal_waits {
  bool (*goes_on)(void *arg, int64_t ms, int pid);
  void (*over)(void *arg);
  void *arg;
} journal_waits;

typedef struct journal_options {
  uint64_t half;  /* bytes of a half of a journal that is made; 0: the usual */
  journal_waits waits; /* goes_on NULL: waits for ever */
} journal_options;

/* ---- open and close ------------------------------------------------------ */

/* Maps the control block of the directory, making it when it is not there.
   The first of all processes to come holds the others back until its
   journal_start. LOCKED: the store is open in another pid namespace;
   VERSION: by a build with another layout; NOSPACE: no room for the block. */
int journal_open(int dirfd, const journal_options *o, journal **out);

/* Goes on with what is stored. Requires of the first (journal_is_first): that
   `a` is durable in LMDB. CORRUPT: the file belongs to another store, or LMDB
   is older than it; BUSY: processes have another store open here. */
int journal_start(journal *j, const uint8_t store[16],
                  const journal_applied *a);
bool journal_is_first(const journal *j);

/* The store is not what its path says any more (`away`), or is again. Away, all
   calls answer IO, and another store may be opened in its place. */
void journal_away(journal *j, bool away);

/* Nothing is applied or flushed. In a child of fork it frees memory alone;
   there all other calls answer FORKED. NULL is allowed. */
void journal_close(journal *j);

/* ---- queues -------------------------------------------------------------- */

/* Gives the queue `number` a row. Requires the write lock, and that LMDB,
   read under it, knows no id of the queue at or above `next_id`. Rows are
   few: ELSEWHERE when all are in use (apply all and come again). */
int journal_queue(journal *j, uint64_t number, uint64_t next_id);

/* Has it a row, given under this opening of the journal? */
bool journal_knows(journal *j, uint64_t number);

/* Drops the row of an empty queue that is removed from LMDB. BUSY while pushes
   to it lie behind the applied position, done or not: a power cut may lose the
   DONE, and with the row the ids that were given. Requires the write lock. */
int journal_queue_forget(journal *j, uint64_t number);

/* Takes `n` ids, from `least` on, LMDB's next one, for a push that goes there
   by itself: ids of items that were pushed and done here are not given again.
   Requires the write lock, and that what the journal holds of the queue is
   applied in the same transaction. The first id. */
uint64_t journal_ids(journal *j, uint64_t number, uint64_t least, uint64_t n);

/* Is any item of the queue here, and what is its time? Requires the write
   lock. */
int journal_holds(journal *j, uint64_t number, bool *any, int64_t *clock);

#define JOURNAL_READY 1 /* ms: before any clock */

/* The moment from which on LMDB has an item to hand out: 0 unknown,
   JOURNAL_READY, JOURNAL_NEVER. A commit that may change it says 0 before and
   the truth after. Requires the write lock. A queue without a row is passed
   over. */
void journal_view(journal *j, uint64_t number, int64_t lmdb_ready_at);

/* The queue's time in LMDB. A push or take whose `now` lies JOURNAL_STEP or
   more before the latest one is ELSEWHERE: LMDB makes up for a clock that
   went back. */
int journal_clock(journal *j, uint64_t number, int64_t now);

/* Figures of a queue that pushes, takes and dones raise, beside its counters;
   lost with the block. */
typedef struct journal_figures {
  uint64_t delivered_bytes;
  uint64_t flushes[RESPOOL_FLUSH_REASONS];
  respool_histogram wait, handle;
} journal_figures;

/* ---- push ---------------------------------------------------------------- */

typedef struct journal_push_req {
  uint64_t queue;
  int priority;
  int64_t now, expires;       /* wall ms; expires 0: never */
  const respool_bytes *items; /* packed as record/item.h says */
  size_t n;
  int reason;                 /* a buffer's for its flush; 0: none */
  uint64_t first, end;        /* out: first id; position to flush to */
  bool due;                   /* out: apply JOURNAL_OLD now; set once */
} journal_push_req;

/* Appends one record; the items may be reported and taken once it is flushed.
   ELSEWHERE: no row, no room, too large, or no journal could be made. Takers
   are to be woken after the flush. Not within journal_enter: it may have to
   make the file. */
int journal_push(journal *j, journal_push_req *r);

/* Ensures that what lies before `end` survives a power cut. One flush serves
   all who wait for one, of all processes. UNKNOWN_OUTCOME: it failed. */
int journal_flush(journal *j, uint64_t end);
int journal_flush_all(journal *j);

/* ---- take and settle ----------------------------------------------------- */

typedef struct journal_item {
  uint64_t queue, id, token; /* token 0: not leased */
  int64_t time, expires, until;
  int priority;
  bool damaged;          /* the bytes are not those that were pushed */
  respool_bytes packed;  /* in the caller's arena */
} journal_item;

typedef struct journal_take_req {
  uint64_t queue, bytes; /* bytes of bodies at most, but one item */
  int64_t now, until;
  journal_item *items;   /* room for `max` */
  size_t max, n;         /* n: out */
  uint64_t worker;       /* that the token is to name */
  int64_t next;          /* out: when to look again, unless woken */
  bool ready;            /* out, ELSEWHERE: LMDB was seen to have something */
  arena *to;
} journal_take_req;

/* Leases the first items by priority, then age, under one token: nothing is
   written. Those of one priority are consecutive among the live ones, but
   `items` need not be in order. 0, with `n` of 0: nothing to be had.
   ELSEWHERE: LMDB has something, the queue has no row, a lease ran out, or the
   next item is damaged, expired or about to leave. An item that is not on disk
   yet is flushed before it is delivered. */
int journal_take(journal *j, journal_take_req *r);

enum { JOURNAL_DONE, JOURNAL_LOST, JOURNAL_IN_LMDB };

typedef struct journal_done_req {
  uint64_t queue;
  int64_t now;
  const uint64_t *ids, *tokens;
  const respool_histogram *handle; /* to be added to the queue's; or NULL */
  size_t n;
  uint8_t *outcome; /* out: of each, one of the above */
  size_t done;      /* out: how many are DONE */
  uint64_t end;     /* out: flush to here before it is acknowledged */
  bool due;         /* out: as of a push */
} journal_done_req;

/* Ends leased items. IN_LMDB: not here any more, or about to leave. LOST: the
   lease is another's or nobody's. `strict`: all or none; ELSEWHERE when some
   are in LMDB. Also ELSEWHERE, with nothing done, when there is no room. */
int journal_done(journal *j, journal_done_req *r, bool strict);

/* The number of the next token, `least` or above, for a lease that LMDB
   gives. */
int journal_token(journal *j, uint64_t least, uint64_t *number);

/* ---- apply: into LMDB ---------------------------------------------------- */

/* The write lock: taken before LMDB's write transaction is begun, left after
   it has ended. */
int journal_enter(journal *j);
void journal_leave(journal *j);

typedef struct journal_work journal_work;

/* The records to apply: all, those before the current half, or none (an
   application that another process left unfinished is completed anyway). */
enum { JOURNAL_ALL, JOURNAL_OLD, JOURNAL_NOTHING };

/* Begins an application within an LMDB write transaction, in which `applied`
   was read; an unfinished one of a process that died is finished or forgotten
   first. *w stays NULL when there is nothing to apply. */
int journal_begin(journal *j, const journal_applied *applied, int what,
                  journal_work **w);

/* The next live item by queue and id: 1, or 0 at the end. All of them into one
   arena: a read may serve several. */
int journal_next(journal_work *w, journal_item *out, arena *to);

/* Counts to be added to a queue's counters, and its next id at least. */
typedef struct journal_share {
  uint64_t queue, next_id, pushed, pushed_bytes, done, delivered;
  journal_figures figures;
} journal_share;
const journal_share *journal_shares(const journal_work *w, size_t *n);

/* The position to be stored in meta, in the same transaction. */
journal_applied journal_position(const journal_work *w);

/* After the commit, whose result is `rc`; frees `w`. The write lock is still
   held. After UNKNOWN_OUTCOME the next to begin finds out. */
int journal_finish(journal_work *w, int rc);

/* The applied position, and how much of it a sync of LMDB is to release. */
int journal_applied_to(const journal *j, uint64_t *pos, uint64_t *held);

/* A sync of LMDB that began after it was applied up to `pos` is done. */
int journal_freed(journal *j, uint64_t pos);

typedef struct journal_state {
  uint64_t tail, flushed, applied, freed, live, flushes, repairs;
  bool failed, made;
} journal_state;
int journal_now(journal *j, journal_state *out);

/* The same for those who wait for nobody: ELSEWHERE when it cannot be told. */
int journal_glance(journal *j, journal_state *out);

/* After a flush failed, and all was applied, synced and freed: a new file, and
   flushes are believed again; BUSY when not all was. Requires the write lock.
   Also makes the journal for which there was no room before. */
int journal_renew(journal *j);

/* ---- look ---------------------------------------------------------------- */

typedef struct journal_counts {
  uint64_t ready, leased, bytes; /* alive */
  uint64_t pushed, pushed_bytes, done, delivered; /* not yet in LMDB */
  uint64_t lapsed;  /* of the leased ones: their lease ran out */
  int64_t oldest;   /* push of the first ready item, or end of a lease that
                       ran out before; 0: there is neither */
  int64_t next;     /* when the first lease ends or item expires, at least */
  int64_t next_until; /* when the first lease ends that has not yet */
  int64_t clock;
  uint64_t applied; /* count only with an LMDB snapshot that has this */
  journal_figures figures;
} journal_counts;
/* ELSEWHERE, as of journal_look: a process stands still within the journal;
   journal_read tells, too. */
int journal_count(journal *j, uint64_t queue, int64_t now,
                  journal_counts *out);

/* The position in this log that LMDB's meta row stands for. */
uint64_t journal_place(const journal *j, const journal_applied *a);

/* Live items of a queue from id `from` on, in order, `max` at most; payloads
   when `to` is not NULL. Look first, then begin the snapshot of LMDB, then
   leave out the items whose position is before its `applied`. */
typedef struct journal_seen {
  journal_item item;
  uint64_t pos;
} journal_seen;
int journal_look(journal *j, uint64_t queue, uint64_t from,
                 journal_seen *seen, size_t max, size_t *n, arena *to);

/* The same without a lock: every item that the file holds behind `a`, flushed
   or not, and leased as in the block of `leases`; NULL, for read-only handles:
   as in the one that lies in the directory. Valid if LMDB's `applied` is the
   same afterwards. A result of `each` other than 0 ends it. */
typedef int journal_each_fn(void *arg, const journal_item *i);
int journal_read(int dirfd, const uint8_t store[16], const journal_applied *a,
                 const journal *leases, journal_each_fn *each, void *arg);

/* ---- wait ---------------------------------------------------------------- */

/* A number to read before looking; journal_wait returns at once when it has
   changed, at the latest after `ms` or a second. `key` is any number that
   stands for what is waited for, such as a hash of the queue's name; wake
   wakes `n` of those who wait for it. */
uint32_t journal_watch(journal *j, uint64_t key);
void journal_wait(journal *j, uint64_t key, uint32_t seen, int64_t ms);
void journal_wake(journal *j, uint64_t key, int n);

/* ---- check and salvage --------------------------------------------------- */

typedef int journal_finding_fn(void *arg, const char *text);

/* Compares block, file and LMDB's position, and reports each fault; none of a
   block in which a process stands still. The reports count only if `a` is still
   LMDB's. 0 also with findings. */
int journal_check(journal *j, const journal_applied *a,
                  journal_finding_fn *each, void *arg);

/* Reads a file of unknown state record by record, both halves, in order of
   position. A record is judged by itself. */
typedef struct journal_record {
  bool done;
  uint64_t pos, queue, id; /* a PUSH comes once an item, a DONE once an id */
  const journal_item *item; /* of a PUSH */
} journal_record;
typedef int journal_record_fn(void *arg, const journal_record *r);
int journal_salvage(int dirfd, journal_record_fn *each, void *arg);

#endif
