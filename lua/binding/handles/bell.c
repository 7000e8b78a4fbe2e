/* SPDX-License-Identifier: MIT */
/*
 * The bell; see bell.h. Its path lies in a new directory that nobody else may
 * enter, and is gone once it is connected. The descriptor is never closed, as
 * threads of stores may ring at any time.
 */
#include "bell.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct bell {
  int listener, fd;
  char directory[32], path[40];
} bell;

static bell *check(lua_State *L, int index) {
  return luaL_checkudata(L, index, LBELL);
}

int lbell_fd(lua_State *L, int index) {
  return check(L, index)->fd;
}

static void shut(bell *b) {
  if (b->listener >= 0)
    close(b->listener);
  if (b->directory[0]) {
    unlink(b->path);
    rmdir(b->directory);
  }
  b->listener = -1;
  b->directory[0] = '\0';
}

static bool make_directory(bell *b, const char *in) {
  snprintf(b->directory, sizeof b->directory, "%s/respool-XXXXXX", in);
  if (mkdtemp(b->directory))
    return true;
  b->directory[0] = '\0';
  return false;
}

static bool make(bell *b) {
  struct sockaddr_un a = { .sun_family = AF_UNIX };
  if (!make_directory(b, "/tmp") && !make_directory(b, "/dev/shm"))
    return false;
  snprintf(b->path, sizeof b->path, "%s/bell", b->directory);
  strcpy(a.sun_path, b->path);
  b->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return b->listener >= 0 &&
         !bind(b->listener, (struct sockaddr *)&a, sizeof a) &&
         !listen(b->listener, 1);
}

/* bell(): a new one; nothing where none can be made. */
static int new_bell(lua_State *L) {
  bell *b = lua_newuserdata(L, sizeof *b);
  memset(b, 0, sizeof *b);
  b->listener = b->fd = -1;
  luaL_getmetatable(L, LBELL);
  lua_setmetatable(L, -2);
  if (make(b))
    return 1;
  shut(b);
  return 0;
}

/* path(bell): what to connect to, before accept(). */
static int bell_path(lua_State *L) {
  lua_pushstring(L, check(L, 1)->path);
  return 1;
}

static bool is_ours(int fd) {
  struct ucred who;
  socklen_t size = sizeof who;
  return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) &&
         who.pid == getpid();
}

/* accept(bell): whether this process has connected to it. */
static int bell_accept(lua_State *L) {
  bell *b = check(L, 1);
  int fd = b->listener < 0 ? -1
    : accept4(b->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  shut(b);
  if (fd >= 0 && !is_ours(fd)) {
    close(fd);
    fd = -1;
  }
  b->fd = fd;
  lua_pushboolean(L, fd >= 0);
  return 1;
}

static int bell_gc(lua_State *L) {
  shut(check(L, 1));
  return 0;
}

static const luaL_Reg METHODS[] = {
  { "path", bell_path },
  { "accept", bell_accept },
  { NULL, NULL }
};

void lbell_open(lua_State *L) {
  luaL_newmetatable(L, LBELL);
  lua_pushcfunction(L, bell_gc);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  compat_register(L, METHODS);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_pushcfunction(L, new_bell);
  lua_setfield(L, -2, "bell");
}
