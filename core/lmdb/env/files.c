/* SPDX-License-Identifier: MIT */
/*
 * The files of an open store; see files.h. Inode numbers tell them apart: all
 * of them are kept open here, so no other file gets their numbers meanwhile.
 * O_PATH descriptors can be closed without losing LMDB's locks on the files.
 */
#include "lmdb/env/files.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "lmdb/env/directory.h"

#define READER_SIZE 64  /* bytes of a reader's slot in the lock file */
#define LOCK_HEAD 4096  /* no less than what comes before the slots */

/* ---- before they are opened ---------------------------------------------- */

static int name_fail(const lmdb_env *e, const char *name, int error) {
  if (error == ENOSPC || error == EDQUOT || error == ENOENT)
    return dir_fail(e->path, error);
  return fail(RESPOOL_IO, "cannot open '%.160s/%s': %s", e->path, name,
              file_error(error));
}

/* LMDB writes the lock file through a map, which needs its blocks. It may be
   opened by those who may open the data, and by nobody else. The owner of the
   directory may be another than that of the data, if it is root. */
static int match(int dirfd, int fd, const struct stat *data) {
  struct stat st, dir;
  mode_t mode = (data->st_mode & 0666) | 0600;
  if (fchmod(fd, mode)) return -1;
  if (geteuid() != 0 || fstat(fd, &st) || fstat(dirfd, &dir) ||
      dir.st_uid != 0 || st.st_uid != 0)
    return 0;
  return fchown(fd, data->st_uid, data->st_gid) || fchmod(fd, mode) ? -1 : 0;
}

int files_match(int dirfd, int fd) {
  struct stat data;
  if (file_look(dirfd, DATA_NAME, &data)) return errno == ENOENT ? 0 : -1;
  return match(dirfd, fd, &data);
}

static int fill_lock(const lmdb_env *e, int fd, const struct stat *data) {
  off_t size = LOCK_HEAD + (off_t)e->max_readers * READER_SIZE;
  if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size) &&
      (errno == ENOSPC || errno == EDQUOT))
    return -1;
  return match(e->dirfd, fd, data);
}

/* A directory that may only be read is LMDB's business. */
static int make_lock(const lmdb_env *e, const struct stat *data) {
  int fd = file_make(e->dirfd, LOCK_NAME, FILE_MODE);
  if (fd < 0)
    return errno == ENOSPC || errno == EDQUOT
             ? name_fail(e, LOCK_NAME, errno) : 0;
  int rc = fill_lock(e, fd, data), error = errno;
  close(fd); /* nobody here has locks on it yet */
  if (!rc) return 0;
  (void)unlinkat(e->dirfd, LOCK_NAME, 0);
  return name_fail(e, LOCK_NAME, error);
}

int files_prepare(lmdb_env *e) {
  struct stat data, lock;
  if (file_look(e->dirfd, DATA_NAME, &data))
    return name_fail(e, DATA_NAME, errno);
  if (!file_look(e->dirfd, LOCK_NAME, &lock)) return 0;
  return errno == ENOENT ? make_lock(e, &data)
                         : name_fail(e, LOCK_NAME, errno);
}

static bool may_open(const lmdb_env *e, const char *name) {
  int fd = file_open(e->dirfd, name, e->read_only ? O_RDONLY : O_RDWR);
  if (fd >= 0) close(fd);
  return fd >= 0 || errno != EACCES;
}

int files_explain(const lmdb_env *e) {
  struct stat st;
  rights r;
  rights_take(e->dirfd, &r);
  unsigned uid = r.taken && !fstat(e->dirfd, &st) ? st.st_uid : geteuid();
  rights_return(&r);
  const char *name = may_open(e, DATA_NAME) ? LOCK_NAME : DATA_NAME;
  if (fstatat(e->dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
    return dir_fail(e->path, EACCES);
  return fail(RESPOOL_IO, "cannot open '%.140s/%s': it belongs to user %u, "
              "and user %u has no permission", e->path, name,
              (unsigned)st.st_uid, uid);
}

/* ---- afterwards ---------------------------------------------------------- */

static uint64_t inode(const lmdb_env *e, const char *name) {
  file_identity f;
  return file_identify(e->dirfd, name, &f) ? 0 : f.inode;
}

static void hold(const lmdb_env *e, const char *name, int *fd,
                 uint64_t *number) {
  file_identity f;
  if (*fd >= 0) close(*fd);
  *fd = openat(e->dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  *number = *fd >= 0 && !file_identify(*fd, "", &f) ? f.inode : 0;
}

void files_note(lmdb_env *e) {
  hold(e, DATA_NAME, &e->held[0], &e->data_ino);
  hold(e, LOCK_NAME, &e->held[1], &e->lock_ino);
  e->looked_at = clock_mono();
}

/* Why the path does not lead to the open store; NULL: it does, or nobody can
   tell. */
static const char *look(const lmdb_env *e) {
  struct stat st;
  if (stat(e->absolute, &st))
    return errno == ENOENT || errno == ENOTDIR ? "was deleted" : NULL;
  if (st.st_dev != e->dev || st.st_ino != e->ino) return "was replaced";
  if (inode(e, DATA_NAME) != e->data_ino)
    return inode(e, DATA_NAME) ? "was replaced" : "was deleted";
  if (e->lock_ino && inode(e, LOCK_NAME) != e->lock_ino)
    return "lost its lock file";
  return NULL;
}

static int gone(const lmdb_env *e) {
  return fail_of_store(fail(RESPOOL_IO, "store '%.160s' %s while it was "
                            "open: close it, and open it again", e->path,
                            e->gone));
}

static int note_gone(lmdb_env *e, const char *why) {
  e->gone = why;
  e->must_reopen = true;
  if (e->beside) e->beside->away(e, true);
  return gone(e);
}

static bool has_name(int fd) {
  file_identity f;
  return fd < 0 || (!file_identify(fd, "", &f) && f.names);
}

/* Deleted files, and ones that others were renamed over, have lost their names;
   not so in a directory that was moved. */
static bool is_due(const lmdb_env *e, int64_t now, int how) {
  static const int64_t every[] = {
    [LOOK_NOW] = 0, [LOOK_OFTEN] = 20, [LOOK_SELDOM] = 500};
  if (e->gone || now - e->looked_at >= every[how]) return true;
  return how == LOOK_OFTEN && !(has_name(e->held[0]) && has_name(e->held[1]));
}

/* Files that were gone may come back: a disk that is mounted again. */
int files_check(lmdb_env *e, int how) {
  if (e->memory) return 0;
  int64_t now = clock_mono();
  if (!is_due(e, now, how)) return 0;
  e->looked_at = now;
  const char *why = look(e);
  if (why) return note_gone(e, why);
  if (e->gone && e->beside) e->beside->away(e, false);
  e->gone = NULL;
  return 0;
}

int files_astray(lmdb_env *e) {
  int rc = note_gone(e, "was replaced");
  e->lock_ino = UINT64_MAX; /* it does not come back */
  return rc;
}
