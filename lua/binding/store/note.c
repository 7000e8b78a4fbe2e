/* SPDX-License-Identifier: MIT */
/*
 * Notes: bytes under a name, beside the queues.
 */
#include "note.h"

#include "handles/handle.h"
#include "handles/names.h"
#include "handles/ticket.h"
#include "values/result.h"

#include <stdlib.h>
#include <string.h>

/* Boxes the bytes, as the core's call may not be left by a longjmp. */
typedef struct note_box {
  char *data;
  size_t size;
} note_box;

static int keep_note(void *arg, respool_bytes note) {
  note_box *box = arg;
  box->data = malloc(note.size + 1);
  if (!box->data)
    return RESPOOL_NOMEM;
  memcpy(box->data, note.data, note.size);
  box->size = note.size;
  return 0;
}

static int push_note(lua_State *L) {
  const note_box *box = lua_touserdata(L, 1);
  lua_pushlstring(L, box->data, box->size);
  return 1;
}

/* note_load(store, name): its bytes. */
static int note_load(lua_State *L) {
  respool *s = lhandle_object(L, 1, LSTORE);
  note_box box = { NULL, 0 };
  int rc = respool_note_load(s, luaL_checkstring(L, 2), keep_note, &box);
  if (rc)
    return lfail(L, rc);
  lua_pushcfunction(L, push_note);
  lua_pushlightuserdata(L, &box);
  rc = lua_pcall(L, 1, 1, 0);
  free(box.data);
  return rc ? lua_error(L) : 1;
}

/* note_remove(store, name). */
typedef struct note_call {
  lcall call;
  lname name;
} note_call;

static int run_remove(lcall *c) {
  return respool_note_remove(c->store, ((note_call *)c)->name);
}

static int note_remove(lua_State *L) {
  note_call *c = lcall_of_store(L, sizeof *c);
  lcall_name(L, 2, c->name);
  return lcall_do(L, &c->call, run_remove, lcall_true);
}

static int note_names(lua_State *L) {
  return lnames_list(L, lhandle_object(L, 1, LSTORE), respool_notes);
}

static const luaL_Reg METHODS[] = {
  { "note_load", note_load },
  { "note_remove", note_remove },
  { "note_names", note_names },
  { NULL, NULL }
};

void lnote_methods(lua_State *L) {
  compat_register(L, METHODS);
}

static const luaL_Reg WAITING[] = {
  { "note_remove", note_remove },
  { NULL, NULL }
};

void lnote_starters(lua_State *L) {
  lticket_starters(L, "store", WAITING);
}
