/* SPDX-License-Identifier: MIT */
/*
 * The nodes of a leaf or branch of LMDB's file, which may be damaged. A page
 * begins with its own number, a pad, flags, and where its free space begins
 * and ends; then it has two bytes for the place of each node, in the order of
 * their keys, and at its other end the nodes themselves, packed. So most damage
 * shows, and can be worked around.
 *
 * A node is four sixteen-bit numbers, its key and its value; in a branch the
 * first three are the number of a child, and there is no value.
 */
#ifndef NODES_H
#define NODES_H

#include <stdbool.h>
#include <stdint.h>

#include "respool.h"

#define PAGE_HEAD 16

enum page_kind { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4,
                 PAGE_META = 8 };

#define NODE_BIG 0x01  /* its value lies in overflow pages */
#define NODE_TREE 0x02 /* its value describes a tree */

typedef struct nodes {
  bool sound;      /* the page is as LMDB writes it */
  unsigned n;
  unsigned placed; /* the first so many, in order; the others have damaged
                      keys, or no place of their own */
  uint16_t at[];
} nodes;

/* Reads the nodes of a page of that kind, to be freed; with `ordered` its keys
   must rise. NULL: out of memory. */
nodes *nodes_read(const uint8_t *page, uint32_t size, enum page_kind kind,
                  bool ordered);

uint64_t node_child(const uint8_t *node);
unsigned node_flags(const uint8_t *node);
respool_bytes node_key(const uint8_t *node);
uint32_t node_size(const uint8_t *node);         /* of its value */
const uint8_t *node_value(const uint8_t *node);

/* Numbers as they are stored: in this machine's order. */
uint16_t get16(const uint8_t *at);
uint32_t get32(const uint8_t *at);
uint64_t get64(const uint8_t *at);

/* Where a page's free space begins and ends. */
unsigned page_lower(const uint8_t *page);
unsigned page_upper(const uint8_t *page);
unsigned page_flags(const uint8_t *page);

#endif
