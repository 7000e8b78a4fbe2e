/* SPDX-License-Identifier: MIT */
/*
 * journal_work DIR SEED TURNS [RULE]: threads with a handle each, as other
 * processes have one, push, take and settle on a new store. Run it with the
 * recorder preloaded: it marks what each was told. With a RULE the code breaks
 * that one.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "../event.h"
#include "../marks.h"
#include "stand_in.h"

enum { THREADS = 4, GROUP = 4 };

static const char *dir, *rule;
static int turns;
static mark_fn *tell;

void fault_point(const char *name) {
  (void)name;
}

bool fault_wrong(const char *name) {
  return rule && !strcmp(rule, name);
}

static void mark(uint8_t what, uint64_t queue, uint64_t id) {
  event e = {.kind = EV_ACK, .index = what, .tag = (uint32_t)queue, .id = id};
  if (tell) tell(&e);
}

typedef struct actor {
  stand at;
  unsigned seed;
} actor;

static int chance(actor *a, int n) {
  return rand_r(&a->seed) % n;
}

static void must(const char *verb, int rc) {
  if (rc >= 0) return;
  fprintf(stderr, "%s: %d: %s\n", verb, rc, respool_error_text());
  exit(EXIT_FAILURE);
}

static void push(actor *a, uint64_t queue) {
  uint8_t bytes[GROUP][600];
  respool_bytes p[GROUP];
  uint64_t first;
  int n = 1 + chance(a, GROUP - 1);
  for (int i = 0; i < n; i++) {
    uint32_t size = 4 * (1 + (uint32_t)chance(a, 140));
    payload_fill(bytes[i], (uint32_t)chance(a, 1 << 30), size);
    p[i] = (respool_bytes){bytes[i], size};
  }
  must("push", stand_push(&a->at, queue, p, (size_t)n, &first));
  for (int i = 0; i < n; i++) mark(TOLD_PUSHED, queue, first + (unsigned)i);
}

static void settle(actor *a, uint64_t queue, const taken *t, int n) {
  uint64_t ids[GROUP], tokens[GROUP];
  uint8_t outcome[GROUP];
  for (int i = 0; i < n; i++) {
    ids[i] = t[i].id;
    tokens[i] = t[i].token;
    mark(SETTLES, queue, ids[i]);
  }
  must("done", stand_done(&a->at, queue, ids, tokens, (size_t)n, outcome));
  for (int i = 0; i < n; i++)
    if (outcome[i] == JOURNAL_DONE) mark(TOLD_DONE, queue, ids[i]);
}

static void take(actor *a, uint64_t queue) {
  taken t[GROUP];
  arena memory;
  arena_init(&memory);
  int n = stand_take(&a->at, queue, t, (size_t)(1 + chance(a, GROUP)),
                     chance(a, 8) ? 5000 : 5, 1, &memory);
  must("take", n);
  int what = chance(a, 16);
  if (n && what == 0) {
    int rc = stand_retry(&a->at, queue, t[0].id, t[0].token, chance(a, 20));
    if (rc != RESPOOL_LEASE_LOST) must("retry", rc);
  } else if (n && what > 2) /* 1, 2: forgotten */
    settle(a, queue, t, n);
  arena_free(&memory);
}

static void *act(void *arg) {
  actor a = {.seed = *(unsigned *)arg};
  must("open", stand_open(&a.at, dir, 64 << 10));
  for (int i = 0; i < turns; i++) {
    uint64_t queue = 1 + (uint64_t)chance(&a, QUEUES);
    if (chance(&a, 2))
      push(&a, queue);
    else
      take(&a, queue);
    if (chance(&a, 80) == 0)
      must("apply", stand_apply(&a.at, chance(&a, 2) ? JOURNAL_ALL
                                                      : JOURNAL_OLD,
                                chance(&a, 2)));
  }
  stand_close(&a.at);
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t t[THREADS];
  unsigned seeds[THREADS];
  if (argc < 4) {
    fprintf(stderr, "usage: journal_work DIR SEED TURNS [RULE]\n");
    return EXIT_FAILURE;
  }
  dir = argv[1];
  turns = atoi(argv[3]);
  rule = argc > 4 ? argv[4] : NULL;
  *(void **)&tell = dlsym(RTLD_DEFAULT, MARK_FN);
  for (int i = 0; i < THREADS; i++) {
    seeds[i] = (unsigned)(atoi(argv[2]) * 100 + i);
    pthread_create(&t[i], NULL, act, &seeds[i]);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
  return EXIT_SUCCESS;
}
