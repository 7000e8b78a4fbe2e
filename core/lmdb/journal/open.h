/* SPDX-License-Identifier: MIT */
/*
 * Opening a journal, and making its file.
 */
#ifndef JOURNAL_OPEN_H
#define JOURNAL_OPEN_H

#include "lmdb/journal/files/control.h"

/* Sees to it that there is a file; ELSEWHERE: there is no room for one. */
int open_made(journal *j);

#endif
