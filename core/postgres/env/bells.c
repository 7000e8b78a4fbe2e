/* SPDX-License-Identifier: MIT */
/*
 * Waiting and ringing; see bells.h. Invariant: a consumer looks at its queue
 * once more after its bell hangs, and a bell hangs until after it is renewed,
 * so no push between comes unheard.
 */
#include "postgres/env/bells.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "postgres/env/known.h"
#include "threads/thread.h"

#define HANGS 60000     /* ms that a bell hangs */
#define RENEWED 30000   /* ms after which it is hung up anew */
#define RING_EACH 10    /* ms between two rings, at least */
#define POLL_MIN 10     /* ms, where nothing can be heard */
#define POLL_MAX 1000
#define AGAIN 1000      /* ms until a lost connection is tried again */
#define PATIENCE 3000   /* ms that an answer may take */

typedef struct waited {
  struct waited *next;
  char name[RESPOOL_NAME_MAX + 1];
  enum wait_for what;
  int id;          /* as in the table of bells; 0: not known yet */
  uint64_t seen;   /* rises with what is heard of the queue */
  int64_t asked;   /* when somebody last waited; by the monotonic clock, */
  int64_t hung;    /* as when its bell was hung up; 0: it was not */
} waited;

struct bells {
  pg_env *e;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  waited *waits;
  int *rings; /* queues to be rung */
  size_t n_rings, cap_rings;
  bool started, stopping;
  pthread_t thread;
  int wake; /* an eventfd that ends the thread's wait */
  /* the thread's own */
  url url;
  session session;
  bool listens, deaf; /* deaf: it hears nothing there */
  int64_t poll, next_poll, rung, retry;
};

/* ---- waiting ------------------------------------------------------------ */

static waited *find(bells *b, const char *name, enum wait_for what) {
  waited *w = b->waits;
  while (w && (w->what != what || strcmp(w->name, name))) w = w->next;
  if (w) return w;
  w = calloc(1, sizeof *w);
  if (!w) return NULL;
  strcpy(w->name, name);
  w->what = what;
  w->next = b->waits;
  w->seen = 1;
  b->waits = w;
  return w;
}

static void wake_thread(const bells *b) {
  uint64_t one = 1;
  if (write(b->wake, &one, sizeof one) < 0) return; /* awake anyway */
}

static void *run(void *arg);

/* With the lock held. Without a thread a wait ends by its time alone. */
static void start(bells *b) {
  if (!b->started) b->started = !thread_start(&b->thread, run, b);
}

/* Somebody waits from now on, who did not within the last while. */
static void note_asked(bells *b, waited *w) {
  int64_t now = clock_mono();
  bool news = !w->asked || now - w->asked > RENEWED;
  w->asked = now;
  if (news) b->poll = POLL_MIN;
  start(b);
  if (news) wake_thread(b);
}

int bells_wait(bells *b, const char *queue, enum wait_for what, uint64_t *seen,
               int64_t ms) {
  int64_t end = time_after(clock_mono(), ms), left;
  pthread_mutex_lock(&b->lock);
  waited *w = find(b, queue, what);
  if (!w) {
    pthread_mutex_unlock(&b->lock);
    return fail(RESPOOL_NOMEM, "not enough memory to wait");
  }
  if (!w->asked || ms > 0) note_asked(b, w);
  while (w->seen == *seen && (left = end - clock_mono()) > 0) {
    struct timespec until;
    clock_deadline(&until, left);
    pthread_cond_timedwait(&b->changed, &b->lock, &until);
  }
  w->asked = clock_mono();
  *seen = w->seen;
  pthread_mutex_unlock(&b->lock);
  return 0;
}

void bells_committed(bells *b, const char *queue) {
  pthread_mutex_lock(&b->lock);
  for (waited *w = b->waits; w; w = w->next)
    if (!queue || !strcmp(w->name, queue)) w->seen++;
  b->poll = POLL_MIN;
  pthread_cond_broadcast(&b->changed);
  pthread_mutex_unlock(&b->lock);
}

