/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the LMDB engine offer one another, a section a file.
 * All of them work on a txn with a sticky error: a function that returns
 * nothing, or false for "there is none", leaves it there.
 */
#ifndef PARTS_H
#define PARTS_H

#include <sys/stat.h>

#include "lmdb/record/records.h"

/* ---- directory.c: the directory that a store is -------------------------- */

int dir_fail(const char *path, int error); /* says why it cannot be opened */
int dir_sync(const char *path);            /* 0 or errno */
int dir_make(const char *path);            /* unless it is there */
int dir_look(const char *path); /* 0, or why there is no data file: ENODATA
                                   when there is an empty one */
char *dir_file(const char *path, const char *name); /* to be freed */

/* What is there, which is a directory; one with data unless `create`. */
int dir_find(const char *path, bool create, struct stat *st);

/* Shuts the gate, LOCK_EX; LOCKED when somebody else has, with LOCK_NB. */
int gate_enter(const char *path, int how, int *gate);
void gate_leave(int gate);

/* ---- create.c: a new store ----------------------------------------------- */

/* Is it a store of a format that is known? A fresh one gets its format. */
int format_check(txn *t, bool fresh);

/* Makes the data file, unless another process has done so meanwhile. */
int store_make(lmdb_env *e);

/* ---- env.c: the registry of open environments --------------------------- */

int env_open(const char *path, const respool_options *o, env **e);
void env_close(env *e);
int env_begin(env *e, bool write, txn **t);
int env_commit(txn *t);
void env_abort(txn *t);
int env_sync(env *e);
bool env_is_open(const char *path); /* by this process or another */
uint64_t env_last(env *e);

/* Shuts the gate of a store, so that no process opens it; LOCKED when this
   one has it open. */
int env_shut(const char *path, int *gate);
uint64_t meta_number(txn *t, const char *name); /* next: 1, 2, ... */
int lmdb_probe_write(txn *t, uint64_t *number);
int lmdb_probe_read(txn *t, uint64_t *number);

/* ---- queues.c: the state of a queue ------------------------------------- */

/* Loads it, once a transaction; NULL with NOT_FOUND when there is none. */
queue *queue_find(txn *t, const char *name, int *rc);
queue *queue_make(txn *t, const char *name);
void queue_changed(txn *t, queue *q);
void queues_store(txn *t); /* what changed */
void queues_free(queue *q);
void queues_forget(txn *t, queue *q); /* it was deleted */
priority_state *queue_priority(const queue *q,
                               int priority); /* NULL: it has no items */
priority_state *queue_priority_make(txn *t, queue *q, int priority);

/* The queue's time: the wall clock, except that it never steps back. */
int64_t queue_now(const queue *q, int64_t wall);
int64_t queue_tick(txn *t, queue *q, int64_t wall); /* and remembers */
bool queue_stepped(const queue *q, int64_t wall); /* did the wall clock? */

/* `ms` after `now`, or the end of time. */
int64_t time_after(int64_t now, int64_t ms);

/* ---- segments.c --------------------------------------------------------- */

/* A walk over the segments of a line, from the one that holds `id` or the
   next behind it. */
typedef struct walk {
  cur c;
  place at;            /* this segment */
  respool_bytes value;
  bits live;
} walk;

void walk_open(walk *w, txn *t, const line *l, uint64_t id);
void walk_close(walk *w);
bool walk_next(walk *w); /* also to the first; false at the end */

/* The first unsettled id at or behind `from`; UINT64_MAX: none. */
uint64_t first_live(txn *t, const line *l, uint64_t from);

/* How many unsettled ids there are from `from` to `upto`. */
uint64_t count_live(txn *t, const line *l, uint64_t from, uint64_t upto);

/* Stores a batch; its ids begin at `first`. */
int segments_append(txn *t, queue *q, const append_req *r, const line *l,
                    uint64_t first, int64_t now, int64_t expires_at);

/* Takes items out of their segments: `ids` rise and are unsettled. What
   gets empty is deleted. */
