/* SPDX-License-Identifier: MIT */
/*
 * The pages of a store's file, as LMDB alone sees them.
 */
#ifndef FAULT_PAGES_H
#define FAULT_PAGES_H

#include <stdbool.h>
#include <stddef.h>

/* Is every page of the file used once or free once? Nobody in this process
   has the store open. `text` says what was counted. */
bool pages_add_up(const char *store, char *text, size_t size);

#endif
