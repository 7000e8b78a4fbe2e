/* SPDX-License-Identifier: MIT */
/*
 * Changes of one item of a queue: run now, kill, move, edit, cancel; whether a
 * batch still has one, and how far its handler has come.
 */
#include "change.h"

#include <string.h>

#include "base/arena.h"
#include "handles/ticket.h"
#include "values/options.h"

/* All that is pointed to lies in the arena. */
typedef struct change_call {
  lcall call;
  arena memory;
  uint64_t id, moved;
  respool_bytes error;
  respool_queue *to;
  respool_payload payload;
  respool_edit_options edit;
} change_call;

static void free_change(lcall *c) {
  arena_free(&((change_call *)c)->memory);
  respool_queue_free(((change_call *)c)->to);
}

static change_call *new_change(lua_State *L) {
  uint64_t id = lrecord_count(L, 2);
  change_call *c = lcall_of_queue(L, sizeof *c);
  arena_init(&c->memory);
  c->call.free = free_change;
  c->id = id;
  return c;
}

static void own(lua_State *L, change_call *c, respool_bytes *b) {
  if (b->size && arena_copy(&c->memory, *b, b))
    luaL_error(L, "not enough memory");
}

static int run_now(lcall *c) {
  return respool_item_run_now(c->queue, ((change_call *)c)->id);
}

static int item_run_now(lua_State *L) {
  change_call *c = new_change(L);
  return lcall_do(L, &c->call, run_now, lcall_true);
}

static int run_kill(lcall *c) {
  const change_call *k = (change_call *)c;
  return respool_item_kill(c->queue, k->id, k->error);
}

/* item_kill(queue, id, error) */
static int item_kill(lua_State *L) {
  lua_settop(L, 3);
  change_call *c = new_change(L);
  c->error = loptions_bytes(L, 3);
  own(L, c, &c->error);
  return lcall_do(L, &c->call, run_kill, lcall_true);
}

static int run_move(lcall *c) {
  change_call *m = (change_call *)c;
  return respool_item_move(c->queue, m->id, m->to, &m->moved);
}

static int push_moved(lua_State *L, lcall *c) {
  lrecord_push_count(L, ((change_call *)c)->moved);
  return 1;
}

/* item_move(queue, id, to): the id there. */
static int item_move(lua_State *L) {
  respool_queue *to = lhandle_object(L, 3, LQUEUE);
  change_call *c = new_change(L);
  c->to = respool_queue_ref(to);
  return lcall_do(L, &c->call, run_move, push_moved);
}

static int run_edit(lcall *c) {
  const change_call *e = (change_call *)c;
  return respool_item_edit(c->queue, e->id, &e->payload, &e->edit);
}

/* item_edit(queue, payload, codec, id, version, was) */
static int item_edit(lua_State *L) {
  lua_settop(L, 6);
  uint64_t id = lrecord_count(L, 4);
  change_call *c = lcall_of_queue(L, sizeof *c);
  arena_init(&c->memory);
  c->call.free = free_change;
  c->id = id;
  c->edit = (respool_edit_options)RESPOOL_EDIT_OPTIONS_INIT;
  c->edit.version = lrecord_count(L, 5);
  c->edit.was = loptions_bytes(L, 6);
  loptions_payload(L, &c->payload);
  own(L, c, &c->payload.body);
  own(L, c, &c->payload.codec);
  own(L, c, &c->edit.was);
  return lcall_do(L, &c->call, run_edit, lcall_true);
}

static int run_cancel(lcall *c) {
  return respool_item_cancel(c->queue, ((change_call *)c)->id);
}

static int item_cancel(lua_State *L) {
  change_call *c = new_change(L);
  return lcall_do(L, &c->call, run_cancel, lcall_true);
}

typedef struct held_call {
  lcall call;
  uint64_t id, token;
  int held;
} held_call;

static int run_held(lcall *c) {
  held_call *h = (held_call *)c;
  return respool_item_held(c->queue, h->id, h->token, &h->held);
}

static int push_held(lua_State *L, lcall *c) {
  lua_pushboolean(L, ((held_call *)c)->held);
  return 1;
}

/* item_held(queue, id, lease): as batch.lease tells that of a batch. */
static int item_held(lua_State *L) {
  size_t n;
  const char *token = luaL_checklstring(L, 3, &n);
  held_call *h = lcall_of_queue(L, sizeof *h);
  luaL_argcheck(L, n == sizeof h->token, 3, "no lease");
  memcpy(&h->token, token, n);
  h->id = lrecord_count(L, 2);
  return lcall_do(L, &h->call, run_held, push_held);
}

typedef struct progress_call {
  lcall call;
  uint64_t id, token;
  respool_progress progress;
  char text[RESPOOL_PROGRESS_TEXT + 8]; /* more, to be cut at a character */
} progress_call;

static int run_progress(lcall *c) {
  progress_call *p = (progress_call *)c;
  p->progress.text.data = p->text;
  return respool_item_progress(c->queue, p->id, p->token, &p->progress);
}

static int run_progress_end(lcall *c) {
  const progress_call *p = (progress_call *)c;
  return respool_item_progress_end(c->queue, p->id, p->token);
}

/* item_progress(queue, id, lease, done, text), and without the last two what is
   reported is removed. */
static int item_progress(lua_State *L) {
  size_t n;
  lua_settop(L, 5);
  const char *token = luaL_checklstring(L, 3, &n);
  progress_call *p = lcall_of_queue(L, sizeof *p);
  luaL_argcheck(L, n == sizeof p->token, 3, "no lease");
  memcpy(&p->token, token, n);
  p->id = lrecord_count(L, 2);
  p->progress = (respool_progress)RESPOOL_PROGRESS_INIT;
  if (lua_isnil(L, 4) && lua_isnil(L, 5))
    return lcall_do(L, &p->call, run_progress_end, lcall_true);
  p->progress.done = lrecord_span(L, 4); /* thousandths, as of a second */
  const char *text = lua_tolstring(L, 5, &n);
  if (!text)
    n = 0;
  p->progress.text.size = n < sizeof p->text ? n : sizeof p->text;
  if (text)
    memcpy(p->text, text, p->progress.text.size);
  return lcall_do(L, &p->call, run_progress, lcall_true);
}

static const luaL_Reg METHODS[] = {
  { "item_run_now", item_run_now },
  { "item_kill", item_kill },
  { "item_move", item_move },
  { "item_edit", item_edit },
  { "item_cancel", item_cancel },
  { "item_held", item_held },
  { "item_progress", item_progress },
  { NULL, NULL }
};

void lchange_methods(lua_State *L) {
  compat_register(L, METHODS);
}

void lchange_starters(lua_State *L) {
  lticket_starters(L, "queue", METHODS);
}
