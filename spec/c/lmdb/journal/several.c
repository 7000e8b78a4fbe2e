/* SPDX-License-Identifier: MIT */
/*
 * Several at the journal at a time: processes, a child of fork, threads.
 */
#include "kit.h"

#include <pthread.h>
#include <sys/wait.h>

static void a_child_of_fork_lets_go(void) {
  begin();
  push(&a, 1, "x");
  pid_t pid = fork();
  if (!pid) {
    taken t;
    respool_bytes p = {"y", 1};
    uint64_t id;
    bool forked = stand_push(&a, 1, &p, 1, &id) == RESPOOL_FORKED &&
                  stand_take(&a, 1, &t, 1, 1, 0, &memory) == RESPOOL_FORKED &&
                  a.j->c == NULL && a.j->cfd < 0;
    journal_close(a.j);
    _exit(!forked);
  }
  int status;
  HOLDS(waitpid(pid, &status, 0) == pid && status == 0);
  HOLDS(push(&a, 1, "y") == 2);
  lies(0, 2);
  end();
}

/* A child that lives on holds no lock of its parent that died. */
static void a_lock_dies_with_its_process(void) {
  begin();
  push(&a, 1, "x");
  int ready[2], go[2];
  HOLDS(pipe(ready) == 0 && pipe(go) == 0);
  pid_t pid = fork();
  if (!pid) {
    stand s;
    char c;
    if (stand_open(&s, dir, HALF) || lock_take(s.j, STATE_LOCK, &(bool){false}))
      _exit(1);
    if (!fork()) { /* outlives it */
      close(go[1]);
      (void)!write(ready[1], "r", 1);
      (void)!read(go[0], &c, 1);
      _exit(0);
    }
    (void)!read(go[0], &c, 0);
    usleep(20000);
    _exit(0);
  }
  char c;
  HOLDS(read(ready[0], &c, 1) == 1);
  HOLDS(waitpid(pid, NULL, 0) == pid);
  HOLDS(push(&a, 1, "y") == 2);
  HOLDS(state().repairs == 1);
  close(go[1]);
  close(go[0]);
  close(ready[0]);
  close(ready[1]);
  end();
}

static void *push_later(void *arg) {
  (void)arg;
  usleep(30000);
  push(&b, 1, "woken");
  return NULL;
}

static void a_push_wakes_a_taker_of_another_process(void) {
  begin();
  push(&a, 1, "row");
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  HOLDS(take(&a, 1, 60000).id == 0); /* the view of LMDB is known */
  WORKS(stand_open(&b, dir, HALF));
  pthread_t t;
  pthread_create(&t, NULL, push_later, NULL);
  taken x = {.id = 0};
  HOLDS(stand_take(&a, 1, &x, 1, 60000, 600000, &memory) == 1);
  HOLDS(says(x, "woken"));
  pthread_join(t, NULL);
  end();
}

enum { THREADS = 6, TURNS = 300 };
static atomic_int finished;

static void *lives(void *arg) {
  stand *s = arg;
  arena mine;
  for (int i = 0; i < TURNS; i++) {
    respool_bytes p = {"thread", 6};
    uint64_t id, queue = 1 + (uint64_t)i % 2;
    taken t[3];
    arena_init(&mine);
    WORKS(stand_push(s, queue, &p, 1, &id));
    int n = stand_take(s, queue, t, 3, 60000, 0, &mine);
    HOLDS(n >= 0);
    for (int k = 0; k < n; k++) finished += done(s, queue, t[k]);
    if (i % 100 == 99) WORKS(stand_apply(s, JOURNAL_ALL, i % 200 == 99));
    arena_free(&mine);
  }
  return NULL;
}

static void many_threads_of_two_processes(void) {
  begin();
  WORKS(stand_open(&b, dir, HALF));
  pthread_t t[THREADS];
  for (int i = 0; i < THREADS; i++)
    pthread_create(&t[i], NULL, lives, i % 2 ? &a : &b);
  for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
  int left = 0;
  for (uint64_t q = 1; q <= 2; q++)
    for (taken x; (x = take(&a, q, 60000)).id; left++)
      HOLDS(done(&a, q, x) == 1);
  HOLDS(finished + left == THREADS * TURNS);
  count(1, THREADS * TURNS / 2, THREADS * TURNS / 2);
  end();
}

int main(void) {
  kit_open();
  CHECK(a_child_of_fork_lets_go());
  CHECK(a_lock_dies_with_its_process());
  CHECK(a_push_wakes_a_taker_of_another_process());
  CHECK(many_threads_of_two_processes());
  return kit_close();
}
