/* SPDX-License-Identifier: MIT */
/*
 * What core/postgres/client/libpq.h declares, compared with libpq's own header
 * when this is compiled. Running it says whether there was one to compare with.
 */
#include "postgres/client/libpq.h"

#include <stdio.h>

#if __has_include(<postgresql/libpq-fe.h>)
#include <postgresql/libpq-fe.h>
#define COMPARED 1
#elif __has_include(<libpq-fe.h>)
#include <libpq-fe.h>
#define COMPARED 1
#endif

#ifdef COMPARED

#define SAME(x) _Static_assert(x, #x)
#define EQUAL(ours, theirs) SAME((int)ours == (int)theirs)
EQUAL(PG_CONNECTION_OK, CONNECTION_OK);
EQUAL(PG_CONNECTION_BAD, CONNECTION_BAD);
EQUAL(PG_POLL_FAILED, PGRES_POLLING_FAILED);
EQUAL(PG_POLL_READING, PGRES_POLLING_READING);
EQUAL(PG_POLL_WRITING, PGRES_POLLING_WRITING);
EQUAL(PG_POLL_OK, PGRES_POLLING_OK);
EQUAL(PG_COMMAND_OK, PGRES_COMMAND_OK);
EQUAL(PG_TUPLES_OK, PGRES_TUPLES_OK);
EQUAL(PG_PIPELINE_SYNC, PGRES_PIPELINE_SYNC);
EQUAL(PG_PIPELINE_ABORTED, PGRES_PIPELINE_ABORTED);
EQUAL(PG_FUNCTION, PG_DIAG_SOURCE_FUNCTION);
EQUAL(PG_SQLSTATE, PG_DIAG_SQLSTATE);
EQUAL(PG_MESSAGE, PG_DIAG_MESSAGE_PRIMARY);
EQUAL(PG_DETAIL, PG_DIAG_MESSAGE_DETAIL);
SAME(sizeof(pg_option) == sizeof(PQconninfoOption));
SAME(offsetof(pg_option, val) == offsetof(PQconninfoOption, val));
SAME(sizeof(pg_notify) <= sizeof(PGnotify));
SAME(offsetof(pg_notify, extra) == offsetof(PGnotify, extra));
SAME(sizeof(Oid) == sizeof(unsigned));

/* Each is declared there. */
#define EXISTS(result, name, args) SAME(sizeof(&PQ##name) == sizeof(void *));
LIBPQ(EXISTS)

#endif

int main(void) {
#ifdef COMPARED
  return 0;
#else
  puts("libpq-fe.h is not there: install libpq-dev");
  return 77;
#endif
}
