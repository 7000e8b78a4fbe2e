/* SPDX-License-Identifier: MIT */
/*
 * Waits for other processes end when Lua wants to go on: the interpreter's
 * handler of Ctrl-C sets a hook, to raise an error as soon as Lua runs, and
 * core.process counts the signals that it watches. A long wait is told on
 * stderr, once, or each few seconds where there is something new to tell, as of
 * a migration, unless no store has a log; no Lua runs meanwhile, so that the
 * log itself hears of it when it is over.
 */
#include "system/wait.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "respool.h"
#include "system/process.h"

#define LWAIT "respool.wait"
#define TELL_AFTER 3000 /* ms */

typedef struct heed {
  lua_State *L; /* whose hook is set by handlers */
  lua_Hook hook;
  int signals;  /* that had come when the call began */
  bool tells, told;
  int64_t told_at; /* ms of the wait */
  int64_t waited; /* ms of the last long wait; 0: none since it was asked */
  char whom[64];
} heed;

static void note_wait(heed *h, int64_t ms, const char *whom) {
  bool news = !h->told ||
              (strcmp(h->whom, whom) && ms - h->told_at >= TELL_AFTER);
  if (h->tells && news)
    fprintf(stderr, "respool: waiting for %s, which uses the store\n", whom);
  if (news) h->told_at = ms;
  h->told = true;
  h->waited = ms;
  snprintf(h->whom, sizeof h->whom, "%s", whom);
}

static int on_wait(void *arg, int64_t ms, const char *whom) {
  heed *h = arg;
  if (ms == 0) {
    h->hook = lua_gethook(h->L);
    h->signals = lprocess_signals();
    h->told = false;
    return 0;
  }
  if (ms >= TELL_AFTER) note_wait(h, ms, whom);
  return lua_gethook(h->L) != h->hook || lprocess_signals() != h->signals;
}

static int forget(lua_State *L) {
  (void)L;
  respool_on_wait(NULL, NULL);
  return 0;
}

/* tell_waits(): from now on. */
static int tell_waits(lua_State *L) {
  heed *h = lua_touserdata(L, lua_upvalueindex(1));
  h->tells = true;
  return 0;
}

/* waited(): how many seconds the last long wait has taken, and for whom;
   nothing when there was none since this was asked. */
static int waited(lua_State *L) {
  heed *h = lua_touserdata(L, lua_upvalueindex(1));
  if (!h->waited)
    return 0;
  lua_pushnumber(L, (lua_Number)h->waited / 1000);
  lua_pushstring(L, h->whom);
  h->waited = 0;
  return 2;
}

/* Pushes the main thread, or in Lua 5.1 this one, and returns it. */
static lua_State *push_main(lua_State *L) {
#ifdef LUA_RIDX_MAINTHREAD
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
#else
  lua_pushthread(L);
#endif
  return lua_tothread(L, -1);
}

/* The module's table lies below the userdata, which is the upvalue. */
static void set_function(lua_State *L, lua_CFunction f, const char *name) {
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, f, 1);
  lua_setfield(L, -3, name);
}

/* With the module's table on the stack. The registry keeps the userdata, and
   its metatable the thread. */
void lwait_open(lua_State *L) {
  heed *h = lua_newuserdata(L, sizeof *h);
  *h = (heed){0};
  luaL_newmetatable(L, LWAIT);
  h->L = push_main(L);
  lua_setfield(L, -2, "thread");
  lua_pushcfunction(L, forget);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, "respool.waits");
  set_function(L, tell_waits, "tell_waits");
  set_function(L, waited, "waited");
  lua_pop(L, 1);
  respool_on_wait(on_wait, h);
}
