/* SPDX-License-Identifier: MIT */
/*
 * The sessions of an environment, and its time; see env.h.
 */
#include "postgres/env/env.h"

#include <stdlib.h>

#include "base/clock.h"

#define LOOKERS 4

typedef struct looker {
  session session; /* first, so that one is the other */
  bool busy;
  struct looker *next;
} looker;

/* ---- sessions of looks -------------------------------------------------- */

static looker *looker_new(pg_env *e) {
  looker *l = calloc(1, sizeof *l);
  if (!l) return NULL;
  session_init(&l->session, &e->url, &e->prepare, &e->chance);
  l->next = e->lookers;
  e->lookers = l;
  e->n_lookers++;
  return l;
}

static looker *looker_free(pg_env *e) {
  looker *l = e->lookers;
  while (l && l->busy) l = l->next;
  return l || e->n_lookers == LOOKERS ? l : looker_new(e);
}

session *pg_session_take(pg_env *e) {
  looker *l;
  pthread_mutex_lock(&e->lock);
  while (!(l = looker_free(e)) && e->n_lookers)
    pthread_cond_wait(&e->given_back, &e->lock);
  if (l) l->busy = true;
  pthread_mutex_unlock(&e->lock);
  return l ? &l->session : NULL;
}

void pg_session_give(pg_env *e, session *l) {
  if (!l) return;
  pthread_mutex_lock(&e->lock);
  ((looker *)l)->busy = false;
  pthread_cond_signal(&e->given_back);
  pthread_mutex_unlock(&e->lock);
}

/* ---- time --------------------------------------------------------------- */

int64_t pg_now(pg_env *e, int64_t now) {
  if (now != SERVER_TIME) return now;
  pthread_mutex_lock(&e->lock);
  int64_t server = e->timed ? clock_mono() + e->ahead : clock_wall();
  pthread_mutex_unlock(&e->lock);
  return server;
}

void pg_note_time(pg_env *e, int64_t server) {
  pthread_mutex_lock(&e->lock);
  e->timed = true;
  e->ahead = server - clock_mono();
  pthread_mutex_unlock(&e->lock);
}

/* ---- closing ------------------------------------------------------------ */

void pg_sessions_close(pg_env *e) {
  session_close(&e->writer);
  while (e->lookers) {
    looker *next = e->lookers->next;
    session_close(&e->lookers->session);
    free(e->lookers);
    e->lookers = next;
  }
}
