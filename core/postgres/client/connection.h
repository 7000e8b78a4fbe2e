/* SPDX-License-Identifier: MIT */
/*
 * One connection to a server, used by one thread at a time. Nothing in it
 * waits without a deadline: a frozen server keeps its TCP connection alive, so
 * after the deadline the connection is dropped, whatever was in flight.
 *
 * Requests that are sent together are one transaction: all in one round trip,
 * in a pipeline that ends with one Sync. The first that fails takes all back.
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdatomic.h>

#include "postgres/client/error.h"
#include "postgres/client/statement.h"
#include "postgres/client/url.h"
#include "postgres/client/values.h"

typedef struct connection {
  const url *url;
  _Atomic bool *prepare;  /* of the store: does the way there keep prepared
                             statements? */
  PGconn *c;              /* NULL: there is none */
  int pid;                /* of the process that made it */
  unsigned opened;        /* how often it was made */
  bool prepared[2][STATEMENT_COUNT]; /* plain, relaxed */
  int64_t until, slack; /* when an answer is due, moved on by `slack` with
                           whatever comes or goes */
  bool doubtful; /* it has warned: committed here, perhaps not by a standby */
} connection;

typedef struct request {
  enum statement statement;
  values *values;
  PGresult *result; /* out; to be cleared by request_clear */
} request;

void request_clear(request *r);

void connection_init(connection *c, const url *u, _Atomic bool *prepare);

/* Connects unless it is; 0, or -1 with `*f`. With several hosts each is tried
   for connect_timeout, until `deadline` (of clock_mono). */
int connection_open(connection *c, int64_t deadline, pg_failure *f);

/* Closes the connection. In a child process nothing is sent, as the connection
   is the parent's. */
void connection_close(connection *c);

/* Runs requests as one transaction: 0, or -1 with `*f` and without results.
   A broken connection is closed, as is one on which nothing comes or goes for
   as long as the deadline was away, and one that warns that a standby may not
   have the commit. `relaxed`: the commit does not wait for the disk. */
int connection_run(connection *c, request *r, size_t n, bool relaxed,
                   int64_t deadline, pg_failure *f);

/* Runs SQL text, without results; only where there are no parameters. */
int connection_script(connection *c, const char *sql, int64_t deadline,
                      pg_failure *f);

/* Waits until `deadline`, or until the descriptor `wake` (-1: none) can be
   read, for a notification; its text is that of the last. False: none has
   come, or with `*f` set the connection is gone. */
bool connection_hear(connection *c, int64_t deadline, int wake, char *text,
                     size_t size, pg_failure *f);

/* Waits until `fd` can be read; false at the deadline. */
bool wait_readable(int fd, int64_t deadline);

#endif
