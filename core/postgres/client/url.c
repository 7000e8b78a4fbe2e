/* SPDX-License-Identifier: MIT */
/*
 * Reading of URLs; see url.h. Our parameters are taken out of the text, the
 * rest is libpq's to read.
 */
#include "postgres/client/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cbor/utf8.h"
#include "postgres/client/libpq.h"

#define SCHEMA_MAX 63 /* bytes of a name, as PostgreSQL has it */
#define KEY_MAX 40    /* bytes of a parameter's name */
#define PATIENCE 10   /* s */
#define PATIENCE_MAX 3600

/* `options` is not among them: PgBouncer refuses it. */
static const struct {
  const char *key, *value;
} defaults[] = {
  {"connect_timeout", "2"}, {"target_session_attrs", "read-write"},
  {"keepalives_idle", "5"}, {"tcp_user_timeout", "5000"},
  {"application_name", "respool/" RESPOOL_VERSION_STRING},
  {"client_encoding", "UTF8"},
};

bool url_is(const char *path) {
  return !strncmp(path, "postgres://", 11) ||
         !strncmp(path, "postgresql://", 13);
}

static int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = (char)(c | 0x20);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %41 and the like, in place; empty where one is a zero byte. */
static void decode(char *s) {
  char *to = s, *start = s;
  for (; *s; s++) {
    if (!strncmp(s, "%00", 3)) {
      *start = '\0';
      return;
    }
    if (*s == '%' && hex(s[1]) >= 0 && hex(s[2]) >= 0) {
      *to++ = (char)(hex(s[1]) * 16 + hex(s[2]));
      s += 2;
    } else
      *to++ = *s;
  }
  *to = '\0';
}

/* Takes the parameter out of the URL's query: its value, to be freed, or
   NULL. */
static char *take_out(char *text, const char *name) {
  size_t n = strlen(name);
  char *p = strchr(text, '?');
  while (p) {
    char *start = p + 1, *end = start + strcspn(start, "&");
    if (!strncmp(start, name, n) && start[n] == '=') {
      char *value = strndup(start + n + 1, (size_t)(end - start) - n - 1);
      if (*end)
        memmove(start, end + 1, strlen(end + 1) + 1);
      else
        *p = '\0';
      if (value) decode(value);
      return value;
    }
    p = *end ? end : NULL;
  }
  return NULL;
}

static char *quote(const char *name) {
  char *q = malloc(2 * strlen(name) + 3), *to = q;
  if (!q) return NULL;
  *to++ = '"';
  for (; *name; name++) {
    if (*name == '"') *to++ = '"';
    *to++ = *name;
  }
  *to++ = '"';
  *to = '\0';
  return q;
}

static int add(url *u, const char *key, const char *value) {
  if (u->n == URL_OPTIONS) return fail(RESPOOL_INVALID, "too many options");
  u->keys[u->n] = strdup(key);
  u->values[u->n] = strdup(value);
  u->n++;
  return u->keys[u->n - 1] && u->values[u->n - 1] ? 0 : RESPOOL_NOMEM;
}

static const char *value_of(const url *u, const char *key) {
  for (size_t i = 0; i < u->n; i++)
    if (!strcmp(u->keys[i], key)) return u->values[i];
  return NULL;
}

static int add_all(url *u, const pg_option *o) {
  int rc = 0;
  for (; o->keyword && !rc; o++)
    if (o->val) rc = add(u, o->keyword, o->val);
  u->primary = !value_of(u, "target_session_attrs");
  for (size_t i = 0; i < sizeof defaults / sizeof *defaults && !rc; i++)
    if (!value_of(u, defaults[i].key))
      rc = add(u, defaults[i].key, defaults[i].value);
  return rc;
}

/* An @ begins the name of a socket in Linux's abstract namespace. */
static bool is_host(const char *host) {
  for (const char *p = host; *p; p++)
    if (*p == '@' && p > host && p[-1] != ',') return false;
  return true;
}

