/* SPDX-License-Identifier: MIT */
/*
 * Collected names lie in a packer one after the other, each with its NUL.
 */
#include "names.h"

#include <stdlib.h>
#include <string.h>

#include "handles/handle.h"
#include "values/result.h"

static void free_packer(void *p) {
  packer_free(p);
  free(p);
}

packer *lnames_packer(lua_State *L) {
  void **held = lguard(L, free_packer);
  packer *p = malloc(sizeof *p);
  if (!p)
    luaL_error(L, "not enough memory");
  packer_init(p);
  *held = p;
  return p;
}

int lnames_add(void *arg, const char *name) {
  packer *p = arg;
  pack_raw(p, name, strlen(name) + 1);
  return p->rc;
}

void lnames_push(lua_State *L, const packer *p) {
  lua_newtable(L);
  int n = 0;
  for (size_t at = 0; at < p->len; n++) {
    const char *name = (const char *)p->data + at;
    lua_pushstring(L, name);
    lua_rawseti(L, -2, n + 1);
    at += strlen(name) + 1;
  }
}

int lnames_list(lua_State *L, respool *s, lnames_walk walk) {
  packer *p = lnames_packer(L);
  int rc = walk(s, lnames_add, p);
  if (rc)
    return lfail(L, rc);
  lnames_push(L, p);
  return 1;
}
