/* SPDX-License-Identifier: MIT */
/*
 * Every allocation and every system call fails once: the scenario is run in a
 * child in which the k-th call that could fail in some way does, for k = 1,
 * 2, ... until nothing has failed. After each run: only errors that the fault
 * may cause were said, nothing hung or crashed, every allocation and file was
 * given back; and another child opens the store and finds it sound, with
 * every item where it was acknowledged to be.
 *
 *   failing [-s STEP] [-l] [FAULT [K]]
 *
 * FAULT is memory, EIO, ENOSPC, EINTR or short; with K only that call fails,
 * and where is shown. STEP > 1 takes every STEP-th call, from a first that
 * the clock chooses; -l takes all of them three times, as threads make no
 * two runs alike. Each fault begins with its control: a scenario that does
 * not look at what a push returns must be found out.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../helper/store_files.h"
#include "faults.h"
#include "ledger.h"
#include "scenario.h"

#define PATIENCE 30 /* seconds, before a run counts as hung */
#define ENOUGH 10 /* runs gone wrong to say so */

static char dir[256], store[300];

/* ---- places ------------------------------------------------------------- */

static void make_dir(void) {
  const char *tmp = getenv("TMPDIR");
  const char *in = access("/dev/shm", W_OK) ? tmp ? tmp : "/tmp" : "/dev/shm";
  snprintf(dir, sizeof dir, "%s/respool-failing.XXXXXX", in);
  if (!mkdtemp(dir)) {
    perror(dir);
    exit(EXIT_FAILURE);
  }
  snprintf(store, sizeof store, "%s/store", dir);
}

static void clear_store(void) {
  remove_store_files(store);
  rmdir(store);
}

static int open_files(void) {
  int n = 0;
  DIR *d = opendir("/proc/self/fd");
  while (d && readdir(d)) n++;
  if (d) closedir(d);
  return n;
}

/* ---- one run ------------------------------------------------------------ */

static void *nothing(void *arg) {
  return arg;
}

/* A thread's first memory is kept by glibc for the next. */
static void warm_up(void) {
  pthread_t t;
  if (!pthread_create(&t, NULL, nothing, NULL)) pthread_join(t, NULL);
}

static int live(enum fault f, uint64_t k, int careless) {
  warm_up();
  int files = open_files();
  int64_t alive = faults_alive();
  alarm(PATIENCE);
  faults_arm(f, k);
  int findings = scenario_run(store, f, careless);
  faults_off();
  alive = faults_alive() - alive;
  if (alive) printf("  not so: %lld allocations leaked\n", (long long)alive);
  if (open_files() != files) printf("  not so: a file stayed open\n");
  return findings || alive || open_files() != files;
}

/* Runs one of the two in a child; how it went is the result. */
static int in_child(int (*run)(enum fault, uint64_t, int), enum fault f,
                    uint64_t k, int careless, const char *what) {
  int status;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    int wrong = run(f, k, careless);
    fflush(stdout);
    _exit(wrong != 0);
  }
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFSIGNALED(status))
    printf("  not so: the %s ended by %s\n", what,
           WTERMSIG(status) == SIGALRM ? "hanging"
                                       : strsignal(WTERMSIG(status)));
  return status;
}

static int verify(enum fault f, uint64_t k, int careless) {
  (void)f, (void)k, (void)careless;
  alarm(PATIENCE);
  return ledger_verify(store);
}

/* Nonzero when something was not as it should be. */
static int run_once(enum fault f, uint64_t k, int careless) {
  ledger_clear();
  int wrong = in_child(live, f, k, careless, "scenario");
  wrong |= in_child(verify, f, k, careless, "look at the store");
  clear_store();
  return wrong;
}

/* ---- all of them -------------------------------------------------------- */

static int stdout_kept = -1;

static void hush(int on) {
  fflush(stdout);
  if (on) {
    stdout_kept = dup(1);
    if (!freopen("/dev/null", "w", stdout)) exit(EXIT_FAILURE);
    return;
  }
  dup2(stdout_kept, fileno(stdout));
  close(stdout_kept);
}

/* A scenario that takes every push for acknowledged. */
static int control(enum fault f) {
  int found = 0;
  hush(1);
  for (uint64_t k = 1; !found; k++) {
    found = run_once(f, k, 1);
    if (!faults_fired()) break;
  }
  hush(0);
  if (!found) printf("%s: the control was not found out\n", fault_name(f));
  return !found;
}

static void tell(enum fault f, uint64_t k) {
  printf("  when call %llu, a %s, fails: failing %s %llu\n",
         (unsigned long long)k, faults_place(), fault_name(f),
         (unsigned long long)k);
  fflush(stdout);
}

static int run_all(enum fault f, uint64_t step) {
  uint64_t n = 0, k = step > 1 ? 1 + (uint64_t)time(NULL) % step : 1;
  int wrong = 0;
  for (;; k += step) {
    int bad = run_once(f, k, 0);
    if (bad) tell(f, k);
    wrong += bad != 0;
    if (!faults_fired() || wrong == ENOUGH) break;
    n++;
  }
  printf("%s: %llu calls failed, one a run, of %llu; %d runs went wrong\n",
         fault_name(f), (unsigned long long)n,
         (unsigned long long)faults_calls(), wrong);
  return wrong;
}

static int only(const char *name) {
  for (int f = 0; name && f < FAULT_KINDS; f++)
    if (!strcmp(name, fault_name((enum fault)f))) return f;
  return -1;
}

int main(int argc, char **argv) {
  uint64_t step = 1;
  int wrong = 0, times = 1, c;
  while ((c = getopt(argc, argv, "s:l")) != -1) {
    if (c == 's') step = strtoull(optarg, NULL, 10);
    if (c == 'l') times = 3;
    if (c == '?' || step == 0) return EXIT_FAILURE;
  }
  static char line[BUFSIZ]; /* stdio would allocate one and count as a leak */
  setvbuf(stdout, line, _IOLBF, sizeof line);
  const char *name = argv[optind], *k = name ? argv[optind + 1] : NULL;
  faults_begin();
  ledger_begin();
  make_dir();
  for (int f = 0; f < FAULT_KINDS; f++) {
    if (name && f != only(name)) continue;
    if (k) {
      wrong = run_once((enum fault)f, strtoull(k, NULL, 10), 0);
      printf("%s failed, called by\n", faults_place());
      fflush(stdout);
      faults_trace(STDOUT_FILENO);
      continue;
    }
    wrong += control((enum fault)f);
    for (int i = 0; i < times; i++) wrong += run_all((enum fault)f, step);
  }
  rmdir(dir);
  return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
