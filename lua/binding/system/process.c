/* SPDX-License-Identifier: MIT */
/*
 * Processes: what respool.work_processes needs of the system. A child is
 * asked to stop when its parent ends, and leaves its last words in a pipe.
 * SIGTERM and SIGINT, while watched, are only counted; Lua asks for the
 * count between two steps.
 */

#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LAST_WORDS 4096 /* bytes; a pipe takes so many at once */

static int failed(lua_State *L, const char *what) {
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", what, strerror(errno));
  lua_pushliteral(L, "IO");
  return 3;
}


/* Signals. */

static volatile sig_atomic_t caught;
static struct sigaction before[2];
static const int WATCHED[2] = { SIGTERM, SIGINT };

static void note(int signal) {
  (void)signal;
  caught++;
}

int lprocess_signals(void) {
  return caught;
}

/* watch(cut): SIGTERM and SIGINT are counted from now on. With `cut` a read
   that waits for input ends when one comes. */
static int watch(lua_State *L) {
  struct sigaction act = { .sa_handler = note, .sa_flags = SA_RESTART };
  if (lua_toboolean(L, 1))
    act.sa_flags = 0;
  sigaddset(&act.sa_mask, SIGTERM);
  sigaddset(&act.sa_mask, SIGINT);
  for (int i = 0; i < 2; i++)
    sigaction(WATCHED[i], &act, &before[i]);
  return 0;
}

/* unwatch(): they do again what they did before. */
static int unwatch(lua_State *L) {
  (void)L;
  for (int i = 0; i < 2; i++)
    sigaction(WATCHED[i], &before[i], NULL);
  return 0;
}

/* obey(): Ctrl-C is the parent's business, and SIGTERM ends this child. */
static int obey(lua_State *L) {
  (void)L;
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_DFL);
  return 0;
}

/* signals(): how many came, ever. */
static int signals(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)caught);
  return 1;
}


/* The identity of this process. */

/* self(): its pid, the number of the namespace that the pid is of (0 where the
   system does not say), and the name of the host. */
static int process_self(lua_State *L) {
  struct stat namespace;
  char host[256] = "";
  int rc = stat("/proc/self/ns/pid", &namespace);
  lua_pushinteger(L, getpid());
  lua_pushnumber(L, rc ? 0 : (lua_Number)namespace.st_ino);
  if (gethostname(host, sizeof host - 1))
    host[0] = '\0';
  lua_pushstring(L, host);
  return 3;
}


/* Children. */

/* A child does not outlive its parent for long, whatever ends that. */
static void follow(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent)
    caught++; /* it has ended already */
}

/* fork(): in the parent the child's pid and the pipe to read from, in the
   child 0 and the pipe to write to. */
static int process_fork(lua_State *L) {
  int ends[2];
  pid_t parent = getpid();
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
    return failed(L, "pipe");
  fflush(NULL); /* what is buffered is to be written once */
  pid_t pid = fork();
  if (pid < 0) {
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    errno = error;
    return failed(L, "fork");
  }
  if (pid == 0)
    follow(parent);
  close(ends[pid ? 1 : 0]);
  lua_pushinteger(L, pid);
  lua_pushinteger(L, ends[pid ? 0 : 1]);
  return 2;
}

/* exit(status, pipe, words): ends a child, and nothing of its parent's. */
static int process_exit(lua_State *L) {
  int status = (int)luaL_checkinteger(L, 1);
  int end = (int)luaL_checkinteger(L, 2);
  size_t n;
  const char *words = luaL_optlstring(L, 3, "", &n);
  ssize_t written = write(end, words, n < LAST_WORDS ? n : LAST_WORDS);
  (void)written; /* nobody may be listening */
  fflush(NULL);
  _exit(status);
}

/* last_words(pipe): of a child that has ended; closes the pipe. */
static int last_words(lua_State *L) {
  int end = (int)luaL_checkinteger(L, 1);
  char words[LAST_WORDS];
  ssize_t n = read(end, words, sizeof words);
  close(end);
  if (n <= 0)
    return 0;
  lua_pushlstring(L, words, (size_t)n);
  return 1;
}

static int ended_with(lua_State *L, const char *how, int number) {
  lua_pushstring(L, how);
  lua_pushinteger(L, number);
  return 2;
}

/* wait(pid): nil while it runs; then "exit" or "signal" and its number, or
   "lost" when somebody else has asked for it. */
static int process_wait(lua_State *L) {
  pid_t pid = (pid_t)luaL_checkinteger(L, 1);
  int status;
  pid_t ended = waitpid(pid, &status, WNOHANG);
  if (ended == 0 || (ended < 0 && errno == EINTR))
    return 0;
  if (ended < 0)
    return ended_with(L, "lost", 0);
  if (WIFSIGNALED(status))
    return ended_with(L, "signal", WTERMSIG(status));
  return ended_with(L, "exit", WEXITSTATUS(status));
}

/* stop(pid, now): asks it to end, or kills it. */
static int process_stop(lua_State *L) {
  pid_t pid = (pid_t)luaL_checkinteger(L, 1);
  luaL_argcheck(L, pid > 0, 1, "no process");
  kill(pid, lua_toboolean(L, 2) ? SIGKILL : SIGTERM);
  return 0;
}

/* nap(seconds): sleeps, less when a signal comes. */
static int nap(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  luaL_argcheck(L, seconds >= 0 && seconds < 1e9, 1, "out of range");
  double whole = floor(seconds);
  struct timespec t = { (time_t)whole, (long)((seconds - whole) * 1e9) };
  nanosleep(&t, NULL);
  return 0;
}

static const luaL_Reg FUNCTIONS[] = {
  { "watch", watch },
  { "unwatch", unwatch },
  { "obey", obey },
  { "signals", signals },
  { "self", process_self },
  { "fork", process_fork },
  { "exit", process_exit },
  { "last_words", last_words },
  { "wait", process_wait },
  { "stop", process_stop },
  { "nap", nap },
  { NULL, NULL }
};

void lprocess_open(lua_State *L) {
  lua_newtable(L);
  compat_register(L, FUNCTIONS);
  lua_setfield(L, -2, "process");
}
