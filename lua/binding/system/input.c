/* SPDX-License-Identifier: MIT */
/*
 * Input that may block, such as a pipe: the bytes that are there, without the
 * wait for more that stdio's reads imply. Takes files of Lua's io that are
 * read by nothing else, as it passes by their buffers.
 */

#include "input.h"

#include <errno.h>
#include <limits.h>
#include <lualib.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_MOST (1 << 20)
#define LPLACE "respool.input"

static int failed(lua_State *L, const char *what) {
  int error = errno;
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", what, strerror(error));
  lua_pushstring(L, error == EINTR ? "INTERRUPTED" : "IO");
  return 3;
}

/* In every Lua a file begins with its FILE; NULL when closed. */
static int file_number(lua_State *L) {
  FILE **f = luaL_checkudata(L, 1, LUA_FILEHANDLE);
  luaL_argcheck(L, *f != NULL, 1, "closed file");
  return fileno(*f);
}

/* wait(file, seconds): whether there is something to read, the end of the
   input included. Negative: as long as it takes. */
static int input_wait(lua_State *L) {
  struct pollfd p = { .fd = file_number(L), .events = POLLIN };
  double seconds = luaL_checknumber(L, 2);
  int n = poll(&p, 1, seconds < 0 ? -1 : (int)(seconds * 1000));
  if (n < 0)
    return failed(L, "poll");
  lua_pushboolean(L, n > 0);
  return 1;
}

/* The place that all reads of a Lua state share. */
static char *read_place(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, LPLACE);
  if (lua_isnil(L, -1)) {
    lua_newuserdata(L, READ_MOST);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, LPLACE);
  }
  return lua_touserdata(L, -1);
}

/* read(file): what there is, up to 1 MiB; "" at the end of the input. */
static int input_read(lua_State *L) {
  int fd = file_number(L);
  char *place = read_place(L);
  ssize_t n = read(fd, place, READ_MOST);
  if (n < 0)
    return failed(L, "read");
  lua_pushlstring(L, place, (size_t)n);
  return 1;
}

/* size(file): nothing when it is no regular file. */
static int input_size(lua_State *L) {
  struct stat st;
  if (fstat(file_number(L), &st) || !S_ISREG(st.st_mode))
    return 0;
  lua_pushnumber(L, (lua_Number)st.st_size);
  return 1;
}

/* seek(file, offset): reads go on there; false when the input cannot. */
static int input_seek(lua_State *L) {
  lua_Number offset = luaL_checknumber(L, 2);
  luaL_argcheck(L, offset >= 0 && offset <= 0x1p53, 2, "out of range");
  off_t at = lseek(file_number(L), (off_t)offset, SEEK_SET);
  lua_pushboolean(L, at >= 0);
  return 1;
}

/* whole_path(path): the same for every way to write it. */
static int whole_path(lua_State *L) {
  char place[PATH_MAX];
  const char *path = luaL_checkstring(L, 1);
  if (!realpath(path, place))
    return failed(L, path);
  lua_pushstring(L, place);
  return 1;
}

static const luaL_Reg FUNCTIONS[] = {
  { "wait", input_wait },
  { "read", input_read },
  { "size", input_size },
  { "seek", input_seek },
  { "whole_path", whole_path },
  { NULL, NULL }
};

void linput_open(lua_State *L) {
  lua_newtable(L);
  compat_register(L, FUNCTIONS);
  lua_setfield(L, -2, "input");
}
