/* SPDX-License-Identifier: MIT */
/*
 * Dead letters counted by group and reason.
 */
#include "record/dead/group.h"

void dead_group_add(respool_dead_group *g, uint64_t n, uint64_t newest,
                    int64_t hour) {
  g->count += n;
  if (newest > g->newest) g->newest = newest;
  if (hour < RESPOOL_GROUP_HOURS)
    g->hours[RESPOOL_GROUP_HOURS - 1 - (hour > 0 ? hour : 0)] += n;
}

void dead_group_died(respool_dead_group *g, int64_t first, int64_t last) {
  if (!g->first_died_at || first < g->first_died_at) g->first_died_at = first;
  if (last > g->last_died_at) g->last_died_at = last;
}

void dead_group_pack(packer *out, const respool_dead_group *g) {
  pack_array(out, 7);
  pack_phrase(out, g->group);
  pack_phrase(out, g->reason);
  pack_uint(out, g->count);
  pack_uint(out, g->newest);
  pack_int(out, g->first_died_at);
  pack_int(out, g->last_died_at);
  pack_array(out, RESPOOL_GROUP_HOURS);
  for (int i = 0; i < RESPOOL_GROUP_HOURS; i++) pack_uint(out, g->hours[i]);
}

respool_dead_group dead_group_unpack(unpacker *u) {
  respool_dead_group g = {.count = 0};
  unpack_array(u);
  g.group = unpack_phrase(u);
  g.reason = unpack_phrase(u);
  g.count = unpack_uint(u);
  g.newest = unpack_uint(u);
  g.first_died_at = unpack_int(u);
  g.last_died_at = unpack_int(u);
  unpack_array(u);
  for (int i = 0; i < RESPOOL_GROUP_HOURS; i++) g.hours[i] = unpack_uint(u);
  return g;
}
