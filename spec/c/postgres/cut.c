/* SPDX-License-Identifier: MIT */
/*
 * Conversations with the server that are cut off: postgres_cut URL, a URL
 * that ends in host= and the directory of its socket. A proxy between the two
 * closes the connection once it has let through so many bytes of a push, a take
 * or a settle, from either side; whatever happens to the transaction, the
 * caller is told that it has happened, and it has, once. A take may have leased
 * other items besides, which come again when that lease ends. With FAULT=long
 * it is cut at every byte. Prints what does not hold; exits 0 when everything
 * does.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kit.h"

#define SOCKET ".s.PGSQL.5432"
#define END ((int64_t)1 << 40)

static int wrong;

#define HOLDS(x) ((x) ? (void)0 : report(#x, __LINE__))

static void report(const char *what, int line) {
  if (wrong++ < 20)
    printf("%s:%d: not so: %s (%s)\n", __FILE__, line, what,
           respool_error_text());
}

/* ---- the proxy ---------------------------------------------------------- */

static char server[200], here[200];
static _Atomic int64_t left[2]; /* bytes until the cut: to the server, from */
static _Atomic int64_t passed[2];

static int dial(const char *directory, bool listening) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  snprintf(a.sun_path, sizeof a.sun_path, "%s/" SOCKET, directory);
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  if (listening) unlink(a.sun_path);
  int rc = listening ? bind(s, (void *)&a, sizeof a)
                     : connect(s, (void *)&a, sizeof a);
  if (s < 0 || rc || (listening && listen(s, 16))) {
    perror(a.sun_path);
    exit(2);
  }
  return s;
}

/* Lets bytes through one way; false: the end, or the cut. */
static bool forward(int from, int to, int way) {
  char bytes[4096];
  ssize_t n = read(from, bytes, sizeof bytes);
  if (n <= 0) return false;
  int64_t may = atomic_fetch_sub(&left[way], n);
  bool cut = may < n;
  if (cut) n = may > 0 ? (ssize_t)may : 0;
  passed[way] += n;
  for (ssize_t at = 0; at < n;) {
    ssize_t k = write(to, bytes + at, (size_t)(n - at));
    if (k <= 0) return false;
    at += k;
  }
  if (cut) left[0] = left[1] = END;
  return !cut;
}

static void *serve(void *arg) {
  int client = (int)(intptr_t)arg, to = dial(server, false);
  struct pollfd p[2] = {{.fd = client, .events = POLLIN},
                        {.fd = to, .events = POLLIN}};
  bool open = true;
  while (open && poll(p, 2, -1) > 0) {
    if (p[0].revents) open = forward(client, to, 0);
    if (open && p[1].revents) open = forward(to, client, 1);
  }
  close(client);
  close(to);
  return NULL;
}

static void *accept_all(void *arg) {
  int s = (int)(intptr_t)arg, client;
  while ((client = accept(s, NULL, NULL)) >= 0) {
    pthread_t t;
    pthread_create(&t, NULL, serve, (void *)(intptr_t)client);
    pthread_detach(t);
  }
  return NULL;
}

/* ---- cuts --------------------------------------------------------------- */

/* A verb that is cut off: what it needs, itself, what counts how often it has
   happened, and how often it may. Every `step`-th byte is tried. */
typedef struct verb {
  const char *name;
  void (*prepare)(kit *k, int queue);
  int (*run)(kit *k, int queue);
  const char *table, *count;
  int most, step;
} verb;

static kit_batch held;

/* No lease runs out while a thousand conversations are cut. */
static const kit_take take_for_long = {.lease = 3600000};

static void nothing(kit *k, int queue) {
  (void)k;
  (void)queue;
}

static void take_one(kit *k, int queue) {
  HOLDS(kit_push_items(k, queue, 1, NULL, NULL) == 0);
  HOLDS(kit_take_items(k, queue, 1, &take_for_long, &held) == 0 && held.n == 1);
}

static int push_one(kit *k, int queue) {
  return kit_push_items(k, queue, 1, NULL, NULL);
}

static void push_two(kit *k, int queue) {
  HOLDS(push_one(k, queue) == 0 && push_one(k, queue) == 0);
}

/* What it has taken is leased under its token, and can be settled. */
static int take_held(kit *k, int queue) {
  kit_settle o = {.outcomes = "-", .strict = true};
  int rc = kit_take_items(k, queue, 1, &take_for_long, &held);
  if (rc) return rc;
  HOLDS(held.n == 1 && held.n_runs == 1);
  return held.n == 1 ? kit_settle_batch(k, queue, &held, &o) : -1;
}

