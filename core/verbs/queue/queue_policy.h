/* SPDX-License-Identifier: MIT */
/*
 * The policy of a queue: checking what is asked for, reading what is stored.
 */
#ifndef QUEUE_POLICY_H
#define QUEUE_POLICY_H

#include "verbs/store/store.h"

/* 0, or INVALID with the name of the option. */
int queue_policy_check(const respool_queue_options *o);

/* Reads the stored policy; NOT_FOUND: there is no such queue. */
int queue_policy_find(respool *s, const char *name, queue_config *out);

#endif
