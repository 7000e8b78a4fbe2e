/* SPDX-License-Identifier: MIT */
/*
 * The C module respool.json: JSON as CBOR and back, and base64. It stands
 * beside respool.core so that only those who use JSON need jansson.
 *
 * A call that may take long can run in a thread of its own: start.NAME(...)
 * returns a conversion, or nothing where no thread can be had; its poll() says
 * whether it is done, its finish() returns the results of NAME(...). The thread
 * has its own copy of the input; the conversion is freed by the last of both.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "json/base64.h"
#include "json/json.h"
#include "threads/thread.h"
#include "values/compat.h"

#define CONVERSION "respool.json.conversion"
#define KEPT (1024 * 1024) /* bytes of the scratch */
#define PARTS_MAX 4
#define LARGEST (COMPAT_INTEGERS ? 0 : COMPAT_EXACT)


/* ---- scratch ----------------------------------------------------------- */

/* Memory of a call, with its state in the registry: so an error that Lua
   raises meanwhile leaks nothing. */
typedef struct scratch {
  packer out, parts[PARTS_MAX];
} scratch;

static const char scratch_key;

static int free_scratch(lua_State *L) {
  scratch *s = lua_touserdata(L, 1);
  packer_free(&s->out);
  for (int i = 0; i < PARTS_MAX; i++) packer_free(&s->parts[i]);
  return 0;
}

static void make_scratch(lua_State *L) {
  scratch *s = lua_newuserdata(L, sizeof *s);
  memset(s, 0, sizeof *s);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, free_scratch);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &scratch_key);
}

static packer *renew(packer *p) {
  if (p->cap > KEPT) packer_free(p);
  packer_reset(p);
  return p;
}

static scratch *take_scratch(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scratch_key);
  scratch *s = lua_touserdata(L, -1);
  lua_pop(L, 1);
  renew(&s->out);
  for (int i = 0; i < PARTS_MAX; i++) renew(&s->parts[i]);
  return s;
}

static void push_packed(lua_State *L, const packer *p) {
  lua_pushlstring(L, p->data ? (const char *)p->data : "", p->len);
}


/* ---- conversions ------------------------------------------------------- */

static int push_fault(lua_State *L, const json_fault *f) {
  lua_pushnil(L);
  if (f->at)
    lua_pushfstring(L, "%s at byte %d", f->why, (int)f->at);
  else
    lua_pushstring(L, f->why);
  return 2;
}

/* to_cbor(text): the CBOR; nil and why. Integers are those that this Lua
   holds. */
static int to_cbor(lua_State *L) {
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  json_form form = {.largest = LARGEST};
  json_fault fault = {NULL, 0};
  scratch *s = take_scratch(L);
  if (!json_read(&form, text, n, &s->out, &fault))
    return push_fault(L, &fault);
  push_packed(L, &s->out);
  return 1;
}

static size_t option(lua_State *L, int index, const char *name) {
  if (!lua_istable(L, index)) return 0;
  lua_getfield(L, index, name);
  size_t v = lua_isboolean(L, -1) ? (size_t)lua_toboolean(L, -1)
    : (size_t)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return v;
}

static json_form read_form(lua_State *L, int index) {
  return (json_form){
    .lossless = option(L, index, "lossless"),
    .whole = option(L, index, "whole"),
    .sorted = option(L, index, "sorted"),
    .indent = (int)option(L, index, "indent"),
    .limit = option(L, index, "limit"),
  };
}

/* from_cbor(bytes, form): `form` has the names of json_form: the text; nil
   when there is none. */
static int from_cbor(lua_State *L) {
  size_t n;
  const char *bytes = luaL_checklstring(L, 1, &n);
  json_form form = read_form(L, 2);
  scratch *s = take_scratch(L);
  if (!json_write(&form, bytes, n, &s->out)) return 0;
  push_packed(L, &s->out);
  return 1;
}

/* split(text, name...): the CBOR of an object of lossless JSON without the
   members named, and that of each of these, or nil; nil and why. */
static int split(lua_State *L) {
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n), *names[PARTS_MAX];
  int count = lua_gettop(L) - 1;
  luaL_argcheck(L, count <= PARTS_MAX, count + 1, "too many names");
  for (int i = 0; i < count; i++) names[i] = luaL_checkstring(L, i + 2);
  json_form form = {.lossless = true};
  json_fault fault = {NULL, 0};
  scratch *s = take_scratch(L);
  if (!json_split(&form, text, n, &s->out, names, s->parts, (size_t)count,
                  &fault))
    return push_fault(L, &fault);
  push_packed(L, &s->out);
  for (int i = 0; i < count; i++) {
    if (s->parts[i].len)
      push_packed(L, &s->parts[i]);
    else
      lua_pushnil(L);
  }
  return count + 1;
}

/* Adds the member `name`, given as CBOR, to the object in `out`; false when
   it has no JSON of this form. */
static bool add_member(const json_form *form, const char *name,
                       const char *cbor, size_t n, packer *out) {
  out->len--; /* the brace */
  if (out->len > 1) pack_raw(out, ",", 1);
  pack_raw(out, "\"", 1);
  pack_raw(out, name, strlen(name));
  pack_raw(out, "\":", 2);
  if (!json_write(form, cbor, n, out)) return false;
  pack_raw(out, "}", 1);
  return true;
}

/* The JSON of the map at 1, with the members that follow as names and bytes,
   as far as there are bytes of them; nil and the number of the first that has
   no JSON of its form. */
