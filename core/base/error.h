/* SPDX-License-Identifier: MIT */
/*
 * The line behind respool_error_text: one for each thread, kept until the
 * next failure. The function that detects a failure calls fail(), which
 * returns the code, so that a failure reads `return fail(code, ...)`.
 */
#ifndef ERROR_H
#define ERROR_H

#include <stdbool.h>

#include "respool.h"

enum { FAIL_LINE = 256 }; /* bytes of a line, its NUL included */

/* Keeps the formatted line, cut to FAIL_LINE bytes, and returns `code`. */
int fail(int code, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Marks the failure just noted as the store's, not a queue's. */
int fail_of_store(int code);

/* Says "<what> must be <rule>" and returns INVALID. */
int invalid(const char *what, const char *rule);

/* Says that an options struct was not made by its _INIT macro, if so. */
int size_check(size_t size, size_t expected, const char *macro);
#define SIZE_CHECK(o, macro) size_check((o)->size, sizeof *(o), #macro)

/* All that is known of a thread's last failure, to be given to another. */
typedef struct failure {
  char text[FAIL_LINE];
  bool of_store;
} failure;

void failure_keep(failure *f);       /* from this thread */
void failure_tell(const failure *f); /* to this thread */

#endif