void segments_settle(txn *t, queue *q, const line *l, const uint64_t *ids,
                     size_t n);

/* A segment of one, for an item that is packed already. */
void segment_put_one(txn *t, queue *q, const place *p, respool_bytes packed,
                     const respool_item *i);

/* ---- items.c: items out of segments ------------------------------------- */

enum { ITEM_OK, ITEM_BAD, ITEM_SHORT /* of memory: t->rc */ };

/* Reads one packed item, fetching it from its blob if it is there. */
int items_read(txn *t, respool_page *p, unpacker *u, item *i,
               respool_bytes *packed);

/* Copies the unsettled items of a range of ids to a page. */
typedef struct catch {
  respool_page *page;
  line line;
  uint64_t from, upto; /* the range; from moves on */
  uint64_t want;       /* items at most */
  uint64_t bytes;      /* of bodies at most, but one item; 0: no bound */
  int64_t now;         /* to tell what has expired */
  uint64_t got, weight;
  uint64_t last;       /* id that was passed last */
  place at;            /* the segment it stopped in */
} catch;

/* What stopped it. At EXPIRED and DAMAGED the segment `at` is not passed:
   deal with it and catch_pass, or end. A BAD_ITEM is passed: it is the last
   of the page and not counted in `got`. */
enum {
  CATCH_END, CATCH_FULL, CATCH_EXPIRED, CATCH_DAMAGED, CATCH_BAD_ITEM
};
int items_catch(txn *t, catch *c);
void catch_pass(catch *c);

/* The unsettled ids of segment `at` that lie in the range: how many, and
   into `ids`, SEGMENT_ITEMS long, which. */
size_t items_live(txn *t, const catch *c, uint64_t *ids);

/* ---- unique.c: keys that callers chose ---------------------------------- */

/* Who holds a key. */
typedef struct holder {
  uint64_t id;
  int64_t until; /* held till then even when the item is over; 0: no */
} holder;

/* Is the key held, by an item that is not over or within its window? */
bool unique_held(txn *t, const queue *q, respool_bytes name, int64_t now,
                 holder *h);
void unique_hold(txn *t, const queue *q, respool_bytes name, holder h);

/* The item is over; its key is free unless its window goes on. */
void unique_release(txn *t, const queue *q, const respool_item *i,
                    int64_t now);

/* Forgets windows that have closed; true when there is more. */
bool unique_sweep(txn *t, queue *q, int64_t now, int limit);

/* ---- blobs.c ------------------------------------------------------------ */

void blob_put(txn *t, uint64_t number, respool_bytes data);
bool blob_get(txn *t, blob_ref r, void *into); /* false: damaged, missing */
void blob_del(txn *t, uint64_t number);

/* The reference in a packed item; number 0 when there is none. */
blob_ref blob_of(respool_bytes packed);

/* ---- claims.c ----------------------------------------------------------- */

bool claim_get(txn *t, const place *p, claim *c);
/* Copies what a claim borrows from the map, which a change may move. */
void claim_own(txn *t, arena *a, claim *c);
void claim_put(txn *t, const place *p, const claim *c);
/* Replaces `old`, which is at the same place. */
void claim_move(txn *t, const place *p, const claim *old, const claim *c);
void claim_del(txn *t, const place *p, const claim *old);
/* The claim whose range holds `id`. */
bool claim_cover(txn *t, const line *l, uint64_t id, place *p, claim *c);

/* Counts `n` items of a priority from one state to another. */
enum count { COUNT_NONE, COUNT_READY, COUNT_LEASED, COUNT_WAITING };
void priority_count(txn *t, queue *q, int priority, enum count from,
                    enum count to,
                uint64_t n);

/* Adds a failure to a packed history; memory is the arena's. */
respool_bytes history_with(txn *t, arena *a, respool_bytes old, int64_t at,
                           const why *w);

/* A lease that has not run out. */
bool claim_held(const claim *c, int64_t now);

