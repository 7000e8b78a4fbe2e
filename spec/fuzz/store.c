/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing the file of a store: the input is a list of changes to one that has
 * something of everything: a place (4 bytes), a length (1), and so many
 * bytes. Repair must stand it, and make a store that is sound. A child opens
 * it and uses it: LMDB trusts its pages, so damage may end or hang it there;
 * anywhere else it may not.
 */
#include "fuzz.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../helper/store_files.h"
#include "respool.h"

#define PATIENCE 2 /* seconds, before a child counts as hung */
#define OURS 99    /* status of a child that did not end in LMDB */

static char dir[256], from[300], to[300], file[320];
static uint8_t *base;
static size_t base_size;

static void must(int holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "not so: %s: %s\n", what, respool_error_text());
  abort();
}

/* ---- the store ---------------------------------------------------------- */

static int push(respool_queue *q, size_t n, size_t size, int64_t delay) {
  static char body[40000];
  respool_payload items[20];
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  memset(body, 'b', sizeof body);
  o.delay = delay;
  for (size_t i = 0; i < n; i++)
    items[i] = (respool_payload){.body = {body, size}};
  return respool_push(q, items, n, &o, NULL);
}

static void settle(respool_queue *q) {
  static const int outcomes[] = {RESPOOL_DONE, RESPOOL_RETRY, RESPOOL_DEAD};
  respool_take_options t = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *batch;
  t.items = 9;
  must(!respool_take(q, &t, &batch) && batch, "take");
  for (size_t i = 0; i < respool_batch_length(batch); i++) {
    respool_outcome o = RESPOOL_OUTCOME_INIT;
    o.kind = outcomes[i % 3];
    o.error = respool_text("bad");
    must(!respool_batch_mark(batch, i, &o), "mark");
  }
  must(!respool_batch_settle(batch, NULL, NULL), "settle");
  respool_batch_free(batch);
}

static void fill(void) {
  respool *s;
  respool_queue *q;
  must(!respool_open(from, NULL, &s), "open");
  must(!respool_queue_open(s, "jobs", NULL, &q), "queue");
  for (int i = 0; i < 6; i++)
    must(!push(q, 20, 10 + 100 * (size_t)i, 0), "push");
  must(!push(q, 1, 40000, 0), "push");
  must(!push(q, 3, 20, 3600000), "push");
  settle(q);
  settle(q);
  respool_queue_free(q);
  respool_close(s);
}

static void load_file(void) {
  struct stat st;
  FILE *f = fopen(file, "rb");
  if (!f || fstat(fileno(f), &st)) abort();
  base_size = (size_t)st.st_size;
  base = malloc(base_size);
  if (!base || fread(base, 1, base_size, f) != base_size) abort();
  fclose(f);
}

static void remove_store(const char *path) {
  remove_store_files(path);
  rmdir(path);
}

static pid_t owner;

static void clean_up(void) {
  if (getpid() != owner) return;
  remove_store(from);
  remove_store(to);
  rmdir(dir);
}

static void begin(void) {
  void *frame[1];
  backtrace(frame, 1); /* its first call allocates */
  const char *tmp = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
  snprintf(dir, sizeof dir, "%s/respool-fuzz.XXXXXX", tmp);
  if (!mkdtemp(dir)) abort();
  snprintf(from, sizeof from, "%s/from", dir);
  snprintf(to, sizeof to, "%s/to", dir);
  snprintf(file, sizeof file, "%s/data.mdb", from);
  owner = getpid();
  atexit(clean_up);
  fill();
  load_file();
}

/* ---- changes ------------------------------------------------------------ */

static void change(uint8_t *b, const uint8_t *data, size_t n) {
  while (n > 5) {
    size_t at = (size_t)data[0] << 24 | (size_t)data[1] << 16 |
                (size_t)data[2] << 8 | data[3];
    size_t length = data[4];
    at %= base_size;
    data += 5;
    n -= 5;
    if (length > n) length = n;
    if (length > base_size - at) length = base_size - at;
    memcpy(b + at, data, length);
    data += length;
    n -= length;
  }
}

/* The journal of the input before is not that of this one. */
static void write_changed(const uint8_t *data, size_t n) {
  remove_store(from);
  if (mkdir(from, 0700)) abort();
  uint8_t *b = fuzz_copy(base, base_size);
  change(b, data, n);
  FILE *f = fopen(file, "wb");
  if (!f || fwrite(b, 1, base_size, f) != base_size || fclose(f)) abort();
  free(b);
}

/* ---- looking ------------------------------------------------------------ */

static int pass(void *arg, const char *finding) {
  (void)arg, (void)finding;
  return 0;
}

static int count(void *arg, const char *finding) {
  fprintf(stderr, "check: %s\n", finding);
  ++*(int *)arg;
  return 0;
}

static int errors = STDERR_FILENO; /* of a child whose LMDB has much to say */

/* Where did it end, or hang? */
static void caught(int signal) {
  void *frames[64];
  Dl_info at;
  (void)signal;
  int n = backtrace(frames, 64);
  for (int i = 0; i < n; i++)
    if (dladdr(frames[i], &at) && strstr(at.dli_fname, "liblmdb")) _exit(0);
  backtrace_symbols_fd(frames, n, errors);
  _exit(OURS);
}

/* What a sanitizer calls before it ends the process. */
void __sanitizer_set_death_callback(void (*run)(void)) __attribute__((weak));

static void died(void) {
  caught(0);
}

static void catch_all(void) {
  static const int signals[] = {SIGALRM, SIGSEGV, SIGBUS, SIGABRT};
  for (int i = 0; i < 4; i++) signal(signals[i], caught);
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(died);
  errors = dup(STDERR_FILENO);
  if (!freopen("/dev/null", "w", stderr)) _exit(OURS);
}

static void use(void) {
  respool *s;
  respool_queue *q;
  respool_batch *batch;
  uint64_t n;
  alarm(PATIENCE);
  if (respool_open(from, NULL, &s)) _exit(0);
  respool_check(s, pass, NULL);
  if (!respool_queue_find(s, "jobs", &q)) {
    push(q, 1, 10, 0);
    if (!respool_take(q, NULL, &batch)) respool_batch_free(batch);
    respool_purge(q, &n);
    respool_queue_free(q);
  }
  respool_close(s);
  _exit(0);
}

static void use_in_child(void) {
  int status;
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    catch_all();
    use();
  }
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  must(WIFEXITED(status) && WEXITSTATUS(status) != OURS,
       "it ends in LMDB if it has to");
}

static void repair(void) {
  respool_salvage done = RESPOOL_SALVAGE_INIT;
  respool *s;
  int findings = 0;
  must(!respool_repair(from, to, pass, NULL, &done), "repair");
  must(!respool_open(to, NULL, &s), "open what was repaired");
  must(!respool_check(s, count, &findings) && !findings, "it is sound");
  respool_close(s);
  remove_store(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  if (!base) begin();
  write_changed(data, n);
  repair();
  use_in_child();
  return 0;
}
