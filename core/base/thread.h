/* SPDX-License-Identifier: MIT */
/*
 * Threads of the library's own. They are started when something needs them,
 * so after the host has forked, and leave the host's signals alone.
 */
#ifndef THREAD_H
#define THREAD_H

#include <pthread.h>

/* Starts a thread to be joined; 0 or an error number. */
int thread_start(pthread_t *thread, void *(*main)(void *arg), void *arg);

/* A condition whose timed waits go by CLOCK_MONOTONIC. */
void cond_init_monotonic(pthread_cond_t *c);

#endif