/* Its lease ran out without an outcome: it waits, and the token that held it
   is worth nothing any more. */
void claim_lapse(txn *t, queue *q, int priority, claim *c);

/* The claim that a batch holds, if its lease is still the batch's: a queue that
   was dropped and made anew, or a later lease, has taken it away. */
bool batch_claim_find(txn *t, const queue *q, const batch_claim *h,
                      uint64_t token,
               place *p, claim *c);

/* Takes one unsettled item out of the claim that covers it, if any, and says
   where it counted; false when it is leased. */
bool claims_part(txn *t, queue *q, const line *l, uint64_t id, int64_t now,
                 enum count *from);

/* ---- order.c: the priority by id
   --------------------------------------------- */

/* A source of items in a priority: its earliest item, and how far it reaches.
   */
typedef struct source {
  uint64_t id, last;
  place claim; /* of a fresh one only the line */
  int64_t due;
  bool fresh, leased;
} source;

/* The earliest source, if `first.id` is not UINT64_MAX, and where another
   begins. */
typedef struct sources {
  source first;
  uint64_t second;
} sources;

/* The priority's sources from id `from` on. */
sources find_sources(txn *t, const queue *q, const priority_state *l,
                     uint64_t from);

/* ---- dead letters.c
   ---------------------------------------------------------- */

/* Why and how something died. */
typedef struct death {
  const char *reason, *dlq; /* DLQ NULL: the queue's */
  respool_bytes group, error, history, memo;
  uint64_t attempts, deliveries, crashes, items;
  int64_t at;
} death;

void dead_bury(txn *t, queue *q, const death *d, const respool_item *i,
                 respool_bytes packed);
dlq *dlq_find(txn *t, const char *name);
dlq *dlq_make(txn *t, const char *name);
void dlqs_store(txn *t);
void dlqs_free(txn *t);
void dead_delete(txn *t, dlq *x, uint64_t number); /* not its blob */

/* ---- expiry.c: ends that nobody asked for ------------------------------- */

/* Deals with what stopped a catch: expired, damaged, or a bad item. These
 become dead letters, or are dropped, and leave their segments. Returns how
   many items; the caller counts them out of their priority. */
size_t catch_lose(txn *t, queue *q, catch *c, int what, const claim *from);

/* Writes dead letters for items [from, end) of a page and takes the items out
   of their segments. */
void bury_page(txn *t, queue *q, const line *l, const respool_page *p,
               size_t from, const death *d);

/* Takes the items of a page out of their segments, with their blobs, and
   frees their keys. */
void drop_page(txn *t, queue *q, const line *l, const respool_page *p,
               int64_t now);

/* When the queue's next items outlive their TTL, by its own time; false: none
   will. */
bool first_expiry(txn *t, const queue *q, int64_t *at);

/* Finds by key what has outlived its TTL and is not leased, and ends it, in
   up to `limit` segments; true when there may be more. What is leased is
   looked at again when its lease ends. */
bool expiry_sweep(txn *t, queue *q, int64_t now, int limit);

/* Ends one unsettled item if it has outlived its TTL and is not leased; was
   it so? */
bool item_expire(txn *t, queue *q, uint64_t id, int64_t now);

/* Forgets when to look again, of an empty queue that goes. */
void expiry_forget(txn *t, const queue *q);

/* ---- purge.c: removing -------------------------------------------------- */

/* Removes an unsettled item; false when it is leased. */
bool item_remove(txn *t, queue *q, const line *l, uint64_t id, int64_t now);

/* ---- past.c: finished items that are kept ------------------------------- */

void history_keep(txn *t, queue *q, const respool_item *i,
                  respool_bytes packed, int64_t now);

/* Forgets what is beyond its time or bytes; how many. `limit` is lowered. */
uint64_t history_sweep(txn *t, queue *q, int64_t now, int *limit);
void history_drop(txn *t, queue *q, int *limit); /* all of it */

/* ---- scan.c: looking ---------------------------------------------------- */

