/* SPDX-License-Identifier: MIT */
/*
 * LMDB's file read without LMDB, which trusts what it reads: every number in
 * a page is checked before it is used, a page that is not what it should be
 * is passed over and counted, and none is visited twice. So a damaged file
 * gives what is readable in it and harms nobody.
 *
 * The layout is that of LMDB 0.9 (data version 1) on a machine with 64 bits
 * and the byte order of this one; see mdb.c, "struct MDB_page".
 */
#ifndef PAGES_H
#define PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "respool.h"

/* A tree, by its first page. */
typedef struct tree {
  uint64_t root;    /* TREE_EMPTY: it has none */
  uint64_t entries; /* records in it */
  bool known;
} tree;

#define TREE_EMPTY UINT64_MAX

typedef struct pages {
  int fd;
  uint32_t size;      /* of a page */
  uint64_t n;         /* pages to look at */
  uint8_t *seen;      /* a bit each: reached by a walk, and sound */
  uint8_t *idle;      /* a bit each: on the free list */
  uint8_t *scanned;   /* a bit each: looked through by SCAN_LOST */
  tree free, main;    /* of the last commit */
  tree free_before, main_before; /* of the one before */
  bool unsure;        /* which commit was the last: a record is damaged */
  uint64_t damaged;   /* pages that a walk could not read */
  uint64_t missing;   /* those it looked for behind the end of the file */
  int rc;             /* sticky: NOMEM, IO */
} pages;

/* A record. `value` is what its length says; `room` is all that may belong to
   it, for when that is damaged; both have data NULL when it cannot be read. */
typedef struct node {
  respool_bytes key, value, room;
  bool tree; /* the value describes a tree: see pages_tree */
} node;

/* Returns whether the record is what it should be. The bytes last while it
   runs. */
typedef bool (*node_fn)(void *arg, const node *n);

/* Opens the file; 0, NOT_FOUND, IO, NOMEM. Without a readable first page its
   pages are taken to have 4 KiB and the trees are not known. */
int pages_open(pages *p, const char *path);
void pages_close(pages *p);

/* Calls `each` for the records of a tree in order, without those whose keys
   are out of order; false when not all of it could be read, or `each` found
   something that is not what it should be. */
bool pages_walk(pages *p, tree t, node_fn each, void *arg);

/* The tree that a record describes. */
tree pages_tree(const node *n);

/* Whether no page that the last commit uses is missing. */
bool pages_whole(pages *p);

/* Reads the free list; false when part of it could not be read. */
bool pages_read_free(pages *p, tree t);

/* Calls `each` for all that is in leaves, sound or not, which
   - no walk has reached, or found sound, and that are not on the free list;
   - SCAN_LOST has looked through, as far as values are small;
   - as the first, also on the free list, as far as values are small. */
enum scan { SCAN_LOST, SCAN_AGAIN, SCAN_IDLE };
void pages_scan(pages *p, enum scan which, node_fn each, void *arg);

/* Calls `each`, with `room` only, for what lies in overflow pages that nothing
   has reached. */
void pages_scan_values(pages *p, node_fn each, void *arg);

#endif
