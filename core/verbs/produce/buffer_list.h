/* SPDX-License-Identifier: MIT */
/*
 * The buffers of a store.
 */
#ifndef BUFFER_LIST_H
#define BUFFER_LIST_H

#include "verbs/store/store.h"

void buffers_init(respool *s);

/* At the end of a store: orphans are flushed once more, then freed. */
void buffers_end(respool *s);

/* In a child process: frees the memory of a buffer, or of all orphans (NULL),
   but for what a thread of the parent was at when it forked. */
void buffers_forget(respool *s, respool_buffer *b);

#endif
