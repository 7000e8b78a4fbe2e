/* SPDX-License-Identifier: MIT */
/*
 * Lists of notices; see dead_notices.h.
 */
#include "record/dead/notices.h"

#include <stdlib.h>
#include <string.h>

#define NOTICES_MAX 10000 /* in a list that is never read */

void notices_init(notices *l) {
  pthread_mutex_init(&l->lock, NULL);
  l->wanted = false;
  l->n = 0;
  l->first = NULL;
  l->end = &l->first;
}

void notices_free(notices *l) {
  notices_drop(l->first);
  pthread_mutex_destroy(&l->lock);
}

void notices_add(notice **all, notices *to, const char *dlq,
                 uint64_t number) {
  notice *one = malloc(sizeof *one);
  if (!one) return;
  *one = (notice){.to = to, .next = *all, .number = number};
  strcpy(one->dlq, dlq);
  *all = one;
}

void notices_drop(notice *all) {
  while (all) {
    notice *next = all->next;
    free(all);
    all = next;
  }
}

static notice *reversed(notice *all) {
  notice *back = NULL;
  while (all) {
    notice *next = all->next;
    all->next = back;
    back = all;
    all = next;
  }
  return back;
}

static void post(notice *one) {
  notices *l = one->to;
  one->next = NULL;
  pthread_mutex_lock(&l->lock);
  bool room = l->n < NOTICES_MAX;
  if (room) {
    *l->end = one;
    l->end = &one->next;
    l->n++;
  }
  pthread_mutex_unlock(&l->lock);
  if (!room) free(one);
}

void notices_post(notice *all) {
  for (notice *one = reversed(all), *next; one; one = next) {
    next = one->next;
    post(one);
  }
}

bool notices_take(notices *l, respool_notice *out) {
  pthread_mutex_lock(&l->lock);
  notice *one = l->first;
  if (one) {
    l->first = one->next;
    if (!l->first) l->end = &l->first;
    l->n--;
  }
  pthread_mutex_unlock(&l->lock);
  if (!one) return false;
  out->number = one->number;
  strcpy(out->dlq, one->dlq);
  free(one);
  return true;
}
