/* SPDX-License-Identifier: MIT */
/*
 * What a server's refusal, or the loss of a connection, means to respool.
 */
#ifndef POSTGRES_ERROR_H
#define POSTGRES_ERROR_H

#include <stdbool.h>

#include "base/error.h"
#include "postgres/client/libpq.h"

typedef struct pg_failure {
  char sqlstate[6];       /* "": the server has not said */
  char text[FAIL_LINE];   /* one line, for respool_error_text */
  char detail[256];       /* of class RS: numbers for the client */
  size_t at;              /* the request that was refused */
  bool broken;            /* the connection is of no use any more */
  bool sent;              /* the request may have reached the server */
} pg_failure;

/* Reads a result that is an error. */
void failure_read(pg_failure *f, const PGresult *r);

/* The connection broke; `why` is what libpq or the system says. */
void failure_broken(pg_failure *f, bool sent, const char *why);

/* To be tried again as a whole, on the same connection: a deadlock, a
   serialization failure. */
bool failure_passes(const pg_failure *f);

/* Refused by the queue's functions, with these digits. */
#define REFUSED_POLICY "RS030"  /* settled by an old version of the policy */
#define REFUSED_EXPIRED "RS031" /* expired items are to be ended first */
#define REFUSED_UNDO "RS032"    /* by v1_undo, as it was asked to */
#define REFUSED_EXCUSE "RS033"  /* outages are taken for something else */
#define REFUSED_COUNTS "RS034"  /* attempts were given back since the take */
#define REFUSED_GONE "RS035"    /* items were cancelled since the take */
bool failure_is(const pg_failure *f, const char *sqlstate);

/* The respool code, with the message set by fail(), which names the store as
   `store`. */
int failure_code(const pg_failure *f, const char *store);

#endif
