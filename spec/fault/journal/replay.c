/* SPDX-License-Identifier: MIT */
/*
 * journal_replay LOG DIR STATES SEED sound|wrong: makes states in which a
 * power cut may have left the disk of a recorded journal_work, and opens each:
 * what was told must be there, what was said to be done must not, and every
 * fifth must work on. `wrong`: the run broke a rule, and that must show.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "../marks.h"
#include "../power/disk.h"
#include "stand_in.h"

enum { IDS = 1 << 16, HALF = 64 << 10, PATIENCE = 30 };
enum {
  OK, OPEN, CRASH, LOST, PAYLOAD, ORDER, BACK, STUCK, COUNT, CHECK, KINDS
};
static const char *const kinds[] = {
  "fine", "does not open", "crash", "lost", "payload", "order",
  "done is back", "stuck", "counters", "check",
};

static uint8_t told[QUEUES + 1][IDS];
static const char *dir;

void fault_point(const char *name) {
  (void)name;
}

bool fault_wrong(const char *name) {
  (void)name;
  return false;
}

/* ---- one state ----------------------------------------------------------- */

typedef struct scan {
  uint64_t queue, last[QUEUES + 1], n[QUEUES + 1];
  uint8_t there[QUEUES + 1][IDS];
} scan;

static int see(void *arg, const side_item *i, int where) {
  scan *c = arg;
  uint32_t tag;
  (void)where;
  if (!payload_whole(i->bytes, i->size, &tag)) return PAYLOAD;
  if (i->id <= c->last[i->queue]) return ORDER;
  if (told[i->queue][i->id] & TOLD_DONE) return BACK;
  c->last[i->queue] = i->id;
  c->there[i->queue][i->id] = 1;
  c->n[i->queue]++;
  return 0;
}

static int look_at_queue(stand *s, const scan *c, uint64_t queue) {
  uint64_t pushed, done;
  for (uint64_t id = 1; id < IDS; id++)
    if (told[queue][id] == TOLD_PUSHED && !c->there[queue][id]) return LOST;
  if (stand_count(s, queue, &pushed, &done)) return STUCK;
  return pushed == done + c->n[queue] ? OK : COUNT;
}

static int finding(void *arg, const char *text) {
  (void)arg;
  fprintf(stderr, "%s\n", text);
  return CHECK;
}

/* A new item lies above all ids that were ever told, and comes last. */
static int work_on(stand *s, uint64_t queue, uint64_t last) {
  uint8_t o;
  uint64_t id;
  taken t = {.id = 0};
  arena memory;
  respool_bytes p = {"on", 2};
  arena_init(&memory);
  if (stand_push(s, queue, &p, 1, &id) || id <= last) return STUCK;
  for (uint64_t i = 1; i < IDS; i++)
    if (told[queue][i] & TOLD_PUSHED && id <= i) return ORDER;
  while (t.id != id) {
    if (stand_take(s, queue, &t, 1, 600000, 10000, &memory) != 1) return STUCK;
    if (stand_done(s, queue, &t.id, &t.token, 1, &o) != 1) return STUCK;
  }
  arena_free(&memory);
  return OK;
}

static int look_at_state(bool on) {
  static scan c;
  stand s;
  if (stand_open(&s, dir, HALF)) {
    fprintf(stderr, "%s\n", respool_error_text());
    return OPEN;
  }
  int rc = stand_each(&s, see, &c);
  if (rc < 0) return STUCK;
  for (uint64_t q = 1; q <= QUEUES && !rc; q++) rc = look_at_queue(&s, &c, q);
  for (uint64_t q = 1; q <= QUEUES && !rc && on; q++)
    rc = work_on(&s, q, c.last[q]);
  if (!rc) rc = stand_check(&s, finding, NULL);
  stand_close(&s);
  return rc;
}

/* What a child found out about the state in the directory. */
static int judge(bool on) {
  char path[4200];
  int status;
  snprintf(path, sizeof path, "%s/control", dir);
  unlink(path); /* memory is gone */
  pid_t pid = fork();
  if (pid == 0) {
    if (!getenv("SAY") && !freopen("/dev/null", "w", stderr)) _exit(CRASH);
    alarm(PATIENCE);
    _exit(look_at_state(on));
  }
  if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return CRASH;
  return WEXITSTATUS(status);
}

/* ---- the log ------------------------------------------------------------- */

typedef struct tape {
  const uint8_t *bytes;
  size_t size, at;
} tape;

static bool read_event(tape *t, event *e, const uint8_t **bytes) {
  if (t->at + sizeof *e > t->size) return false;
  memcpy(e, t->bytes + t->at, sizeof *e);
  t->at += sizeof *e;
  *bytes = t->bytes + t->at;
  if (e->kind == EV_WRITE) t->at += e->size;
  return t->at <= t->size;
}

static bool changes_disk(const event *e) {
  return e->kind < EV_OPENED;
}

static tape map_log(const char *path) {
  struct stat st;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &st) || st.st_size == 0) exit(EXIT_FAILURE);
  void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (p == MAP_FAILED) exit(EXIT_FAILURE);
  close(fd);
  return (tape){p, (size_t)st.st_size, 0};
}

static long count_moments(tape t) {
  event e;
  const uint8_t *bytes;
  long n = 0;
  while (read_event(&t, &e, &bytes)) n += changes_disk(&e);
  return n;
}

static void play(disk *d, const event *e, const uint8_t *bytes) {
  if (e->kind != EV_ACK) {
    disk_play(d, e, bytes, false);
  } else if (e->id < IDS && e->tag <= QUEUES)
    told[e->tag][e->id] |= e->index;
}

static long tried, wrong[KINDS];

static void try_states(disk *d, int n, uint64_t seed) {
  for (int i = 0; i < n; i++) {
    disk_cut(d, seed * 1000003 + (uint64_t)i);
    disk_write(d, dir);
    wrong[judge(tried++ % 5 == 0)]++;
  }
}

int main(int argc, char **argv) {
  if (argc < 6) {
    fprintf(stderr, "usage: journal_replay LOG DIR STATES SEED HOPE\n");
    return EXIT_FAILURE;
  }
  tape t = map_log(argv[1]);
  dir = argv[2];
  double states = atof(argv[3]), due = 0;
  uint64_t seed = strtoull(argv[4], NULL, 10) << 32;
  double each = states / (double)count_moments(t);
  event e;
  const uint8_t *bytes;
  disk *d = disk_new();
  for (uint64_t moment = 0; read_event(&t, &e, &bytes); moment++) {
    play(d, &e, bytes);
    if (!changes_disk(&e)) continue;
    due += each;
    int n = (int)due;
    try_states(d, n, seed + moment);
    due -= n;
  }
  printf("journal %ld states:", tried);
  for (int i = 0; i < KINDS; i++)
    if (wrong[i]) printf(" %s %ld", kinds[i], wrong[i]);
  puts("");
  bool fine = wrong[OK] == tried;
  return fine == !strcmp(argv[5], "sound") ? EXIT_SUCCESS : EXIT_FAILURE;
}
