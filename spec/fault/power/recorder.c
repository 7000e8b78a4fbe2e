/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into a program, logs what it does to the files of one directory:
 * every write with its bytes, every sync, every change of a name (event.h).
 * A write and its event happen under one lock, so the log has the order of
 * the disk. What goes through a mapping is not seen; the stores are not
 * mapped for writing, their lock files are and have nothing to lose.
 *
 * RECORD_DIR is the directory, RECORD_LOG the log. RECORD_DELAY makes a sync
 * last so many microseconds, as on a real disk, so that threads meet in it.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../event.h"

#define FDS 1024
#define SHOWN __attribute__((visibility("default")))

/* The directory itself, among the numbers of files. */
#define DIRECTORY UINT32_MAX

typedef struct watched {
  uint32_t file; /* 0: none of ours */
  int dsync;
} watched;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static watched fds[FDS];
static struct { ino_t inode; uint32_t file; } inodes[FDS];
static uint32_t n_files, n_syncs;
static char dir[4096];
static int log_fd = -1;
static unsigned delay;

__attribute__((constructor)) static void start(void) {
  const char *d = getenv("RECORD_DIR"), *log = getenv("RECORD_LOG");
  const char *us = getenv("RECORD_DELAY");
  if (!d || !log) return;
  snprintf(dir, sizeof dir, "%s/", d);
  delay = us ? (unsigned)atoi(us) : 0;
  log_fd = (int)syscall(SYS_openat, AT_FDCWD, log,
                        O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

/* ---- the log ------------------------------------------------------------ */

/* With the lock held. A log that cannot be written is no log: stop. */
static void put(const event *e, const void *bytes) {
  struct iovec v[2] = {{(void *)(uintptr_t)e, sizeof *e},
                       {(void *)(uintptr_t)bytes, bytes ? e->size : 0}};
  size_t size = v[0].iov_len + v[1].iov_len;
  if (log_fd < 0) return;
  if (syscall(SYS_writev, log_fd, v, 2) != (ssize_t)size) abort();
}

static void put_file(uint32_t kind, uint32_t file, uint64_t offset) {
  put(&(event){.kind = kind, .file = file, .offset = offset}, NULL);
}

SHOWN mark_fn recorder_mark;
SHOWN void recorder_mark(const event *e) {
  pthread_mutex_lock(&lock);
  put(e, NULL);
  pthread_mutex_unlock(&lock);
}

/* ---- which files -------------------------------------------------------- */

/* The name below the directory, or NULL when it is not there. */
static const char *name_in_dir(const char *path) {
  size_t n = strlen(dir);
  return n && !strncmp(path, dir, n) ? path + n : NULL;
}

static int is_dir(const char *path) {
  size_t n = strlen(dir);
  return n && strlen(path) == n - 1 && !strncmp(path, dir, n - 1);
}

static uint32_t file_of(ino_t inode) {
  for (int i = FDS; i-- > 0;)
    if (inodes[i].file && inodes[i].inode == inode) return inodes[i].file;
  return 0;
}

static uint32_t new_file(ino_t inode) {
  uint32_t file = ++n_files;
  if (file >= FDS) abort();
  for (int i = 0; i < FDS; i++)
    if (inodes[i].inode == inode) inodes[i].file = 0; /* used again? */
  inodes[file].inode = inode;
  inodes[file].file = file;
  return file;
}

static void note_name(event e, const char *name, const char *other) {
  snprintf(e.name, sizeof e.name, "%s", name);
  if (other) snprintf(e.other, sizeof e.other, "%s", other);
  put(&e, NULL);
}

static watched *find(int fd) {
  watched *w = fd >= 0 && fd < FDS ? &fds[fd] : NULL;
  return w && w->file ? w : NULL;
}

static void watch(int fd, const char *name, int flags, int there) {
  struct stat st;
  if (fd < 0 || fd >= FDS || fstat(fd, &st)) return;
  uint32_t file = there ? file_of(st.st_ino) : new_file(st.st_ino);
  fds[fd] = (watched){file, (flags & O_DSYNC) != 0};
  if (!there)
    note_name((event){.kind = EV_LINK, .file = file}, name, NULL);
  else if (flags & O_TRUNC)
    put_file(EV_TRUNCATE, file, 0);
}

/* Is it a descriptor of the directory, however it was come by? */
static int is_dir_fd(int fd) {
  struct stat a, b;
  return *dir && fd >= 0 && fstat(fd, &a) == 0 && S_ISDIR(a.st_mode) &&
         stat(dir, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int open_watched(const char *path, int flags, mode_t mode) {
  struct stat st;
  const char *name = name_in_dir(path);
  pthread_mutex_lock(&lock);
  int there = stat(path, &st) == 0;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  if (fd >= 0 && fd < FDS) fds[fd] = (watched){0, 0};
  if (fd >= 0 && name && !strchr(name, '/')) watch(fd, name, flags, there);
  if (fd >= 0 && fd < FDS && is_dir(path)) fds[fd].file = DIRECTORY;
  pthread_mutex_unlock(&lock);
  return fd;
}

/* ---- the calls: names --------------------------------------------------- */

static mode_t mode_of(int flags, va_list args) {
  int makes = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
  return makes ? (mode_t)va_arg(args, unsigned) : 0;
}

/* The path of a name that is relative to a descriptor of the directory, or
   NULL: it is relative to another. */
static const char *path_at(int at, const char *name, char path[4200]) {
  if (!is_dir_fd(at) || strchr(name, '/')) return NULL;
  snprintf(path, 4200, "%s%s", dir, name);
  return path;
}

/* The same of a path that names the descriptor. */
static const char *path_by_fd(const char *given, char path[4200]) {
  int at, n = 0;
  if (sscanf(given, "/proc/self/fd/%d/%n", &at, &n) != 1 || !n) return NULL;
  return path_at(at, given + n, path);
}

#define OPEN(name) \
  SHOWN int name(const char *path, int flags, ...) { \
    va_list args; \
    va_start(args, flags); \
    mode_t mode = mode_of(flags, args); \
    va_end(args); \
    char real[4200]; \
    const char *named = path_by_fd(path, real); \
    return open_watched(named ? named : path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

SHOWN int openat(int at, const char *name, int flags, ...) {
  char path[4200];
  va_list args;
  va_start(args, flags);
  mode_t mode = mode_of(flags, args);
  va_end(args);
  if (path_at(at, name, path)) return open_watched(path, flags, mode);
  return (int)syscall(SYS_openat, at, name, flags, mode);
}

SHOWN int close(int fd) {
  pthread_mutex_lock(&lock);
  if (fd >= 0 && fd < FDS) fds[fd].file = 0;
  int rc = (int)syscall(SYS_close, fd);
  pthread_mutex_unlock(&lock);
  return rc;
}

SHOWN int rename(const char *from, const char *to) {
  const char *a = name_in_dir(from), *b = name_in_dir(to);
  pthread_mutex_lock(&lock);
  int rc = (int)syscall(SYS_rename, from, to);
  if (!rc && a && b) note_name((event){.kind = EV_RENAME}, a, b);
  pthread_mutex_unlock(&lock);
  return rc;
}

SHOWN int renameat(int a, const char *from, int b, const char *to) {
  char x[4200], y[4200];
  if (path_at(a, from, x) && path_at(b, to, y)) return rename(x, y);
  return (int)syscall(SYS_renameat2, a, from, b, to, 0);
}

SHOWN int unlinkat(int at, const char *name, int flags) {
  char path[4200];
  if (!flags && path_at(at, name, path)) return unlink(path);
  return (int)syscall(SYS_unlinkat, at, name, flags);
}

SHOWN int unlink(const char *path) {
  const char *name = name_in_dir(path);
  pthread_mutex_lock(&lock);
  int rc = (int)syscall(SYS_unlink, path);
  if (!rc && name) note_name((event){.kind = EV_UNLINK}, name, NULL);
  pthread_mutex_unlock(&lock);
  return rc;
}

/* ---- the calls: contents ------------------------------------------------ */

/* With the lock held: `n` bytes at `offset` were written. */
static void wrote(const watched *w, const void *bytes, ssize_t n,
                  off_t offset) {
  if (n <= 0) return;
  put(&(event){.kind = EV_WRITE, .file = w->file, .size = (uint64_t)n,
               .offset = (uint64_t)offset}, bytes);
  if (w->dsync) put_file(EV_DSYNCED, w->file, 0);
}

static ssize_t pwrite_watched(int fd, const void *b, size_t n, off_t at) {
  pthread_mutex_lock(&lock);
  ssize_t done = syscall(SYS_pwrite64, fd, b, n, at);
  if (find(fd)) wrote(find(fd), b, done, at);
  pthread_mutex_unlock(&lock);
  return done;
}

SHOWN ssize_t pwrite(int fd, const void *b, size_t n, off_t at) {
  return pwrite_watched(fd, b, n, at);
}

SHOWN ssize_t pwrite64(int fd, const void *b, size_t n, off_t at) {
  return pwrite_watched(fd, b, n, at);
}

SHOWN ssize_t write(int fd, const void *b, size_t n) {
  pthread_mutex_lock(&lock);
  off_t at = find(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
  ssize_t done = syscall(SYS_write, fd, b, n);
  if (find(fd)) wrote(find(fd), b, done, at);
  pthread_mutex_unlock(&lock);
  return done;
}

static void wrote_vector(const watched *w, const struct iovec *v, int n,
                         ssize_t done, off_t at) {
  for (int i = 0; i < n && done > 0; i++) {
    ssize_t part = done < (ssize_t)v[i].iov_len ? done
                                                : (ssize_t)v[i].iov_len;
    wrote(w, v[i].iov_base, part, at);
    at += part;
    done -= part;
  }
}

SHOWN ssize_t writev(int fd, const struct iovec *v, int n) {
  pthread_mutex_lock(&lock);
  off_t at = find(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
  ssize_t done = syscall(SYS_writev, fd, v, n);
  if (find(fd)) wrote_vector(find(fd), v, n, done, at);
  pthread_mutex_unlock(&lock);
  return done;
}

SHOWN ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) {
  pthread_mutex_lock(&lock);
  ssize_t done = syscall(SYS_pwritev, fd, v, (long)n, (long)at, 0L);
  if (find(fd)) wrote_vector(find(fd), v, n, done, at);
  pthread_mutex_unlock(&lock);
  return done;
}

SHOWN int ftruncate(int fd, off_t size) {
  pthread_mutex_lock(&lock);
  int rc = (int)syscall(SYS_ftruncate, fd, size);
  if (!rc && find(fd)) put_file(EV_TRUNCATE, fds[fd].file, (uint64_t)size);
  pthread_mutex_unlock(&lock);
  return rc;
}

SHOWN int truncate(const char *path, off_t size) {
  struct stat st;
  pthread_mutex_lock(&lock);
  int rc = (int)syscall(SYS_truncate, path, size);
  if (!rc && name_in_dir(path) && stat(path, &st) == 0)
    put_file(EV_TRUNCATE, file_of(st.st_ino), (uint64_t)size);
  pthread_mutex_unlock(&lock);
  return rc;
}

SHOWN int fallocate(int fd, int mode, off_t at, off_t n) {
  pthread_mutex_lock(&lock);
  int rc = (int)syscall(SYS_fallocate, fd, mode, at, n);
  if (!rc && find(fd)) put_file(EV_EXTEND, fds[fd].file, (uint64_t)(at + n));
  pthread_mutex_unlock(&lock);
  return rc;
}

/* ---- the calls: syncs --------------------------------------------------- */

static uint32_t note_sync(uint32_t kind, uint32_t file, uint32_t sync) {
  pthread_mutex_lock(&lock);
  event e = {.kind = kind, .file = file, .sync = sync ? sync : ++n_syncs};
  if (file == DIRECTORY)
    e.kind = kind == EV_SYNC_BEGIN ? EV_DIR_BEGIN : EV_DIR_END;
  put(&e, NULL);
  pthread_mutex_unlock(&lock);
  return e.sync;
}

static int sync_watched(int fd, long call) {
  uint32_t file = find(fd) ? fds[fd].file : is_dir_fd(fd) ? DIRECTORY : 0;
  uint32_t sync = 0;
  if (file) sync = note_sync(EV_SYNC_BEGIN, file, 0);
  int rc = (int)syscall(call, fd);
  if (!file) return rc;
  usleep(delay);
  if (!rc) note_sync(EV_SYNC_END, file, sync);
  return rc;
}

SHOWN int fsync(int fd) {
  return sync_watched(fd, SYS_fsync);
}

SHOWN int fdatasync(int fd) {
  return sync_watched(fd, SYS_fdatasync);
}
