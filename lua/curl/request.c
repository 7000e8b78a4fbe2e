/* SPDX-License-Identifier: MIT */
#include "request.h"

#include <curl/curl.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "answer.h"
#include "client.h"

#define REQUEST "respool.curl.request"
#define MULTI "respool.curl.multi"

#define TEXT_TIME 1.0      /* seconds that a text may take after the head */
#define IDLE_MOST 64L      /* connections that are kept */
#define SWEEP 0.25         /* seconds between looks for late texts */
#define EVENTS 256         /* at a time */

typedef struct request request;

/* A Lua state's; of another pid it is the parent's. */
typedef struct multi {
  CURLM *handle;
  pid_t pid;
  int sockets;     /* an epoll of what the handle waits for */
  double timer;    /* when the handle wants to be called; 0: not by time */
  double swept;    /* when texts that take too long were ended */
  locale_t utf8;
  request *first; /* the requests that are under way */
  int last;       /* number of the request begun last */
} multi;

struct request {
  multi *m; /* NULL: not under way */
  request *next, **link;
  pid_t pid;
  struct curl_slist *lines;
  networks *rules;
  int number;
  bool over;
  answer answer;
};

static const char THE_MULTI, THE_REQUESTS; /* keys in the registry */


/* Called by libcurl. */

static curl_socket_t on_socket(void *arg, curlsocktype purpose,
                               struct curl_sockaddr *a) {
  request *r = arg;
  (void)purpose;
  if (r->rules && !networks_allow(r->rules, &a->addr)) {
    r->answer.denied++;
    return CURL_SOCKET_BAD;
  }
  r->answer.opened++;
  return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* A connection that is used again was opened by another request, perhaps
   under other rules. */
static int on_ready(void *arg, char *address, char *own, int port,
                    int own_port) {
  request *r = arg;
  (void)own, (void)port, (void)own_port;
  if (!r->rules || networks_allow_text(r->rules, address))
    return CURL_PREREQFUNC_OK;
  r->answer.denied++;
  r->answer.opened = 0;
  return CURL_PREREQFUNC_ABORT;
}


/* Ends. */

static void leave(request *r) {
  if (!r->m)
    return;
  curl_multi_remove_handle(r->m->handle, r->answer.easy);
  *r->link = r->next;
  if (r->next)
    r->next->link = r->link;
  r->m = NULL;
}

/* A request that a parent has begun stays as it is: its sockets are the
   parent's. */
static void request_free(request *r) {
  if (r->pid == getpid()) {
    leave(r);
    curl_easy_cleanup(r->answer.easy);
    curl_slist_free_all(r->lines);
  }
  networks_free(r->rules);
  r->m = NULL;
  r->answer.easy = NULL;
  r->lines = NULL;
  r->rules = NULL;
}

static int request_gc(lua_State *L) {
  request_free(luaL_checkudata(L, 1, REQUEST));
  return 0;
}

static int multi_gc(lua_State *L) {
  multi *m = luaL_checkudata(L, 1, MULTI);
  if (m->utf8)
    freelocale(m->utf8);
  m->utf8 = (locale_t)0;
  if (!m->handle || m->pid != getpid())
    return 0;
  while (m->first)
    leave(m->first);
  curl_multi_cleanup(m->handle);
  close(m->sockets);
  m->handle = NULL;
  return 0;
}


/* The multi handle. */

/* The handle wants to know of a socket, or no more. */
static int on_interest(CURL *easy, curl_socket_t fd, int what, void *arg,
                       void *unused) {
  multi *m = arg;
  struct epoll_event e = { .data.fd = fd };
  (void)easy, (void)unused;
  e.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) |
             (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
  if (what == CURL_POLL_REMOVE)
    epoll_ctl(m->sockets, EPOLL_CTL_DEL, fd, &e);
  else if (epoll_ctl(m->sockets, EPOLL_CTL_MOD, fd, &e))
    epoll_ctl(m->sockets, EPOLL_CTL_ADD, fd, &e);
  return 0;
}

static int on_timer(CURLM *handle, long ms, void *arg) {
  multi *m = arg;
  (void)handle;
  m->timer = ms < 0 ? 0 : answer_clock() + (double)ms * 1e-3;
  return 0;
}

static void start(lua_State *L, multi *m) {
  for (request *r = m->first; r; r = r->next)
    r->m = NULL; /* the parent's */
  if (m->handle)
    close(m->sockets);
  m->first = NULL;
  m->timer = 0;
  m->pid = getpid();
  m->handle = NULL;
  m->sockets = epoll_create1(EPOLL_CLOEXEC);
  if (m->sockets < 0)
    luaL_error(L, "epoll: %s", strerror(errno));
  m->handle = curl_multi_init();
  if (!m->utf8)
    m->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
  if (!m->handle)
    luaL_error(L, "out of memory");
  curl_multi_setopt(m->handle, CURLMOPT_MAXCONNECTS, IDLE_MOST);
  curl_multi_setopt(m->handle, CURLMOPT_SOCKETFUNCTION, on_interest);
  curl_multi_setopt(m->handle, CURLMOPT_SOCKETDATA, m);
  curl_multi_setopt(m->handle, CURLMOPT_TIMERFUNCTION, on_timer);
  curl_multi_setopt(m->handle, CURLMOPT_TIMERDATA, m);
}

/* The state's, made when it is missing, anew after a fork. */
static multi *the_multi(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &THE_MULTI);
  multi *m = lua_touserdata(L, -1);
  lua_pop(L, 1); /* the registry keeps it */
  if (!m) {
    m = lua_newuserdata(L, sizeof *m);
    *m = (multi){ 0 };
    luaL_getmetatable(L, MULTI);
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &THE_MULTI);
  }
  if (!m->handle || m->pid != getpid())
    start(L, m);
  return m;
}


