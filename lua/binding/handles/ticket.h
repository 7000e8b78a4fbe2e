/* SPDX-License-Identifier: MIT */
/*
 * Functions that may wait, in two kinds of one source: as methods they wait;
 * those in core.start, which an upvalue distinguishes, begin the same
 * and return a ticket, which is polled and then finished for the results. An
 * event loop is never blocked by the second kind.
 */
#ifndef BINDING_TICKET_H
#define BINDING_TICKET_H

#include "handle.h"
#include "respool.h"
#include "values/compat.h"

#define LTICKET "respool.ticket"

#define LSTARTS(L) lua_toboolean(L, lua_upvalueindex(1))

/* Adds functions that start to core.start[name]; the module is on the top. */
void lticket_starters(lua_State *L, const char *name, const luaL_Reg *l);

typedef struct lticket lticket;

/* Pushes what the function returns for this end of it. */
typedef int (*lticket_end)(lua_State *L, int rc, const respool_result *r,
                           lticket *t);

struct lticket {
  handle handle;
  respool_ticket *made;  /* set by a start, then opened */
  lticket_end end;
  handle *queue;         /* of a batch to come, which lies beside */
  struct lcall *call;
};

/* Pushes a shut ticket. Once `made` is set, lticket_return opens it below
 `parent` and returns it; or fails. A batch at `batch` (0: none) stays with
   it, to be opened at the end. */
lticket *lticket_new(lua_State *L, lticket_end end);
int lticket_return(lua_State *L, lticket *t, int rc, handle *parent, int batch);

/* An end that is lresult. */
int lticket_plain(lua_State *L, int rc, const respool_result *r, lticket *t);

/* The head of a verb's arguments, for verbs that have no ticket of their own:
   run() reads no Lua; push() pushes the results once it returned 0; free(),
   if any, frees what the arguments hold. */
typedef struct lcall {
  respool *store;
  respool_queue *queue; /* NULL: it is of the store alone */
  handle *parent;
  int (*run)(struct lcall *c);
  int (*push)(lua_State *L, struct lcall *c);
  void (*free)(struct lcall *c);
} lcall;

/* Pushes a place for arguments of `size` bytes, zeroed, of the store or queue
   at index 1; lcall_do wants it on the top. */
void *lcall_of_store(lua_State *L, size_t size);
void *lcall_of_queue(lua_State *L, size_t size);
void *lcall_new(lua_State *L, size_t size, handle *parent, respool *s);

/* Runs the call, or starts it. */
int lcall_do(lua_State *L, lcall *c, int (*run)(lcall *c),
             int (*push)(lua_State *L, lcall *c));

int lcall_true(lua_State *L, lcall *c); /* pushes true */

/* The name at `index`; one that is too long stays so. */
typedef char lname[RESPOOL_NAME_MAX + 2];
void lcall_name(lua_State *L, int index, lname name);

void lticket_open(lua_State *L); /* makes the type; sets `start` */

#endif