/* The line where an item lies that is not settled. */
bool find_item(txn *t, const queue *q, uint64_t id, line *l);
int item_gone(txn *t, const queue *q, uint64_t id); /* says NOT_FOUND */

/* ---- room --------------------------------------------------------------- */

/* Whether the disk has no more room than what pushes leave to the others. */
bool disk_is_short(txn *t);

/* Room for settling to copy `more` bytes to dead letters and elsewhere;
   NOSPACE when only that is left which lets takes, and settles that copy
   nothing, go on. */
int disk_copy(txn *t, uint64_t more);

/* The same for the dead letters of a segment whose items have expired. */
int expiry_room(txn *t, const queue *q, const place *at);

/* ---- the seam: see engine.h --------------------------------------------- */

int lmdb_compact(const char *path, const char *to, respool_compaction *out);

int lmdb_queue_open(txn *t, const char *name, const respool_queue_options *o);
int lmdb_queue_agrees(txn *t, const char *name,
                      const respool_queue_options *o, bool *agrees);
int lmdb_queue_config(txn *t, const char *name, queue_config *out);
int lmdb_queue_stat(txn *t, const char *name, int64_t wall,
                    respool_queue_stats *out);
int lmdb_queue_pause(txn *t, const char *name, bool paused);
int lmdb_queue_forget(txn *t, const char *name, int limit, bool *more);
int lmdb_queue_drop(txn *t, const char *name);
int lmdb_names(txn *t, int which, packer *out);
int lmdb_fits(txn *t, const char *name, append_req *r);
int lmdb_append(txn *t, const char *name, int64_t wall, append_req *r);
int lmdb_outlook(txn *t, const char *name, int64_t wall, outlook *out);
int lmdb_claim(txn *t, const char *name, int64_t wall, claim_req *r,
               respool_batch *batch);
int lmdb_settle(txn *t, const char *name, int64_t wall, settle_req *r);
int lmdb_extend(txn *t, const char *name, int64_t wall, int64_t lease,
                uint64_t token, batch_claim *claims, size_t n);
int lmdb_peek(txn *t, const char *name, int64_t wall, size_t limit,
              respool_page *p);
int lmdb_get(txn *t, const char *name, int64_t wall, uint64_t id,
             respool_page *p);
int lmdb_browse(txn *t, const char *name, int64_t wall, int state,
                size_t limit, respool_cursor *at, respool_page *p);
int lmdb_remove(txn *t, const char *name, int64_t wall, uint64_t id);
int lmdb_purge(txn *t, const char *name, int64_t wall, size_t limit,
               uint64_t *removed, bool *more);
int lmdb_dead_list(txn *t, const char *dlq, const respool_list_options *o,
                 respool_dead_letters *l);
int lmdb_dead_count(txn *t, const char *dlq, uint64_t *n);
int lmdb_dead_groups(txn *t, const char *dlq, packer *out);
int lmdb_dead_remove(txn *t, const char *dlq, const uint64_t *numbers,
                       size_t n, uint64_t *removed);
int lmdb_dead_purge(txn *t, const char *dlq,
                      const respool_purge_options *o, size_t limit,
                      uint64_t *after, uint64_t *removed, bool *more);
int lmdb_dead_move(txn *t, int64_t wall, move_req *r);
int lmdb_replay_load(txn *t, const char *name, respool_replay *out);
int lmdb_replay_save(txn *t, const respool_replay *replay);
int lmdb_replay_remove(txn *t, const char *name);
int lmdb_history(txn *t, const char *name, respool_moment *at, size_t limit,
                 respool_page *p);
int lmdb_maintain(txn *t, const char *name, int64_t wall, size_t limit,
              respool_maintenance *out);
int lmdb_free_readers(env *e, respool_maintenance *out);
int lmdb_stat(txn *t, respool_store_stats *out);
int lmdb_check(txn *t, packer *findings);
int lmdb_repair(const char *from, const char *to, respool_finding_fn each,
                void *arg, respool_salvage *out);

#endif
