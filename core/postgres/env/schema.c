/* SPDX-License-Identifier: MIT */
/*
 * The schema's text is made of the files in sql/ when the library is built.
 */
#include "postgres/env/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "postgres/schema_text.h"

#define MAKING 60000 /* ms that it may take */

/* Only one process makes or changes schemas of a database at a time. A lock on
   the schema itself would stop readers behind it. */
static const char lock[] =
    "BEGIN; SET LOCAL lock_timeout = '30s'; SET LOCAL client_min_messages = "
    "error; SELECT pg_advisory_xact_lock(8243121037);";

/* A schema that somebody has made for the store is empty; 3F000: it is not
   there, or this role does not see it. */
static const char take_empty[] =
    "DO $$ DECLARE s oid := quote_ident(current_schema())::regnamespace; BEGIN "
    "IF s IS NULL OR s = pg_my_temp_schema() THEN "
    "RAISE EXCEPTION USING ERRCODE = '3F000'; END IF; "
    "IF EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = s) "
    "OR EXISTS (SELECT FROM pg_type t WHERE t.typnamespace = s) "
    "OR EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = s) THEN "
    "RAISE EXCEPTION USING ERRCODE = 'RS009', MESSAGE = format("
    "'schema %I holds something else than a store; schema= in the URL names "
    "another', current_schema()); END IF; END $$;";

static char *script(const url *u, bool there) {
  static const char form[] =
      "%s %s%s; SET LOCAL search_path = %s, pg_temp;\n%s\n%s\nCOMMIT";
  size_t n = sizeof form + sizeof lock + 2 * strlen(u->quoted) +
             sizeof take_empty + sizeof schema_text + 16;
  char *text = malloc(n);
  if (text)
    snprintf(text, n, form, lock, there ? "" : "CREATE SCHEMA ",
             there ? "" : u->quoted, u->quoted, there ? take_empty : "",
             schema_text);
  return text;
}

static int run(session *l, const char *sql, pg_failure *f) {
  int64_t end = clock_mono() + MAKING;
  if (!connection_script(&l->at, sql, end, f)) return 0;
  pg_failure rolled_back;
  if (!f->broken) connection_script(&l->at, "ROLLBACK", end, &rolled_back);
  return -1;
}

static int make(session *l, bool there, pg_failure *f) {
  char *sql = script(l->at.url, there);
  if (!sql) return fail(RESPOOL_NOMEM, "not enough memory for a schema");
  int failed = run(l, sql, f);
  free(sql);
  return failed ? failure_code(f, l->at.url->shown) : 0;
}

/* The schema is there, or this role may not make one. Another process was
   first, or the schema is empty. */
static int make_within(session *l, const pg_failure *first) {
  pg_failure f;
  int rc = schema_check(l);
  if (rc != RESPOOL_NOT_FOUND) return rc;
  rc = make(l, true, &f);
  if (rc && failure_is(&f, "3F000"))
    return failure_code(first, l->at.url->shown);
  return rc;
}

int schema_make(session *l) {
  pg_failure f;
  int rc = make(l, false, &f);
  if (rc && (failure_is(&f, "42P06") || failure_is(&f, "42501")))
    return make_within(l, &f);
  return rc;
}

int schema_grant(session *l, bool *granted) {
  values v;
  request r = {.statement = STATEMENT_GRANT, .values = &v};
  call k = {.requests = &r, .n = 1};
  values_init(&v);
  int rc = call_run(l, &k);
  if (!rc) *granted = value_bool(r.result, 0, 0);
  call_clear(&k);
  values_free(&v);
  return rc;
}

int schema_drop(session *l) {
  char sql[256];
  pg_failure f;
  snprintf(sql, sizeof sql, "SET client_min_messages = error; DROP SCHEMA "
           "IF EXISTS %s CASCADE", l->at.url->quoted);
  return run(l, sql, &f) ? failure_code(&f, l->at.url->shown) : 0;
}

/* A number of the table meta; -1 where it says nothing. */
static int read_number(session *l, const char *name, long *n) {
  values v;
  request r = {.statement = STATEMENT_META, .values = &v};
  call k = {.requests = &r, .n = 1};
  char text[16] = "-1";
  values_init(&v);
  put_text(&v, name);
  int rc = call_run(l, &k);
  if (!rc) {
    respool_bytes b = value_bytes(r.result, 0, 0);
    if (b.size > 0 && b.size < sizeof text) {
      memcpy(text, b.data, b.size);
      text[b.size] = '\0';
    }
    *n = atol(text);
  }
  call_clear(&k);
  values_free(&v);
  return rc;
}

int schema_check(session *l) {
  long format, oldest;
  int rc = read_number(l, "format", &format);
  if (!rc) rc = read_number(l, "oldest_client", &oldest);
  if (rc == RESPOOL_VERSION)
    return fail(RESPOOL_NOT_FOUND, "there is no store in %.120s: `respool "
                "init` makes one", l->at.url->shown);
  if (rc) return rc;
  if (format < 1 || oldest > SCHEMA_FORMAT)
    return fail(RESPOOL_VERSION, "%.120s has format %ld, this is respool "
                RESPOOL_VERSION_STRING " for format %d", l->at.url->shown,
                format, SCHEMA_FORMAT);
  return 0;
}