/* A password with a raw @ or slash makes part of it a host or a port, which
   messages would show. */
static int check_address(const url *u) {
  const char *host = value_of(u, "host"), *port = value_of(u, "port");
  bool sound = (!host || is_host(host)) &&
               (!port || strspn(port, "0123456789,") == strlen(port));
  return sound ? 0 : fail(RESPOOL_INVALID, "a URL whose host or port is none: "
                          "in a password @ is written %%40 and / %%2F");
}

static bool is_ours(const char *key) {
  return !strcmp(key, "schema") || !strcmp(key, "patience") ||
         !strcmp(key, "prepare") || !strcmp(key, "listen");
}

static bool is_libpqs(const char *key) {
  char text[KEY_MAX + 4], *message = NULL;
  snprintf(text, sizeof text, "%s=''", key);
  pg_option *o = pq.conninfoParse(text, &message);
  if (message) pq.freemem(message);
  if (o) pq.conninfoFree(o);
  return o || !strcmp(key, "ssl"); /* of URLs alone */
}

/* The first parameter that there is not. Nothing that a raw @ or & may have cut
   off a password is taken for one. */
static bool find_unknown(const char *text, char key[KEY_MAX + 1]) {
  const char *p = strchr(text, '?');
  if (!p || strchr(p, '@')) return false;
  while (*p) {
    size_t n = strspn(++p, "abcdefghijklmnopqrstuvwxyz0123456789_");
    if (!n || n > KEY_MAX || p[n] != '=') return false;
    memcpy(key, p, n);
    key[n] = '\0';
    if (!is_libpqs(key)) return true;
    if (strstr(key, "password")) return false;
    p += strcspn(p, "&");
  }
  return false;
}

static int misread(const char *text) {
  char key[KEY_MAX + 1], what[KEY_MAX + 32] = "";
  if (find_unknown(text, key))
    snprintf(what, sizeof what, is_ours(key) ? ", as it has '%s' twice"
             : ", as there is no option '%s'", key);
  return fail(RESPOOL_INVALID, "a URL that PostgreSQL does not understand%s: "
              "postgres://user@host/database?option=value, where an option is "
              "schema, patience, prepare, listen or one of libpq's", what);
}

/* libpq's message may quote the URL with its password: it is not shown. */
static int read_options(url *u, const char *text) {
  char *message = NULL;
  pg_option *o = pq.conninfoParse(text, &message);
  if (message) pq.freemem(message);
  if (!o) return misread(text);
  int rc = add_all(u, o);
  pq.conninfoFree(o);
  return rc ? rc : check_address(u);
}

static int show(url *u) {
  const char *host = value_of(u, "host"), *name = value_of(u, "dbname");
  if (!host) host = "";
  if (!name) name = value_of(u, "user");
  if (!name) name = "";
  size_t n = strlen(host) + strlen(name) + strlen(u->schema) + 32;
  u->shown = malloc(n);
  if (!u->shown) return RESPOOL_NOMEM;
  stpcpy(stpcpy(stpcpy(stpcpy(stpcpy(stpcpy(u->shown, "postgres://"), host),
         "/"), name), "?schema="), u->schema);
  return 0;
}

static int read_prepare(char *text, url *u) {
  char *value = take_out(text, "prepare");
  u->prepare = !value || strcmp(value, "no");
  bool known = !value || !u->prepare || !strcmp(value, "yes");
  free(value);
  return known ? 0 : fail(RESPOOL_INVALID, "prepare: yes or no expected");
}

static int read_patience(char *text, url *u) {
  char *value = take_out(text, "patience");
  int n = 0;
  for (const char *p = value; p && n <= PATIENCE_MAX; p++) {
    if (*p == '\0' && n > 0) break;
    n = *p >= '0' && *p <= '9' ? n * 10 + (*p - '0') : PATIENCE_MAX + 1;
  }
  u->patience = 1000 * (value ? n : PATIENCE);
  free(value);
  return n <= PATIENCE_MAX ? 0 : fail(RESPOOL_INVALID,
    "patience: a whole number of seconds from 1 to %d expected", PATIENCE_MAX);
}

