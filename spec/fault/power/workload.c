/* SPDX-License-Identifier: MIT */
/*
 * workload STORE SEED ROUNDS [relaxed]: all actors as threads of one process
 * on a new store. Run it with the recorder preloaded. With `relaxed` verbs
 * return before their effect is on disk, as a mutation would have it.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../actors/actors.h"

static void *play_all(actor *actors) {
  pthread_t threads[ACTORS];
  for (int i = 0; i < ACTORS; i++)
    pthread_create(&threads[i], NULL, actor_play, &actors[i]);
  for (int i = 0; i < ACTORS; i++) pthread_join(threads[i], NULL);
  return NULL;
}

/* With nobody at work. What moves a clock of its own does not come again: a
   store that is opened anew would tell it an earlier time. */
static void compact(actor *actors, const char *store) {
  respool_compaction done = RESPOOL_COMPACTION_INIT;
  if (respool_compact(store, NULL, &done)) {
    fprintf(stderr, "%s\n", respool_error_text());
    abort();
  }
  for (int i = 0; i < ACTORS; i++) {
    actors[i].seed += ACTORS;
    if (!strcmp(actors[i].kind, "maintenance")) actors[i].rounds = 0;
  }
}

int main(int argc, char **argv) {
  actor actors[ACTORS];
  if (argc < 4) {
    fprintf(stderr, "usage: workload STORE SEED ROUNDS [relaxed]\n");
    return EXIT_FAILURE;
  }
  int relaxed = argc > 4 && !strcmp(argv[4], "relaxed");
  model *m = model_new();
  *(void **)&m->tell = dlsym(RTLD_DEFAULT, MARK_FN);
  for (int i = 0; i < ACTORS; i++)
    actors[i] = (actor){
      .m = m, .path = argv[1], .kind = actor_kinds[i], .slot = i,
      .seed = strtoull(argv[2], NULL, 10) + (unsigned)i,
      .rounds = atoi(argv[3]),
      .sync = relaxed ? RESPOOL_SYNC_RELAXED : RESPOOL_SYNC_COMMIT};
  play_all(actors);
  compact(actors, argv[1]);
  play_all(actors);
  return EXIT_SUCCESS;
}
