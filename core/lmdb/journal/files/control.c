/* SPDX-License-Identifier: MIT */
/*
 * Making, mapping and leaving the control block; see control.h. It is a file
 * of the store's directory, so that whoever shares the store shares it, and
 * every byte of it is allocated before it is mapped: a hole on a full disk
 * would be SIGBUS. A child of fork lets go of it at once, since a lock lives
 * as long as any copy of the descriptor.
 */
#include "lmdb/journal/files/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "lmdb/env/files.h"
#include "lmdb/journal/files/byte_lock.h"

static const char name[] = "control";

/* ---- fork ---------------------------------------------------------------- */

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static journal *open_journals;

static void before_fork(void) {
  pthread_mutex_lock(&open_lock);
}

static void after_fork(void) {
  pthread_mutex_unlock(&open_lock);
}

static void let_go(journal *j) {
  if (j->c) munmap(j->c, sizeof(control));
  if (j->fd >= 0) close(j->fd);
  if (j->cfd >= 0) close(j->cfd);
  if (j->dirfd >= 0) close(j->dirfd);
  j->c = NULL;
  j->fd = j->cfd = j->dirfd = -1;
}

static void in_child(void) {
  for (journal *j = open_journals; j; j = j->next) {
    let_go(j);
    j->forked = true;
  }
  open_journals = NULL;
  pthread_mutex_init(&open_lock, NULL);
}

static void watch_forks(void) {
  pthread_atfork(before_fork, after_fork, in_child);
}

static void list_add(journal *j) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  pthread_mutex_lock(&open_lock);
  j->next = open_journals;
  open_journals = j;
  pthread_mutex_unlock(&open_lock);
}

static void list_remove(const journal *j) {
  pthread_mutex_lock(&open_lock);
  journal **p = &open_journals;
  while (*p && *p != j) p = &(*p)->next;
  if (*p) *p = j->next;
  pthread_mutex_unlock(&open_lock);
}

/* ---- who and where we are ------------------------------------------------ */

static uint64_t pid_namespace(void) {
  struct stat st;
  return stat("/proc/self/ns/pid", &st) ? 0 : st.st_ino;
}

void control_boot(char boot[40]) {
  memset(boot, 0, 40);
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (read(fd, boot, 36) < 0) boot[0] = '\0';
  close(fd);
}

int control_usable(const journal *j) {
  if (j->forked)
    return fail(RESPOOL_FORKED, "the journal belongs to the parent process");
  if (!j->c || !j->started)
    return fail(RESPOOL_CLOSED, "the journal is not open");
  if (atomic_load(&j->away))
    return fail(RESPOOL_IO, "the store of this journal was deleted or "
                "replaced");
  return 0;
}

/* ---- the file ------------------------------------------------------------ */

static int cannot(const char *what) {
  int code = errno == ENOSPC || errno == EDQUOT ? RESPOOL_NOSPACE
             : errno == ENOMEM ? RESPOOL_NOMEM : RESPOOL_IO;
  return fail(code, "cannot %s '%s' of the journal: %s", what, name,
              file_error(errno));
}

/* How a block of any layout begins. */
typedef struct block_head {
  uint32_t magic, layout;
  uint64_t size, pidns;
} block_head;

/* A file of another layout is cleared first. */
static int allocate(const journal *j) {
  struct stat st;
  block_head b;
  if (fstat(j->cfd, &st)) return cannot("look at");
  bool same = st.st_size == sizeof(control) &&
              pread(j->cfd, &b, sizeof b, 0) == sizeof b &&
              b.layout == CONTROL_LAYOUT && b.size == sizeof(control);
  if (!same && ftruncate(j->cfd, 0)) return cannot("clear");
  if (ftruncate(j->cfd, sizeof(control))) return cannot("allocate");
  errno = posix_fallocate(j->cfd, 0, sizeof(control));
  return errno ? cannot("allocate") : 0;
}

