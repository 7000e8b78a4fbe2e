/* SPDX-License-Identifier: MIT */
/*
 * The points; see points.h. Calls of LMDB and libpq come here first.
 */
#include "points.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fault.h"

#define SHOWN __attribute__((visibility("default")))

static const char *const names[POINTS] = {
  "begun", "ran", "committed", "flush", "flushed", "pwrite", "writev",
  "fdatasync", "reading", "made", "rename", "locked", "sized",
  "header", "journal written", "journal tail moved", "journal flush begun",
  "journal flushed", "journal leasing", "journal applying",
  "journal applied, not finished", "journal finishing", NULL,
};

static const char *kill_at; /* NULL: nowhere */
static _Atomic int left;    /* times that it is passed before */
static int by = SIGKILL;
static _Atomic long *deaths; /* NULL: nobody counts them */

const char *point_name(int point) {
  return names[point];
}

bool point_once(int point) {
  const char *name = names[point];
  return name && (!strcmp(name, "made") || !strcmp(name, "rename") ||
                  !strcmp(name, "locked") || !strcmp(name, "sized"));
}

void point_arm_name(const char *name, int passes) {
  kill_at = name;
  left = passes;
}

void point_arm(int point, int passes) {
  point_arm_name(names[point], passes);
}

void point_count(_Atomic long *n) {
  deaths = n;
}

void point_stop(const char *name, int passes) {
  point_arm_name(name, passes);
  by = SIGSTOP;
}

static const char *broken; /* a rule; NULL: none */

void point_break(const char *rule) {
  broken = rule;
}

bool fault_wrong(const char *rule) {
  return broken && !strcmp(broken, rule);
}

void fault_point(const char *name) {
  if (!kill_at || strcmp(kill_at, name) || left-- != 0) return;
  if (deaths) ++*deaths;
  kill(getpid(), by);
}

/* A commit of LMDB that is not in its lock file yet. */
static bool is_meta(size_t n, off_t at) {
  enum { PAGE = 4096, META = 256 };
  return n < META && at < 2 * PAGE;
}

SHOWN ssize_t pwrite(int fd, const void *b, size_t n, off_t at) {
  fault_point("pwrite");
  ssize_t done = syscall(SYS_pwrite64, fd, b, n, at);
  if (is_meta(n, at)) fault_point("meta written");
  return done;
}

SHOWN ssize_t writev(int fd, const struct iovec *v, int n) {
  fault_point("writev");
  return syscall(SYS_writev, fd, v, n);
}

/* Of libpq: what a server has not, and has, by then. */
SHOWN ssize_t send(int fd, const void *b, size_t n, int flags) {
  fault_point("send");
  ssize_t done = syscall(SYS_sendto, fd, b, n, flags, NULL, 0);
  fault_point("sent");
  return done;
}

SHOWN int fdatasync(int fd) {
  fault_point("fdatasync");
  return (int)syscall(SYS_fdatasync, fd);
}

/* LMDB gives its lock file its size while it holds the file's lock, at which
   the others arrive in the meantime. */
static void wait_for_others(const char *name) {
  if (kill_at && !strcmp(kill_at, name)) usleep(30000);
  fault_point(name);
}

SHOWN int ftruncate(int fd, off_t size) {
  wait_for_others("locked");
  int rc = (int)syscall(SYS_ftruncate, fd, size);
  wait_for_others("sized");
  return rc;
}

/* The first to open a store reads the data file's head with the lock file's
   lock in its hands, when the number of the last commit is not in it yet. */
SHOWN ssize_t pread(int fd, void *b, size_t n, off_t at) {
  wait_for_others("header");
  return syscall(SYS_pread64, fd, b, n, at);
}

SHOWN int renameat(int a, const char *from, int b, const char *to) {
  fault_point("rename");
  return (int)syscall(SYS_renameat2, a, from, b, to, 0);
}
