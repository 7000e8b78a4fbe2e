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
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
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

/* Runs a command of the shell with its stdout at `to`. Threads of ours block
   all signals, which a program would inherit: it gets none blocked. */
static int spawn_shell(char *command, int to, pid_t *pid) {
  char *const words[] = {(char[]){"sh"}, (char[]){"-c"}, command, NULL};
  posix_spawnattr_t how;
  posix_spawn_file_actions_t files;
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_init(&how);
  posix_spawnattr_setsigmask(&how, &none);
  posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK);
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, to, STDOUT_FILENO);
  int error = posix_spawn(pid, "/bin/sh", &files, &how, words, environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&how);
  return error;
}

/* Reads until all writers of `from` have closed it, as far as there is
   room. */
static void read_all(int from, char *text, size_t size) {
  size_t n = 0;
  ssize_t got = 1;
  while (n < size - 1 && got != 0) {
    got = read(from, text + n, size - 1 - n);
    if (got < 0 && errno != EINTR)
      break;
    n += got > 0 ? (size_t)got : 0;
  }
  text[n] = '\0';
}

/* Reads the output of a command. */
static void ask_shell(char *command, char *said, size_t size) {
  int pipe_of[2];
  pid_t pid;
  if (pipe2(pipe_of, O_CLOEXEC))
    return;
  int error = spawn_shell(command, pipe_of[1], &pid);
  close(pipe_of[1]);
  if (!error)
    read_all(pipe_of[0], said, size);
  close(pipe_of[0]);
  while (!error && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
    ;
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
  ask_shell(command, said, sizeof said);
  f->succeeded = !strcmp(said, "0\n");
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
