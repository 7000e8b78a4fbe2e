/* SPDX-License-Identifier: MIT */
/*
 * Waiting for other processes; see wait.h.
 */
#include "threads/wait.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

static _Thread_local struct {
  respool_wait_fn ask;
  void *arg;
  int64_t until; /* 0: there is no limit */
} waits;

void respool_on_wait(respool_wait_fn ask, void *arg) {
  waits.ask = ask;
  waits.arg = arg;
}

void wait_limit(int64_t ms) {
  waits.until = ms ? time_after(clock_mono(), ms) : 0;
}

bool wait_goes_on(int64_t ms, const char *whom) {
  if (waits.until && clock_mono() >= waits.until) return false;
  return !waits.ask || !waits.ask(waits.arg, ms, whom);
}

bool wait_tell(int64_t ms, const char *what) {
  return !waits.ask || !waits.ask(waits.arg, ms < 1 ? 1 : ms, what);
}

void wait_begin(void) {
  if (waits.ask) (void)waits.ask(waits.arg, 0, "");
}

int wait_fail(const char *path, const char *whom) {
  if (path)
    return fail_of_store(fail(RESPOOL_LOCKED, "gave up waiting for %s, which "
                              "uses store '%.120s'", whom, path));
  return fail_of_store(fail(RESPOOL_LOCKED, "gave up waiting for %s, which "
                            "uses the store", whom));
}

void wait_name(int pid, char whom[WHOM_MAX]) {
  char path[32], name[32] = "";
  strcpy(whom, "another process");
  if (pid <= 0) return;
  snprintf(path, sizeof path, "/proc/%d/comm", pid);
  FILE *f = fopen(path, "re");
  if (f && !fgets(name, sizeof name, f)) *name = '\0';
  if (f) fclose(f);
  name[strcspn(name, "\n")] = '\0';
  snprintf(whom, WHOM_MAX, *name ? "process %d (%s)" : "process %d", pid,
           name);
}
