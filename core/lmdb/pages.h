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
  uint64_t root;  /* TREE_EMPTY: it has none */
  bool known;
} tree;

#define TREE_EMPTY UINT64_MAX

typedef struct pages {
  int fd;
  uint32_t size;      /* of a page */
  uint64_t n;         /* pages to look at */
  uint8_t *seen;      /* a bit each: reached by a walk */
  uint8_t *idle;      /* a bit each: on the free list */
  tree free, main;    /* of the last commit */
  tree free_before, main_before; /* of the one before */
  uint64_t damaged;   /* pages that a walk could not read */
  uint64_t missing;   /* those it looked for behind the end of the file */
  int rc;             /* sticky: NOMEM, IO */
} pages;

/* A record. `value.data` is NULL when its own pages cannot be read. */
typedef struct node {
  respool_bytes key, value;
  bool tree; /* the value describes a tree: see pages_tree */
} node;

/* The bytes last while it runs. */
typedef void (*node_fn)(void *arg, const node *n);

/* Opens the file; 0, NOT_FOUND, IO, NOMEM. Without a readable first page its
   pages are taken to have 4 KiB and the trees are not known. */
int pages_open(pages *p, const char *path);
void pages_close(pages *p);

/* Calls `each` for the records of a tree in order; false when part of it
   could not be read. */
bool pages_walk(pages *p, tree t, node_fn each, void *arg);

/* The tree that a record describes. */
tree pages_tree(const node *n);

/* Whether no page that the last commit uses is missing. */
bool pages_whole(pages *p);

/* Reads the free list; false when part of it could not be read. */
bool pages_read_free(pages *p, tree t);

/* Calls `each` for the records of leaves that no walk has reached and that
   are not on the free list; `idle` asks for those on it as well, as far as
   they are small, and leaves all to be scanned again. */
void pages_scan(pages *p, bool idle, node_fn each, void *arg);

/* Calls `each`, with the value only, for what lies in overflow pages that
   nothing has reached; the value may be longer than what was stored. */
void pages_scan_values(pages *p, node_fn each, void *arg);

#endif
