/* SPDX-License-Identifier: MIT */
/*
 * What the specs of the journal share: it lies beside a file that stands in for
 * LMDB (spec/fault/journal/stand_in.h). Every handle here is as another
 * process: it has descriptors, locks and a mapping of its own. Calls that fail
 * are made to by the program's own pwrite and fdatasync.
 */
#ifndef JOURNAL_KIT_H
#define JOURNAL_KIT_H

#include "../../../fault/journal/stand_in.h"
#include "../../holds.h"
#include "lmdb/journal/files/lock.h"
#include "lmdb/journal/files/slots.h"

#define HALF ((uint64_t)64 << 10)

extern atomic_int no_space, no_flush; /* errors to come; -1: for ever */
extern atomic_int cut_short; /* writes to come that are done and deny it */
extern atomic_int writes, flushes;
extern void (*at_flush)(void); /* called within a flush; or NULL */

/* A program begins and ends with these: a directory for its stores. */
void kit_open(void);
int kit_close(void);
extern const char *dir;

/* A store for each check: made anew; checked and closed. */
extern stand a, b; /* b: another process's */
extern arena memory;
void begin(void);
void end(void);
void reopen(void);
void clear_dir(void);

uint64_t push(stand *s, uint64_t queue, const char *text);
taken take(stand *s, uint64_t queue, int64_t lease);
int done(stand *s, uint64_t queue, taken t);
void lifecycles(int n, size_t size); /* so many items pushed, taken and done */

bool says(taken t, const char *text);
void count(uint64_t queue, uint64_t pushed, uint64_t n_done);
void lies(int in_side, int in_journal); /* live items */
journal_state state(void);

/* A finding of a check: printed, or counted in the int at `arg`. */
int found_any(void *arg, const char *text);

/* Files of the store: bytes written over, and a copy. */
void poke(const char *file, off_t at, const void *p, size_t n);
void copy(const char *from, const char *to);

#endif