/* Of a block that another process has built. */
static int recognise(const journal *j) {
  struct stat st;
  block_head b;
  if (fstat(j->cfd, &st) ||
      pread(j->cfd, &b, sizeof b, 0) != sizeof b)
    return cannot("read");
  if (b.magic != CONTROL_MAGIC || b.layout != CONTROL_LAYOUT ||
      b.size != sizeof(control) || st.st_size < (off_t)sizeof(control))
    return fail(RESPOOL_VERSION, "the store is open in a program with "
                "another version of respool: close it there");
  if (b.pidns != pid_namespace())
    return fail(RESPOOL_LOCKED, "the store is open in another container (pid "
                "namespace): share one (docker --pid=container:NAME, "
                "shareProcessNamespace), or use PostgreSQL");
  return 0;
}

static int map(journal *j) {
  void *p = mmap(NULL, sizeof(control), PROT_READ | PROT_WRITE, MAP_SHARED,
                 j->cfd, 0);
  if (p == MAP_FAILED) return cannot("map");
  j->c = p;
  if (!j->first) return 0;
  atomic_store(&j->c->magic, 0);
  j->c->pidns = pid_namespace();
  return 0;
}

/* It may be opened by those who may open the data. */
static int make(journal *j) {
  int fd = file_make(j->dirfd, name, FILE_MODE);
  if (fd < 0 || !files_match(j->dirfd, fd)) return fd;
  int error = errno;
  close(fd);
  (void)unlinkat(j->dirfd, name, 0);
  errno = error;
  return -1;
}

int control_open(journal *j) {
  do {
    j->cfd = file_open(j->dirfd, name, O_RDWR);
    if (j->cfd < 0 && errno == ENOENT) j->cfd = make(j);
  } while (j->cfd < 0 && errno == EEXIST);
  return j->cfd < 0 ? cannot("open") : 0;
}

int control_map(journal *j) {
  int rc = j->first ? allocate(j) : recognise(j);
  if (!rc) rc = map(j);
  if (!rc) list_add(j);
  return rc;
}

int control_publish(journal *j) {
  atomic_store(&j->c->magic, CONTROL_MAGIC);
  j->first = false;
  return byte_lock(j->cfd, F_RDLCK, 0) ? cannot("lock") : 0;
}

/* A process that opens another store here is the first then, and rebuilds the
   block; its own store finds the block as it was, or as others have built it
   from the same files. */
void journal_away(journal *j, bool away) {
  if (!j->started || j->forked || !j->c) return;
  if (away && !atomic_exchange(&j->away, true))
    (void)byte_lock(j->cfd, F_UNLCK, 0);
  else if (!away && atomic_load(&j->away) &&
           !byte_lock(j->cfd, F_RDLCK, 0)) {
    if (memcmp(j->c->store, j->store, sizeof j->store) ||
        atomic_load(&j->c->magic) != CONTROL_MAGIC)
      (void)byte_lock(j->cfd, F_UNLCK, 0);
    else
      atomic_store(&j->away, false);
  }
}

static bool is_of(const control *c, const uint8_t store[16]) {
  char boot[40];
  control_boot(boot);
  return atomic_load(&c->magic) == CONTROL_MAGIC &&
         c->layout == CONTROL_LAYOUT && c->size == sizeof *c &&
         !atomic_load(&c->n_kept) && !memcmp(c->boot, boot, sizeof boot) &&
         !memcmp(c->store, store, sizeof c->store);
}

static bool copy_part(int fd, control *c, size_t from, size_t n) {
  return pread(fd, (char *)c + from, n, (off_t)from) == (ssize_t)n;
}

/* Rows, and the slots that were ever used. */
static bool copy_parts(int fd, control *c, const uint8_t store[16]) {
  return copy_part(fd, c, 0, offsetof(control, index)) &&
         copy_part(fd, c, offsetof(control, n_kept), sizeof c->n_kept) &&
         is_of(c, store) && c->unused <= JOURNAL_ITEMS &&
         copy_part(fd, c, offsetof(control, slot), c->unused * sizeof(slot));
}

/* Read, not mapped: another version of respool may cut the file. */
control *control_copy(int dirfd, const uint8_t store[16]) {
  int fd = file_open(dirfd, name, O_RDONLY);
  if (fd < 0) return NULL;
  control *c = calloc(1, sizeof *c);
  if (c && !copy_parts(fd, c, store)) {
    free(c);
    c = NULL;
  }
  close(fd);
  return c;
}

void control_close(journal *j) {
  list_remove(j);
  let_go(j);
}