/* A port: 1 to 65535. */
static bool is_port(const char *text) {
  size_t n = strspn(text, "0123456789");
  return n > 0 && n <= 5 && !text[n] && atoi(text) > 0 && atoi(text) < 65536;
}

/* The bytes of the host of a server as host, host:port or [IPv6]:port, its
   brackets included; what follows is nothing or a colon and a port. */
static size_t host_length(const char *text) {
  return *text == '[' ? strcspn(text, "]") + 1 : strcspn(text, ":");
}

static bool is_server(const char *text) {
  size_t all = strlen(text), n = host_length(text);
  bool literal = *text == '[';
  if (n > all || n < (literal ? 3 : 1)) return false;
  if (strcspn(text + literal, literal ? "?@# []" : "?@# []:") + 2 * literal < n)
    return false;
  return !text[n] || (text[n] == ':' && is_port(text + n + 1));
}

static int read_listen(char *text, url *u) {
  u->listen = take_out(text, "listen");
  if (u->listen && !strcmp(u->listen, "yes")) {
    free(u->listen);
    u->listen = NULL;
  }
  return !u->listen || is_server(u->listen) ? 0 : fail(RESPOOL_INVALID,
    "listen: yes, no, or a server, as host, host:port or [IPv6]:port, "
    "expected");
}

static int parse(char *text, url *u) {
  int rc = read_prepare(text, u);
  if (!rc) rc = read_patience(text, u);
  if (!rc) rc = read_listen(text, u);
  if (rc) return rc;
  u->schema = take_out(text, "schema");
  if (!u->schema) u->schema = strdup("respool");
  if (!u->schema) return RESPOOL_NOMEM;
  size_t n = strlen(u->schema);
  if (n < 1 || n > SCHEMA_MAX || !utf8_valid(u->schema, n))
    return fail(RESPOOL_INVALID, "schema: a name of 1 to 63 bytes in UTF-8 "
                "expected");
  u->quoted = quote(u->schema);
  if (!u->quoted) return RESPOOL_NOMEM;
  rc = read_options(u, text);
  return rc ? rc : show(u);
}

int url_parse(const char *text, url *u) {
  memset(u, 0, sizeof *u);
  int rc = libpq_load();
  if (rc) return rc;
  char *copy = strdup(text);
  rc = copy ? parse(copy, u) : RESPOOL_NOMEM;
  free(copy);
  return rc == RESPOOL_NOMEM ? fail(rc, "not enough memory for a URL") : rc;
}

static int set(url *u, const char *key, const char *value) {
  for (size_t i = 0; i < u->n; i++)
    if (!strcmp(u->keys[i], key)) {
      char *copy = strdup(value);
      if (!copy) return fail(RESPOOL_NOMEM, "not enough memory for a URL");
      free(u->values[i]);
      u->values[i] = copy;
      return 0;
    }
  return add(u, key, value);
}

int url_any_server(url *u) {
  return u->primary ? set(u, "target_session_attrs", "any") : 0;
}

int url_listen(url *u) {
  char *host = u->listen;
  size_t n = host_length(host);
  int rc = host[n] ? set(u, "port", host + n + 1) : 0;
  host[n] = '\0';
  if (*host == '[') {
    host[n - 1] = '\0';
    host++;
  }
  if (!rc && value_of(u, "hostaddr")) rc = set(u, "hostaddr", host);
  return rc ? rc : set(u, "host", host);
}

void url_free(url *u) {
  for (size_t i = 0; i < u->n; i++) {
    free(u->keys[i]);
    free(u->values[i]);
  }
  free(u->schema);
  free(u->quoted);
  free(u->listen);
  free(u->shown);
  memset(u, 0, sizeof *u);
}
