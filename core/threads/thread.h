/* SPDX-License-Identifier: MIT */
/*
 * The library's own threads. They start when they are needed, so after the
 * host has forked, and block the host's signals.
 */
#ifndef THREAD_H
#define THREAD_H

#include <pthread.h>

/* Starts a thread to be joined; 0 or an error number. */
int thread_start(pthread_t *thread, void *(*main)(void *arg), void *arg);

/* A condition whose timed waits go by CLOCK_MONOTONIC. */
void cond_init_monotonic(pthread_cond_t *c);

#endif
