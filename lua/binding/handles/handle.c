/* SPDX-License-Identifier: MIT */
/*
 * Handles. A handle is linked from its parent's list of children, newest
 * first, through `link`; a shut one is in no list and has no children.
 */
#include "handle.h"

#include <string.h>

#include "values/result.h"

#define LGUARD "respool.guard"

void *lhandle_new_of(lua_State *L, size_t size, const char *type,
                     lfree free) {
  handle *h = lua_newuserdata(L, size);
  memset(h, 0, size);
  h->free = free;
  luaL_getmetatable(L, type);
  lua_setmetatable(L, -2);
  return h;
}

handle *lhandle_new(lua_State *L, const char *type, lfree free) {
  return lhandle_new_of(L, sizeof(handle), type, free);
}

void lhandle_open(handle *h, handle *parent, void *object) {
  h->object = object;
  h->open = true;
  if (!parent)
    return;
  h->next = parent->children;
  h->link = &parent->children;
  if (h->next)
    h->next->link = &h->next;
  parent->children = h;
}

static void unlink_handle(handle *h) {
  if (!h->link)
    return;
  *h->link = h->next;
  if (h->next)
    h->next->link = h->link;
  h->link = NULL;
}

static void shut(handle *h) {
  while (h->children)
    shut(h->children);
  unlink_handle(h);
  h->open = false;
  if (h->object)
    h->free(h->object);
  h->object = NULL;
}

void lhandle_abandon(handle *h) {
  while (h->children)
    lhandle_abandon(h->children);
  unlink_handle(h);
  h->open = false;
  h->object = NULL;
}

handle *lhandle_check(lua_State *L, int index, const char *type) {
  handle *h = luaL_checkudata(L, index, type);
  if (!h->open)
    lmisuse(L, "attempt to use a closed %s", strchr(type, '.') + 1);
  return h;
}

void *lhandle_object(lua_State *L, int index, const char *type) {
  return lhandle_check(L, index, type)->object;
}

/* The type's name is the upvalue of a function that knows one type. */
static handle *self(lua_State *L) {
  return luaL_checkudata(L, 1, lua_tostring(L, lua_upvalueindex(1)));
}

static int handle_close(lua_State *L) {
  shut(self(L));
  return 0;
}

static int handle_closed(lua_State *L) {
  lua_pushboolean(L, !self(L)->open);
  return 1;
}

static void set_typed(lua_State *L, const char *type, lua_CFunction f,
                      const char *name) {
  lua_pushstring(L, type);
  lua_pushcclosure(L, f, 1);
  lua_setfield(L, -2, name);
}

void lhandle_type(lua_State *L, const char *type, const luaL_Reg *methods) {
  luaL_newmetatable(L, type);
  set_typed(L, type, handle_close, "__gc");
  lua_newtable(L);
  compat_register(L, methods);
  set_typed(L, type, handle_close, "close");
  set_typed(L, type, handle_closed, "closed");
  lua_setfield(L, -2, "__index");
}


typedef struct guard {
  void *object;
  lfree free;
} guard;

void **lguard(lua_State *L, lfree free) {
  guard *g = lua_newuserdata(L, sizeof *g);
  g->object = NULL;
  g->free = free;
  luaL_getmetatable(L, LGUARD);
  lua_setmetatable(L, -2);
  return &g->object;
}

void lguard_free(void **object) {
  guard *g = (guard *)object; /* its first member */
  if (g->object)
    g->free(g->object);
  g->object = NULL;
}

static int guard_gc(lua_State *L) {
  lguard_free(luaL_checkudata(L, 1, LGUARD));
  return 0;
}

void lguard_type(lua_State *L) {
  luaL_newmetatable(L, LGUARD);
  lua_pushcfunction(L, guard_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}
