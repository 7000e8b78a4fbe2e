/* SPDX-License-Identifier: MIT */
/*
 * Error codes and what is said about them. Names and general messages come
 * from RESPOOL_ERRORS. The detailed line belongs to a thread; it is always
 * one line: control bytes that a name or path brought along become '?'.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char line[FAIL_LINE];

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
  return line;
}

static void keep_on_one_line(void) {
  for (char *p = line; *p; p++)
    if ((unsigned char)*p < 0x20 || *p == 0x7f)
      *p = '?';
}

int fail(int code, const char *fmt, ...) {
  char text[FAIL_LINE]; /* an argument may be the line itself */
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  fail_text(text);
  return code;
}

void fail_text(const char *text) {
  size_t n = strnlen(text, FAIL_LINE - 1);
  memmove(line, text, n);
  line[n] = '\0';
  keep_on_one_line();
}
