/* SPDX-License-Identifier: MIT */
/*
 * respool: a durable queue that lives inside a program.
 *
 * A *store* is a directory that holds many *queues*. An *item* is a payload
 * (any bytes) with an id that rises within its queue and is never used
 * again. Items are pushed, taken under a *lease* as a *batch*, and settled:
 *
 *  push --> ready --take--> leased --done--> gone
 *            ^                | |-release--> ready    (nothing spent)
 *    due ----+                | |-retry---> retrying --due--> ready
 *            |                | |-snooze-> scheduled --due--> ready
 *  delayed --+                | |-lease ran out--> ready   (crashes + 1)
 *                             | '-dead, limit, expired--> dead letter --> ready
 *                                                               (replay)
 *
 * Delivery is at least once: an item leaves its queue only in the commit
 * that records its outcome. Every delivery bears a token; an outcome given
 * under a token that is no longer current changes nothing.
 *
 * Caveats, once:
 *
 * - Fork. A handle belongs to the process that made it. In a child every
 *   call answers RESPOOL_FORKED and closing it frees memory only. Open the
 *   store again in the child.
 * - Threads. A store and a queue may be used by any number of threads at
 *   once; a batch, a page of items or dead letters by one thread at a time.
 *   Where they commit much together, a thread of the library does it for them,
 *   which ends with the last store handle of its environment.
 * - Processes. Any number may work on one store at the same time, on one
 *   machine, on a local file system (LMDB's lock file needs shared memory).
 * - Several handles on one store in one process share one environment.
 * - Time is the wall clock in milliseconds since 1970, UTC. A clock that
 *   steps back strands nothing: a queue's time goes on from where it was.
 * - The map is address space, not memory: 64 GiB or four times max_bytes,
 *   less where the system does not give as much.
 *
 * Every function that can fail returns 0 or one of the negative codes
 * below, and writes its outputs only on success. respool_error_text() then
 * says what went wrong and where, in one line. "Nothing there" is not an
 * error. Times are milliseconds, sizes bytes, everywhere in this header.
 */
#ifndef RESPOOL_H
#define RESPOOL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RESPOOL_API __attribute__((visibility("default")))
#else
#define RESPOOL_API
#endif

#define RESPOOL_VERSION_STRING "0.2.0"


/* ---- errors ---------------------------------------------------------- */

/* name, code, message. Codes are stable: a new one is appended. */
#define RESPOOL_ERRORS(X) \
  X(OK, 0, "success") \
  X(FULL, -1, "the store or queue is full") \
  X(NOSPACE, -2, "no space left on the device") \
  X(CLOSED, -3, "closed") \
  X(FORKED, -4, "handle belongs to another process: open the store again") \
  X(LEASE_LOST, -5, "the lease is no longer held") \
  X(TIMEOUT, -6, "timed out") \
  X(NOT_FOUND, -7, "not found") \
  X(CORRUPT, -8, "stored bytes are damaged") \
  X(VERSION, -9, "not a store of a known format version") \
  X(TOO_LARGE, -10, "too large") \
  X(LOCKED, -11, "held by another") \
  X(IO, -12, "input/output error") \
  X(UNKNOWN_OUTCOME, -13, "an input/output error left the outcome unknown") \
  X(BUSY, -14, "busy") \
  X(INVALID, -15, "invalid argument") \
  X(NOMEM, -16, "not enough memory") \
  X(EXISTS, -17, "an item with this key is there already") \
  X(DENIED, -18, "permission denied by the database server")

enum respool_error {
#define RESPOOL_ENUM(name, code, text) RESPOOL_##name = (code),
  RESPOOL_ERRORS(RESPOOL_ENUM)
#undef RESPOOL_ENUM
};

/* The name of a code without its prefix, such as "LEASE_LOST"; "?" for a
   number that is none. Static storage. */
RESPOOL_API const char *respool_errname(int code);

/* The general message of a code. Static storage. */
RESPOOL_API const char *respool_strerror(int code);

/* The error message of this thread's last failed call: one line that names the
   queue or path, and never has a payload. Valid until the next failing call of
   this thread. Meaningless after a call that succeeded. */
RESPOOL_API const char *respool_error_text(void);

/* 1 when this thread's last failed call failed because of the store as a
   whole, 0 when it was the queue or the arguments. Distinguishes a FULL store
   (max_bytes, or its map) from a full queue. */
RESPOOL_API int respool_error_of_store(void);


/* ---- values in options ----------------------------------------------- */

/* In an options struct: leave as stored, or the default when new. */
#define RESPOOL_KEEP ((int64_t)-1)

/* As a limit: no limit. */
#define RESPOOL_UNLIMITED INT64_MAX

typedef struct respool_bytes {
  const void *data; /* NULL only when size is 0 */
  size_t size;
} respool_bytes;

/* The bytes of a C string, borrowed. NULL is empty. */
static inline respool_bytes respool_text(const char *text) {
  respool_bytes b = { text, text ? strlen(text) : 0 };
  return b;
}

#define RESPOOL_NAME_MAX 255     /* bytes in a name of a queue, DLQ, replay */
#define RESPOOL_PRIORITIES 256   /* priorities 0..255, highest first */
#define RESPOOL_LIST_MAX 64      /* delays in a RESPOOL_BACKOFF_LIST */
#define RESPOOL_WEIGHTS_MAX 16   /* priorities with a weight of their own */


/* ---- histograms -------------------------------------------------------- */

#define RESPOOL_BUCKETS 26

/* Durations: bucket i counts those up to respool_bucket_bound(i) and over
   the bound before. */
typedef struct respool_histogram {
  uint64_t count;
  uint64_t sum; /* microseconds */
  uint64_t buckets[RESPOOL_BUCKETS];
} respool_histogram;

/* In microseconds: 250, and twice as much each time, up to 70 min; UINT64_MAX
   of the last. */
RESPOOL_API uint64_t respool_bucket_bound(int i);

/* Of histograms that count things: 1, 2, 4, ..., 2^24; UINT64_MAX. */
RESPOOL_API uint64_t respool_count_bound(int i);


/* ---- store ------------------------------------------------------------ */

typedef struct respool respool;
typedef struct respool_queue respool_queue;
typedef struct respool_batch respool_batch;
typedef struct respool_page respool_page;
typedef struct respool_dead_letters respool_dead_letters;

enum respool_sync {
  RESPOOL_SYNC_COMMIT = 0,  /* a verb returns when its effect is on disk */
  RESPOOL_SYNC_RELAXED = 1, /* power loss may undo the last commit; of small
                               pushes and dones, which the journal has, those
                               of the second before the last of them */
  RESPOOL_SYNC_NONE = 2     /* no flush at all; ":memory:" only */
};

typedef struct respool_options {
  size_t size;              /* set by RESPOOL_OPTIONS_INIT */
  int sync;                 /* enum respool_sync */
  int no_create;            /* 1: NOT_FOUND when there is no store */
  int manual_clock;         /* 1: time moves only by respool_advance */
  unsigned max_readers;     /* 0: 256; fixed by the first opener */
  uint64_t max_bytes;       /* 0: 16 GiB; pushes beyond answer FULL */
  uint64_t max_item_bytes;  /* 0: 64 MiB; larger items: TOO_LARGE */
  uint64_t seed;            /* for jitter; 0: from the system */
  int read_only;            /* 1: only looks; implies no_create */
  int64_t timeout;          /* ms to wait for other processes; 0: for ever */
  int no_journal;           /* 1: each push of this handle is a commit of LMDB,
                               also where its journal would do */
} respool_options;

