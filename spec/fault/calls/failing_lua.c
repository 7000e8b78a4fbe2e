/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of Lua fails once: spec/fault/calls/failing.lua is run in a
 * child whose k-th request for more memory is refused, for k = 1, 2, ... In
 * the first round once, so that Lua's emergency collection finds some and
 * all goes well; in the second its retry is refused too, so that "not enough
 * memory" is raised, out of whatever was going on. After each run nothing
 * has leaked, and another child finds the store sound, with every item where
 * it was acknowledged to be, or where it was about to go.
 *
 *   failing_lua [-s STEP] SCENARIO [ROUND K]
 *
 * The control: a scenario that loses what it pushed must be found out.
 */
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../helper/store_files.h"
#include "faults.h"
#include "ledger.h"

#define PATIENCE 60 /* seconds, before a run counts as hung */
#define ENOUGH 10 /* runs gone wrong to say so */

/* What a child tells its parent. */
typedef struct said {
  int fired;
  uint64_t requests;
  int64_t alive; /* allocations left at its end */
} said;

static said *told;
static char dir[256], store[300];

/* ---- the allocator ------------------------------------------------------ */

static int armed;
static uint64_t refuse_at;
static int rounds; /* how often the same request is refused */
static struct { void *p; size_t n; int left; } refused;

/* Is this the request to refuse, or its retry? */
static int refuse(void *p, size_t n) {
  if (!armed) return 0;
  if (refused.left && refused.p == p && refused.n == n) {
    refused.left--;
    return 1;
  }
  if (++told->requests != refuse_at) return 0;
  told->fired = 1;
  refused.p = p;
  refused.n = n;
  refused.left = rounds - 1;
  return 1;
}

static void *allocate(void *arg, void *p, size_t old, size_t n) {
  (void)arg;
  if (n == 0) {
    free(p);
    return NULL;
  }
  if ((!p || n > old) && refuse(p, n)) return NULL;
  return realloc(p, n);
}

/* ---- the ledger as Lua sees it ------------------------------------------ */

static int careless;

static int payload(lua_State *L) {
  respool_payload p = ledger_payload((int)luaL_checkinteger(L, 1));
  lua_pushlstring(L, p.body.data, p.body.size);
  return 1;
}

static int intend(lua_State *L) {
  ledger_intend((int)luaL_checkinteger(L, 1),
                (enum place)luaL_checkinteger(L, 2));
  return 0;
}

static int note(lua_State *L) {
  int n = (int)luaL_checkinteger(L, 1);
  ledger_note(n, (enum place)luaL_checkinteger(L, 2), 0);
  if (careless && n == 9) ledger_note(63, IN_QUEUE, 0);
  return 0;
}

static const luaL_Reg LEDGER[] = {
  {"payload", payload}, {"intend", intend}, {"note", note}, {NULL, NULL}};

/* ---- one run ------------------------------------------------------------ */

static lua_State *L;

static void make_state(const char *scenario) {
  L = lua_newstate(allocate, NULL);
  if (!L) exit(EXIT_FAILURE);
  luaL_openlibs(L);
  if (luaL_dofile(L, scenario) == LUA_OK) return;
  fprintf(stderr, "%s\n", lua_tostring(L, -1));
  exit(EXIT_FAILURE);
}

/* Nonzero when it raised anything else than want of memory. */
static int call(void) {
  lua_pushvalue(L, -1);
  lua_pushstring(L, store);
  luaL_newlib(L, LEDGER);
  armed = 1;
  int rc = lua_pcall(L, 2, 0, 0);
  armed = 0;
  const char *what = rc ? lua_tostring(L, -1) : "";
  if (!rc || (told->fired && rounds > 1 && what &&
              (strstr(what, "not enough memory") ||
               strstr(what, "stack overflow")))) /* checkstack cannot tell */
    return 0;
  printf("  not so: raises %s\n", what ? what : "what is no text");
  return 1;
}

static int live(void) {
  int64_t before = faults_alive();
  alarm(PATIENCE);
  int wrong = call();
  lua_close(L);
  told->alive = faults_alive() - before;
  return wrong;
}

static int verify(void) {
  alarm(PATIENCE);
  return ledger_verify(store);
}

static int in_child(int (*run)(void), const char *what) {
  int status;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    int wrong = run();
    fflush(stdout);
    _exit(wrong != 0);
  }
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFSIGNALED(status))
    printf("  not so: the %s ended by %s\n", what,
           strsignal(WTERMSIG(status)));
  return status;
}

static void clear_store(void) {
  remove_store_files(store);
  rmdir(store);
}

static int run_once(int round, uint64_t k) {
  ledger_clear();
  memset(told, 0, sizeof *told);
  memset(&refused, 0, sizeof refused);
  rounds = round;
  refuse_at = k;
  int wrong = in_child(live, "scenario");
  wrong |= in_child(verify, "look at the store");
  clear_store();
  return wrong;
}

/* ---- all of them -------------------------------------------------------- */

static int64_t usual; /* allocations alive when nothing failed */

static int control(void) {
  careless = 1;
  int found = run_once(1, UINT64_MAX);
  careless = 0;
  printf("control: %s\n", found ? "found out" : "not found out");
  return !found;
}

static int run_all(int round, uint64_t step) {
  uint64_t n = 0, k = step > 1 ? 1 + (uint64_t)time(NULL) % step : 1;
  int wrong = 0;
  for (;; k += step) {
    int bad = run_once(round, k);
    if (told->alive > usual) /* less: something was not needed yet */
      bad = printf("  not so: %lld allocations leaked\n",
                   (long long)(told->alive - usual));
    if (bad) printf("  when request %llu is refused\n", (unsigned long long)k);
    wrong += bad != 0;
    if (!told->fired || wrong == ENOUGH) break;
    n++;
  }
  printf("Lua, refused %s: %llu requests, one a run, of %llu; %d runs went "
         "wrong\n", round == 1 ? "once" : "twice", (unsigned long long)n,
         (unsigned long long)told->requests, wrong);
  return wrong;
}

static void make_dir(void) {
  const char *tmp = getenv("TMPDIR");
  const char *in = access("/dev/shm", W_OK) ? tmp ? tmp : "/tmp" : "/dev/shm";
  snprintf(dir, sizeof dir, "%s/respool-failing.XXXXXX", in);
  if (!mkdtemp(dir)) exit(EXIT_FAILURE);
  snprintf(store, sizeof store, "%s/store", dir);
}

static void begin(const char *scenario) {
  static char line[BUFSIZ];
  setvbuf(stdout, line, _IOLBF, sizeof line);
  faults_begin();
  ledger_begin();
  told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (told == MAP_FAILED) exit(EXIT_FAILURE);
  make_dir();
  make_state(scenario);
}

int main(int argc, char **argv) {
  uint64_t step = 1;
  int wrong, c;
  while ((c = getopt(argc, argv, "s:")) != -1)
    if (c == '?' || !(step = strtoull(optarg, NULL, 10))) return EXIT_FAILURE;
  if (optind >= argc) return EXIT_FAILURE;
  begin(argv[optind]);
  if (optind + 2 < argc)
    wrong = run_once(atoi(argv[optind + 1]),
                     strtoull(argv[optind + 2], NULL, 10));
  else {
    wrong = run_once(1, UINT64_MAX); /* nothing fails */
    usual = told->alive;
    wrong += control();
    wrong += run_all(1, step);
    wrong += run_all(2, step);
  }
  rmdir(dir);
  return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
