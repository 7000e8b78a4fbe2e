/* SPDX-License-Identifier: MIT */
/*
 * The functions that fail; see faults.h. A definition in the program comes
 * before that of any library, so LMDB's calls and ours end here. What goes
 * through is passed on to the kernel, or to glibc's malloc by its own name.
 */
#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define TRACE_MAX 32

/* glibc's own names of its allocator, for allocators put before it. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

typedef int create_fn(pthread_t *t, const pthread_attr_t *a,
                      void *(*run)(void *), void *arg);

typedef struct world {
  _Atomic int armed;
  _Atomic int fault;
  _Atomic uint64_t calls, at;
  _Atomic int fired;
  char place[32];
  void *trace[TRACE_MAX];
  int depth;
} world;

static world *w;
static _Atomic int64_t alive;
static create_fn *real_create;

const char *fault_name(enum fault f) {
  static const char *const names[] = {"memory", "EIO", "ENOSPC", "EINTR",
                                      "short"};
  return names[f];
}

static void *raw_mmap(size_t size) {
  return (void *)syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0L);
}

void faults_begin(void) {
  void *warm[2];
  w = raw_mmap(sizeof *w);
  if (w == MAP_FAILED) abort();
  *(void **)&real_create = dlsym(RTLD_NEXT, "pthread_create");
  backtrace(warm, 2); /* its first call allocates */
}

void faults_arm(enum fault f, uint64_t k) {
  w->fault = (int)f;
  w->calls = 0;
  w->at = k;
  w->fired = 0;
  w->place[0] = '\0';
  w->armed = 1;
}

void faults_off(void) {
  w->armed = 0;
}

int faults_fired(void) {
  return w->fired;
}

const char *faults_place(void) {
  return w->place;
}

void faults_trace(int fd) {
  backtrace_symbols_fd(w->trace, w->depth, fd);
}

uint64_t faults_calls(void) {
  return w->calls;
}

int64_t faults_alive(void) {
  return alive;
}

/* ---- failing ------------------------------------------------------------ */

#define CAN(f) (1u << FAULT_##f)
#define CAN_READ (CAN(EIO) | CAN(EINTR) | CAN(SHORT))
#define CAN_WRITE (CAN(EIO) | CAN(ENOSPC) | CAN(EINTR) | CAN(SHORT))
#define CAN_CHANGE (CAN(EIO) | CAN(ENOSPC) | CAN(EINTR))

/* Is this the call? errno is set then, but for a short one. */
static int fails(const char *place, unsigned can) {
  static const int errors[] = {ENOMEM, EIO, ENOSPC, EINTR, 0};
  if (!w || !w->armed || !(can >> w->fault & 1)) return 0;
  if (++w->calls != w->at) return 0;
  strncpy(w->place, place, sizeof w->place - 1);
  w->armed = 0; /* what the trace does is not meant */
  w->depth = backtrace(w->trace, TRACE_MAX);
  w->armed = 1;
  w->fired = 1;
  errno = errors[w->fault];
  return 1;
}


static int is_short(void) {
  return w->fault == FAULT_SHORT;
}

/* ---- memory ------------------------------------------------------------- */

static void *counted(void *p) {
  if (p) alive++;
  return p;
}

void *malloc(size_t n) {
  return fails("malloc", CAN(MEMORY)) ? NULL : counted(__libc_malloc(n));
}

void *calloc(size_t n, size_t size) {
  return fails("calloc", CAN(MEMORY)) ? NULL
                                      : counted(__libc_calloc(n, size));
}

void *realloc(void *p, size_t n) {
  if (fails("realloc", CAN(MEMORY))) return NULL;
  void *bigger = __libc_realloc(p, n);
  if (!p && bigger) alive++;
  if (p && !bigger && n == 0) alive--;
  return bigger;
}

int posix_memalign(void **p, size_t align, size_t n) {
  if (fails("posix_memalign", CAN(MEMORY))) return ENOMEM;
  *p = counted(__libc_memalign(align, n));
  return *p ? 0 : ENOMEM;
}

void free(void *p) {
  if (p) alive--;
  __libc_free(p);
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t from) {
  if (fails("mmap", CAN(MEMORY))) return MAP_FAILED;
  return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, from);
}

int pthread_create(pthread_t *t, const pthread_attr_t *a,
                   void *(*run)(void *), void *arg) {
  if (fails("pthread_create", CAN(MEMORY))) return EAGAIN;
  return real_create(t, a, run, arg);
}

/* ---- files -------------------------------------------------------------- */

int open(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
  va_end(args);
  if (fails("open", CAN_CHANGE | CAN(MEMORY))) return -1;
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
  if (fails("mkdir", CAN_CHANGE)) return -1;
  return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int ftruncate(int fd, off_t size) {
  if (fails("ftruncate", CAN_CHANGE)) return -1;
  return (int)syscall(SYS_ftruncate, fd, size);
}

int fallocate(int fd, int mode, off_t at, off_t size) {
  if (fails("fallocate", CAN_CHANGE)) return -1;
  return (int)syscall(SYS_fallocate, fd, mode, at, size);
}

/* Locks fail; what only asks for or sets a flag does not. */
int fcntl(int fd, int command, ...) {
  va_list args;
  va_start(args, command);
  void *arg = va_arg(args, void *);
  va_end(args);
  int lock = command == F_SETLK || command == F_SETLKW || command == F_GETLK;
  if (lock && fails("fcntl", CAN(EIO) | CAN(EINTR))) return -1;
  return (int)syscall(SYS_fcntl, fd, command, arg);
}

ssize_t pread(int fd, void *to, size_t n, off_t at) {
  if (fails("pread", CAN_READ)) {
    if (!is_short()) return -1;
    n /= 2;
  }
  return syscall(SYS_pread64, fd, to, n, at);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at) {
  if (fails("pwrite", CAN_WRITE)) {
    if (!is_short()) return -1;
    n /= 2;
  }
  return syscall(SYS_pwrite64, fd, from, n, at);
}

ssize_t write(int fd, const void *from, size_t n) {
  if (fd > 2 && fails("write", CAN_WRITE)) {
    if (!is_short()) return -1;
    n /= 2;
  }
  return syscall(SYS_write, fd, from, n);
}

/* A short one writes the first of several pieces, or half of one. */
ssize_t writev(int fd, const struct iovec *v, int n) {
  if (!fails("writev", CAN_WRITE)) return syscall(SYS_writev, fd, v, n);
  if (!is_short()) return -1;
  size_t size = n > 1 ? v->iov_len : v->iov_len / 2;
  return syscall(SYS_write, fd, v->iov_base, size);
}

int fdatasync(int fd) {
  return fails("fdatasync", CAN_CHANGE) ? -1
                                        : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
  return fails("fsync", CAN_CHANGE) ? -1 : (int)syscall(SYS_fsync, fd);
}

int msync(void *at, size_t n, int flags) {
  return fails("msync", CAN_CHANGE) ? -1
                                    : (int)syscall(SYS_msync, at, n, flags);
}

ssize_t getrandom(void *to, size_t n, unsigned flags) {
  return fails("getrandom", CAN(EINTR)) ? -1
                                        : syscall(SYS_getrandom, to, n, flags);
}
