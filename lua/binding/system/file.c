/* SPDX-License-Identifier: MIT */
/*
 * Files: what export and import need of the system and Lua has not.
 * A file is made once, under a name that nobody else has; what is in it
 * reaches the disk before it gets the name under which others look for it.
 */

#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "values/result.h"

#define LLOCK "respool.lock"
#define LNEW "respool.new_file"
#define SUM 8 /* bytes of a checksum, big-endian */

static int failed(lua_State *L, const char *verb, const char *path) {
  return lfail_file(L, errno, verb, path);
}

static int done(lua_State *L) {
  lua_pushboolean(L, 1);
  return 1;
}


/* Making and publishing. */

/* The directory of a path; `*name` is what lies in it. */
static int open_parent(const char *path, const char **name) {
  const char *slash = strrchr(path, '/');
  char dir[PATH_MAX];
  *name = slash ? slash + 1 : path;
  size_t n = slash ? (size_t)(slash - path) + (slash == path) : 1;
  if (n >= sizeof dir) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(dir, slash ? path : ".", n);
  dir[n] = '\0';
  return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The mode of a file with what came from a store: it is no more readable than
   the data file of the store at this index, if that is in files. */
static mode_t mode_of(lua_State *L, int index) {
  struct stat st;
  const char *store = luaL_optstring(L, index, NULL);
  if (!store)
    return FILE_MODE;
  lua_pushfstring(L, "%s/data.mdb", store);
  int rc = stat(lua_tostring(L, -1), &st);
  lua_pop(L, 1);
  return rc ? FILE_MODE : st.st_mode & FILE_MODE;
}

/* A place for a descriptor, closed by the collector at the latest. */
static int *push_fd(lua_State *L, const char *type) {
  int *fd = lua_newuserdata(L, sizeof *fd);
  *fd = -1;
  luaL_getmetatable(L, type);
  lua_setmetatable(L, -2);
  return fd;
}

/* create(path[, store]): makes an empty file; EXISTS when there is anything.
   It is to be opened by its place: by its name something else may be found. */
static int file_create(lua_State *L) {
  const char *path = luaL_checkstring(L, 1), *name;
  mode_t mode = mode_of(L, 2);
  int *fd = push_fd(L, LNEW);
  int dirfd = open_parent(path, &name);
  if (dirfd < 0)
    return failed(L, "create", path);
  *fd = file_make(dirfd, name, mode);
  int error = errno;
  close(dirfd);
  errno = error;
  return *fd < 0 ? failed(L, "create", path) : 1;
}

/* place(file, inherited): a path to it as long as it is open; `inherited`:
   also for the programs that are started meanwhile. */
static int new_place(lua_State *L) {
  const int *fd = luaL_checkudata(L, 1, LNEW);
  if (lua_toboolean(L, 2))
    (void)fcntl(*fd, F_SETFD, 0);
  lua_pushfstring(L, "/proc/self/fd/%d", *fd);
  return 1;
}

static int close_fd(lua_State *L, const char *type) {
  int *fd = luaL_checkudata(L, 1, type);
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
  return 0;
}

static int new_close(lua_State *L) {
  return close_fd(L, LNEW);
}

/* Renames, but never over a file that is there. */
static int rename_new(const char *from, const char *to) {
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
    return 0;
  if (errno != EINVAL && errno != ENOSYS) /* can the file system not? */
    return -1;
  return link(from, to) ? -1 : unlink(from);
}

/* rename(from, to): EXISTS when there is such a file. */
static int file_rename(lua_State *L) {
  const char *from = luaL_checkstring(L, 1), *to = luaL_checkstring(L, 2);
  return rename_new(from, to) ? failed(L, "create", to) : done(L);
}

/* make_directory(path[, store]): true also when it is there. It may be listed
   by those who may read a file like the store's. */
static int make_directory(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  mode_t mode = mode_of(L, 2) & 0040 ? 0750 : 0700;
  if (mkdir(path, mode) && errno != EEXIST)
    return failed(L, "create", path);
  return done(L);
}


/* Looking. */

static const char *kind_of(mode_t mode) {
  if (S_ISDIR(mode))
    return "directory";
  return S_ISREG(mode) ? "file" : "other";
}

/* size(path): of a plain file, else 0. */
static int file_size(lua_State *L) {
  struct stat st;
  int rc = stat(luaL_checkstring(L, 1), &st);
  lua_pushinteger(L, rc || !S_ISREG(st.st_mode) ? 0 : (lua_Integer)st.st_size);
  return 1;
}

/* kind(path): "file", "directory" or "other", such as a pipe. */
static int file_kind(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct stat st;
  if (stat(path, &st))
    return failed(L, "open", path);
  lua_pushstring(L, kind_of(st.st_mode));
  return 1;
}

static int free_dir(lua_State *L) {
  DIR **d = lua_touserdata(L, 1);
  if (*d)
    closedir(*d);
  *d = NULL;
  return 0;
}

/* A place for an open directory, which the collector closes after an
   error. */
static DIR **push_dir(lua_State *L) {
  DIR **d = lua_newuserdata(L, sizeof *d);
  *d = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, free_dir);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  return d;
}