static int done_one(kit *k, int queue) {
  return (int)kit_done(k, queue, &held);
}

static int bury_one(kit *k, int queue) {
  kit_settle o = {.outcomes = "x", .strict = true};
  return kit_settle_batch(k, queue, &held, &o);
}

static const verb verbs[] = {
  {"push", nothing, push_one, "counted", "pushed", 1, 1},
  {"take", push_two, take_held, "run", "deliveries", 2, 23},
  {"done", take_one, done_one, "counted", "done", 1, 7},
  {"dead", take_one, bury_one, "counted", "died", 1, 31},
};

static int64_t count(kit *direct, const verb *v) {
  char sql[100];
  snprintf(sql, sizeof sql, "SELECT coalesce(sum(%s), 0)::int8 FROM %s",
           v->count, v->table);
  return kit_number(direct, sql);
}

/* How many bytes there are in one direction; it has been prepared before. */
static int64_t measure(kit *k, int queue, int way, const verb *v) {
  v->prepare(k, queue);
  HOLDS(v->run(k, queue) == 0);
  v->prepare(k, queue);
  passed[way] = 0;
  HOLDS(v->run(k, queue) == 0);
  return passed[way];
}

static int step_of(const verb *v) {
  const char *fault = getenv("FAULT");
  return fault && !strcmp(fault, "long") ? 1 : v->step;
}

static int n_again; /* takes that have happened twice */

/* Cuts it at its bytes in one direction; how many there were. */
static int64_t cut_all(kit *k, kit *direct, int queue, int way,
                       const verb *v) {
  int64_t most = measure(k, queue, way, v), n = 0;
  for (int64_t at = 0; at < most && wrong < 20; at += step_of(v), n++) {
    v->prepare(k, queue);
    HOLDS(v->run(k, queue) == 0); /* connects, and prepares its statement */
    v->prepare(k, queue);
    int64_t before = count(direct, v);
    left[way] = at;
    HOLDS(v->run(k, queue) == 0);
    HOLDS(left[way] > END / 2); /* it was cut */
    int64_t more = count(direct, v) - before;
    HOLDS(more >= 1 && more <= v->most);
    n_again += more > 1;
  }
  left[0] = left[1] = END;
  return n;
}

/* The control: without a row of its own a push cannot tell. */
static void cut_untold(kit *k, int queue) {
  kit_push o = {.no_call = true};
  int mistaken = 0;
  for (int64_t at = 0; at < 50; at += 10) {
    left[0] = left[1] = END;
    HOLDS(kit_push_items(k, queue, 1, &o, NULL) == 0);
    left[1] = at;
    mistaken += kit_push_items(k, queue, 1, &o, NULL) != 0;
  }
  left[0] = left[1] = END;
  HOLDS(mistaken > 0);
}

int main(int n, char **v) {
  char location[300], schema[64];
  kit k, direct;
  pthread_t t;
  if (n != 2 || !strchr(v[1], '=')) return 2;
  snprintf(server, sizeof server, "%s", strchr(v[1], '=') + 1);
  snprintf(here, sizeof here, "/tmp/respool-cut-XXXXXX");
  if (!mkdtemp(here)) return 2;
  left[0] = left[1] = END;
  int s = dial(here, true);
  pthread_create(&t, NULL, accept_all, (void *)(intptr_t)s);
  snprintf(schema, sizeof schema, "cut_%d", (int)getpid());
  snprintf(location, sizeof location, "postgres://respool@/postgres?host=%s",
           server);
  kit_open(&direct, location, schema, true);
  kit_queue q = kit_queue_save(&direct, "q1", 0, NULL);
  snprintf(location, sizeof location, "postgres://respool@/postgres?host=%s",
           here);
  kit_open(&k, location, schema, false);
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
    int64_t to = cut_all(&k, &direct, q.id, 0, &verbs[i]);
    int64_t from = cut_all(&k, &direct, q.id, 1, &verbs[i]);
    HOLDS(to * step_of(&verbs[i]) > 100 && from * step_of(&verbs[i]) > 50);
    printf("%s: %lld cuts on the way there, %lld on the way back\n",
           verbs[i].name, (long long)to, (long long)from);
  }
  HOLDS(n_again > 0);
  cut_untold(&k, q.id);
  HOLDS(kit_check(&direct) == 0);
  kit_batch_free(&held);
  kit_close(&k);
  HOLDS(schema_drop(&direct.s) == 0);
  kit_close(&direct);
  snprintf(location, sizeof location, "%s/" SOCKET, here);
  unlink(location);
  rmdir(here);
  return wrong != 0;
}
