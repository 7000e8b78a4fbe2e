/* SPDX-License-Identifier: MIT */
/*
 * other_build STORE PIPE: a build of another version, whose block of the
 * journal has another layout (see the Makefile). It opens the store and says
 * "open", or "refused", the code and the line; after a line from the pipe it
 * takes an item, is done with it, pushes another, says what there is, and
 * closes.
 */
#include <stdio.h>
#include <stdlib.h>

#include "respool.h"

static void must(const char *verb, int rc) {
  if (!rc) return;
  printf("%s: %s\n", verb, respool_error_text());
  exit(EXIT_FAILURE);
}

static void work(respool_queue *q) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_payload item = {.body = {"\x65other", 6}};
  respool_batch *b = NULL;
  done.kind = RESPOOL_DONE;
  must("take", respool_take(q, NULL, &b));
  if (b) must("mark", respool_batch_mark_all(b, &done));
  if (b) must("settle", respool_batch_settle(b, NULL, NULL));
  respool_batch_free(b);
  must("push", respool_push(q, &item, 1, NULL, NULL));
}

int main(int argc, char **argv) {
  respool *s;
  respool_queue *q;
  respool_queue_stats st = RESPOOL_QUEUE_STATS_INIT;
  char line[16];
  if (argc != 3) return EXIT_FAILURE;
  int rc = respool_open(argv[1], NULL, &s);
  if (rc) {
    printf("refused %s: %s\n", respool_errname(rc), respool_error_text());
    return EXIT_FAILURE;
  }
  printf("open\n");
  fflush(stdout);
  FILE *go = fopen(argv[2], "r");
  if (!go || !fgets(line, sizeof line, go)) return EXIT_FAILURE;
  fclose(go);
  must("queue", respool_queue_find(s, "orders", &q));
  work(q);
  must("stat", respool_queue_stat(q, &st));
  printf("%llu ready, %llu done\n", (unsigned long long)st.ready,
         (unsigned long long)st.done);
  respool_queue_free(q);
  respool_close(s);
  return EXIT_SUCCESS;
}