/* list(path): the names in a directory, in no order. */
static int file_list(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  DIR **d = push_dir(L);
  *d = opendir(path);
  if (!*d)
    return failed(L, "list", path);
  lua_newtable(L);
  const struct dirent *e;
  for (int i = 1; (e = readdir(*d));) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
      continue;
    lua_pushstring(L, e->d_name);
    lua_rawseti(L, -2, i++);
  }
  closedir(*d);
  *d = NULL;
  return 1;
}

static int file_pid(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}


/* Locks: held by a file description, so that a killed process holds none. */

static int unlock(lua_State *L) {
  return close_fd(L, LLOCK);
}

/* lock(path): a lock with a method unlock(); LOCKED when another has it. */
static int file_lock(lua_State *L) {
  const char *path = luaL_checkstring(L, 1), *name;
  int *fd = push_fd(L, LLOCK);
  int dirfd = open_parent(path, &name);
  if (dirfd < 0)
    return failed(L, "open", path);
  *fd = file_open_or_make(dirfd, name);
  int error = errno;
  close(dirfd);
  errno = error;
  if (*fd < 0)
    return failed(L, "open", path);
  return flock(*fd, LOCK_EX | LOCK_NB) ? failed(L, "lock", path) : 1;
}


/* Checksums. */

static uint64_t read_sum(const char *s, size_t n) {
  uint64_t sum = 0;
  for (size_t i = 0; i < n; i++)
    sum = sum << 8 | (uint8_t)s[i];
  return sum;
}

static const char DIGITS[] = "0123456789abcdef";

/* sum(bytes[, before]): XXH3-64 of the bytes, seeded with the sum of what
   came before them; 8 bytes, and the same in hexadecimal digits. */
static int file_sum(lua_State *L) {
  size_t n, m;
  const char *s = luaL_checklstring(L, 1, &n);
  const char *before = luaL_optlstring(L, 2, "", &m);
  luaL_argcheck(L, m == 0 || m == SUM, 2, "no sum");
  uint64_t sum = XXH3_64bits_withSeed(s, n, read_sum(before, m));
  char out[SUM], hex[2 * SUM];
  for (int i = SUM - 1; i >= 0; i--, sum >>= 8) {
    out[i] = (char)(sum & 0xff);
    hex[2 * i] = DIGITS[sum >> 4 & 0xf];
    hex[2 * i + 1] = DIGITS[sum & 0xf];
  }
  lua_pushlstring(L, out, SUM);
  lua_pushlstring(L, hex, sizeof hex);
  return 2;
}

static const luaL_Reg FUNCTIONS[] = {
  { "create", file_create },
  { "rename", file_rename },
  { "make_directory", make_directory },
  { "size", file_size },
  { "kind", file_kind },
  { "list", file_list },
  { "pid", file_pid },
  { "lock", file_lock },
  { "sum", file_sum },
  { NULL, NULL }
};

static const luaL_Reg NEW[] = {
  { "place", new_place },
  { "close", new_close },
  { "__gc", new_close },
  { NULL, NULL }
};

static const luaL_Reg LOCK[] = {
  { "unlock", unlock },
  { "__gc", unlock },
  { NULL, NULL }
};

static void make_type(lua_State *L, const char *type,
                      const luaL_Reg *methods) {
  luaL_newmetatable(L, type);
  compat_register(L, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

void lfile_open(lua_State *L) {
  make_type(L, LNEW, NEW);
  make_type(L, LLOCK, LOCK);
  lua_newtable(L);
  compat_register(L, FUNCTIONS);
  lua_setfield(L, -2, "file");
}
