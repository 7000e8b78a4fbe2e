/* SPDX-License-Identifier: MIT */
/*
 * Where a store in a database lies: a URL as libpq reads it,
 *
 *   postgres://user@host1,host2/database?schema=respool&listen=host:port
 *
 * with parameters of ours among libpq's: `schema` ("respool"), `prepare` (no:
 * for a pooler in transaction mode, also found out by itself), `listen` (a
 * host[:port] that is no pooler; no: poll only), `patience` (seconds that a
 * call tries to reach a server; 10).
 */
#ifndef URL_H
#define URL_H

#include <stdbool.h>
#include <stddef.h>

#define URL_OPTIONS 64

typedef struct url {
  char *keys[URL_OPTIONS + 1], *values[URL_OPTIONS + 1]; /* NULL ends */
  size_t n;
  char *schema; /* as it is */
  char *quoted; /* "schema", for SQL */
  char *listen; /* NULL: where all goes; "no": nowhere */
  char *shown;  /* for messages: no password */
  int patience; /* ms */
  bool prepare, primary; /* primary: it did not say which server */
} url;

/* Does the path name a store in a database? */
bool url_is(const char *path);

/* Reads it and adds what a queue wants of a connection unless it is said: the
   primary, and to notice soon that a host is gone. 0, INVALID or NOMEM; either
   way `url_free` it. */
int url_parse(const char *text, url *u);
void url_free(url *u);

/* Also a standby will do, unless the URL says which server it wants; for a
   store that is opened read-only. */
int url_any_server(url *u);

/* Goes to the host, host:port or [IPv6]:port of `listen` instead. */
int url_listen(url *u);

#endif
