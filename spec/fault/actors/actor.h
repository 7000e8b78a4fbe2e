/* SPDX-License-Identifier: MIT */
/*
 * What an actor knows; verbs.h has what it can do, actors.h what it plays.
 */
#ifndef FAULT_ACTOR_H
#define FAULT_ACTOR_H

#include "model.h"

typedef struct actor {
  model *m;
  const char *path;
  const char *kind;   /* see actor_kinds */
  uint64_t seed;
  int rounds;
  int sync;           /* enum respool_sync */
  bool boast;         /* acknowledges a push before it is called */
  bool restless;      /* closes and opens the store again after its rounds */
  int slot;           /* among the model's beats */
  respool *s;         /* its own from here */
  uint64_t chance;
} actor;

#endif
