/* SPDX-License-Identifier: MIT */
/*
 * What must be in the store. Each item bears a tag in its payload, and each
 * tag has a life: the stages that verbs took it through, in order. A verb
 * notes where the item goes before it is called, and that it has returned
 * after. Whatever happens in between, the item is in one stage from the last
 * that was acknowledged to the last that was begun, and in no other.
 *
 * Lives are plain memory, shared by threads or by processes; whoever has a
 * recorder preloaded (or was given another function) also tells it all.
 */
#ifndef FAULT_MODEL_H
#define FAULT_MODEL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "../event.h"
#include "respool.h"

enum { TAGS = 1 << 15, STAGES = 24, UNITS = 1 << 16 };

/* ---- places ------------------------------------------------------------- */

/* A queue, its history, or the DLQ of the same name, or nowhere. */
enum place {
  GONE, ORDERS, FOLLOW, LINES, SHORT, KEPT, DEAD, AGAIN, TWINS, LATEST, SHARED,
  AFTER, QUEUES, DONE = 32, CANCELLED = 64, DLQ = 128,
  QUEUE_OF = 31 /* of a place */
};

const char *place_name(int place); /* of a queue or DLQ */
int place_find(const char *name);  /* of a queue; GONE: unknown */

/* ---- lives -------------------------------------------------------------- */

/* Stage 0 is before it was pushed. */
typedef struct life {
  _Atomic uint8_t n;     /* stages begun, stage 0 among them; 0: no life */
  _Atomic uint8_t acked; /* the last acknowledged */
  stage stages[STAGES];
} life;

typedef struct model {
  _Atomic uint32_t n_tags, n_units;
  _Atomic bool opened; /* the store has been opened once */
  _Atomic bool stop;   /* asks the actors to end */
  _Atomic int64_t time; /* when it was opened first, ms since 1970 */
  _Atomic uint32_t beats[16]; /* calls that have returned, of each actor */
  mark_fn *tell;       /* NULL: nobody is told */
  life lives[TAGS];
} model;

/* In memory shared with children; ends the program when there is none. */
model *model_new(void);
void model_reset(model *m);

/* From a recorded event, at most as far as was recorded. */
void model_play(model *m, const event *e);

uint32_t model_tag(model *m);
uint16_t model_unit(model *m);

/* A verb will take `tag` to a stage; the result is what model_ack wants. */
uint8_t model_begin(model *m, uint32_t tag, stage to);
void model_ack(model *m, uint32_t tag, uint8_t index, uint64_t id);
void model_void(model *m, uint32_t tag, uint8_t index);
void model_held(model *m, int place, uint64_t id);
void model_opened(model *m, int64_t now);

/* The stage after the last begun. */
stage model_last(const model *m, uint32_t tag);

/* ---- looking at a store ------------------------------------------------- */

/* What is wrong, by kind. */
enum wrong {
  WRONG_OPEN,  /* it does not open */
  WRONG_CHECK, /* respool_check has a finding */
  WRONG_PAGES, /* a page of the file is in use twice, or never */
  WRONG_LOST,  /* acknowledged, and not so */
  WRONG_TWICE, /* an item in two places, or one never pushed */
  WRONG_HALF,  /* of verbs in one commit only some have happened */
  WRONG_AFTER, /* push, take, settle do not work any more */
  WRONG_CRASH, /* the process died */
  WRONGS
};

const char *wrong_name(int kind);

/* Called with each thing that is wrong. */
typedef void wrong_fn(void *arg, int kind, const char *text);

/* Holds the store against the model. */
void model_compare(const model *m, respool *s, wrong_fn *found, void *arg);

/* Holds respool_check's findings against it, too. */
void model_check(const model *m, respool *s, wrong_fn *found, void *arg);

/* Pushes an item, takes and settles it, and one of each queue's own. */
void model_use(respool *s, wrong_fn *found, void *arg);

/* ---- payloads ----------------------------------------------------------- */

enum { BODY_MAX = 18000 };

/* Bytes that say their tag, and that can be told from damaged ones; of a few
   tags they are too many for a segment. Returns how many. The result of an item
   is the body of a tag that is no item's. */
size_t body_make(uint32_t tag, uint8_t body[BODY_MAX]);
respool_bytes body_result(uint32_t tag, uint8_t body[BODY_MAX]);
uint32_t body_tag(respool_bytes b); /* UINT32_MAX: not ours */

#endif