static int join_as(lua_State *L, const json_form *own,
                   const json_form *added) {
  size_t n;
  const char *fields = luaL_checklstring(L, 1, &n);
  packer *out = &take_scratch(L)->out;
  bool ok = json_write(own, fields, n, out);
  if (out->rc) return luaL_error(L, "not enough memory");
  luaL_argcheck(L, ok && out->data[0] == '{', 1, "no map");
  for (int i = 2; i < lua_gettop(L); i += 2) {
    const char *name = luaL_checkstring(L, i);
    const char *bytes = luaL_optlstring(L, i + 1, NULL, &n);
    if (!bytes || add_member(added, name, bytes, n, out)) continue;
    if (out->rc) return luaL_error(L, "not enough memory");
    lua_pushnil(L);
    lua_pushinteger(L, i / 2);
    return 2;
  }
  push_packed(L, out);
  return 1;
}

/* join(fields, name, bytes, ...): the reverse of split(). */
static int join(lua_State *L) {
  static const json_form own = {.lossless = true, .whole = true};
  static const json_form added = {.lossless = true};
  return join_as(L, &own, &added);
}

/* join_plain(fields, name, bytes, ...): the same in plain JSON, the fields
   sorted by their names, the members that are added as they are stored. */
static int join_plain(lua_State *L) {
  static const json_form own = {.sorted = true};
  static const json_form added = {.sorted = false};
  return join_as(L, &own, &added);
}


/* base64(bytes): their text. */
static int base64(lua_State *L) {
  size_t n;
  const char *bytes = luaL_checklstring(L, 1, &n);
  packer *out = &take_scratch(L)->out;
  base64_write(bytes, n, out);
  if (out->rc) return luaL_error(L, "not enough memory");
  push_packed(L, out);
  return 1;
}

/* from_base64(text): the bytes; nil of another text. */
static int from_base64(lua_State *L) {
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  packer *out = &take_scratch(L)->out;
  if (!base64_read(text, n, out)) return 0;
  push_packed(L, out);
  return 1;
}


/* ---- conversions in threads -------------------------------------------- */

typedef struct conversion {
  bool reads; /* JSON; else it writes it */
  json_form form;
  packer in, out;
  json_fault fault;
  bool ok;
  atomic_bool done;
  atomic_int owners; /* the userdata, the thread */
} conversion;

static void leave(conversion *j) {
  if (atomic_fetch_sub(&j->owners, 1) > 1) return;
  packer_free(&j->in);
  packer_free(&j->out);
  free(j);
}

static void *run(void *arg) {
  conversion *j = arg;
  j->ok = j->reads
    ? json_read(&j->form, (const char *)j->in.data, j->in.len, &j->out,
                &j->fault)
    : json_write(&j->form, j->in.data, j->in.len, &j->out);
  atomic_store(&j->done, true);
  leave(j);
  return NULL;
}

static conversion *check_conversion(lua_State *L) {
  return *(conversion **)luaL_checkudata(L, 1, CONVERSION);
}

static int free_conversion(lua_State *L) {
  conversion **held = luaL_checkudata(L, 1, CONVERSION);
  if (*held) leave(*held);
  *held = NULL;
  return 0;
}

static int start_conversion(lua_State *L, bool reads, json_form form) {
  size_t n;
  pthread_t thread;
  const char *bytes = luaL_checklstring(L, 1, &n);
  conversion **held = lua_newuserdata(L, sizeof *held);
  *held = NULL;
  luaL_getmetatable(L, CONVERSION);
  lua_setmetatable(L, -2);
  conversion *j = *held = calloc(1, sizeof *j);
  if (!j) return luaL_error(L, "not enough memory");
  j->reads = reads;
  j->form = form;
  atomic_store(&j->owners, 2);
  pack_raw(&j->in, bytes, n);
  int rc = j->in.rc ? j->in.rc : thread_start(&thread, run, j);
  if (rc == 0) {
    pthread_detach(thread);
    return 1;
  }
  atomic_store(&j->owners, 1);
  return 0;
}

static int start_to_cbor(lua_State *L) {
  return start_conversion(L, true, (json_form){.largest = LARGEST});
}

static int start_from_cbor(lua_State *L) {
  return start_conversion(L, false, read_form(L, 2));
}

static int conversion_poll(lua_State *L) {
  lua_pushboolean(L, atomic_load(&check_conversion(L)->done));
  return 1;
}

static int conversion_finish(lua_State *L) {
  conversion *j = check_conversion(L);
  luaL_argcheck(L, atomic_load(&j->done), 1, "the conversion is not done");
  if (!j->ok && !j->reads) return 0;
  if (!j->ok) return push_fault(L, &j->fault);
  push_packed(L, &j->out);
  return 1;
}

static const luaL_Reg METHODS[] = {
  { "poll", conversion_poll },
  { "finish", conversion_finish },
  { NULL, NULL }
};

static const luaL_Reg START[] = {
  { "to_cbor", start_to_cbor },
  { "from_cbor", start_from_cbor },
  { NULL, NULL }
};

static const luaL_Reg FUNCTIONS[] = {
  { "to_cbor", to_cbor },
  { "from_cbor", from_cbor },
  { "split", split },
  { "join", join },
  { "join_plain", join_plain },
  { "base64", base64 },
  { "from_base64", from_base64 },
  { NULL, NULL }
};

static void open_conversions(lua_State *L) {
  luaL_newmetatable(L, CONVERSION);
  lua_pushcfunction(L, free_conversion);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  compat_register(L, METHODS);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

RESPOOL_API int luaopen_respool_json(lua_State *L) {
  make_scratch(L);
  open_conversions(L);
  lua_newtable(L);
  compat_register(L, FUNCTIONS);
  lua_newtable(L);
  compat_register(L, START);
  lua_setfield(L, -2, "start");
  return 1;
}
