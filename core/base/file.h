/* SPDX-License-Identifier: MIT */
/*
 * Opening the files that respool makes. They lie in directories where other
 * users may have put something else under their names, so:
 *
 *   1. A new file is made where nothing was, never through a link.
 *   2. A file that is there is opened only if it is a plain file with one
 *      name; in a directory where everybody may write, only if its owner is
 *      this user, root or the directory's owner.
 *   3. In a directory of another user root has that user's rights alone. So
 *      what root makes there belongs to that user, and no link leads root to
 *      what that user may not touch, however fast the link is changed.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define FILE_MODE 0640 /* of new files, less the umask */

/* Makes a file to be written. A descriptor, or -1 with errno: EEXIST. */
int file_make(int dirfd, const char *name, mode_t mode);

/* Opens a file that is there; `access` is O_RDONLY or O_RDWR. A descriptor,
   or -1 with errno; see file_error. */
int file_open(int dirfd, const char *name, int access);

/* Opens a file to be read and written, made when it is missing. */
int file_open_or_make(int dirfd, const char *name);

/* Stats a file without following links: 0, or -1 with the errno that opening
   it would have. */
int file_look(int dirfd, const char *name, struct stat *st);

/* What tells a file from others, and its size on the disk, in bytes. */
typedef struct file_identity {
  uint64_t inode, names, stored;
} file_identity;

/* The identity of a file in a directory, or of the descriptor where the name
   is empty, without following links: 0, or -1 with errno. It does not ask for
   the file's times: after that Linux (from 6.13 on) gives the next write new
   ones, and a flush of some file systems takes half as long again. */
int file_identify(int fd, const char *name, file_identity *f);

/* The message of an errno of the functions above. */
const char *file_error(int error);

/* The rights of this thread on files, while root has another user's. */
typedef struct rights {
  bool taken;
  uid_t uid;
  gid_t gid;
} rights;

/* Takes the rights of the directory's owner, if this is root and the
   directory another user's; to be returned. Pairs may be nested. */
void rights_take(int dirfd, rights *r);
void rights_return(const rights *r);

#endif