void bells_ring(bells *b, int queue) {
  pthread_mutex_lock(&b->lock);
  size_t i = 0;
  while (i < b->n_rings && b->rings[i] != queue) i++;
  if (i == b->n_rings &&
      array_grow(&b->rings, i, 1, &b->cap_rings, sizeof *b->rings))
    b->rings[b->n_rings++] = queue;
  start(b);
  pthread_mutex_unlock(&b->lock);
  wake_thread(b);
}

/* ---- the thread: hearing ------------------------------------------------ */

/* Notes that a queue was heard of; 0: any queue. */
static void note_heard(bells *b, int id) {
  pthread_mutex_lock(&b->lock);
  for (waited *w = b->waits; w; w = w->next)
    if (!id || w->id == id) w->seen++;
  pthread_cond_broadcast(&b->changed);
  pthread_mutex_unlock(&b->lock);
  env_ring(&b->e->base);
}

static void lost(bells *b) {
  b->listens = false;
  b->retry = clock_mono() + AGAIN;
  note_heard(b, 0); /* something may have gone unheard */
}

static int channel_of(bells *b, char *name, size_t size) {
  values v;
  request r = {.statement = STATEMENT_CHANNEL, .values = &v};
  call k = {.requests = &r, .n = 1};
  values_init(&v);
  int rc = call_run(&b->session, &k);
  respool_bytes text = {"", 0};
  if (!rc) text = value_bytes(r.result, 0, 0);
  snprintf(name, size, "%.*s", (int)text.size, (const char *)text.data);
  call_clear(&k);
  values_free(&v);
  return rc;
}

static int ring(bells *b, int queue) {
  values v;
  request r = {.statement = STATEMENT_RING, .values = &v};
  call k = {.requests = &r, .n = 1};
  values_init(&v);
  put_int4(&v, queue);
  int rc = call_run(&b->session, &k);
  call_clear(&k);
  values_free(&v);
  return rc;
}

/* Listens, and finds out by a ring of its own whether it hears anything: a
   pooler answers LISTEN, but passes on no notification. */
static void listen(bells *b) {
  char name[64], text[128];
  pg_failure f;
  if (b->listens || b->deaf || clock_mono() < b->retry) return;
  int64_t end = clock_mono() + PATIENCE;
  if (channel_of(b, name, sizeof name)) {
    lost(b);
    return;
  }
  snprintf(text, sizeof text, "LISTEN %s", name);
  if (connection_script(&b->session.at, text, end, &f) || ring(b, 0)) {
    lost(b);
    return;
  }
  b->listens = connection_hear(&b->session.at, end, -1, text, sizeof text, &f);
  b->deaf = !b->listens && !f.broken;
  note_heard(b, 0);
}

/* ---- the thread: bells -------------------------------------------------- */

static int hang_up(bells *b, int queue) {
  values v;
  request r = {.statement = STATEMENT_BELL, .values = &v};
  call k = {.requests = &r, .n = 1, .relaxed = true};
  values_init(&v);
  put_int4(&v, queue);
  put_int8(&v, HANGS);
  int rc = call_run(&b->session, &k);
  call_clear(&k);
  values_free(&v);
  return rc;
}

/* A copy of a wait whose bell is to be hung up; false: there is none. */
static bool next_to_hang(bells *b, waited *out) {
  int64_t now = clock_mono();
  pthread_mutex_lock(&b->lock);
  waited *w = b->waits;
  while (w && !(now - w->asked < RENEWED &&
                (!w->hung || now - w->hung >= RENEWED)))
    w = w->next;
  if (w) {
    w->hung = now; /* or tried */
    *out = *w;
  }
  pthread_mutex_unlock(&b->lock);
  return w != NULL;
}

static void note_id(bells *b, const waited *of, int id) {
  pthread_mutex_lock(&b->lock);
  waited *w = find(b, of->name, of->what);
  if (w) w->id = id;
  pthread_mutex_unlock(&b->lock);
}

static void hang_all(bells *b) {
  waited w;
  pg_queue q;
  while (b->listens && next_to_hang(b, &w)) {
    if (known_find(b->e, &b->session, w.name, &q)) continue;
    int id = w.what == WAIT_ENDS ? -q.id : q.id;
    note_id(b, &w, id);
    if (hang_up(b, id)) lost(b);
    note_heard(b, id);
  }
}

