/* SPDX-License-Identifier: MIT */
/*
 * Error codes and their messages. Names and general messages come from
 * RESPOOL_ERRORS. The detailed message belongs to a thread and is always one
 * line: control bytes of a name or path become '?'.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local failure last;

const char *respool_errname(int code) {
  switch (code) {
#define NAME(name, number, text) \
  case number: \
    return #name;
    RESPOOL_ERRORS(NAME)
#undef NAME
  }
  return "?";
}

const char *respool_strerror(int code) {
  switch (code) {
#define MESSAGE(name, number, text) \
  case number: \
    return text;
    RESPOOL_ERRORS(MESSAGE)
#undef MESSAGE
  }
  return "unknown error";
}

const char *respool_error_text(void) {
  return last.text;
}

int respool_error_of_store(void) {
  return last.of_store;
}

static void keep_on_one_line(void) {
  for (char *p = last.text; *p; p++)
    if ((unsigned char)*p < 0x20 || *p == 0x7f)
      *p = '?';
}

int fail(int code, const char *fmt, ...) {
  char text[FAIL_LINE]; /* an argument may be the line itself */
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  strcpy(last.text, text);
  last.of_store = false;
  keep_on_one_line();
  return code;
}

int fail_of_store(int code) {
  last.of_store = true;
  return code;
}

int invalid(const char *what, const char *rule) {
  return fail(RESPOOL_INVALID, "%s must be %s", what, rule);
}

int size_check(size_t size, size_t expected, const char *macro) {
  if (size == expected) return 0;
  return fail(RESPOOL_INVALID, "size is %zu, expected %zu: initialise with %s",
              size, expected, macro);
}

void failure_keep(failure *f) {
  *f = last;
}

void failure_tell(const failure *f) {
  last = *f;
}
