/* SPDX-License-Identifier: MIT */
/*
 * Names of entries that belong to an item of a queue. A queue's long name is
 * cut, so what such an entry holds bears the whole.
 */
#ifndef ENTRY_NAME_H
#define ENTRY_NAME_H

#include "respool.h"

void entry_name_of(char name[RESPOOL_NAME_MAX + 1], const char *queue,
                   uint64_t id);

#endif
