/* SPDX-License-Identifier: MIT */
/*
 * Many connections at once:
 *
 *   postgres_model URL CONNECTIONS SECONDS [SEED [COMMAND]]
 *
 * Each does verbs by chance on the same few queues; leases run out by real
 * time. Whenever an outcome was committed under a token it is noted, item by
 * item. COMMAND, which may break the server, is run now and then. The
 * invariants are checked all the while, and in the end that every item that
 * was pushed has come to one end, once. In the ordered queue nothing is leased
 * while what comes before it has been delivered and is not over. Prints what
 * does not hold; exits 0 when everything does.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "kit.h"

#define QUEUES 4
#define IDS_MAX ((uint64_t)1 << 26)

enum { PLAIN, BOUNDED, ORDERED, DROPS };

static const kit_policy policies[QUEUES + 1] = {
  {.max_crashes = 3}, {.max_items = 300, .overflow = 1}, {.ordered = true},
  {.drop_expired = true, .keep_done = 500}, {.max_crashes = 0}};

static const char *location;
static char schema[64];
static kit_queue queues[QUEUES];
static _Atomic uint8_t *ends; /* of each id: how often it has come to one */
static _Atomic int wrong;
static _Atomic bool stop;
static _Atomic uint64_t n_pushed, n_ended, n_lost, n_full, n_refused;

#define HOLDS(x) ((x) ? (void)0 : report(#x, __LINE__))

static void report(const char *what, int line) {
  if (wrong++ < 20)
    printf("%s:%d: not so: %s (%s)\n", __FILE__, line, what,
           respool_error_text());
}

typedef struct worker {
  kit k;
  struct random chance;
  kit_batch held; /* a batch that waits to be settled */
  int held_queue;
} worker;

static int pick(worker *w, int n) {
  return (int)(random_next(&w->chance) * n);
}

static void note_end(uint64_t id) {
  HOLDS(id < IDS_MAX && atomic_fetch_add(&ends[id], 1) == 0);
  n_ended++;
}

/* ---- verbs -------------------------------------------------------------- */

static bool is_expected(int rc) {
  return rc == RESPOOL_FULL || rc == RESPOOL_EXISTS || rc == RESPOOL_BUSY;
}

static void push(worker *w) {
  int q = pick(w, QUEUES);
  char key[16];
  kit_push o = {.priority = pick(w, 3)};
  size_t n = (size_t)pick(w, 40) + 1;
  if (pick(w, 4) == 0) o.delay = pick(w, 50);
  if (pick(w, 8) == 0) o.ttl = pick(w, 300) + 1;
  if (pick(w, 8) == 0) {
    snprintf(key, sizeof key, "k%d", pick(w, 20));
    o.key = key;
    o.on_conflict = pick(w, 3);
    n = 1;
  }
  uint64_t first = 0;
  int rc = kit_push_items(&w->k, queues[q].id, n, &o, &first);
  if (!rc) /* but one whose key is held and that is ignored */
    n_pushed += first == w->k.s.ids.next - n ? n : 0;
  else if (is_expected(rc))
    rc == RESPOOL_FULL ? n_full++ : n_refused++;
  else
    HOLDS(rc == 0);
}

/* Outcomes by chance, the same for neighbours now and then. */
static char *outcomes_for(worker *w, const kit_batch *b) {
  static const char all[] = "ddddddrplsxD-";
  char *s = malloc(b->n + 1), c = 'd';
  for (size_t i = 0; i < b->n; i++) {
    if (i == 0 || pick(w, 3) == 0) c = all[pick(w, (int)sizeof all - 1)];
    s[i] = c;
  }
  s[b->n] = '\0';
  return s;
}

static void note_outcomes(const kit_batch *b, const char *s) {
  size_t at = 0;
  for (size_t r = 0; r < b->n_runs; r++) {
    const kit_run *x = &b->runs[r];
    for (uint32_t i = 0; i < x->t.n; i++) {
      if (!run_bit(x->bits, i)) continue;
      char c = x->t.kind == TAKEN_RUN ? s[at++] : 'x';
      if (strchr("dDx", c)) note_end(x->t.first + i);
    }
  }
}

static void settle(worker *w) {
  kit_batch *b = &w->held;
  if (!b->n_runs) return;
  char *s = outcomes_for(w, b);
  kit_settle o = {.outcomes = s, .wait = pick(w, 30), .strict = true,
                  .keep = w->held_queue == DROPS};
  int rc = kit_settle_batch(&w->k, queues[w->held_queue].id, b, &o);
  if (rc == 0)
    note_outcomes(b, s);
  else if (rc == RESPOOL_LEASE_LOST)
    n_lost++;
  else
    HOLDS(rc == 0);
  free(s);
  b->n_runs = b->n = 0;
}

