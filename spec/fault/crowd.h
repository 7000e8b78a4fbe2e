/* SPDX-License-Identifier: MIT */
/*
 * A crowd of processes that are killed, from outside and where they kill
 * themselves, and begin again.
 */
#ifndef CROWD_H
#define CROWD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

enum { CROWD_MOST = 64 };

typedef struct crowd {
  int n;
  unsigned seed;
  int more, odds;   /* kills of a round: 10 and up to so many more; in one of
                       `odds` turns one comes from outside */
  void (*act)(unsigned seed, bool first); /* of a process; does not return */
  void (*bad)(const char *form, ...);     /* something is wrong */
  bool gives_up;    /* a process may end with another status than 0 */
  atomic_int *stop; /* 1: those that are left end */
  const _Atomic long *wrong; /* how much is */
  pid_t pid[CROWD_MOST];
  long kills;       /* so far */
  long wanted;      /* kills to come to */
} crowd;

/* Begins with a program's arguments, DIR KILLS SEED PROCESSES [RULE]. Returns
   zeroed memory that all processes share, or ends the program. */
void *crowd_begin(crowd *c, int argc, char **argv, size_t shared);

/* A round of kills. Half of the rounds end with survivors, half with none. */
void crowd_round(crowd *c);

/* Runs check(), which does not return, in a process of its own. */
void crowd_look(const crowd *c, void (*check)(void));

#endif
