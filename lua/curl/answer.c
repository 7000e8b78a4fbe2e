/* SPDX-License-Identifier: MIT */
#include "answer.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/decimal.h"

#define TEXT_MOST 65536    /* after that the connection ends */
#define HEAD_MOST 65536    /* bytes of all heads of an answer */

double answer_clock(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}


/* Called by libcurl. */

static size_t on_head(char *bytes, size_t one, size_t n, void *arg) {
  answer *a = arg;
  long status = 0;
  a->head += n;
  a->long_head = a->head > HEAD_MOST;
  curl_easy_getinfo(a->easy, CURLINFO_RESPONSE_CODE, &status);
  bool ends = (n == 2 && bytes[0] == '\r') || (n == 1 && bytes[0] == '\n');
  if (ends && status >= 200)
    a->headed_at = answer_clock();
  return a->long_head ? 0 : one * n;
}

static size_t on_text(char *bytes, size_t one, size_t n, void *arg) {
  answer *a = arg;
  if (a->got < TEXT_KEPT) {
    size_t room = TEXT_KEPT - a->got;
    memcpy(a->text + a->got, bytes, n < room ? n : room);
  }
  a->got += n;
  return a->got > TEXT_MOST ? 0 : one * n;
}

void answer_listen(answer *a) {
  curl_easy_setopt(a->easy, CURLOPT_ERRORBUFFER, a->error);
  curl_easy_setopt(a->easy, CURLOPT_HEADERFUNCTION, on_head);
  curl_easy_setopt(a->easy, CURLOPT_HEADERDATA, a);
  curl_easy_setopt(a->easy, CURLOPT_WRITEFUNCTION, on_text);
  curl_easy_setopt(a->easy, CURLOPT_WRITEDATA, a);
}


/* Results. */

static void push_field(lua_State *L, const answer *a, const char *name) {
  struct curl_header *h;
  if (curl_easy_header(a->easy, name, 0, CURLH_HEADER, -1, &h))
    return;
  lua_pushstring(L, h->value);
  lua_setfield(L, -2, name);
}

/* Where a redirect leads to, as a whole URL. */
static void push_location(lua_State *L, const answer *a) {
  char *url = NULL;
  curl_easy_getinfo(a->easy, CURLINFO_REDIRECT_URL, &url);
  if (!url)
    return;
  lua_pushstring(L, url);
  lua_setfield(L, -2, "location");
}

static int push_answer(lua_State *L, const answer *a) {
  long status = 0;
  curl_easy_getinfo(a->easy, CURLINFO_RESPONSE_CODE, &status);
  lua_pushinteger(L, status);
  lua_pushlstring(L, a->text, a->got < TEXT_KEPT ? a->got : TEXT_KEPT);
  lua_newtable(L);
  push_field(L, a, "retry-after");
  push_field(L, a, "content-type");
  push_location(L, a);
  return 3;
}

static int push_trouble(lua_State *L, const char *message,
                        const char *group) {
  lua_pushnil(L);
  lua_pushstring(L, message);
  lua_pushstring(L, group);
  return 3;
}

static int push_timeout(lua_State *L, const answer *a) {
  curl_off_t ready = 0;
  curl_easy_getinfo(a->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
  double least = fmin(a->connect_timeout, a->timeout);
  char text[64], seconds[DECIMAL_MAX];
  decimal_write(ready ? a->timeout : least, seconds);
  snprintf(text, sizeof text, "no %s within %s s",
           ready ? "answer" : "connection", seconds);
  return push_trouble(L, text, "timeout");
}

static int push_unconnected(lua_State *L, const answer *a) {
  long error = 0;
  curl_easy_getinfo(a->easy, CURLINFO_OS_ERRNO, &error);
  if (error == ECONNREFUSED)
    return push_trouble(L, "connection refused", "refused");
  return push_trouble(L, error ? strerror((int)error) : a->error, "IO");
}

static const char *group_of(CURLcode code) {
  switch (code) {
  case CURLE_COULDNT_RESOLVE_HOST:
  case CURLE_COULDNT_RESOLVE_PROXY:
    return "resolve";
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CIPHER:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_ISSUER_ERROR:
  case CURLE_SSL_CLIENTCERT:
    return "TLS";
  case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9 */
  case CURLE_WEIRD_SERVER_REPLY:
  case CURLE_HTTP2:
  case CURLE_HTTP2_STREAM:
    return "malformed";
  default:
    return "IO";
  }
}

static int push_failure(lua_State *L, const answer *a) {
  const char *group = group_of(a->code), *text = a->error;
  if (!*text)
    text = curl_easy_strerror(a->code);
  if (!strcmp(group, "malformed"))
    text = "the answer is not HTTP";
  lua_pushnil(L);
  if (!strcmp(group, "TLS"))
    lua_pushfstring(L, "TLS: %s", text);
  else
    lua_pushstring(L, text);
  lua_pushstring(L, group);
  return 3;
}

static int push_problem(lua_State *L, const answer *a) {
  long proxy = 0;
  curl_easy_getinfo(a->easy, CURLINFO_HTTP_CONNECTCODE, &proxy);
  if (a->denied && !a->opened)
    return push_trouble(L, "the host's address is in a network that is "
                           "not allowed", "denied");
  if (a->long_head)
    return push_trouble(L, "the answer's header is too long", "malformed");
  if (proxy >= 300) {
    lua_pushnil(L);
    lua_pushfstring(L, "the proxy answered %d", (int)proxy);
    lua_pushliteral(L, "proxy");
    return 3;
  }
  switch (a->code) {
  case CURLE_OPERATION_TIMEDOUT:
    return push_timeout(L, a);
  case CURLE_COULDNT_CONNECT:
    return push_unconnected(L, a);
  case CURLE_GOT_NOTHING:
  case CURLE_SEND_ERROR:
  case CURLE_RECV_ERROR:
    return push_trouble(L, "the connection was closed without an answer",
                        "closed");
  default:
    return push_failure(L, a);
  }
}

int answer_push(lua_State *L, const answer *a) {
  return a->headed_at > 0 ? push_answer(L, a) : push_problem(L, a);
}