/* Begin. */

static void set_callbacks(request *r) {
  CURL *easy = r->answer.easy;
  curl_easy_setopt(easy, CURLOPT_PRIVATE, r);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, r);
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_ready);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, r);
}

static void add_lines(lua_State *L, int index, request *r) {
  int n = (int)lua_rawlen(L, index);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, index, i);
    struct curl_slist *more =
      curl_slist_append(r->lines, luaL_checkstring(L, -1));
    if (!more)
      luaL_error(L, "out of memory");
    r->lines = more;
    lua_pop(L, 1);
  }
}

static void set_message(lua_State *L, request *r) {
  size_t n;
  const char *body = luaL_checklstring(L, 5, &n);
  luaL_checktype(L, 4, LUA_TTABLE);
  add_lines(L, 4, r);
  curl_easy_setopt(r->answer.easy, CURLOPT_HTTPHEADER, r->lines);
  curl_easy_setopt(r->answer.easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
  if (curl_easy_setopt(r->answer.easy, CURLOPT_COPYPOSTFIELDS, body) ||
      curl_easy_setopt(r->answer.easy, CURLOPT_CUSTOMREQUEST,
                       luaL_checkstring(L, 2)) ||
      curl_easy_setopt(r->answer.easy, CURLOPT_URL, luaL_checkstring(L, 3)))
    luaL_error(L, "out of memory");
}

/* The table of requests by number, which does not keep them. */
static void push_requests(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &THE_REQUESTS);
}

static void enter(lua_State *L, multi *m, request *r) {
  r->number = m->last = m->last % 0x7fffffff + 1;
  push_requests(L);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, r->number);
  lua_pop(L, 1);
  if (curl_multi_add_handle(m->handle, r->answer.easy))
    luaL_error(L, "out of memory");
  r->m = m;
  r->next = m->first;
  r->link = &m->first;
  if (r->next)
    r->next->link = &r->next;
  m->first = r;
}

int request_begin(lua_State *L) {
  client *c = client_check(L, 1);
  multi *m = the_multi(L);
  request *r = lua_newuserdata(L, sizeof *r);
  memset(r, 0, sizeof *r);
  r->pid = getpid();
  luaL_getmetatable(L, REQUEST);
  lua_setmetatable(L, -2);
  r->answer.connect_timeout = c->connect_timeout;
  r->answer.timeout = c->timeout;
  r->rules = networks_hold(c->rules);
  r->answer.easy = curl_easy_duphandle(c->common);
  if (!r->answer.easy)
    return luaL_error(L, "out of memory");
  set_callbacks(r);
  answer_listen(&r->answer);
  set_message(L, r);
  enter(L, m, r);
  return 1;
}


