/* SPDX-License-Identifier: MIT */
/*
 * A crowd of processes that are killed, from outside and at points where they
 * kill themselves, and begin again; and the count of what is wrong, which all
 * of them share. With a RULE the code breaks it, and the run is good when that
 * was noticed.
 */
#ifndef CROWD_H
#define CROWD_H

#include <stdbool.h>
#include <sys/types.h>

#include "points.h"

enum { CROWD_MOST = 64, CROWD_POINTS = 64, CROWD_PATIENCE = 60 /* s */ };

typedef struct crowd crowd;
struct crowd {
  const char *name; /* of the program */
  int n;
  unsigned seed;
  int more, odds;   /* kills of a round: 10 and up to so many more; in one of
                       `odds` turns one comes from outside */
  const point_at *points;
  int n_points;
  void (*act)(const crowd *c, bool first); /* of a process, as long as
                                              crowd_goes_on */
  pid_t pid[CROWD_MOST];
  long kills;       /* so far */
  long wanted;      /* kills to come to */
  long rounds;
};

/* Begins with a program's arguments, DIR KILLS SEED PROCESSES [RULE]. Returns
   zeroed memory that all processes share, or ends the program. */
void *crowd_begin(crowd *c, int argc, char **argv, size_t shared);

/* Are more kills wanted, and is nothing wrong? */
bool crowd_wants(const crowd *c);

/* A round of kills. Half of the rounds end with survivors, half with none. */
void crowd_round(crowd *c);

/* Runs check() in a process of its own. */
void crowd_look(const crowd *c, void (*check)(void));

/* Says what was done. Returns the program's status. */
__attribute__((format(printf, 2, 3)))
int crowd_end(const crowd *c, const char *form, ...);

/* ---- of all its processes ------------------------------------------------ */

/* Something is wrong. The first few are said; with a rule, where SAY is set. */
__attribute__((format(printf, 1, 2)))
void bad(const char *form, ...);
bool all_is_well(void);
int tell_bad(void *arg, const char *text); /* of a finding */

/* A call that must not fail, or the process ends. */
void must(const char *verb, int rc);

/* Is this the rule that is broken? */
bool breaks(const char *rule);

/* ---- of those that are killed -------------------------------------------- */

/* Arms the process for one of the first `n` points. */
void crowd_arm(const crowd *c, int n);

/* Until the round is over. Who does not come back in CROWD_PATIENCE hangs. */
bool crowd_goes_on(void);

#endif