static void done(worker *w) {
  kit_batch *b = &w->held;
  if (!b->n_runs) return;
  for (size_t r = 0; r < b->n_runs; r++)
    if (b->runs[r].t.kind != TAKEN_RUN) {
      settle(w);
      return;
    }
  values v;
  request r;
  call c = {.n = 1, .changes = true, .requests = &r};
  values_init(&v);
  put_int4(&v, queues[w->held_queue].id);
  put_int4(&v, session_slot(&w->k.s));
  put_null(&v);
  call_put(&c, &v, true);
  put_int8(&v, (int64_t)b->head.token);
  put_bool(&v, w->held_queue == DROPS);
  put_bool(&v, true);
  put_bool(&v, false);
  kit_put_runs(&v, b);
  r = (request){.statement = STATEMENT_DONE, .values = &v};
  int rc = call_run(&w->k.s, &c);
  if (rc == 0)
    for (size_t i = 0; i < b->n; i++) note_end(b->ids[i]);
  else
    HOLDS(rc == RESPOOL_LEASE_LOST);
  n_lost += rc != 0;
  call_clear(&c);
  values_free(&v);
  b->n_runs = b->n = 0;
}

static void take(worker *w) {
  kit_take o = {.lease = pick(w, 5) ? 2000 : 3};
  if (pick(w, 5) == 0) o.bytes = pick(w, 500) + 1;
  if (w->held.n_runs && pick(w, 4)) settle(w); /* else it crashes */
  w->held_queue = pick(w, QUEUES);
  int rc = kit_take_items(&w->k, queues[w->held_queue].id, pick(w, 60) + 1,
                          &o, &w->held);
  HOLDS(rc == 0 && w->held.damaged == 0);
  if (rc) w->held.n_runs = w->held.n = 0;
  if (pick(w, 20) == 0) usleep(5000); /* short leases run out */
}

/* An item by its id, of whatever queue: one that was pushed just now. */
static void remove_one(worker *w) {
  values v;
  request r;
  uint64_t id = w->k.s.ids.next - 1 - (uint64_t)pick(w, 20);
  values_init(&v);
  put_int4(&v, queues[pick(w, QUEUES)].id);
  put_int4(&v, session_slot(&w->k.s));
  put_null(&v);
  put_null(&v);
  put_null(&v);
  array_begin(&v, TYPE_INT8, 1);
  add_int8(&v, (int64_t)id);
  array_end(&v);
  put_bool(&v, false);
  HOLDS(kit_call(&w->k, &r, &v, STATEMENT_REMOVE, false) == 0);
  if (r.result && value_int(r.result, 0, 0) == 1) note_end(id);
  request_clear(&r);
  values_free(&v);
}

static void maintain(worker *w) {
  values v;
  request r;
  values_init(&v);
  put_int4(&v, queues[pick(w, QUEUES)].id);
  put_null(&v);
  put_int4(&v, 50);
  HOLDS(kit_call(&w->k, &r, &v, STATEMENT_MAINTAIN, false) == 0);
  request_clear(&r);
  values_free(&v);
}

static void *work(void *arg) {
  worker *w = arg;
  while (!stop) {
    int n = pick(w, 100);
    if (n < 30) push(w);
    else if (n < 60) take(w);
    else if (n < 75) settle(w);
    else if (n < 92) done(w);
    else if (n < 98) remove_one(w);
    else maintain(w);
  }
  settle(w);
  return NULL;
}

/* ---- the end ------------------------------------------------------------ */

static int64_t number(kit *k, const char *sql) {
  return kit_number(k, sql);
}

/* When each token of an ordered queue was first seen; takes of such a queue
   come one after the other. */
#define NOTE_LEASES \
  "CREATE TABLE leased (token int8 PRIMARY KEY, at timestamptz NOT NULL); " \
  "CREATE FUNCTION note_lease() RETURNS trigger LANGUAGE plpgsql AS $$ " \
  "BEGIN INSERT INTO leased VALUES (new.epoch, clock_timestamp()) " \
  "ON CONFLICT DO NOTHING; RETURN NULL; END $$; " \
  "CREATE TRIGGER note_lease AFTER INSERT OR UPDATE ON run FOR EACH ROW " \
  "WHEN (new.state = 1 AND new.seq IS NOT NULL) " \
  "EXECUTE FUNCTION note_lease()"

/* Items that were leased after what comes before them in the ordered queue,
   while that waited. What was never delivered is left out: its push may have
   been under way; and what expires, as it leaves the order. */
#define OUT_OF_ORDER \
  "SELECT count(*) FROM run a JOIN run b ON b.queue = a.queue " \
  "AND b.priority = a.priority AND (b.seq, b.first) < (a.seq, a.first) " \
  "JOIN queue u ON u.id = a.queue AND u.ordered " \
  "JOIN leased x ON x.token = a.epoch JOIN leased y " \
  "ON y.token = abs(b.epoch) WHERE a.state = 1 AND x.at > y.at " \
  "AND coalesce(a.expires_at, b.expires_at) IS NULL"

