/* SPDX-License-Identifier: MIT */
/*
 * The line behind respool_error_text: one for each thread, kept until the
 * next failure. Whoever finds out what went wrong says so with fail(), whose
 * result is the code, so that a failure reads `return fail(code, ...)`.
 */
#ifndef ERROR_H
#define ERROR_H

#include "respool.h"

enum { FAIL_LINE = 256 }; /* bytes of a line, its NUL included */

/* Keeps the formatted line, cut to FAIL_LINE, and returns `code`. */
int fail(int code, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Keeps a line that is made already: what another thread that ran this
   one's operation had to say. `line` may be respool_error_text(). */
void fail_text(const char *line);

#endif
