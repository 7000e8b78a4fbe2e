/* SPDX-License-Identifier: MIT */
/*
 * Dead letters that a take made, in a growing array; see deaths.h.
 */
#include "deaths.h"

#include <stdlib.h>
#include <string.h>

#include "handle.h"
#include "record.h"

typedef struct death {
  uint64_t number;
  char dlq[RESPOOL_NAME_MAX + 1];
} death;

typedef struct deaths {
  size_t n, cap;
  death *of;
} deaths;

static void free_deaths(void *object) {
  deaths *d = object;
  free(d->of);
  free(d);
}

static bool has_room(deaths *d) {
  if (d->n < d->cap)
    return true;
  size_t cap = d->cap ? d->cap * 2 : 8;
  death *of = realloc(d->of, cap * sizeof *of);
  if (!of)
    return false;
  d->of = of;
  d->cap = cap;
  return true;
}

/* One that there is no memory for is not told of; its dead letter is there. */
static void gather(void *arg, const char *dlq, uint64_t number) {
  deaths *d = arg;
  if (!has_room(d))
    return;
  death *one = &d->of[d->n++];
  one->number = number;
  strncpy(one->dlq, dlq, RESPOOL_NAME_MAX);
  one->dlq[RESPOOL_NAME_MAX] = '\0';
}

static bool is_watched(lua_State *L, int beside) {
  lua_getfield(L, beside, "watch");
  bool watch = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return watch;
}

void ldeaths_watch(lua_State *L, int beside, respool_take_options *o) {
  if (!is_watched(L, beside)) {
    lua_pushnil(L);
    return;
  }
  void **held = lguard(L, free_deaths);
  *held = calloc(1, sizeof(deaths));
  if (!*held)
    return; /* no memory: nobody is told */
  o->died = gather;
  o->died_arg = *held;
}

static void push_death(lua_State *L, const death *one) {
  lua_createtable(L, 0, 2);
  lua_pushstring(L, one->dlq);
  lua_setfield(L, -2, "dlq");
  lrecord_push_count(L, one->number);
  lua_setfield(L, -2, "number");
}

void ldeaths_put(lua_State *L, int beside, const void *given) {
  const deaths *d = given;
  if (!d || !d->n)
    return;
  lua_createtable(L, (int)d->n, 0);
  for (size_t i = 0; i < d->n; i++) {
    push_death(L, &d->of[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  lua_setfield(L, beside, "died");
}