/* Nobody pushes now: what was taken is the first of its priority. */
static bool is_first(kit *k, const kit_run *r) {
  char sql[200];
  if (r->t.kind != TAKEN_RUN) return true;
  snprintf(sql, sizeof sql, "SELECT first FROM run WHERE queue = %d AND "
           "priority = %d ORDER BY seq, first LIMIT 1", queues[ORDERED].id,
           r->t.priority);
  return number(k, sql) == (int64_t)r->t.first;
}

/* Takes and settles until nothing is left. */
static void drain(worker *w) {
  int64_t end = clock_mono() + 600000;
  const char *left = "SELECT count(*) FROM run";
  while (number(&w->k, left) > 0 && clock_mono() < end) {
    for (int q = 0; q < QUEUES; q++) {
      w->held_queue = q;
      if (kit_take_items(&w->k, queues[q].id, 1000, NULL, &w->held)) continue;
      kit_settle o = {.outcomes = NULL, .strict = true};
      char *s = malloc(w->held.n + 1);
      memset(s, 'd', w->held.n);
      s[w->held.n] = '\0';
      o.outcomes = s;
      if (w->held.n_runs) {
        HOLDS(q != ORDERED || is_first(&w->k, &w->held.runs[0]));
        HOLDS(kit_settle_batch(&w->k, queues[q].id, &w->held, &o) == 0);
        note_outcomes(&w->held, s);
      }
      free(s);
    }
  }
  HOLDS(number(&w->k, left) == 0);
}

/* What the server ended by itself was not noted: dropped for room, replaced
   by key, expired where such are dropped. */
static void compare(kit *k) {
  HOLDS(number(k, "SELECT sum(pushed)::int8 FROM counted") ==
        (int64_t)n_pushed);
  int64_t ended = number(k, "SELECT sum(done + died + expired + removed)"
                            "::int8 FROM counted");
  HOLDS(ended == (int64_t)n_pushed && ended >= (int64_t)n_ended);
  int64_t dead = number(k, "SELECT count(*) FROM dead");
  HOLDS(dead >= number(k, "SELECT sum(died)::int8 FROM counted"));
  HOLDS(dead <= number(k, "SELECT sum(died + expired)::int8 FROM counted"));
}

static void note_leases(kit *k) {
  pg_failure f;
  (void)number(k, "SELECT 1::int8"); /* connects, sets the search_path */
  HOLDS(!connection_script(&k->s.at, NOTE_LEASES, clock_mono() + 60000, &f));
}

int main(int n, char **v) {
  if (n < 4) return 2;
  location = v[1];
  int many = atoi(v[2]), seconds = atoi(v[3]);
  uint64_t seed = (uint64_t)(n > 4 ? atoll(v[4]) : getpid());
  printf("seed %llu\n", (unsigned long long)seed);
  snprintf(schema, sizeof schema, "model_%d", (int)getpid());
  worker *w = calloc((size_t)many + 1, sizeof *w);
  pthread_t *t = calloc((size_t)many, sizeof *t);
  ends = calloc(IDS_MAX, 1);
  for (int i = 0; i <= many; i++) {
    kit_open(&w[i].k, location, schema, i == 0);
    if (i == 0) note_leases(&w[i].k);
    random_init(&w[i].chance, seed + (uint64_t)i + 1);
  }
  for (int i = 0; i < QUEUES; i++) {
    char name[16];
    snprintf(name, sizeof name, "q%d", i + 1);
    queues[i] = kit_queue_save(&w[0].k, name, 0, &policies[i]);
  }
  for (int i = 0; i < many; i++) pthread_create(&t[i], NULL, work, &w[i]);
  int64_t end = clock_mono() + seconds * 1000;
  int checks = 0;
  for (; clock_mono() < end && wrong < 20; checks++) {
    HOLDS(kit_check(&w[many].k) == 0);
    HOLDS(number(&w[many].k, OUT_OF_ORDER) == 0);
    if (n > 5 && checks % 5 == 4) HOLDS(system(v[5]) == 0);
    usleep(200000);
  }
  stop = true;
  for (int i = 0; i < many; i++) pthread_join(t[i], NULL);
  drain(&w[many]);
  compare(&w[many].k);
  HOLDS(kit_check(&w[many].k) == 0);
  HOLDS(n_pushed > 0 && n_ended > 0 && n_lost > 0);
  printf("%llu pushed, %llu ends noted, %llu leases lost, %llu full, %llu "
         "refused, %d checks\n", (unsigned long long)n_pushed,
         (unsigned long long)n_ended, (unsigned long long)n_lost,
         (unsigned long long)n_full, (unsigned long long)n_refused, checks);
  HOLDS(schema_drop(&w[many].k.s) == 0);
  for (int i = 0; i <= many; i++) {
    kit_batch_free(&w[i].held);
    kit_close(&w[i].k);
  }
  free(w);
  free(t);
  free((void *)ends);
  return wrong != 0;
}
