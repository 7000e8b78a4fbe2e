/* SPDX-License-Identifier: MIT */
/*
 * A world in which one call fails. A program that is linked with faults.c has
 * its own malloc, pwrite, fdatasync, ...: they count the calls that could
 * fail in a given way, and the k-th of them does. Allocations that are alive
 * are counted too, of all libraries of the process.
 *
 * The state lies in memory that processes share, so that a parent sees how
 * far its child has come.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdint.h>

enum fault {
  FAULT_MEMORY, /* malloc and its kin, mmap, pthread_create: ENOMEM */
  FAULT_EIO,
  FAULT_ENOSPC,
  FAULT_EINTR,
  FAULT_SHORT,  /* a read or write moves half of what was asked for */
  FAULT_KINDS
};

const char *fault_name(enum fault f);

void faults_begin(void); /* once, before anything else */

/* From now on calls count, in all threads; the k-th (from 1) that could fail
   in this way does. faults_off ends that. */
void faults_arm(enum fault f, uint64_t k);
void faults_off(void);

int faults_fired(void);           /* did it fail? */
const char *faults_place(void);   /* which function did */
void faults_trace(int fd);        /* and who had called it */
uint64_t faults_calls(void);      /* counted since it was armed */

/* Allocations alive in this process. */
int64_t faults_alive(void);

#endif
