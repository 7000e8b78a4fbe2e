/* SPDX-License-Identifier: MIT */
/*
 * Reads LMDB's file without LMDB, which trusts every byte: here every number
 * in a page is checked before it is used, a damaged page is skipped and
 * counted, and no page is read twice. So all that is readable in a damaged
 * file is found, and nothing in it does harm.
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
  uint64_t last;      /* page in use, by the last commit */
  uint8_t *seen;      /* a bit each: reached by a walk, and sound */
  uint8_t *idle;      /* a bit each: on the free list */
  uint8_t *scanned;   /* a bit each: searched by SCAN_LOST */
  tree free, main;    /* of the last commit */
  tree free_before, main_before; /* of the one before */
  bool unsure;        /* the last commit is not known: a meta page is damaged */
  uint64_t damaged;   /* pages that a walk could not read */
  uint64_t missing;   /* pages behind the end of the file */
  int rc;             /* sticky: NOMEM, IO */
} pages;

/* A record. `value` has the length in the node; `room` is all that may belong
   to it, in case the length is damaged; both have data NULL when unreadable. */
typedef struct node {
  respool_bytes key, value, room;
  bool tree; /* the value describes a tree: see pages_tree */
} node;

/* Returns whether the record is sound. Its bytes are valid during the call.
   A walk calls it with NULL where records may be missing. */
typedef bool (*node_fn)(void *arg, const node *n);

/* Opens the data file in a directory, the store `path`; 0, NOT_FOUND, IO,
   NOMEM. Without a readable first page its pages are taken to have 4 KiB and
   the trees are not known. */
int pages_open(pages *p, int dirfd, const char *path);
void pages_close(pages *p);

/* Calls `each` for the records of a tree in order, without those whose keys are
   out of order; false when part of it could not be read, or `each` found a
   damaged record. */
bool pages_walk(pages *p, tree t, node_fn each, void *arg);

/* The tree that a record describes. */
tree pages_tree(const node *n);

/* Whether no page that the last commit uses is missing. */
bool pages_whole(pages *p);

/* Reads the free list; false when part of it could not be read. */
bool pages_read_free(pages *p, tree t);

/* Calls `each` for the records of leaves, sound or not:
   - of those that no tree leads to, or that are damaged, and that are not free;
   - of those that SCAN_LOST has searched, as far as values are small;
   - as the first, but free ones too, as far as values are small. */
enum scan { SCAN_LOST, SCAN_AGAIN, SCAN_IDLE };
void pages_scan(pages *p, enum scan which, node_fn each, void *arg);

/* Calls `each`, with `room` only, for values in overflow pages that no record
   leads to. */
void pages_scan_values(pages *p, node_fn each, void *arg);

#endif