#define RESPOOL_OPTIONS_INIT \
  { sizeof(respool_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Opens the store in the directory `path`, which is made (one level) when
   missing, or in a database whose URL `path` is,

     postgres://user@host1,host2/database?schema=respool

   where the schema is made when it is missing and the role that connects may
   make one: else NOT_FOUND or DENIED; see respool_init. max_bytes and
   max_readers are of stores in files, INVALID. libpq, in its version 14 or
   newer, is loaded by the first such path. ":memory:" makes a private store on
   tmpfs that is gone when it is closed. `o` may be NULL for defaults; it is
   copied. A path that is no directory or not writable answers IO; a directory
   that holds another program's LMDB, or a newer format, VERSION; unreadable
   bytes, or a file that was cut off, CORRUPT. Processes open a store one at a
   time, which takes moments each. The handle is the caller's, to be closed with
   respool_close.

   Opened with `read_only` the handle writes nothing to the store's data and
   waits for no writer; every verb that changes something answers INVALID. LMDB
   needs its lock file all the same, so the directory must be writable unless
   its whole file system is read-only. While a process has a store open only
   read-only, opening it for writing in the same process answers BUSY. While
   respool_compact works on a store, opening it waits. */
RESPOOL_API int respool_open(const char *path, const respool_options *o,
                             respool **s);

/* Writers of several processes take turns, and a process that is stopped
   (SIGSTOP, a debugger) in its turn keeps the others waiting; so may one that
   opens or compacts a store. A call waits for ever, or as long as the option
   `timeout` says, and as long as this function returns 0: it is called with 0
   when a call of this thread begins that may wait, and while it waits ten
   times a second, with how long it has waited and for whom: "process 4711
   (lua5.4)", or "another process" where that is not known. While a store is
   migrated it is called so after each commit of that, with "the migration to
   format 2, 35 % done", which no `timeout` ends. It calls nothing of this
   library. A wait that is given up answers LOCKED, and the call has
   changed nothing. Signals end no wait by themselves: what their handlers note
   is to be looked at here. Calls that only look never wait. */
typedef int (*respool_wait_fn)(void *arg, int64_t ms, const char *whom);
RESPOOL_API void respool_on_wait(respool_wait_fn ask, void *arg);

/* Makes the store at `path` if there is none, as respool_open does, and with
   `roles`, in a database, the roles that applications are given: SCHEMA_push
   may push and count, SCHEMA_work also take, settle and look, SCHEMA_admin
   everything but change the schema. DENIED where the role that connects may
   not make a schema, or roles; a store in files has none, INVALID. */
RESPOOL_API int respool_init(const char *path, int roles);

/* Closes the handle; NULL is fine. Queues, batches and buffers opened from it
   must be freed before; the leases of unsettled batches run out by themselves.
   Flushes to disk what relaxed commits left to the system. Never fails. */
RESPOOL_API void respool_close(respool *s);

/* A durability barrier: everything that this process committed before the
   call is on disk when it returns 0. */
RESPOOL_API int respool_flush(respool *s);

/* The time by this handle's clock, in milliseconds since 1970. */
RESPOOL_API int64_t respool_now(respool *s);

/* Moves a manual clock by `ms`, which may be negative: a clock stepping
   back. Leases kept by respool_batch_keep are renewed on the way, as they
   would be by time passing. INVALID when the clock is not manual. */
RESPOOL_API int respool_advance(respool *s, int64_t ms);

/* Waits: sleeps for `ms`, or moves a manual clock by as much at once. */
RESPOOL_API int respool_sleep(respool *s, int64_t ms);

/* A number in [0, 1) from the handle's seeded generator. */
RESPOOL_API double respool_random(respool *s);

typedef struct respool_store_stats {
  size_t size;
  uint64_t map_bytes;       /* address space of the map */
  uint64_t file_bytes;      /* high-water mark of the file */
  uint64_t used_bytes;      /* of these, not on LMDB's free list */
  uint64_t max_bytes;
  int64_t available_bytes;  /* left on its disk; UNLIMITED where it has none */
  uint64_t last_txn;        /* rises with every commit */
  unsigned readers;         /* reader slots in use */
  unsigned max_readers;
  int disk_full;            /* a small push would be NOSPACE */
  /* commits of this process since it opened the store, by all handles */
  respool_histogram commits;           /* durations, flush included */
  respool_histogram commit_operations; /* counts of operations in one commit */
  char id[33]; /* of the store, in hex; a copied store has the same */
  /* the journal, of all processes; 0 where there is none */
  uint64_t journal_items;   /* that live there alone */
  uint64_t journal_bytes;   /* of its records that a half still keeps */
  uint64_t journal_flushes; /* since its control block was made */
  /* of a database, as far as the server tells: for how long, in ms, the oldest
     snapshot is held that keeps dead rows from being removed, and how many
     dead rows its items have left; 0 elsewhere */
  int64_t snapshot_age;
  uint64_t dead_rows;
} respool_store_stats;

#define RESPOOL_STORE_STATS_INIT { .size = sizeof(respool_store_stats) }

RESPOOL_API int respool_store_stat(respool *s, respool_store_stats *out);

/* Writes a small record of its own durably, whatever `sync` is, and reads it
   back; how long each took goes to `*write_us` and `*read_us`. The store does
   not grow. CORRUPT when something else was read. With `write_us` NULL it
   only reads. */
RESPOOL_API int respool_probe(respool *s, uint64_t *write_us,
                              uint64_t *read_us);

/* Microseconds since some fixed moment, by a clock that is never set: for
   respool_batch_time. */
RESPOOL_API uint64_t respool_mono(void);

/* Calls `each` with the name of every queue (or DLQ) of the store, in byte
   order. A non-zero return stops the walk and is returned. The names are
   copied first, so `each` may call anything. */
typedef int (*respool_name_fn)(void *arg, const char *name);
RESPOOL_API int respool_queues(respool *s, respool_name_fn each, void *arg);
RESPOOL_API int respool_dead_letter_queues(respool *s, respool_name_fn each,
                                           void *arg);

/* Removes a queue with everything in it; its DLQ stays. NOT_FOUND when there
   is none. BUSY, with the queue unchanged, when items are leased. A large queue
   is removed in several commits: the first pauses it, so that nothing is taken
   any more, and a process that is killed on the way leaves it paused and partly
   empty, to be dropped again. */
RESPOOL_API int respool_queue_drop(respool *s, const char *name);


/* ---- backoff ----------------------------------------------------------- */

enum respool_backoff_kind {
  RESPOOL_BACKOFF_CONSTANT = 0,    /* initial */
  RESPOOL_BACKOFF_LINEAR = 1,      /* initial + step * (attempt - 1) */
  RESPOOL_BACKOFF_EXPONENTIAL = 2, /* initial * factor ^ (attempt - 1) */
  RESPOOL_BACKOFF_POLYNOMIAL = 3,  /* initial * attempt ^ factor */
  RESPOOL_BACKOFF_FIBONACCI = 4,   /* initial * 1, 1, 2, 3, 5, 8, ... */
  RESPOOL_BACKOFF_LIST = 5,        /* list[attempt - 1]; the last repeats */
  RESPOOL_BACKOFF_DECORRELATED = 6 /* uniform in [initial, 3 * previous] */
};

enum respool_jitter {
  RESPOOL_JITTER_NONE = 0,
  RESPOOL_JITTER_FULL = 1,  /* uniform in [0, d] */
  RESPOOL_JITTER_EQUAL = 2, /* d / 2 + uniform in [0, d / 2] */
  RESPOOL_JITTER_RATIO = 3  /* d * (1 +- ratio), never over the cap */
};

/* A retry policy, by value. Names of the jitters and "decorrelated" follow
   M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
   2015. The cap comes first, the jitter after; no delay exceeds `max`. */
typedef struct respool_backoff {
  int kind;        /* enum respool_backoff_kind */
  int jitter;      /* enum respool_jitter; ignored by DECORRELATED */
  double ratio;    /* of RESPOOL_JITTER_RATIO, in [0, 1] */
  int64_t initial; /* >= 0 */
  int64_t step;    /* of LINEAR, >= 0 */
  double factor;   /* of EXPONENTIAL >= 1, power of POLYNOMIAL >= 0 */
  int64_t max;     /* >= initial; RESPOOL_UNLIMITED: about 292 years */
  size_t count;    /* of LIST: 1..RESPOOL_LIST_MAX */
  int64_t list[RESPOOL_LIST_MAX];
} respool_backoff;

/* The default: exponential from 1 s by 2 to 1 h, full jitter. */
RESPOOL_API void respool_backoff_default(respool_backoff *b);

/* 0, or INVALID with the offending field named in respool_error_text. */
RESPOOL_API int respool_backoff_check(const respool_backoff *b);

/* The delay before the try that follows failure number `attempt` (from 1;
   0 counts as 1; any size, nothing overflows). `previous` is the delay
   before this one, 0 at first; only DECORRELATED looks at it. `u` in
   [0, 1) is the chance; the same u gives the same delay. `b` has passed
   respool_backoff_check. */
RESPOOL_API int64_t respool_backoff_delay(const respool_backoff *b,
                                          uint64_t attempt,
                                          int64_t previous, double u);


/* ---- queue ------------------------------------------------------------- */

enum respool_limit_action {
  RESPOOL_LIMIT_DEAD = 0,    /* becomes a dead letter */
  RESPOOL_LIMIT_DROP = 1,    /* is gone, counted */
  RESPOOL_LIMIT_COOLDOWN = 2 /* waits `cooldown`, then starts over */
};

/* The effect of a push beyond max_items or max_queue_bytes, after expired items
   have been ended to make room. A single item over max_queue_bytes is TOO_LARGE
   instead. */
enum respool_overflow {
  RESPOOL_OVERFLOW_REJECT = 0,      /* FULL */
  RESPOOL_OVERFLOW_DROP_OLDEST = 1, /* the oldest fresh items make room */
  RESPOOL_OVERFLOW_DEAD = 2,        /* it becomes dead letters, "overflow" */
  RESPOOL_OVERFLOW_WAIT = 3         /* as long as the push says, for room */
};

/* Shares of the priorities: while all have ready items, five items of a
   priority of weight 5 are delivered for each item of a priority of weight 1.
   Priorities that are not named have weight 1. With n 0 priority is strict. */
typedef struct respool_weights {
  size_t n;
  struct {
    int priority;    /* 0..255, each once */
    unsigned weight; /* 1..1000 */
  } of[RESPOOL_WEIGHTS_MAX];
} respool_weights;

/* The policy is stored with the queue and honoured by every process that
   takes from it. RESPOOL_KEEP (NULL) leaves a field as stored, or gives it
   the default shown when the queue is new. */
typedef struct respool_queue_options {
  size_t size;
  int64_t lease;            /* 30,000; 1 .. 7 days */
  int64_t max_lease;        /* 3,600,000: respool_batch_keep stops then */
  int64_t max_attempts;     /* 5; >= 1 or RESPOOL_UNLIMITED */
  int64_t max_crashes;      /* 3; >= 1 or RESPOOL_UNLIMITED */
  int64_t ttl;              /* RESPOOL_UNLIMITED: none */
  int64_t cooldown;         /* 0; for RESPOOL_LIMIT_COOLDOWN */
  int64_t on_exhausted;     /* RESPOOL_LIMIT_DEAD */
  int64_t on_expire;        /* RESPOOL_LIMIT_DEAD, or DROP */
  int64_t ordered;          /* 0; 1: strict order within a priority */
  int64_t max_items;        /* RESPOOL_UNLIMITED; pushes beyond: FULL */
  int64_t max_queue_bytes;  /* RESPOOL_UNLIMITED; pushes beyond: FULL */
  int64_t overflow;         /* RESPOOL_OVERFLOW_REJECT */
  int64_t keep_done;        /* 0: how long done items are kept as history */
  int64_t keep_done_bytes;  /* of history at most, with its results;
                               RESPOOL_UNLIMITED */
  int64_t keep_dead;        /* RESPOOL_UNLIMITED: dead letters of its DLQ */
  const respool_backoff *backoff; /* respool_backoff_default */
  const char *dlq;          /* where its dead letters go: the queue's name */
  const respool_weights *weights; /* strict priority */
  int64_t rate_items;       /* 0: no rate; at most 10^9 are taken ... */
  int64_t rate_per;         /* 1,000: ... in so long; 1 .. 30 days */
  int64_t rate_burst;       /* 0: rate_items; so many at once, 10^9 at most */
  int64_t breaker_failures; /* 0: no breaker; 1 .. 100 in a row open it */
  int64_t breaker_within;   /* 60,000: between two of them, at most */
  int64_t breaker_cooldown; /* 60,000: how long it stays open; >= 1 */
  int64_t breaker_probes;   /* 1: items that go first then; 1 .. 1,000 */
  int64_t keep_dead_items;  /* RESPOOL_UNLIMITED; >= 1: dead letters of its DLQ
                               at most, and their bytes: the oldest go, but */
  int64_t keep_dead_bytes;  /* RESPOOL_UNLIMITED; the newest always stays */
  /* of each partition, which is all items with one `partition` */
  int64_t partition_concurrency; /* 0: any; so many leased at once, 10^9 at
                                    most */
  int64_t partition_ordered;  /* 0; 1: strict order within a partition */
  int64_t partition_batch;    /* items in a batch at most; 0: its share, but
                                 one in strict order */
  int64_t partition_rate_items; /* 0: no rate; as rate_items, rate_per ... */
  int64_t partition_rate_per, partition_rate_burst; /* 1,000; 0 */
  int64_t partition_breaker_failures; /* 0: no breaker; as breaker_failures */
  int64_t partition_breaker_within;   /* 60,000 */
  int64_t partition_breaker_cooldown; /* 60,000 */
  int64_t partition_breaker_probes;   /* 1 */
} respool_queue_options;

#define RESPOOL_QUEUE_OPTIONS_INIT \
  { sizeof(respool_queue_options), \
    RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, \
    RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, \
    RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, \
    NULL, NULL, NULL, \
    RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, \
    RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, \
    RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, \
    RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP, RESPOOL_KEEP }

/* Opens the queue `name` (1..255 bytes), making it when missing. Options
   other than KEEP are stored. If the stored policy already matches, this is
   only a read, which waits for no writer. The handle must be freed before the
   store is closed; any number of handles on one queue is fine. */
RESPOOL_API int respool_queue_open(respool *s, const char *name,
                                   const respool_queue_options *o,
                                   respool_queue **q);

/* Opens the queue `name` if there is one, else NOT_FOUND; a read. */
RESPOOL_API int respool_queue_find(respool *s, const char *name,
                                   respool_queue **q);

/* Frees the handle; NULL is fine. */
RESPOOL_API void respool_queue_free(respool_queue *q);

/* Adds an owner to the handle, who must free it, too. Returns `q`. */
RESPOOL_API respool_queue *respool_queue_ref(respool_queue *q);

/* The store that it was opened from. */
RESPOOL_API respool *respool_queue_store(const respool_queue *q);

/* The queue's name; the handle's, as long as it is there. */
RESPOOL_API const char *respool_queue_name(const respool_queue *q);

/* The policy as stored now. Pointers in `out` stay NULL; `backoff`,
   `dlq` (RESPOOL_NAME_MAX + 1 bytes) and `weights` are filled where they are
   not NULL. */
RESPOOL_API int respool_queue_config(respool_queue *q,
                                     respool_queue_options *out,
                                     respool_backoff *backoff, char *dlq,
                                     respool_weights *weights);

/* Nothing is taken from a paused queue, by any process; pushes go on. */
RESPOOL_API int respool_queue_pause(respool_queue *q, int paused);

enum respool_flush_reason {
  RESPOOL_FLUSH_NONE = 0,     /* a push without a buffer */
  RESPOOL_FLUSH_ITEMS = 1,
  RESPOOL_FLUSH_BYTES = 2,
  RESPOOL_FLUSH_PUSHES = 3,
  RESPOOL_FLUSH_INTERVAL = 4, /* since the first item not flushed */
  RESPOOL_FLUSH_MANUAL = 5,     /* respool_buffer_flush */
  RESPOOL_FLUSH_CLOSE = 6,
  RESPOOL_FLUSH_REASONS = 7
};

/* The reasons that respool gives to dead letters. */
#define RESPOOL_REASONS(X) \
  X(EXHAUSTED, 0, "exhausted") \
  X(REJECTED, 1, "rejected") \
  X(CRASHED, 2, "crashed") \
  X(UNDECODABLE, 3, "undecodable") \
  X(OVERFLOW, 4, "overflow") \
  X(VERSION, 5, "version") \
  X(OTHER, 6, "other")

enum respool_death {
#define RESPOOL_ENUM(name, number, text) RESPOOL_DEATH_##name = (number),
  RESPOOL_REASONS(RESPOOL_ENUM)
#undef RESPOOL_ENUM
  RESPOOL_DEATHS = 7
};

/* The text of a reason; NULL for a number that is none. */
RESPOOL_API const char *respool_death_name(int death);

typedef struct respool_queue_stats {
  size_t size;
  /* items by state, now */
  uint64_t ready;      /* takeable now, due items among them */
  uint64_t leased;
  uint64_t scheduled;  /* waiting for their time: delayed or snoozed */
  uint64_t retrying;   /* waiting for their time, and have failed before */
  uint64_t dead;       /* dead letters in the queue's own DLQ */
  uint64_t bytes;      /* stored for unsettled items */
  int64_t next_due;    /* when the next item that waits is due; 0: none */
  int64_t oldest;      /* since when the item that has been ready longest is
                          ready: its push, its due time, or the end of the
                          lease it was under; 0: none is ready */
  int paused;
  /* since the queue was made; pushed = ready + leased + scheduled +
     retrying + done + died + expired + removed at every commit */
  uint64_t pushed;
  uint64_t done;
  uint64_t died;       /* became dead letters, other than by expiring */
  uint64_t expired;    /* became dead letters, or dropped, by their TTL */
  uint64_t removed;    /* removed, purged, or dropped on failure */
  /* events */
  uint64_t delivered;  /* deliveries of items. In PostgreSQL this, the bytes and
                          the times are of up to a second ago, and a process
                          that is killed loses its own of that second */
  uint64_t retried;
  uint64_t released;
  uint64_t snoozed;
  uint64_t crashed;    /* items whose lease ran out */
  uint64_t lease_lost; /* outcomes that came too late, in items */
  uint64_t damaged;    /* segments set aside as unreadable */
  uint64_t clock_steps;/* times the clock stepped back a second or more */
  uint64_t dropped;    /* of `removed`: to make room for newer ones */
  uint64_t flushes[RESPOOL_FLUSH_REASONS]; /* of buffers, by reason */
  uint64_t died_by[RESPOOL_DEATHS];        /* of `died`, by reason */
  respool_histogram wait;   /* from push to first delivery */
  respool_histogram handle; /* by respool_batch_time */
  uint64_t kept;       /* finished items kept as history, now */
  uint64_t kept_bytes;
  uint64_t pushed_bytes;    /* of the bodies of `pushed` */
  uint64_t delivered_bytes; /* of the bodies of `delivered` */
  uint64_t dead_bytes;      /* of the dead letters of `dead` */
  uint64_t dead_dropped;    /* removed from that DLQ since it was made, as
                               there were more than keep_dead_items or _bytes */
  uint64_t partitions; /* that respool_partitions would show, now */
} respool_queue_stats;

#define RESPOOL_QUEUE_STATS_INIT { .size = sizeof(respool_queue_stats) }

RESPOOL_API int respool_queue_stat(respool_queue *q,
                                   respool_queue_stats *out);


/* ---- flow ---------------------------------------------------------------- */

/* Three things bound what is taken from a queue, by all processes together;
   pushes and settles go on. None of them changes an item.

   A *hold* keeps the queue until a time: nothing is taken before.

   A *rate* is a bucket of tokens. It is full at first, with rate_burst of them,
   gains rate_items in rate_per, evenly, and each item that is taken costs one.
   So in any time t at most rate_burst + rate_items * t / rate_per are taken.
   When the rate is changed the bucket keeps its tokens, as far as they fit.

   A *breaker* sees that what items are sent to is away. It is closed at first.
   An outcome RETRY with `outage` is an outage; when breaker_failures of them
   have come in a row, none of them later than breaker_within after the one
   before, and no item was done between, it opens: nothing is taken for
   breaker_cooldown. Then it is half open: breaker_probes items may be taken.
   When one of them is done it closes, when one is an outage it opens again;
   after any other outcome, or when its lease runs out, another may be taken.

   The failures in a row that opened it, and outages while it is not closed,
   spend no attempt. While others have failed in a row with it, an outage spends
   no item's last attempt either. */
enum respool_breaker {
  RESPOOL_BREAKER_CLOSED = 0,
  RESPOOL_BREAKER_OPEN = 1,
  RESPOOL_BREAKER_HALF_OPEN = 2
};

#define RESPOOL_REASON_MAX 255 /* bytes of a reason; the rest is cut off */
#define RESPOOL_OPENINGS 8

typedef struct respool_opening {
  int64_t opened_at;
  int64_t closed_at;  /* 0: it is not closed yet */
  uint64_t probes;    /* items that went first */
  char error[RESPOOL_REASON_MAX + 1]; /* of the failure that opened it */
} respool_opening;

typedef struct respool_flow {
  size_t size;
  int64_t held_until;   /* 0: it is not held */
  char held_for[RESPOOL_REASON_MAX + 1]; /* the reason */
  int64_t allowed;      /* items by the rate now; UNLIMITED: there is none */
  int64_t allowed_at;   /* when the rate allows the next; 0: now */
  int breaker;          /* enum respool_breaker */
  int64_t breaker_until;/* not closed: when further probes may go; else 0 */
  uint64_t in_row;      /* failures in a row, while it is closed */
  uint64_t outages;     /* all outages, since the queue was made */
  uint64_t opened;      /* how often it opened, since the queue was made */
  size_t openings;      /* the last times that it opened, newest first */
  respool_opening opening[RESPOOL_OPENINGS];
} respool_flow;

#define RESPOOL_FLOW_INIT { .size = sizeof(respool_flow) }

RESPOOL_API int respool_queue_flow(respool_queue *q, respool_flow *out);

/* Holds the queue for `ms`, unless it is held longer already; 0 ends a hold.
   The reason is for people. */
RESPOOL_API int respool_queue_hold(respool_queue *q, int64_t ms,
                                   respool_bytes reason);

/* The same of one partition, whether it has items or not. */
RESPOOL_API int respool_partition_hold(respool_queue *q, respool_bytes name,
                                       int64_t ms, respool_bytes reason);

enum respool_partition_order {
  RESPOOL_PARTITIONS_BY_NAME = 0, /* from one on */
  RESPOOL_PARTITIONS_BY_SIZE = 1  /* those with most items; looks at all */
};

#define RESPOOL_PARTITIONS_MAX 1000 /* in one look */

typedef struct respool_partitions_options {
  size_t size;
  int order;           /* enum respool_partition_order */
  size_t limit;        /* 1 .. RESPOOL_PARTITIONS_MAX */
  respool_bytes after; /* by name: only those behind it; empty: all */
} respool_partitions_options;

#define RESPOOL_PARTITIONS_OPTIONS_INIT \
  { sizeof(respool_partitions_options), 0, 100, { NULL, 0 } }

/* A partition that has items, or is held, or has a rate that it used lately, or
   a breaker that is not closed. */
typedef struct respool_partition {
  respool_bytes name;       /* valid during the call */
  uint64_t ready, leased;
  uint64_t waiting;         /* scheduled or retrying */
  int64_t held_until;       /* 0: it is not held */
  respool_bytes held_for;
  int64_t allowed;          /* by its rate, now; RESPOOL_UNLIMITED: no rate */
  int64_t allowed_at;       /* of allowed 0, when one more is; else 0 */
  int breaker;              /* enum respool_breaker */
  int64_t breaker_until;    /* not closed: when further probes may go; else 0 */
  uint64_t outages, opened; /* since it was made */
} respool_partition;

/* Calls `each` for partitions of the queue. A non-zero return stops the walk
   and is returned. */
typedef int (*respool_partition_fn)(void *arg, const respool_partition *p);
RESPOOL_API int respool_partitions(respool_queue *q,
                                   const respool_partitions_options *o,
                                   respool_partition_fn each, void *arg);


/* ---- push -------------------------------------------------------------- */

/* Where and when an item was first pushed. It stays through retries,
   dead-lettering, replay, export and import, and repair. */
typedef struct respool_origin {
  respool_bytes queue; /* at most 255 bytes. Empty: the item was first pushed
                          here, and its own queue, id and pushed_at are the
                          origin */
  uint64_t id;
  int64_t pushed_at;
} respool_origin;

typedef struct respool_payload {
  respool_bytes body;
  respool_bytes headers; /* opaque metadata, given back with the item */
  respool_bytes key;     /* 1..255 bytes, or empty; see respool_push */
  respool_bytes codec;   /* names the encoding of the body, at most 255 bytes,
                            so that a reader can tell; empty: CBOR. The
                            library itself never decodes a body */
  respool_origin origin; /* of an item pushed again from elsewhere; an empty
                            queue: it is new */
  respool_bytes partition; /* 1..255 bytes, or empty: none; see
                              respool_queue_options */
} respool_payload;

enum respool_conflict {
  RESPOOL_CONFLICT_FAIL = 0,   /* EXISTS, nothing is pushed */
  RESPOOL_CONFLICT_IGNORE = 1, /* nothing is pushed, that item's id given */
  RESPOOL_CONFLICT_REPLACE = 2 /* that item is removed, unless leased */
};

typedef struct respool_push_options {
  size_t size;
  int priority;     /* 0..255; the highest is delivered first */
  int64_t delay;    /* delivered after so long; >= 0 */
  int64_t at;       /* delivered after this time; 0: at once. Not with delay */
  int64_t ttl;      /* KEEP: the queue's; UNLIMITED: none; else >= 0 */
  uint64_t version; /* of the payloads; given back with the items */
  int on_conflict;  /* enum respool_conflict, for a payload with a key */
  int64_t dedup;    /* the key is in use so long at least; >= 0 */
  int64_t wait;     /* for room in a full queue; then TIMEOUT. 0: FULL */
} respool_push_options;

#define RESPOOL_PUSH_OPTIONS_INIT \
  { sizeof(respool_push_options), 0, 0, 0, RESPOOL_KEEP, 0, 0, 0, 0 }

/* The results of a push or a ticket, besides its code. */
typedef struct respool_result {
  size_t size;
  uint64_t first;   /* of a push: the first id */
  int duplicate;    /* of a push: 1 when IGNORE pushed nothing, else 0 */
  respool_batch *batch; /* of a ticket that takes: the caller's, or NULL */
  int never_fits;   /* of a push that answered FULL: 1 when an empty queue has
                       no room for it either, else 0 */
} respool_result;

#define RESPOOL_RESULT_INIT { .size = sizeof(respool_result) }

/* Pushes `n` items in one commit, all or nothing, with consecutive ids from
   `out->first`; `out` may be NULL. On return the items are on disk, unless the
   store is relaxed. The payloads are copied before the call returns. FULL when
   the store, or the queue's max_items or max_queue_bytes, has no room, after
   expired items have been ended as far as that helps; respool_error_of_store
   says which. TOO_LARGE for an item over max_item_bytes, and for one that takes
   more than max_queue_bytes by itself, whatever `overflow` is. Nothing is
   stored then. Where even the empty queue would have no room, FULL comes at
   once, whatever `wait`.

   A payload with a key is pushed by itself (n is 1). The key is in use until
   its item is done, dead, expired or removed, and for `dedup` at least; a push
   with a key in use does what `on_conflict` says. An expired item that is not
   leased does not keep its key: the push ends it, as the queue's on_expire
   says, whatever `on_conflict` is. REPLACE does not remove a leased item: it
   stays beside the new one, which owns the key from then on. Keys are found at
   the same cost whatever the backlog. */
RESPOOL_API int respool_push(respool_queue *q, const respool_payload *items,
                             size_t n, const respool_push_options *o,
                             respool_result *out);

/* A dead letter that a handle of a queue has made. */
typedef struct respool_notice {
  size_t size;
  uint64_t number;
  char dlq[RESPOOL_NAME_MAX + 1];
} respool_notice;

#define RESPOOL_NOTICE_INIT { .size = sizeof(respool_notice) }

/* Begins (or with 0 ends) noting the dead letters that this handle makes: by
   settles of its batches; by its takes, of items that expired, crashed too
   often or whose bytes are damaged; by its pushes, of items that a full queue
   with overflow DEAD has no room for, and of expired items that were ended to
   make room or to free their key. This includes pushes and settles in a
   transaction, pushes with a settle and flushes of a buffer. A dead letter is
   noted when its commit has succeeded. */
RESPOOL_API int respool_queue_watch(respool_queue *q, int on);

/* Takes the oldest notice; `out->number` is 0 when there is none. While 10,000
   are waiting, further ones are not noted. Any thread. */
RESPOOL_API int respool_queue_notice(respool_queue *q, respool_notice *out);

/* The same for the dead letters that a handle of a store makes of items of any
   queue: by respool_maintain, of items that expired; by respool_dead_move, of
   what a full queue with overflow DEAD has no room for. */
RESPOOL_API int respool_watch(respool *s, int on);
RESPOOL_API int respool_notice_next(respool *s, respool_notice *out);


/* ---- buffered push ------------------------------------------------------ */

/* A buffer gathers pushes in memory and commits them together, in a thread,
   when the first of its triggers comes. A buffered push promises less: a crash
   of the process loses it until it was flushed. */
typedef struct respool_buffer respool_buffer;

typedef struct respool_buffer_options {
  size_t size;
  uint64_t items;     /* 0: no such trigger; the same for the next three */
  uint64_t bytes;     /* of payloads, headers and keys */
  uint64_t pushes;    /* differs from items when pushes are merged */
  int64_t interval;   /* since the first push; RESPOOL_UNLIMITED: never */
  uint64_t max_bytes; /* of memory; 0: 64 MiB; pushes beyond answer FULL */
} respool_buffer_options;

#define RESPOOL_BUFFER_OPTIONS_INIT \
  { sizeof(respool_buffer_options), 0, 0, 0, 0, 0 }

/* Makes a buffer for a queue. INVALID without any trigger.

   `bytes` counts the bytes that are pushed, `max_bytes` the memory that the
   buffer takes for them. An item among others of the
   same options takes a few bytes more than its payload; one with a key, with
   other options than the push before, or under a name takes up to 1 KiB more.
   The process grows by twice max_bytes at most. */
RESPOOL_API int respool_buffer_open(respool_queue *q,
                                    const respool_buffer_options *o,
                                    respool_buffer **b);

/* Flushes the buffer and frees it; NULL is fine. Items that cannot be flushed
   now stay with the store: their flush is tried again after 0.1 s and then less
   often up to 30 s, by respool_buffers_flush, and for the last time when the
   store is closed. Items that cannot be flushed even then are lost: see
   respool_buffers_drain. In a child process nothing is flushed. */
RESPOOL_API void respool_buffer_free(respool_buffer *b);

/* The same in the background; call it before the store is closed. The queue's
   handle may be freed at once. */
RESPOOL_API void respool_buffer_discard(respool_buffer *b);

/* The store of its queue. */
RESPOOL_API respool *respool_buffer_store(const respool_buffer *b);

/* Adds an item and returns at once; `o` as in respool_push, NULL for
   defaults. A payload with a key cannot have on_conflict FAIL. TOO_LARGE as
   there, by the max_queue_bytes that this handle of the queue saw last; if that
   bound is lowered later, items over it wait in the buffer, with all behind
   them, until it is raised. `delay` and `ttl` count from the push; they end at
   most 10 ms late, besides the time that the commit of the flush takes, and
   never early. An item whose ttl is over at its flush expires as the queue's
   on_expire says. A ttl of the queue counts from the flush, when the item comes
   to the queue. FULL while max_bytes are waiting, or with o->wait TIMEOUT after
   so long; a flush is under way then. Any thread. */
RESPOOL_API int respool_buffer_push(respool_buffer *b,
                                    const respool_payload *item,
                                    const respool_push_options *o);

/* The unflushed item that was merged under `name` last: its body, copied to
   memory that is the caller's to free(), and its version for
   respool_buffer_fold. `body->data` is NULL when there is none. */
RESPOOL_API int respool_buffer_find(respool_buffer *b, respool_bytes name,
                                    respool_bytes *body, uint64_t *version);

/* Puts an item in the place of the one found under `name`, or adds it when
   none was (version 0); names have 1 byte at least. BUSY when that item has
   been flushed or merged since: find it again. Counts as a push either way. */
RESPOOL_API int respool_buffer_fold(respool_buffer *b, respool_bytes name,
                                    uint64_t version,
                                    const respool_payload *item,
                                    const respool_push_options *o);

/* A barrier: when it returns 0, everything pushed before it, by any thread,
   is committed and on disk. On an error the items stay in the buffer, and their
   flush is tried again after 0.1 s and then less often up to 30 s, or by the
   next flush; after UNKNOWN_OUTCOME they may be in the queue twice then. With
   FULL, the first items may have been committed as far as there was room, while
   the others stay. Items come to the queue in the order of their pushes, merged
   ones in the place of the first push under their name. Items that a queue with
   overflow DEAD has no room for become dead letters, the others are committed.
   */
RESPOOL_API int respool_buffer_flush(respool_buffer *b);

/* The same, to be called before the buffer is freed, as that reports no error;
   counted as a flush at close. */
RESPOOL_API int respool_buffer_drain(respool_buffer *b);

typedef struct respool_buffer_stats {
  size_t size;
  uint64_t items, bytes;   /* waiting now */
  uint64_t pushed;         /* through this buffer */
  uint64_t flushes[RESPOOL_FLUSH_REASONS];
  uint64_t failures;       /* flushes that failed */
  int error;               /* of the last flush; 0: it went well */
  char error_text[256];
  uint64_t memory;         /* that they take: max_bytes bounds it */
} respool_buffer_stats;

#define RESPOOL_BUFFER_STATS_INIT { .size = sizeof(respool_buffer_stats) }

RESPOOL_API int respool_buffer_stat(respool_buffer *b,
                                    respool_buffer_stats *out);

/* The barrier of all buffers of a store, including those that were freed with
   items that could not be flushed: each is tried, and the first error returned.
   `drain` is to be called before the store is closed, and counts as a flush at
   close. */
RESPOOL_API int respool_buffers_flush(respool *s);
RESPOOL_API int respool_buffers_drain(respool *s);

/* Calls `each` for every buffer of the store, including those that were freed
   and are not empty yet, with the name of its queue. A non-zero return stops
   the walk and is returned. `each` must not free a buffer. */
typedef int (*respool_buffer_fn)(void *arg, const char *queue,
                                 const respool_buffer_stats *stats);
RESPOOL_API int respool_buffers(respool *s, respool_buffer_fn each,
                                void *arg);

/* The number of failed flushes of the store's buffers so far. Cheap enough to
   be called with every push. */
RESPOOL_API uint64_t respool_flush_failures(const respool *s);

/* Calls `each` for every buffer with flushes that have failed since the last
   call, as respool_buffers does. */
typedef struct respool_flush_failure {
  const char *queue;
  uint64_t times;
  int error;               /* of the last that failed */
  char error_text[256];
} respool_flush_failure;

typedef int (*respool_failure_fn)(void *arg, const respool_flush_failure *f);
RESPOOL_API int respool_flush_failed(respool *s, respool_failure_fn each,
                                     void *arg);


/* ---- items ------------------------------------------------------------- */

enum respool_state {
  RESPOOL_READY = 0,
  RESPOOL_LEASED = 1,
  RESPOOL_SCHEDULED = 2, /* waits for its time, and has not failed before */
  RESPOOL_RETRYING = 3,  /* waits for its time after a failure or a crash */

  RESPOOL_FINISHED = 4,  /* of the history: done */
  RESPOOL_CANCELLED = 5  /* of the history: by respool_item_cancel */
};

/* What is known about an item beside its payload. */
typedef struct respool_item_about {
  respool_bytes headers;
  respool_bytes original;  /* before a replay's transform; empty: none */
  respool_bytes key;
  int64_t pushed_at;
  int64_t expires_at;      /* 0: never */
  int64_t visible_at;      /* lease end, or due time; 0: ready */
  uint64_t attempts;       /* failures so far */
  uint64_t deliveries;     /* this one included */
  uint64_t crashes;        /* leases that ran out */
  uint64_t replays;        /* times it came back from a DLQ */
  uint64_t version;        /* of the payload, as pushed */
  respool_bytes error;     /* of the last failure; empty: none */
  respool_bytes memo;      /* of the outcome that gave one last */
  int priority;
  int state;               /* enum respool_state */
  respool_bytes codec;     /* of the body; empty: CBOR */
  respool_origin origin;   /* an empty queue: this item's own */
  respool_bytes original_codec; /* of the original; empty: CBOR */
  uint64_t worker;         /* that leases it; 0: none that is known */
  uint64_t lease;          /* its token, where it is looked at; 0: not leased */
  int64_t progress;        /* that was reported under it, in thousandths; -1:
                              not said */
  int64_t progress_at;     /* when; 0: never */
  respool_bytes progress_text;
  respool_bytes partition; /* empty: none */
} respool_item_about;

/* An item as delivered or looked at. Everything it points to is borrowed from
   its batch or page; items that differ in their payload alone share one
   `about`. */
typedef struct respool_item {
  uint64_t id;
  respool_bytes body;
  const respool_item_about *about; /* never NULL */
} respool_item;

/* Items looked at, not leased; nothing in the store changes. */
RESPOOL_API size_t respool_page_length(const respool_page *p);
RESPOOL_API const respool_item *respool_page_item(const respool_page *p,
                                                  size_t i);
RESPOOL_API void respool_page_free(respool_page *p);

/* The ids of items that were passed over because their bytes are damaged;
   `*n` is how many. Borrowed from the page; NULL when there are none. */
RESPOOL_API const uint64_t *respool_page_damaged(const respool_page *p,
                                                 size_t *n);

/* The next `limit` items in the order in which a take would deliver them; fewer
   when they have more than about 4 MiB, but one at least. */
RESPOOL_API int respool_peek(respool_queue *q, size_t limit,
                             respool_page **p);

/* One item by id, in whatever state; NOT_FOUND when it is gone. */
RESPOOL_API int respool_get(respool_queue *q, uint64_t id, respool_page **p);

/* The item that a key belongs to; NOT_FOUND when there is none, also where the
   key stays in use for `dedup` after its item is over. */
RESPOOL_API int respool_get_key(respool_queue *q, respool_bytes key,
                                respool_page **p);

/* Where a walk over items stands; zero it to begin. */
typedef struct respool_cursor {
  int phase, space, priority;
  uint64_t id;
  int64_t at;
} respool_cursor;

/* Up to `limit` further items in state `state` (-1: all), and of payloads about
   4 MiB, moving `*at`. A page of length 0 ends the walk; it, too, may report
   damaged items. Items that change their place during the walk may be seen
   twice or not at all; all others are seen once. CORRUPT where the store's
   records are out of order, as the walk might not end. */
RESPOOL_API int respool_browse(respool_queue *q, int state, size_t limit,
                               respool_cursor *at, respool_page **p);

/* Removes one item. NOT_FOUND when it is gone, BUSY while it is leased. */
RESPOOL_API int respool_remove(respool_queue *q, uint64_t id);

/* Removes the item that a key belongs to, as respool_get_key finds it. */
RESPOOL_API int respool_remove_key(respool_queue *q, respool_bytes key);

/* Removes the items with these ids, in one commit; `*removed` counts those
   that were there and not leased. */
RESPOOL_API int respool_remove_many(respool_queue *q, const uint64_t *ids,
                                    size_t n, uint64_t *removed);

/* Makes an item that waits, scheduled or retrying, due now; one that is ready
   stays as it is. NOT_FOUND when it is gone, BUSY while it is leased: so for
   all that changes one item. */
RESPOOL_API int respool_item_run_now(respool_queue *q, uint64_t id);

/* Removes an item whether it is leased or not. A batch that has it learns that
   by respool_item_held, and a settle of the item finds its lease lost; the
   batch's other items stay leased. Where the queue keeps finished items it
   goes to the history. NOT_FOUND when it is gone. */
RESPOOL_API int respool_item_cancel(respool_queue *q, uint64_t id);

typedef struct respool_progress {
  size_t size;
  int64_t done;       /* in thousandths; KEEP: it is not said */
  respool_bytes text; /* cut to RESPOOL_PROGRESS_TEXT bytes */
} respool_progress;

#define RESPOOL_PROGRESS_INIT \
  { sizeof(respool_progress), RESPOOL_KEEP, { NULL, 0 } }
#define RESPOOL_PROGRESS_TEXT 255

/* Keeps how far a handler has come with an item, which is shown as long as the
   item is leased under this token; the last report counts. It is not flushed:
   a power cut ends the handler too. LEASE_LOST once the item is not leased so
   any more. */
RESPOOL_API int respool_item_progress(respool_queue *q, uint64_t id,
                                      uint64_t token,
                                      const respool_progress *p);

/* Removes what was reported under the token, of an item that is settled.
   respool_maintain does so where nobody did. */
RESPOOL_API int respool_item_progress_end(respool_queue *q, uint64_t id,
                                          uint64_t token);

/* Whether an item is leased under the token of a batch: until it is settled or
   cancelled, or its lease has run out and another has taken it. */
RESPOOL_API int respool_item_held(respool_queue *q, uint64_t id,
                                  uint64_t token, int *held);

/* Makes an item a dead letter of the queue, with the reason "killed" and with
   `error`; where that is empty, with the error of its last failure. */
RESPOOL_API int respool_item_kill(respool_queue *q, uint64_t id,
                                  respool_bytes error);

/* Moves an item to another queue of the same store, in one commit: pushed
   there with a new id, which goes to `*moved` unless that is NULL, and removed
   here. Its origin, priority, key, headers, due and expiry times, attempts,
   failures and memo stay. EXISTS when an item there holds its key; TOO_LARGE
   and FULL as of a push, FULL also of a queue that buries what is pushed when
   it is full. */
RESPOOL_API int respool_item_move(respool_queue *q, uint64_t id,
                                  respool_queue *to, uint64_t *moved);

typedef struct respool_edit_options {
  size_t size;
  uint64_t version;  /* of the new payload */
  respool_bytes was; /* the body that it replaces; data NULL: any */
} respool_edit_options;

#define RESPOOL_EDIT_OPTIONS_INIT \
  { sizeof(respool_edit_options), 0, { NULL, 0 } }

/* Gives an item another body, codec and version; with headers in `payload`,
   also these. Its key and origin there are not read. The item keeps its id and
   its place. LOCKED when its body is not `was` any more; FULL and TOO_LARGE as
   of a push. */
RESPOOL_API int respool_item_edit(respool_queue *q, uint64_t id,
                                  const respool_payload *payload,
                                  const respool_edit_options *o);

/* Removes every item that is not leased, in several commits, and counts
   them in `*removed`. */
RESPOOL_API int respool_purge(respool_queue *q, uint64_t *removed);


/* ---- take and settle --------------------------------------------------- */

typedef struct respool_take_options {
  size_t size;
  uint64_t items;     /* at most; 0: 1 */
  uint64_t bytes;     /* of payload at most, but one item; 0: no bound */
  int64_t wait;       /* for something to come; 0: not at all */
  int64_t lease;      /* KEEP: the queue's */
  uint64_t worker;    /* that takes, see respool_worker_start; 0: none */
} respool_take_options;

#define RESPOOL_TAKE_OPTIONS_INIT \
  { sizeof(respool_take_options), 0, 0, 0, RESPOOL_KEEP, 0 }

/* Takes items under a lease: priorities from high to low; in each, items that
   are due first, then new items in push order. `*batch` is NULL when there is
   nothing to take; otherwise it is the caller's, to be freed. Items whose lease
   has run out are delivered as a batch of their own and, after each further
   crash, in halves, until a poison item is alone. */
RESPOOL_API int respool_take(respool_queue *q, const respool_take_options *o,
                             respool_batch **batch);

/* Frees a batch; NULL is fine. Items not settled stay leased until their
   lease runs out: settle first. */
RESPOOL_API void respool_batch_free(respool_batch *batch);

RESPOOL_API size_t respool_batch_length(const respool_batch *batch);

/* Item `i` (from 0), borrowed; NULL when out of range. */
RESPOOL_API const respool_item *respool_batch_item(const respool_batch *batch,
                                                 size_t i);

enum respool_outcome_kind {
  RESPOOL_NONE = 0,    /* no outcome yet */
  RESPOOL_DONE = 1,
  RESPOOL_RETRY = 2,   /* failed: an attempt is spent */
  RESPOOL_RELEASE = 3, /* ready again, nothing spent */
  RESPOOL_SNOOZE = 4,  /* ready after `delay`, nothing spent */
  RESPOOL_DEAD = 5,    /* becomes a dead letter now */
  RESPOOL_DROP = 6,    /* failed for good and not worth a dead letter */
  RESPOOL_HOLD = 7     /* ready again, nothing spent, and its partition, or
                          without one the queue, is held for `delay`, with
                          `error` as the reason */
};

/* Unknown fields are empty or NULL. `error`, `trace` and `group` may hold any
   byte; each is cut to 1 KiB, at a whole UTF-8 character. */
typedef struct respool_outcome {
  size_t size;
  int kind;        /* enum respool_outcome_kind */
  int64_t delay;   /* RETRY: KEEP is the policy's; SNOOZE, HOLD: >= 0 */
  respool_bytes error; /* what went wrong */
  respool_bytes trace; /* a traceback */
  respool_bytes group; /* dead letters are counted by it */
  const char *reason;  /* DEAD: NULL is "rejected" */
  const char *dlq;     /* NULL: the queue's */
  respool_bytes memo;  /* kept with the item, if it is not over */
  int outage;          /* RETRY: 1 when it failed because what it was sent to is
                          away; the queue's breaker counts these */
  respool_bytes result; /* DONE: of a handler, kept with the finished item where
                           the queue keeps these; RESPOOL_RESULT_MAX bytes */
} respool_outcome;

#define RESPOOL_OUTCOME_INIT \
  { sizeof(respool_outcome), 0, RESPOOL_KEEP, { NULL, 0 }, { NULL, 0 }, \
    { NULL, 0 }, NULL, NULL, { NULL, 0 }, 0, { NULL, 0 } }

#define RESPOOL_MEMO_MAX 4096
#define RESPOOL_RESULT_MAX 16384

/* Notes the outcome of item `i` in memory; the last mark before a settle
   counts. INVALID for an item that is settled already. */
RESPOOL_API int respool_batch_mark(respool_batch *batch, size_t i,
                                 const respool_outcome *o);

/* Marks every item that has no mark yet. */
RESPOOL_API int respool_batch_mark_rest(respool_batch *batch,
                                      const respool_outcome *o);

/* Marks every item that is not settled, whether it has a mark or not. */
RESPOOL_API int respool_batch_mark_all(respool_batch *batch,
                                     const respool_outcome *o);

/* The mark of item `i` (enum respool_outcome_kind), and whether settled. */
RESPOOL_API int respool_batch_outcome(const respool_batch *batch, size_t i);
RESPOOL_API int respool_batch_settled(const respool_batch *batch, size_t i);

typedef struct respool_handover {
  respool_queue *queue; /* of the same store handle */
  const respool_payload *items;
  size_t n;
  const respool_push_options *options; /* NULL: defaults */
  size_t item; /* 1 + the number of the item in the batch that it belongs to:
                  it is left out when the lease of that one is lost. 0: it
                  belongs to the batch */
} respool_handover;

typedef struct respool_settle_options {
  size_t size;
  const respool_handover *pushes; /* committed with the outcomes, or not */
  size_t n_pushes;
  const respool_take_options *take; /* not NULL: take more, same commit */
  int no_wait; /* 1: return after the commit, before the flush */
} respool_settle_options;

#define RESPOOL_SETTLE_OPTIONS_INIT \
  { sizeof(respool_settle_options), NULL, 0, NULL, 0 }

/* Commits the marks. Items without one stay leased. `*next` (may be NULL
   without `take`) receives the batch of `take`, or NULL when there is nothing.
   LEASE_LOST when the lease of some items had run out, or they were cancelled:
   these are unchanged and counted by respool_batch_lost. With pushes that
   belong to the batch nothing at all has happened, else the other items are
   settled and `*next` is written all the same. On any other error but
   UNKNOWN_OUTCOME nothing has happened; with EXISTS, FULL, NOT_FOUND and
   TOO_LARGE respool_batch_refused has the pushes that failed. */
RESPOOL_API int respool_batch_settle(respool_batch *batch,
                                   const respool_settle_options *o,
                                   respool_batch **next);

/* A push that made a settle fail: its place among the pushes, and why. */
typedef struct respool_refusal {
  size_t push;
  int code;
  const char *message;
} respool_refusal;

/* The pushes that were refused by the last settle, `*n` of them: all that
   failed, each beside the others. Borrowed from the batch until the next
   settle; NULL when there are none. */
RESPOOL_API const respool_refusal *respool_batch_refused(
    const respool_batch *batch, size_t *n);

/* Items that are not settled, but for those whose lease a settle has found
   lost. */
RESPOOL_API size_t respool_batch_held(const respool_batch *batch);

/* The token of its lease; 0 of a batch of nothing. */
RESPOOL_API uint64_t respool_batch_token(const respool_batch *batch);

/* Items found lost by the last settle or extend. */
RESPOOL_API size_t respool_batch_lost(const respool_batch *batch);

/* Notes the time that a handler took with an item of the batch, in
   microseconds; the next settle adds it to the queue's histogram. */
RESPOOL_API void respool_batch_time(respool_batch *batch, uint64_t us);

/* The lease ends `ms` from now (KEEP: the queue's lease). LEASE_LOST when
   part of it was lost; the rest is extended. */
RESPOOL_API int respool_batch_extend(respool_batch *batch, int64_t ms);

/* Renews the lease from a thread, each third of it, until the batch is
   settled, respool_batch_unkeep or freed, or the queue's max_lease is over. */
RESPOOL_API int respool_batch_keep(respool_batch *batch);
RESPOOL_API void respool_batch_unkeep(respool_batch *batch);


/* ---- dead letters ------------------------------------------------------- */

typedef struct respool_failure {
  int64_t at;
  respool_bytes error;
  respool_bytes group;
  respool_bytes trace;
} respool_failure;

/* Everything is borrowed from the respool_dead_letters it came in. */
typedef struct respool_dead_letter {
  uint64_t number;         /* rises within the DLQ */
  respool_bytes queue;     /* where it died */
  uint64_t id;             /* its id there */
  respool_bytes reason;    /* exhausted rejected expired crashed ... */
  respool_bytes group;
  respool_bytes error;
  respool_bytes body;
  respool_bytes headers;
  respool_bytes original;
  respool_bytes key;
  respool_bytes memo;
  int64_t pushed_at, died_at, first_failed_at; /* 0: did not fail */
  uint64_t attempts, deliveries, crashes, replays;
  uint64_t items;          /* 1; more for a damaged segment set aside, and for
                              dead letters that share a damaged record: their
                              last stands for all of them */
  uint64_t version;        /* of the payload */
  int priority;
  uint64_t failures;       /* all that happened */
  const respool_failure *history; /* the first and the last of them */
  size_t history_length;
  int damaged; /* 1: the dead letter, or the item in it, cannot be read.
                  `body` is the bytes there are; the dead letter cannot be
                  moved */
  respool_bytes codec;     /* of the body; empty: CBOR */
  respool_origin origin;   /* an empty queue: `queue`, `id`, `pushed_at` */
  respool_bytes original_codec; /* of the original; empty: CBOR */
  respool_bytes partition; /* empty: none */
} respool_dead_letter;

RESPOOL_API size_t respool_dead_letters_length(const respool_dead_letters *l);
RESPOOL_API const respool_dead_letter *respool_dead_letters_at(
    const respool_dead_letters *l, size_t i);
RESPOOL_API void respool_dead_letters_free(respool_dead_letters *l);

typedef struct respool_list_options {
  size_t size;
  uint64_t after;     /* numbers above it (below it, descending); 0: all */
  uint64_t upto;      /* numbers up to it; 0: all. Ascending only */
  uint64_t limit;     /* 0: 100 */
  int descending;     /* 1: newest first */
  int no_body;        /* 1: leave body, headers and original empty */
  respool_bytes group; /* only this group, "" too; data NULL: all */
  uint64_t bytes;     /* the list ends with the dead letter that brings its
                         bytes to so many; 0: no bound */
} respool_list_options;

#define RESPOOL_LIST_OPTIONS_INIT \
  { sizeof(respool_list_options), 0, 0, 0, 0, 0, { NULL, 0 }, 0 }

/* A DLQ that was never written to is empty, not an error. CORRUPT where its
   dead letters have come out of order. */
RESPOOL_API int respool_dead_list(respool *s, const char *dlq,
                                  const respool_list_options *o,
                                  respool_dead_letters **l);
RESPOOL_API int respool_dead_get(respool *s, const char *dlq,
                                 uint64_t number, respool_dead_letters **l);
RESPOOL_API int respool_dead_count(respool *s, const char *dlq, uint64_t *n);

/* A failure that happened elsewhere. */
typedef struct respool_dead_push_options {
  size_t size;
  const char *dlq;     /* NULL: the queue's */
  const char *reason;  /* NULL: "rejected" */
  respool_bytes error; /* these three as in an outcome */
  respool_bytes trace;
  respool_bytes group;
  uint64_t attempts;   /* that were made */
  int priority;        /* 0..255 */
  uint64_t version;    /* of the payload */
} respool_dead_push_options;

#define RESPOOL_DEAD_PUSH_OPTIONS_INIT \
  { sizeof(respool_dead_push_options), NULL, NULL, { NULL, 0 }, { NULL, 0 }, \
    { NULL, 0 }, 0, 0, 0 }

/* Pushes an item that is a dead letter of the queue at once, whatever bounds
   the queue has; the queue counts it as pushed and died. A replay brings it to
   the queue; until then its key is free. The number of the dead letter goes to
   `*number`, which may be NULL. FULL when the store has no room. */
RESPOOL_API int respool_dead_push(respool_queue *q,
                                  const respool_payload *item,
                                  const respool_dead_push_options *o,
                                  uint64_t *number);

/* The dead letters of a DLQ that have one group, "" where they have none, and
   one reason. Those that cannot be read have the reason "damaged" and no time
   of death. */
#define RESPOOL_GROUP_HOURS 24
typedef struct respool_dead_group {
  respool_bytes group, reason;
  uint64_t count;
  uint64_t newest; /* the highest number */
  int64_t first_died_at, last_died_at; /* 0: not known */
  uint64_t hours[RESPOOL_GROUP_HOURS]; /* of these, how many died in each of
                                          the last hours, the one that ends
                                          now last */
} respool_dead_group;

/* Calls `each` for every group and reason of the DLQ; what it is given is
   borrowed until it returns. The DLQ is read as a whole. */
typedef int (*respool_group_fn)(void *arg, const respool_dead_group *g);
RESPOOL_API int respool_dead_groups(respool *s, const char *dlq,
                                    respool_group_fn each, void *arg);

/* Removes the dead letters with these numbers, in one commit; `*removed` counts
   those that were there. */
RESPOOL_API int respool_dead_remove(respool *s, const char *dlq,
                                    const uint64_t *numbers, size_t n,
                                    uint64_t *removed);

typedef struct respool_purge_options {
  size_t size;
  int64_t died_before; /* 0: whenever */
  respool_bytes group; /* only this group, "" too; data NULL: all */
} respool_purge_options;

#define RESPOOL_PURGE_OPTIONS_INIT \
  { sizeof(respool_purge_options), 0, { NULL, 0 } }

RESPOOL_API int respool_dead_purge(respool *s, const char *dlq,
                                   const respool_purge_options *o,
                                   uint64_t *removed);


/* ---- replay -------------------------------------------------------------- */

typedef struct respool_move {
  uint64_t number;
  const respool_payload *payload; /* NULL: as it is; else transformed, and
                                     the first body is kept as original */
  uint64_t version;               /* of a transformed payload */
} respool_move;

/* The cursor and counts of a replay; stored under `name` when it has one. Of a
   replay of a queue's history `dlq` is the queue's name, and the last item that
   was dealt with is the one done at `upto` with the id `cursor`.

   Each save stores a revision that is one higher, and is refused, LOCKED and
   without effect, unless `revision` is that of the stored record: whoever
   loads a record and saves it knows that nobody has changed, cancelled or
   removed it meanwhile. 0 is the revision where there is no record. */
typedef struct respool_replay {
  size_t size;
  char name[RESPOOL_NAME_MAX + 1];
  char dlq[RESPOOL_NAME_MAX + 1];
  char to[RESPOOL_NAME_MAX + 1]; /* "": each dead letter's own queue */
  int state;                     /* enum respool_replay_state */
  uint64_t cursor;               /* dead letters up to it are dealt with */
  uint64_t upto;                 /* the last dead letter when it began */
  uint64_t seen, moved, skipped, failed;
  int64_t started_at, updated_at;
  uint64_t revision;
  char runner[RESPOOL_NAME_MAX + 1]; /* who runs it, in the caller's words */
  int history;                       /* 1: of finished items */
} respool_replay;

enum respool_replay_state {
  RESPOOL_REPLAY_RUNNING = 0,
  RESPOOL_REPLAY_STOPPED = 1,
  RESPOOL_REPLAY_FINISHED = 2,
  RESPOOL_REPLAY_CANCELLED = 3
};

#define RESPOOL_REPLAY_INIT { .size = sizeof(respool_replay) }

typedef struct respool_move_options {
  size_t size;
  respool_queue *to;   /* NULL: each dead letter's own queue, by name */
  int keep_attempts;   /* 1: items keep their attempts */
  const respool_replay *replay; /* stored in the same commit, its `moved` less
                                   the dead letters that were gone; or NULL */
} respool_move_options;

#define RESPOOL_MOVE_OPTIONS_INIT \
  { sizeof(respool_move_options), NULL, 0, NULL }

/* Moves dead letters back to a queue in one commit: each dead letter gone,
   its item pushed with a new id, the replay stored. A number that is no longer
   there is skipped; `*moved` counts the others. An item gets its key back, or
   loses it when another item has it now. A dead letter whose own queue is gone
   makes the call NOT_FOUND, a damaged one CORRUPT; nothing has moved then. */
RESPOOL_API int respool_dead_move(respool *s, const char *dlq,
                                  const respool_move *moves, size_t n,
                                  const respool_move_options *o,
                                  uint64_t *moved);

RESPOOL_API int respool_replay_load(respool *s, const char *name,
                                 respool_replay *out);
RESPOOL_API int respool_replay_save(respool *s, const respool_replay *replay);

/* Stops a named replay in whatever process: its state becomes CANCELLED, and
   the next save of its runner is LOCKED. NOT_FOUND when it is not running. */
RESPOOL_API int respool_replay_cancel(respool *s, const char *name);

RESPOOL_API int respool_replay_remove(respool *s, const char *name);
RESPOOL_API int respool_replays(respool *s, respool_name_fn each, void *arg);


/* ---- notes --------------------------------------------------------------- */

/* A note: bytes that a program keeps in the store under a name of 1..255 bytes,
   beside its queues; the command line keeps there how far it has come. */
#define RESPOOL_NOTE_MAX ((size_t)1 << 20)

/* Called with a note, borrowed for the call; its result is the load's. */
typedef int (*respool_note_fn)(void *arg, respool_bytes note);

/* NOT_FOUND, also for the removal, when there is none; CORRUPT when it is
   damaged. A note that is saved replaces the one of that name. */
RESPOOL_API int respool_note_load(respool *s, const char *name,
                                  respool_note_fn each, void *arg);
RESPOOL_API int respool_note_save(respool *s, const char *name,
                                  respool_bytes note);
RESPOOL_API int respool_note_remove(respool *s, const char *name);
RESPOOL_API int respool_notes(respool *s, respool_name_fn each, void *arg);


/* ---- trends -------------------------------------------------------------- */

/* A store keeps samples of its queues' figures: one a minute for a day, one an
   hour for a month, one a day for 32 days. One sample has at most 16 KiB, that
   of a day 64 KiB: queues beyond that, in the order of their names, are left
   out. */

#define RESPOOL_MINUTE INT64_C(60000)
#define RESPOOL_HOUR INT64_C(3600000)
#define RESPOOL_DAY INT64_C(86400000)

/* Takes the samples that are due, if no other process has, and nothing changes
   where the figures are those of the last one: whoever works on a store calls
   this now and then. `next_in`: milliseconds until another is due. */
RESPOOL_API int respool_sample(respool *s, int64_t *next_in);

/* What became of a queue between two samples. */
typedef struct respool_trend {
  size_t size;
  const char *queue;
  int64_t since, at; /* the time of the sample before, and of this one */
  /* counted between the two */
  uint64_t pushed, delivered, done, retried, crashed, died, expired, removed;
  respool_histogram wait, handle;
  /* at the second of them, as of respool_queue_stats */
  uint64_t ready, leased, scheduled, retrying, dead, bytes;
  int64_t oldest;
} respool_trend;

#define RESPOOL_TREND_INIT { .size = sizeof(respool_trend) }

typedef struct respool_trend_options {
  size_t size;
  const char *queue; /* NULL: all that changed between the two */
  int64_t span;      /* RESPOOL_MINUTE, RESPOOL_HOUR or RESPOOL_DAY */
  int64_t since;     /* samples from then on; they begin after the first */
  int64_t before;    /* and before; 0: up to the last */
} respool_trend_options;

#define RESPOOL_TREND_OPTIONS_INIT \
  { .size = sizeof(respool_trend_options), .span = RESPOOL_MINUTE }

/* Calls `each` in the order of time. Where no sample was taken, because nothing
   changed or no process was there, the next one reaches further back. A
   non-zero return ends the walk and is returned. Everything is borrowed for the
   call. */
typedef int (*respool_trend_fn)(void *arg, const respool_trend *t);
RESPOOL_API int respool_trends(respool *s, const respool_trend_options *o,
                               respool_trend_fn each, void *arg);

/* The duration under which a share of those in a histogram are, 0 < share <= 1,
   in microseconds, on a line between the bounds of its bucket (the last bound
   where it has none above); -1: it is empty. */
RESPOOL_API int64_t respool_quantile(const respool_histogram *h, double share);


/* ---- workers ------------------------------------------------------------- */

/* A worker is a program, or a part of one, that takes items of a queue. It has
   a number, which the leases bear that are taken with it: so an item tells who
   is at work on it, a worker can be asked to stop, and the leases of one whose
   process has died can be ended before they run out. Nothing happens by
   itself: the worker looks whether it is to stop, and others whether it is
   still there. */
#define RESPOOL_WORKER_MAX 1048575

typedef struct respool_worker {
  size_t size;
  const char *name;    /* as people call it; need not be unique */
  const char *queue;   /* that it takes from */
  const char *host;    /* "" or NULL: not known */
  const char *process; /* by which its kind knows whether it is still there;
                          "" or NULL: not known */
  int64_t pid;
  /* what the library keeps; a start does not look at it */
  uint64_t number;
  int64_t started_at;
  int64_t seen_at;     /* when it was seen last */
  int stopping;        /* it is asked to stop */
} respool_worker;

#define RESPOOL_WORKER_INIT { .size = sizeof(respool_worker) }

/* Gives a worker a number that no other has, and none of the last million had
   that are gone. The texts have at most 255 bytes.
   Not flushed: a worker that a power cut takes away is gone anyway. */
RESPOOL_API int respool_worker_start(respool *s, const respool_worker *w,
                                     uint64_t *number);

/* Notes that the worker is there, and says in `*stopping` whether it is asked
   to stop. NOT_FOUND when others took it for gone. */
RESPOOL_API int respool_worker_seen(respool *s, uint64_t number,
                                    int *stopping);

/* Asks a worker to stop; NOT_FOUND. */
RESPOOL_API int respool_worker_stop(respool *s, uint64_t number);

/* Removes a worker. With `leases` not NULL the leases that it has end at once,
   as if they had run out, and `*leases` counts their items. NOT_FOUND. */
RESPOOL_API int respool_worker_end(respool *s, uint64_t number,
                                   uint64_t *leases);

/* Calls `each` with every worker in the order of their numbers. A non-zero
   return ends the walk and is returned; `each` may call anything. Everything is
   borrowed for the call. */
typedef int (*respool_worker_fn)(void *arg, const respool_worker *w);
RESPOOL_API int respool_workers(respool *s, respool_worker_fn each, void *arg);

/* Items that were taken together and are leased still; a batch may consist of
   several. */
typedef struct respool_lease {
  uint64_t worker; /* 0: none that is known */
  uint64_t items;
  uint64_t first;  /* the lowest id */
  int64_t until;
  uint64_t item;   /* that has reported progress last, as of an item */
  int64_t progress, progress_at;
  respool_bytes progress_text; /* until `each` returns */
} respool_lease;

/* Calls `each` with every lease of the queue that has not run out, as above. */
typedef int (*respool_lease_fn)(void *arg, const respool_lease *l);
RESPOOL_API int respool_leases(respool_queue *q, respool_lease_fn each,
                               void *arg);


/* ---- schedules ----------------------------------------------------------- */

/* A schedule pushes an item to a queue at each tick of a cron expression. It is
   stored with the store; nothing happens by itself: any program that works on
   the store calls respool_schedules_fire, and waits no longer than that says.
   The push of a tick and the schedule's next tick are one commit, so each tick
   is fired once, however many processes do so. An item of a tick has as its
   headers the CBOR map {"schedule": name, "at": tick in seconds}. */
enum respool_missed {
  RESPOOL_MISSED_ONE = 0, /* ticks that are due together are pushed as one */
  RESPOOL_MISSED_ALL = 1, /* each is pushed, however late */
  RESPOOL_MISSED_NONE = 2 /* one more than a minute late is not pushed */
};

typedef struct respool_schedule {
  size_t size;
  const char *cron;        /* five fields of crontab(5), or @hourly, @daily,
                              @midnight, @weekly, @monthly, @yearly,
                              @annually; at most 255 bytes */
  const char *timezone;    /* of the system's tz database; NULL: UTC */
  const char *queue;       /* its name */
  respool_payload payload; /* body, 1 MiB at most, and codec; body.data NULL:
                              programs make it, see respool_schedule_fire */
  int priority;            /* of its items */
  uint64_t version;        /* of the payload */
  int missed;              /* enum respool_missed */
  /* what the library keeps; a save does not look at it */
  const char *name;
  int paused;
  int64_t next_at;         /* 0: there is no further tick */
  int64_t last_at;         /* the tick that was pushed last; 0: none */
  uint64_t fired;          /* ticks pushed */
  uint64_t missed_ticks;   /* fired more than a minute late, or not at all */
  int64_t made_at;
} respool_schedule;

#define RESPOOL_SCHEDULE_INIT { .size = sizeof(respool_schedule) }

/* Makes the schedule `name`, or changes it; without a write where it is the
   same already. Its next tick is the first one from now on, or stays where
   neither cron nor timezone changes. INVALID names the field of the expression
   that is wrong, or the zone that there is not; NOT_FOUND without the queue. */
RESPOOL_API int respool_schedule_save(respool *s, const char *name,
                                      const respool_schedule *d);

/* Calls `each` with every schedule in the order of their names, or with
   the one of this name, else NOT_FOUND. A non-zero return ends the walk and is
   returned; `each` may call anything. Everything is borrowed for the call. */
typedef int (*respool_schedule_fn)(void *arg, const respool_schedule *d);
RESPOOL_API int respool_schedules(respool *s, const char *name,
                                  respool_schedule_fn each, void *arg);

/* A paused schedule has no ticks; once it goes on, they are not made up. */
RESPOOL_API int respool_schedule_pause(respool *s, const char *name,
                                       int paused);
RESPOOL_API int respool_schedule_remove(respool *s, const char *name);

/* Pushes its item now, with its next tick unchanged. `payload` NULL: the
   stored one. */
RESPOOL_API int respool_schedule_run(respool *s, const char *name,
                                     const respool_payload *payload,
                                     uint64_t *id);

typedef struct respool_fired {
  size_t size;
  uint64_t fired;       /* items pushed */
  int64_t next_in;      /* ms until there is something to fire again, a
                           schedule that failed among it; UNLIMITED: never */
  int failed;           /* why a schedule could not be fired; 0: all could */
  char error_text[256];
} respool_fired;

#define RESPOOL_FIRED_INIT { .size = sizeof(respool_fired) }

/* Fires what is due of the schedules with a stored payload, for `ms` at most
   (0: all there is). A schedule that fails, as its queue is full or gone, stays
   due and holds up no other. */
RESPOOL_API int respool_schedules_fire(respool *s, int64_t ms,
                                       respool_fired *out);

/* A schedule's tick that is due, for programs that make its payload. */
typedef struct respool_tick {
  size_t size;
  int due;           /* 0: nothing, before next_at */
  int64_t at;        /* the tick to be pushed; 0: it was missed, none is */
  int64_t next_at;   /* the tick after it; 0: none */
  uint64_t late;     /* missed ticks among those up to it */
  uint64_t revision; /* of the schedule, when it was looked at */
} respool_tick;

#define RESPOOL_TICK_INIT { .size = sizeof(respool_tick) }

RESPOOL_API int respool_schedule_tick(respool *s, const char *name,
                                      respool_tick *out);

/* Fires a tick as respool_schedule_tick gave it; LOCKED, and nothing has
   happened, when another process has fired it or changed the schedule since.
   `payload` NULL: the stored one. */
RESPOOL_API int respool_schedule_fire(respool *s, const char *name,
                                      const respool_tick *t,
                                      const respool_payload *payload,
                                      uint64_t *id);


/* ---- transactions -------------------------------------------------------- */

/* A list of pushes, outcomes and dead letter moves over any queues of a store,
   made in memory and applied in one commit, or not at all. One thread at a
   time. Nothing is locked until the commit, which fails if the store has
   changed in a way that contradicts the list. */
typedef struct respool_tx respool_tx;

RESPOOL_API int respool_tx_begin(respool *s, respool_tx **tx);

/* Adds a push; everything is copied. `*handle` (may be NULL) is for
   respool_tx_id after the commit. Options as in respool_push; `wait` must be
   0. */
RESPOOL_API int respool_tx_push(respool_tx *tx, respool_queue *q,
                                const respool_payload *items, size_t n,
                                const respool_push_options *o,
                                size_t *handle);

/* Adds the outcome of item `i` of a batch, which must stay until the commit. A
   later outcome of the same item replaces it. */
RESPOOL_API int respool_tx_mark(respool_tx *tx, respool_batch *batch, size_t i,
                                const respool_outcome *o);

/* Adds the move of a dead letter back to a queue (NULL: its own), or with
   `remove` its removal. If it is gone by the commit, that is NOT_FOUND. */
RESPOOL_API int respool_tx_dead(respool_tx *tx, const char *dlq,
                                  uint64_t number, respool_queue *to,
                                  int remove);

/* Adds the save of a named replay, as respool_replay_save. */
RESPOOL_API int respool_tx_replay(respool_tx *tx, const respool_replay *replay);

/* Adds a note to be saved, or with `note.data` NULL to be removed; its bytes
   are copied. */
RESPOOL_API int respool_tx_note(respool_tx *tx, const char *name,
                                respool_bytes note);

/* The length of the list now, and a return to it: removes all that was added
   since. */
RESPOOL_API size_t respool_tx_savepoint(const respool_tx *tx);
RESPOOL_API void respool_tx_rollback(respool_tx *tx, size_t savepoint);

/* Applies the list. LEASE_LOST when the lease of one of its items was lost,
   INVALID when one was settled since by a settle of its batch; on any error but
   UNKNOWN_OUTCOME nothing has happened, and the list may be changed or
   committed again. Once committed it may only be freed. */
RESPOOL_API int respool_tx_commit(respool_tx *tx);

/* The first id of a push, after the commit. 0: no such handle. */
RESPOOL_API uint64_t respool_tx_id(const respool_tx *tx, size_t handle);

/* After the commit: 1 when a push pushed nothing because its key was in use
   (IGNORE); its id is the other item's. Else 0. */
RESPOOL_API int respool_tx_duplicate(const respool_tx *tx, size_t handle);

/* Frees the list; NULL is fine. A list that was not committed has no effect. */
RESPOOL_API void respool_tx_free(respool_tx *tx);


/* ---- history and maintenance --------------------------------------------- */

/* The result of a finished item that the queue keeps: a page of one item, with
   the id, when it was done as visible_at, and the result as its body, empty
   where there is none. NOT_FOUND of an item that is not finished, or not kept
   any more. */
RESPOOL_API int respool_item_result(respool_queue *q, uint64_t id,
                                    respool_page **p);

/* Waits until items of the queue may have come to an end since `*seen` (0:
   returns at once), or for `ms`; then sets `*seen`. In PostgreSQL only settles
   of a queue that keeps finished items wake other processes. */
RESPOOL_API int respool_queue_wait(respool_queue *q, uint64_t *seen,
                                   int64_t ms);

/* Up to `limit` further items that keep_done keeps, in the order in which they
   were done or cancelled, and of payloads about 4 MiB, moving `*at`, which is
   zero at first. visible_at is when that was, and the state says which. A page
   of length 0 ends the walk. */
typedef struct respool_history_cursor {
  int64_t at;
  uint64_t id;
} respool_history_cursor;

RESPOOL_API int respool_history(respool_queue *q, respool_history_cursor *at,
                                size_t limit, respool_page **p);

typedef struct respool_maintenance {
  size_t size;
  uint64_t expired;      /* items */
  uint64_t dead_letters; /* removed: beyond keep_dead, _items or _bytes */
  uint64_t history;      /* removed: beyond keep_done or keep_done_bytes */
  uint64_t windows;      /* keys whose dedup window has closed */
  uint64_t readers;      /* reader slots of dead processes that were freed */
  int more;              /* 1: the time ran out before the work was done */
} respool_maintenance;

#define RESPOOL_MAINTENANCE_INIT { .size = sizeof(respool_maintenance) }

/* Ends expired items, applies retention and frees reader slots: for `ms` at
   most (0: until all is done), in commits of bounded size. Any process may do
   it at any time; takes do the urgent part by themselves. Adds to the counts
   in `out`. */
RESPOOL_API int respool_maintain(respool *s, int64_t ms,
                                 respool_maintenance *out);


/* ---- tickets ------------------------------------------------------------- */

/* For programs that must not block, such as those with an event loop: a verb is
   begun, runs in a thread of the library, and is polled until it has ended. All
   tickets of a store share their commits. The thread is started by the first
   and ends with the last store handle of its environment.

   Arguments are copied; queues, batches and transactions that the verb works on
   may be freed before it has ended. While a ticket works on a batch or a
   transaction, every verb on that answers BUSY, except a blocking settle, which
   waits; and nothing of a batch may be read but its length and items. A ticket
   is used by one thread at a time, the one that also uses its batch; every
   ticket is freed before its store is closed. */
typedef struct respool_ticket respool_ticket;

/* As the blocking verbs of the same name; on failure there is no ticket. A push
   does not wait for room (`wait` is 0). A take that waits looks at the store
   when it is polled, without a thread; it may end with nothing before its time
   is over when others have taken the items that it saw. */
RESPOOL_API int respool_push_start(respool_queue *q,
                                   const respool_payload *items, size_t n,
                                   const respool_push_options *o,
                                   respool_ticket **t);
RESPOOL_API int respool_take_start(respool_queue *q,
                                   const respool_take_options *o,
                                   respool_ticket **t);
RESPOOL_API int respool_batch_settle_start(respool_batch *batch,
                                         const respool_settle_options *o,
                                         respool_ticket **t);
RESPOOL_API int respool_batch_extend_start(respool_batch *batch, int64_t ms,
                                         respool_ticket **t);
RESPOOL_API int respool_tx_commit_start(respool_tx *tx, respool_ticket **t);
RESPOOL_API int respool_flush_start(respool *s, respool_ticket **t);

/* Any other verb: calls run(arg) in another thread of the store, one such call
   after the other. The result is what run returns: 0, or an error code of this
   library with its text. release(arg), if not NULL, is called once when the
   ticket is freed and the call is over, by either thread; it may free memory
   but call no verb. On failure `arg` is still the caller's. */
RESPOOL_API int respool_call(respool *s, int (*run)(void *arg),
                             void (*release)(void *arg), void *arg,
                             respool_ticket **t);

/* 1 when the ticket is ready to be finished, else 0. Never waits. */
RESPOOL_API int respool_ticket_poll(respool_ticket *t);

/* 1 while a take with `wait` waits for items, else 0. To poll it may start it;
   that finds something within *due milliseconds at the earliest, unless
   something is committed meanwhile, and not after *left. Of many takes that
   wait for one queue it is enough to poll one until it runs. */
RESPOOL_API int respool_ticket_waits(respool_ticket *t, int64_t *due,
                                     int64_t *left);

/* Writes for whom the ticket's store waits, as respool_on_wait tells it; "" for
   nobody. */
RESPOOL_API void respool_ticket_whom(const respool_ticket *t, char whom[64]);

/* Ends the wait of a take that waits: it is ready, with nothing. */
RESPOOL_API void respool_ticket_give_up(respool_ticket *t);

/* For event loops: from now on a number of 8 bytes is written to `fd` whenever
   tickets of the store may have become ready, or this process has committed
   something that a take waits for. It is an eventfd, a pipe or a socket, does
   not block, stays open until the store is closed or another is given, and is
   the same for all handles that this process has of the store; -1: none. What
   other processes commit is not heard of: takes that wait are to be polled
   now and then. */
RESPOOL_API int respool_wake(respool *s, int fd);

/* Returns the result of the verb, once; BUSY before it is ready. `out` may be
   NULL. As with respool_batch_settle, `out->batch` is also written with
   LEASE_LOST. */
RESPOOL_API int respool_ticket_finish(respool_ticket *t, respool_result *out);

/* Frees the ticket, at any time; NULL is fine. A verb that runs is not stopped;
   items that it takes are released. */
RESPOOL_API void respool_ticket_free(respool_ticket *t);


/* ---- check --------------------------------------------------------------- */

/* Calls `each` with one line for every broken invariant or checksum; changes
   nothing. Where the records of a database are out of order, or not as many as
   it counts, that is the only finding. Returns 0 when the check came to its
   end, whatever it found. */
typedef int (*respool_finding_fn)(void *arg, const char *finding);
RESPOOL_API int respool_check(respool *s, respool_finding_fn each, void *arg);


/* ---- compaction ---------------------------------------------------------- */

/* Bytes of the data file before and after. */
typedef struct respool_compaction {
  size_t size;
  uint64_t before, after;
} respool_compaction;

#define RESPOOL_COMPACTION_INIT { .size = sizeof(respool_compaction) }

/* Writes the store at `path` anew without its free pages. A store never shrinks
   by itself: the pages of settled items are used for new ones. INVALID for a
   store that is not in files of its own.

   With `to` NULL the new file replaces the old one by a rename once it is on
   disk: a crash at any moment leaves the one or the other. LOCKED, and nothing
   has happened, when any process has the store open, this one included;
   processes that open it during the compaction wait. Room for both files is
   needed; `last_txn` begins anew.

   With `to` the name of a directory, made when missing, the store is copied
   there, as it is at one moment, while others work on it: a backup. EXISTS
   when there is a store in it already. Items leased at that moment are ready
   again in the copy when their leases run out, whatever their outcome was.

   NOT_FOUND when there is no store at `path`. With NOSPACE and IO nothing has
   changed. CORRUPT when the store cannot be read: see respool_check. */
RESPOOL_API int respool_compact(const char *path, const char *to,
                                respool_compaction *out);


/* ---- repair -------------------------------------------------------------- */

typedef struct respool_salvage {
  size_t size;
  uint64_t queues, items, dead_letters; /* in the new store */
  uint64_t set_aside;     /* items in damaged segments, now dead letters */
  uint64_t nameless;      /* of `items`, those in the queue "recovered" */
  uint64_t settled;       /* found, but known to have been settled: left */
  uint64_t lost_items, lost_dead_letters, lost_records; /* known to be lost */
  uint64_t damaged_pages; /* that a tree of the old store led to */
} respool_salvage;

#define RESPOOL_SALVAGE_INIT { .size = sizeof(respool_salvage) }

/* Recovers all that can be read of the store in `from` into a new store in
   `to`, which must be missing or an empty directory (else EXISTS). `from` is
   only read, without LMDB, so it may be damaged in any way; LOCKED when it is
   open, NOT_FOUND when there is none. Calls `each` (may be NULL) with one line
   for everything that was lost, set aside or guessed; a non-zero return ends
   the repair and is returned. On failure `to` is removed again.

   Queues keep their options, items their ids, priorities, times, attempts and
   keys, dead letters their numbers and failures, replays their cursors. Leased
   items become ready, with nothing spent. A damaged segment whose bytes are
   there becomes a dead letter, "undecodable". An item whose claim is lost is
   due at once. Items come to the queue "recovered", with new ids, when their
   queue is unknown, when other items have their ids, or when they are large and
   no record leads to them; some of the latter may have been settled. A queue
   whose name is lost becomes "recovered-N". Lost items count as removed.

   Where a tree, a page or a key is damaged, records are searched for in all
   pages that are not on the free list, and recognised by their form and
   checksum. Items that are settled according to bitmaps and claims are left
   out. Where these, the free list or the number of the last commit are damaged
   or disagree, settled items may come back, so that no other item is lost; a
   line reports it. Nothing else comes back twice. No checksum covers a queue's
   record, claims and bitmaps: damage that leaves them well formed shows only in
   the counts, which a line reports. */
RESPOOL_API int respool_repair(const char *from, const char *to,
                               respool_finding_fn each, void *arg,
                               respool_salvage *out);

#ifdef __cplusplus
}
#endif

#endif
