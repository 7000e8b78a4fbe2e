/* SPDX-License-Identifier: MIT */
/*
 * A store's whole life in a few milliseconds: every verb that changes
 * something, most that look. It is told which fault it lives with, says on
 * stdout what no caller should see, and keeps the ledger.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include "faults.h"

/* Runs it on the store in `path`, which is not there yet. Returns how many
   findings there were. With `careless` a push is taken for acknowledged
   whatever it returns: the control that must be found out. */
int scenario_run(const char *path, enum fault f, int careless);

#endif
