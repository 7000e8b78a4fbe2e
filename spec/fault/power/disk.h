/* SPDX-License-Identifier: MIT */
/*
 * A disk as a power cut may leave it. Of each file it knows what is on the
 * platter for certain, and what was written since and may or may not be: in
 * pieces of 512 bytes, each for itself. Names are as certain as the last sync
 * of their directory; those that came after are there up to one of them, as
 * a journal has it.
 */
#ifndef FAULT_DISK_H
#define FAULT_DISK_H

#include <stdbool.h>

#include "../event.h"

typedef struct disk disk;

disk *disk_new(void);

/* What an event does to the disk; those of the model do nothing. `bytes` are
   a write's, and must stay. With `lying` no sync has any effect. */
void disk_play(disk *d, const event *e, const uint8_t *bytes, bool lying);

/* What was not synced: pieces of files, and names. */
int disk_pending(const disk *d);

/* One of the states that a cut may leave, told by a number: the same number
   gives the same state. The hash is of all contents and names. */
uint64_t disk_cut(disk *d, uint64_t seed);

/* Writes the state of the last cut to a directory, which holds another state
   of this disk, or nothing: disk_clear. */
void disk_write(const disk *d, const char *dir);
void disk_clear(const char *dir);

#endif
