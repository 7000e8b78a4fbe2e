/* SPDX-License-Identifier: MIT */
#include "record/entry_name.h"

#include <stdio.h>

#include "record/failures.h"

#define QUEUE 230 /* bytes of a queue's name */

void entry_name_of(char name[RESPOOL_NAME_MAX + 1], const char *queue,
                   uint64_t id) {
  respool_bytes cut = phrase_cut(phrase_of(queue), QUEUE);
  snprintf(name, RESPOOL_NAME_MAX + 1, "%.*s/%llu", (int)cut.size,
           (const char *)cut.data, (unsigned long long)id);
}
