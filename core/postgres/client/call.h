/* SPDX-License-Identifier: MIT */
/*
 * A call: requests that stand or fall as one, and that happen once. What was
 * in flight when a connection broke is found out by the session's row, in which
 * the requests put the call's number in their own transaction: putting it there
 * once more waits for that transaction if it is still under way, and keeps it
 * from happening if it has not. It also waits for the standbys that have to
 * have what is there: so a commit of which the server says that a standby may
 * not have it is asked about, too. UNKNOWN_OUTCOME is left for where no server
 * can be reached in time, or its standby does not answer.
 *
 * A server whose data went back, as after a fail-over that lost commits, is
 * refused as CORRUPT: on a new connection the session looks first whether its
 * last change and its blocks of numbers are there.
 *
 * A session is one connection with what belongs to it; a store has several.
 */
#ifndef CALL_H
#define CALL_H

#include "base/random.h"
#include "postgres/client/connection.h"

/* Numbers that only this session hands out: what is left of them. */
typedef struct block {
  uint64_t next, end;
} block;

/* Which call: the row of the table `call`, and its number there as an int2 in
   binary; minus that for all steps but the first. */
typedef struct call_id {
  uint8_t row[16], no[2], more[2];
} call_id;

typedef struct session {
  connection at;
  struct random *chance;
  int64_t patience;     /* ms that an answer may take; at first the URL's */
  int64_t resolve;      /* ms to find out what happened */
  int slot;             /* of counters: this one's own */
  unsigned used;        /* updates of them so far */
  block ids, tokens;
  call_id call;         /* the last one that was begun, */
  int calls;            /* and how many with its row; 0: it is of no more use */
  call_id last;         /* the last change that is on disk, */
  int64_t last_at;      /* and when it was; 0: there is none */
  unsigned looked_back; /* the last connection that was asked about these */
} session;

void session_init(session *l, const url *u, _Atomic bool *prepare,
               struct random *chance);
void session_close(session *l);

/* Another slot after some hundred updates: see tables.sql. */
int session_slot(session *l);

typedef struct call {
  request *requests;
  size_t n;
  bool relaxed; /* its commit need not wait for the disk */
  bool changes; /* its requests note `id`, see call_put; else it may be sent
                   again, as a look or a take may */
  call_id id;   /* given to it when it is run */
  bool resolved;    /* out: it happened, but the results were lost; */
  int64_t *answer;  /* then what the requests noted, to be freed */
  size_t n_answer;
  pg_failure why;      /* out: what it was refused by */
} call;

/* Puts the two parameters by which a request notes the call; `is_first` in its
   unit. The values borrow from the call, which is given its id later. */
void call_put(call *k, values *v, bool is_first);

/* Gives it an id that no call had; call_run does. */
void call_begin(session *l, call *k);

/* Runs it: 0, or a code with the message set by fail(). FORKED in another
   process than the session's; CORRUPT on a server that has gone back. Refusals
   by the policy's version, or by items that are to be expired first, are BUSY
   with `why` set. */
int call_run(session *l, call *k);

/* Clears the results and what was answered. */
void call_clear(call *k);

/* `n` consecutive ids, from the block of the session. CORRUPT where the server
   gives out a block that is older than one seen: its data has gone back. */
int session_ids(session *l, uint64_t n, uint64_t *first);

/* A token for a lease of this worker's (0: of nobody's), likewise. */
int session_token(session *l, uint64_t worker, uint64_t *token);

/* Gives back ids from `first` on, if they are the last that were given out. */
void session_ids_back(session *l, uint64_t first, uint64_t n);

#endif
