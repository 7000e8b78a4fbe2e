/* SPDX-License-Identifier: MIT */
/*
 * The userdata of stores, queues and batches, and the tree they form: a batch
 * hangs below its queue, a queue below its store. Shutting a handle shuts
 * what hangs below it first, so nothing of the core is freed after what it
 * lives in, in whatever order finalizers run.
 */
#ifndef BINDING_HANDLE_H
#define BINDING_HANDLE_H

#include <stdbool.h>

#include "respool.h"
#include "values/compat.h"

#define LSTORE "respool.store"
#define LQUEUE "respool.queue"
#define LBATCH "respool.batch"

typedef void (*lfree)(void *object);

typedef struct handle {
  void *object;  /* of the core; NULL: shut, or a batch of nothing */
  lfree free;
  bool open;
  struct handle *children, *next, **link; /* link: what points here */
} handle;

/* Pushes a shut handle of this type, to be opened below `parent` (NULL: a
   root) once the core has made its object. */
handle *lhandle_new(lua_State *L, const char *type, lfree free);

/* The same for a struct of `size` bytes, zeroed, that begins with a handle. */
void *lhandle_new_of(lua_State *L, size_t size, const char *type, lfree free);

void lhandle_open(handle *h, handle *parent, void *object);

/* The handle at `index`; raises when it is shut or of another type. */
handle *lhandle_check(lua_State *L, int index, const char *type);
void *lhandle_object(lua_State *L, int index, const char *type);

/* Shuts the handle and all below it, but leaves their objects as they are for
   as long as the process lives: to free them would wait for who uses them. */
void lhandle_abandon(handle *h);

/* Makes the metatable of a type, with these methods and close(handle) and
   closed(handle), and leaves it on the stack. */
void lhandle_type(lua_State *L, const char *type, const luaL_Reg *methods);

/* Pushes a place for one object of the core that a call holds while it
   makes Lua values. Freed early, or by the collector after an error. */
void **lguard(lua_State *L, lfree free);
void lguard_free(void **object);
void lguard_type(lua_State *L); /* makes its metatable */

#endif
