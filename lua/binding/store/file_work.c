/* SPDX-License-Identifier: MIT */
/*
 * Work on files that takes as long as a disk or a program likes. As verbs of
 * the store that the files are for they have tickets, so that an event loop
 * goes on meanwhile.
 */
#include "file_work.h"

#include "handles/handle.h"
#include "handles/ticket.h"
#include "values/result.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct file_call {
  lcall call;
  char *word;         /* a path, or a command */
  const char *failed; /* the verb of what failed; NULL: nothing did */
  int error;
  int succeeded;
} file_call;

static void free_word(lcall *c) {
  free(((file_call *)c)->word);
}

/* With the word at index 2. */
static file_call *new_call(lua_State *L) {
  const char *word = luaL_checkstring(L, 2);
  file_call *f = lcall_of_store(L, sizeof *f);
  f->call.free = free_word;
  f->word = strdup(word);
  if (!f->word)
    luaL_error(L, "not enough memory");
  return f;
}

/* sync_file(store, path): what was written to the file, or entered into the
   directory, by whatever process, is on disk. */
static int run_sync(lcall *c) {
  file_call *f = (file_call *)c;
  int fd = open(f->word, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fsync(fd)) {
    f->failed = fd < 0 ? "open" : "sync";
    f->error = errno;
  }
  if (fd >= 0)
    close(fd);
  return 0;
}

static int push_sync(lua_State *L, lcall *c) {
  const file_call *f = (file_call *)c;
  return f->failed ? lfail_file(L, f->error, f->failed, f->word)
                   : lcall_true(L, c);
}

static int sync_file(lua_State *L) {
  return lcall_do(L, &new_call(L)->call, run_sync, push_sync);
}

#define TELLS "{ %s ; } </dev/null >/dev/null 2>&1; echo $?"

/* run_command(store, command): whether it succeeds, by what it says: its exit
   status may go to a handler of the program's for children that have ended. */
static int run_shell(lcall *c) {
  file_call *f = (file_call *)c;
  size_t size = strlen(f->word) + sizeof TELLS;
  char *command = malloc(size), said[16] = "";
  if (!command)
    return RESPOOL_NOMEM;
  snprintf(command, size, TELLS, f->word);
  FILE *p = popen(command, "re");
  if (p && fgets(said, sizeof said, p))
    f->succeeded = !strcmp(said, "0\n");
  if (p)
    (void)pclose(p);
  free(command);
  return 0;
}

static int push_shell(lua_State *L, lcall *c) {
  lua_pushboolean(L, ((file_call *)c)->succeeded);
  return 1;
}

static int run_command(lua_State *L) {
  return lcall_do(L, &new_call(L)->call, run_shell, push_shell);
}

static const luaL_Reg METHODS[] = {
  { "sync_file", sync_file },
  { "run_command", run_command },
  { NULL, NULL }
};

void lfile_work_methods(lua_State *L) {
  compat_register(L, METHODS);
}

void lfile_work_starters(lua_State *L) {
  lticket_starters(L, "store", METHODS);
}
