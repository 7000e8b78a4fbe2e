/* SPDX-License-Identifier: MIT */
/*
 * The log of a recorded run: one event after the other, in the order in
 * which they happened, each a header and, after a write, the bytes.
 *
 * A write is one event. A sync is two: what was written before its beginning
 * is on disk at its end. A file is known by a number that is never used
 * again; names live in the one directory that is watched.
 */
#ifndef FAULT_EVENT_H
#define FAULT_EVENT_H

#include <stddef.h>
#include <stdint.h>

enum event_kind {
  EV_WRITE = 1,  /* file, offset, size bytes follow */
  EV_DSYNCED,    /* the write before, of `file`, was to a synchronous fd */
  EV_TRUNCATE,   /* file, offset: its size now */
  EV_EXTEND,     /* file, offset: its size now, if it was shorter */
  EV_SYNC_BEGIN, /* file, sync */
  EV_SYNC_END,   /* file, sync */
  EV_LINK,       /* name -> file */
  EV_RENAME,     /* name -> other, replacing it */
  EV_UNLINK,     /* name */
  EV_DIR_BEGIN,  /* sync: of the directory */
  EV_DIR_END,    /* sync */
  EV_OPENED,     /* the store is there; id is the time in its eyes */
  EV_BEGIN,      /* tag, index, stage: a verb is about to be called */
  EV_ACK,        /* tag, index, id: it has returned */
  EV_VOID,       /* tag, index: it said that nothing has happened */
  EV_HELD        /* place, id: this item was said to be there */
};

/* Where an item is, or is about to be. */
typedef struct stage {
  uint16_t unit;    /* of verbs that happen together or not at all; 0: none */
  uint8_t place;    /* see place.h */
  uint8_t attempts; /* ANY: does not matter */
} stage;

#define ANY 255
#define EVENT_NAME 32

typedef struct event {
  uint32_t kind, file;
  uint64_t offset, size, id;
  uint32_t sync, tag;
  uint8_t index;
  stage stage;
  char name[EVENT_NAME], other[EVENT_NAME];
} event;

/* What the recorder exports; others find it by its name. */
typedef void mark_fn(const event *e);
#define MARK_FN "recorder_mark"

#endif
