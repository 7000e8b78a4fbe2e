/* SPDX-License-Identifier: MIT */
/*
 * The answer to a request, as much as is kept of it, or the reason why there is
 * none.
 */
#ifndef CURL_ANSWER_H
#define CURL_ANSWER_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#include "values/compat.h"

#define TEXT_KEPT 4096 /* bytes of an answer's text */

typedef struct answer {
  CURL *easy;
  double connect_timeout, timeout; /* seconds, for messages */
  CURLcode code;                   /* once it is over */
  size_t head;                     /* bytes so far */
  bool long_head;
  double headed_at;      /* 0: the head is not read */
  size_t opened, denied; /* addresses */
  size_t got;            /* bytes of text */
  char text[TEXT_KEPT];
  char error[CURL_ERROR_SIZE];
} answer;

/* Seconds of a clock that is never set; headed_at is of it. */
double answer_clock(void);

/* Has the easy handle read into the answer, which stays where it is. */
void answer_listen(answer *a);

/* Status, text and some headers by name; or nil, a message and its group. */
int answer_push(lua_State *L, const answer *a);

#endif