/* Poll. */

static void act(multi *m, curl_socket_t fd, uint32_t events) {
  int running, mask = (events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                      (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                      (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
  curl_multi_socket_action(m->handle, fd, mask, &running);
}

/* Waits for up to so long, and goes on with what is ready. */
static void turn(multi *m, double seconds) {
  struct epoll_event events[EVENTS];
  double left = m->timer > 0 ? m->timer - answer_clock() : seconds;
  left = fmax(fmin(left, seconds), 0);
  int n = epoll_wait(m->sockets, events, EVENTS, (int)ceil(left * 1e3));
  for (int i = 0; i < n; i++)
    act(m, events[i].data.fd, events[i].events);
  if (m->timer > 0 && m->timer <= answer_clock()) {
    m->timer = 0;
    act(m, CURL_SOCKET_TIMEOUT, 0);
  }
}

/* Host names are UTF-8, which libcurl asks the locale for. */
static void turn_utf8(multi *m, double seconds) {
  locale_t own = m->utf8 ? uselocale(m->utf8) : (locale_t)0;
  turn(m, seconds);
  if (m->utf8)
    uselocale(own);
}

/* Adds a request that is over to the list below the top. */
static void finish(lua_State *L, request *r, CURLcode code) {
  r->over = true;
  r->answer.code = code;
  leave(r);
  lua_rawgeti(L, -1, r->number);
  lua_rawseti(L, -3, (int)lua_rawlen(L, -3) + 1);
}

/* Ends the requests whose text takes too long: they have their status. */
static void sweep(lua_State *L, multi *m) {
  double late = answer_clock() - TEXT_TIME;
  if (answer_clock() - m->swept < SWEEP)
    return;
  m->swept = answer_clock();
  for (request *r = m->first, *next; r; r = next) {
    next = r->next;
    if (r->answer.headed_at > 0 && r->answer.headed_at < late)
      finish(L, r, CURLE_OK);
  }
}

/* Adds the requests that are over to the list on the top. */
static void collect(lua_State *L, multi *m) {
  int left;
  push_requests(L);
  for (CURLMsg *got; (got = curl_multi_info_read(m->handle, &left));) {
    request *r = NULL;
    CURLcode code = got->data.result;
    curl_easy_getinfo(got->easy_handle, CURLINFO_PRIVATE, &r);
    finish(L, r, code);
  }
  sweep(L, m);
  lua_pop(L, 1);
}

int request_poll(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  multi *m = the_multi(L);
  luaL_argcheck(L, seconds >= 0 && seconds < 1e6, 1, "out of range");
  lua_newtable(L);
  turn_utf8(m, m->first ? fmin(seconds, SWEEP) : seconds);
  collect(L, m);
  return 1;
}


/* Methods. */

static request *check_request(lua_State *L) {
  return luaL_checkudata(L, 1, REQUEST);
}

/* over(): whether there is a result. */
static int request_over(lua_State *L) {
  lua_pushboolean(L, check_request(L)->over);
  return 1;
}

/* result(): status, text and some headers by name; or nil, a message and its
   group. Once, of a request that is over. */
static int request_result(lua_State *L) {
  request *r = check_request(L);
  luaL_argcheck(L, r->over && r->answer.easy, 1, "a request that is over");
  int n = answer_push(L, &r->answer);
  request_free(r);
  return n;
}

/* cancel(): it is given up. */
static int request_cancel(lua_State *L) {
  request_free(check_request(L));
  return 0;
}

static const luaL_Reg METHODS[] = {
  { "over", request_over },
  { "result", request_result },
  { "cancel", request_cancel },
  { NULL, NULL }
};

static void set_gc(lua_State *L, lua_CFunction gc) {
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
}

void request_open(lua_State *L) {
  luaL_newmetatable(L, MULTI);
  set_gc(L, multi_gc);
  luaL_newmetatable(L, REQUEST);
  set_gc(L, request_gc);
  lua_newtable(L);
  compat_register(L, METHODS);
  lua_setfield(L, -2, "__index");
  lua_newtable(L);
  lua_newtable(L);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &THE_REQUESTS);
  lua_pop(L, 2);
}
