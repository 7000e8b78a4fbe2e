/* SPDX-License-Identifier: MIT */
/*
 * What must be in a store after a fault. Each item of a scenario has a number
 * and its payload tells it. The ledger notes where it may be, by what the
 * store acknowledged; an outcome that is unknown leaves both places open.
 * It lies in memory that the process shares with its children.
 */
#ifndef LEDGER_H
#define LEDGER_H

#include <stddef.h>

#include "respool.h"

#define LEDGER_ITEMS 64

enum place { NOWHERE = 1, IN_QUEUE = 2, IN_DLQ = 4 };

void ledger_begin(void); /* once */
void ledger_clear(void); /* all are nowhere */

/* What the store said of moving item `n` to a place. */
void ledger_note(int n, enum place to, int rc);

/* A move has begun that may end without a word, and has ended well. */
void ledger_intend(int n, enum place to);

/* Item `n` was in a flush whose outcome is unknown. */
void ledger_allow_twice(int n);

/* The payload of item `n`, and the number in a payload; -1: none. */
respool_payload ledger_payload(int n);
int ledger_number(respool_bytes body);

/* Opens the store, checks its invariants, and looks for every item: each in
   one place at most, and where it may be. What is not so is said on stdout.
   Returns how many findings there were. */
int ledger_verify(const char *path);

#endif
