/* SPDX-License-Identifier: MIT */
/*
 * The PostgreSQL engine, beneath its verbs; see connection.h for talking to a
 * server, call.h for a unit that happens once, sql/ for what runs there.
 *
 * This header: libpq, loaded when the first store in a database is opened.
 * Neither librespool nor respool.core links it, so a program that uses LMDB
 * alone needs no such library. What is used of libpq 14 or newer is declared
 * here; spec/c/postgres/libpq_abi.c compares it with libpq's own header.
 */
#ifndef LIBPQ_H
#define LIBPQ_H

#include <stddef.h>
#include <stdint.h>

typedef struct pg_conn PGconn;
typedef struct pg_result PGresult;

typedef struct pg_option {
  char *keyword, *envvar, *compiled, *val, *label, *dispchar;
  int dispsize;
} pg_option;

typedef struct pg_notify {
  char *relname;
  int be_pid;
  char *extra;
  struct pg_notify *next;
} pg_notify;

typedef void (*pg_notice_fn)(void *arg, const PGresult *r);

enum { PG_CONNECTION_OK = 0, PG_CONNECTION_BAD = 1 };
enum { PG_POLL_FAILED = 0, PG_POLL_READING = 1, PG_POLL_WRITING = 2,
       PG_POLL_OK = 3 };
enum { PG_COMMAND_OK = 1, PG_TUPLES_OK = 2,
       PG_PIPELINE_SYNC = 10, PG_PIPELINE_ABORTED = 11 };
enum { PG_SQLSTATE = 'C', PG_MESSAGE = 'M', PG_DETAIL = 'D',
       PG_FUNCTION = 'R' };

/* result, name without PQ, arguments */
#define LIBPQ(X) \
  X(int, libVersion, (void)) \
  X(PGconn *, connectStartParams, (const char *const *keys, \
                                   const char *const *values, int expand)) \
  X(int, connectPoll, (PGconn *)) \
  X(int, status, (const PGconn *)) \
  X(void, finish, (PGconn *)) \
  X(int, socket, (const PGconn *)) \
  X(char *, errorMessage, (const PGconn *)) \
  X(int, serverVersion, (const PGconn *)) \
  X(int, setnonblocking, (PGconn *, int)) \
  X(int, flush, (PGconn *)) \
  X(int, consumeInput, (PGconn *)) \
  X(int, isBusy, (PGconn *)) \
  X(pg_notice_fn, setNoticeReceiver, (PGconn *, pg_notice_fn, void *arg)) \
  X(pg_notify *, notifies, (PGconn *)) \
  X(int, sendQuery, (PGconn *, const char *sql)) \
  X(int, sendPrepare, (PGconn *, const char *name, const char *sql, int n, \
                       const unsigned *types)) \
  X(int, sendQueryPrepared, (PGconn *, const char *name, int n, \
                             const char *const *values, const int *lengths, \
                             const int *formats, int format)) \
  X(int, sendQueryParams, (PGconn *, const char *sql, int n, \
                           const unsigned *types, const char *const *values, \
                           const int *lengths, const int *formats, \
                           int format)) \
  X(int, enterPipelineMode, (PGconn *)) \
  X(int, exitPipelineMode, (PGconn *)) \
  X(int, pipelineSync, (PGconn *)) \
  X(PGresult *, getResult, (PGconn *)) \
  X(void, clear, (PGresult *)) \
  X(int, resultStatus, (const PGresult *)) \
  X(char *, resultErrorField, (const PGresult *, int field)) \
  X(int, ntuples, (const PGresult *)) \
  X(char *, getvalue, (const PGresult *, int row, int column)) \
  X(int, getlength, (const PGresult *, int row, int column)) \
  X(int, getisnull, (const PGresult *, int row, int column)) \
  X(void, freemem, (void *)) \
  X(pg_option *, conninfoParse, (const char *, char **message)) \
  X(void, conninfoFree, (pg_option *))

struct libpq {
#define MEMBER(result, name, args) result (*name) args;
  LIBPQ(MEMBER)
#undef MEMBER
};

extern struct libpq pq;

/* Loads it, once in a process; 0, or INVALID with the reason. Any thread. */
int libpq_load(void);

#endif