static bool take_ring(bells *b, int *queue) {
  pthread_mutex_lock(&b->lock);
  bool any = b->n_rings > 0;
  if (any) *queue = b->rings[--b->n_rings];
  pthread_mutex_unlock(&b->lock);
  return any;
}

/* Rings that come within 10 ms are rung together. */
static void ring_all(bells *b) {
  int queue;
  int64_t now = clock_mono(), wait = b->rung + RING_EACH - now;
  if (!b->n_rings) return;
  if (wait > 0) usleep((useconds_t)wait * 1000);
  while (take_ring(b, &queue))
    if (ring(b, queue)) break; /* its consumers look each second */
  b->rung = clock_mono();
}

/* ---- the thread --------------------------------------------------------- */

/* Without ears everybody who waits looks again now and then. */
static void poll_all(bells *b) {
  int64_t now = clock_mono();
  if (b->listens || now < b->next_poll) return;
  note_heard(b, 0);
  pthread_mutex_lock(&b->lock);
  b->poll = b->poll * 2 < POLL_MAX ? b->poll * 2 : POLL_MAX;
  b->next_poll = now + b->poll;
  pthread_mutex_unlock(&b->lock);
}

static bool anybody_waits(bells *b) {
  int64_t now = clock_mono();
  bool any = false;
  pthread_mutex_lock(&b->lock);
  for (const waited *w = b->waits; w; w = w->next)
    any |= now - w->asked < RENEWED;
  pthread_mutex_unlock(&b->lock);
  return any;
}

/* Until something is heard, or is to be done. */
static void rest(bells *b, bool waited_for) {
  char text[32];
  pg_failure f;
  int64_t ms = !waited_for ? RENEWED : b->listens ? RENEWED / 2 : b->poll;
  int64_t until = clock_mono() + ms;
  if (b->session.at.c) {
    if (connection_hear(&b->session.at, until, b->wake, text, sizeof text, &f))
      note_heard(b, atoi(text));
    else if (f.broken)
      lost(b);
  } else
    wait_readable(b->wake, until);
  uint64_t n;
  if (read(b->wake, &n, sizeof n) < 0) return; /* nobody has woken it */
}

static bool is_stopping(bells *b) {
  pthread_mutex_lock(&b->lock);
  bool stop = b->stopping;
  pthread_mutex_unlock(&b->lock);
  return stop;
}

static void *run(void *arg) {
  bells *b = arg;
  while (!is_stopping(b)) {
    bool waits = anybody_waits(b);
    if (waits) listen(b);
    if (waits) hang_all(b);
    ring_all(b);
    if (waits) poll_all(b);
    rest(b, waits);
  }
  session_close(&b->session);
  return NULL;
}

/* ---- opening ------------------------------------------------------------ */

static int find_ears(bells *b) {
  int rc = url_parse(b->e->path, &b->url);
  if (!rc && b->url.listen) {
    b->deaf = !strcmp(b->url.listen, "no");
    if (!b->deaf) rc = url_listen(&b->url);
  }
  if (b->e->read_only) b->deaf = true; /* a standby hears nothing */
  session_init(&b->session, &b->url, &b->e->prepare, &b->e->chance);
  b->session.patience = PATIENCE;
  return rc;
}

int bells_open(pg_env *e, bells **out) {
  bells *b = calloc(1, sizeof *b);
  if (!b) return fail(RESPOOL_NOMEM, "not enough memory for a store");
  *out = b;
  b->e = e;
  b->poll = POLL_MIN;
  pthread_mutex_init(&b->lock, NULL);
  cond_init_monotonic(&b->changed);
  b->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (b->wake < 0) return fail(RESPOOL_NOMEM, "cannot make an eventfd");
  return find_ears(b);
}

void bells_close(bells *b) {
  pthread_mutex_lock(&b->lock);
  b->stopping = true;
  pthread_mutex_unlock(&b->lock);
  if (b->started) {
    wake_thread(b);
    pthread_join(b->thread, NULL);
  }
  session_close(&b->session);
  if (b->wake >= 0) close(b->wake);
  while (b->waits) {
    waited *next = b->waits->next;
    free(b->waits);
    b->waits = next;
  }
  free(b->rings);
  url_free(&b->url);
  pthread_mutex_destroy(&b->lock);
  pthread_cond_destroy(&b->changed);
  free(b);
}
