/* SPDX-License-Identifier: MIT */
/*
 * The store: what all verbs do with it, its clock, its names, its figures.
 */
#include "verbs/store/store.h"

#include <string.h>

#include "threads/wait.h"

/* ---- the handle --------------------------------------------------------- */

/* Cheaper to ask than the pid. */
static _Atomic unsigned forks;

static void count_fork(void) {
  forks++;
}

static void watch_forks(void) {
  pthread_atfork(NULL, NULL, count_fork);
}

void store_count_forks(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
}

unsigned store_forks(void) {
  return forks;
}

int store_check(const respool *s) {
  if (!s) return fail(RESPOOL_INVALID, "the store is NULL");
  if (s->forks == forks) return 0;
  return fail(RESPOOL_FORKED, "the store was opened by process %d: open it "
              "again in this one", s->pid);
}

int name_check(const char *name, const char *what) {
  if (!name || !*name || strlen(name) > RESPOOL_NAME_MAX)
    return invalid(what, "a name of 1 to 255 bytes");
  return 0;
}

/* ---- units and queries -------------------------------------------------- */

int64_t store_time(const respool *s) {
  return s->clock.manual ? clock_now(&s->clock) : SERVER_TIME;
}

static int unit_ready(const respool *s, unit *u) {
  if (s->read_only)
    return fail(RESPOOL_INVALID, "the store was opened read_only");
  u->now = store_time(s);
  u->durable = u->durable && s->durable;
  u->relaxed = !s->durable;
  u->until = s->timeout ? time_after(clock_mono(), s->timeout) : 0;
  return 0;
}

int store_commit(respool *s, unit *u) {
  int rc = unit_ready(s, u);
  return rc ? rc : commit_unit(s->env, u);
}

int store_commit_step(respool *s, step *p, bool durable) {
  unit u = {.steps = p, .n = 1, .durable = durable};
  return store_commit(s, &u);
}

respool_ticket *store_ticket(respool *s, size_t size) {
  respool_ticket *t = ticket_new(s->env, &s->running, size);
  if (t) t->store = s;
  return t;
}

int store_start(respool_ticket *t) {
  int rc = unit_ready(t->store, t->unit);
  return rc ? rc : ticket_start(t);
}

/* A look and a flush wait for other processes only where these stand still. */
static void begin_wait(const respool *s) {
  wait_begin();
  wait_limit(s->timeout);
}

int store_look(respool *s, query *q) {
  q->now = store_time(s);
  begin_wait(s);
  int rc = s->env->engine->look(s->env, q);
  wait_limit(0);
  return rc;
}

int adjust_commit_size(commit_size *p, int rc) {
  if (!rc) {
    p->page = p->page < p->most / 2 ? p->page * 2 : p->most;
    return 0;
  }
  if (rc != RESPOOL_NOSPACE || p->page == 1) return rc;
  p->page = p->page / 8 + 1;
  return 0;
}

int store_flush(respool *s) {
  begin_wait(s);
  int rc = s->env->engine->flush(s->env);
  wait_limit(0);
  return rc;
}

int respool_flush(respool *s) {
  int rc = store_check(s);
  return rc ? rc : store_flush(s);
}

/* ---- clock and chance --------------------------------------------------- */

int64_t respool_now(respool *s) {
  return clock_now(&s->clock);
}

int respool_advance(respool *s, int64_t ms) {
  int rc = store_check(s);
  if (rc) return rc;
  if (!s->clock.manual) return invalid("clock", "manual to be advanced");
  timers_advance(&s->timers, &s->clock, ms);
  return 0;
}

int respool_sleep(respool *s, int64_t ms) {
  int rc = store_check(s);
  if (rc || ms <= 0) return rc;
  if (s->clock.manual)
    timers_advance(&s->timers, &s->clock, ms);
  else {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
  }
  return 0;
}

uint64_t respool_mono(void) {
  return (uint64_t)clock_mono_us();
}

double respool_random(respool *s) {
  return random_next(&s->random);
}

/* ---- figures ------------------------------------------------------------ */

int respool_store_stat(respool *s, respool_store_stats *out) {
  respool_store_stats stats = RESPOOL_STORE_STATS_INIT;
  query q = {.kind = QUERY_STORE_STAT, .store_stat = &stats};
  int rc = store_check(s);
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_STORE_STATS_INIT);
  if (!rc) rc = store_look(s, &q);
  if (rc) return rc;
  *out = stats;
  out->size = sizeof *out;
  out->max_bytes = s->max_bytes;
  return 0;
}

/* ---- names -------------------------------------------------------------- */

static int each_name(const packer *p, respool_name_fn each, void *arg) {
  char name[RESPOOL_NAME_MAX + 1];
  int rc = 0;
  unpacker u;
  unpacker_init(&u, p->data, p->len);
  size_t n = unpack_array(&u);
  while (n-- > 0 && !rc && !u.rc) {
    respool_bytes b = unpack_phrase(&u);
    if (b.size > RESPOOL_NAME_MAX) continue;
    memcpy(name, b.data, b.size);
    name[b.size] = '\0';
    rc = each(arg, name);
  }
  return rc;
}

static int list_names(respool *s, query_kind kind, respool_name_fn each,
                      void *arg) {
  packer names;
  query q = {.kind = kind, .texts = &names};
  int rc = store_check(s);
  if (rc) return rc;
  packer_init(&names);
  rc = store_look(s, &q);
  if (!rc) rc = each_name(&names, each, arg);
  packer_free(&names);
  return rc;
}

int respool_queues(respool *s, respool_name_fn each, void *arg) {
  return list_names(s, QUERY_QUEUES, each, arg);
}

int respool_dead_letter_queues(respool *s, respool_name_fn each, void *arg) {
  return list_names(s, QUERY_DLQS, each, arg);
}

int respool_replays(respool *s, respool_name_fn each, void *arg) {
  return list_names(s, QUERY_REPLAYS, each, arg);
}

int respool_notes(respool *s, respool_name_fn each, void *arg) {
  return list_names(s, QUERY_NOTES, each, arg);
}

/* ---- check -------------------------------------------------------------- */

static int each_finding(const packer *p, respool_finding_fn each,
                        void *arg) {
  char line[600];
  int rc = 0;
  unpacker u;
  unpacker_init(&u, p->data, p->len);
  while (u.at < u.end && !rc && !u.rc) {
    respool_bytes b = phrase_cut(unpack_phrase(&u), sizeof line - 1);
    memcpy(line, b.data, b.size);
    line[b.size] = '\0';
    rc = each(arg, line);
  }
  return rc;
}

int respool_check(respool *s, respool_finding_fn each, void *arg) {
  packer findings;
  query q = {.kind = QUERY_CHECK, .texts = &findings};
  int rc = store_check(s);
  if (rc) return rc;
  packer_init(&findings);
  rc = store_look(s, &q);
  if (!rc) rc = each_finding(&findings, each, arg);
  packer_free(&findings);
  return rc;
}

/* ---- notices of dead letters -------------------------------------------- */

int respool_watch(respool *s, int on) {
  int rc = store_check(s);
  if (!rc) s->notices.wanted = on != 0;
  return rc;
}

int respool_notice_next(respool *s, respool_notice *out) {
  int rc = store_check(s);
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_NOTICE_INIT);
  if (!rc && !notices_take(&s->notices, out)) out->number = 0;
  return rc;
}

notices *store_notices(respool *s) {
  return s->notices.wanted ? &s->notices : NULL;
}
