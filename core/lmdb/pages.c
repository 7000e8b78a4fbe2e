/* SPDX-License-Identifier: MIT */
/*
 * LMDB's file, page by page; see pages.h. A page begins with its own number,
 * a pad, flags, and where its free space begins and ends (of an overflow
 * page: how many pages it spans). A leaf or branch then has two bytes for the
 * place of each node. A node is four sixteen-bit numbers, its key and its
 * value; in a branch the first three are the number of a child.
 */
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../error.h"

#define HEAD 16        /* of a page */
#define NODE_HEAD 8
#define DEPTH_MAX 32
#define VALUE_MAX ((uint64_t)1 << 24) /* no record of ours is larger */

#define P_BRANCH 0x01
#define P_LEAF 0x02
#define P_OVERFLOW 0x04
#define P_META 0x08
#define N_BIG 0x01     /* the value lies in overflow pages */
#define N_TREE 0x02

#define MAGIC 0xbeefc0deu
#define DATA_VERSION 1u

/* Places in a meta page, behind its head. */
#define META_SIZE 24   /* of pages; the head of the free tree's record */
#define TREE_SIZE 48   /* of a tree's record */
#define TREE_ROOT 40
#define META_TXN (META_SIZE + 2 * TREE_SIZE + 8)

/* ---- numbers and bits --------------------------------------------------- */

static uint16_t get16(const uint8_t *at) {
  uint16_t v;
  memcpy(&v, at, sizeof v);
  return v;
}

static uint32_t get32(const uint8_t *at) {
  uint32_t v;
  memcpy(&v, at, sizeof v);
  return v;
}

static uint64_t get64(const uint8_t *at) {
  uint64_t v;
  memcpy(&v, at, sizeof v);
  return v;
}

static bool bit(const uint8_t *bits, uint64_t i) {
  return bits[i / 8] >> i % 8 & 1;
}

static void set_bit(uint8_t *bits, uint64_t i) {
  bits[i / 8] |= (uint8_t)(1u << i % 8);
}

/* ---- reading pages ------------------------------------------------------ */

static uint8_t *new_page(pages *p, uint64_t n) {
  uint8_t *b = malloc((size_t)n * p->size);
  if (!b) p->rc = RESPOOL_NOMEM;
  return b;
}

/* Reads `n` pages; false where the file ends or the disk fails. */
static bool read_pages(const pages *p, uint64_t at, uint64_t n, uint8_t *to) {
  size_t left = (size_t)n * p->size;
  off_t from = (off_t)(at * p->size);
  while (left > 0) {
    ssize_t got = pread(p->fd, to, left, from);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    from += got;
    left -= (size_t)got;
  }
  return true;
}

static bool is_page(const uint8_t *b, uint64_t number, unsigned flags) {
  return get64(b) == number && get16(b + 10) == flags;
}

/* A leaf or branch whose nodes lie where they can. */
static bool is_nodes(const pages *p, const uint8_t *b) {
  unsigned lower = get16(b + 12), upper = get16(b + 14);
  return lower >= HEAD && lower <= upper && upper <= p->size &&
         lower % 2 == 0;
}

static unsigned count_nodes(const uint8_t *b) {
  return (get16(b + 12) - (unsigned)HEAD) / 2;
}

/* The place of node `i`; NULL when it lies outside. */
static const uint8_t *node_at(const pages *p, const uint8_t *b, unsigned i) {
  unsigned at = get16(b + HEAD + 2 * i);
  if (at < get16(b + 14) || at + NODE_HEAD > p->size) return NULL;
  return at + NODE_HEAD + get16(b + at + 6) <= p->size ? b + at : NULL;
}

/* ---- values ------------------------------------------------------------- */

/* A value in overflow pages, which is the caller's to free; NULL when they
   are not what they should be. */
static uint8_t *read_big(pages *p, uint64_t at, uint64_t size) {
  uint64_t n = (size + HEAD + p->size - 1) / p->size;
  if (size > VALUE_MAX || at < 2) return NULL;
  if (at >= p->n || n > p->n - at) {
    p->missing++;
    return NULL;
  }
  uint8_t *b = new_page(p, n);
  if (!b) return NULL;
  if (read_pages(p, at, n, b) && is_page(b, at, P_OVERFLOW) &&
      get32(b + 12) >= n) {
    for (uint64_t i = 0; i < n; i++) set_bit(p->seen, at + i);
    return b;
  }
  free(b);
  p->damaged++;
  return NULL;
}

/* Gives a leaf's node to `each`; false when its value cannot be read. */
static bool give_node(pages *p, const uint8_t *b, const uint8_t *at,
                      node_fn each, void *arg) {
  unsigned flags = get16(at + 4);
  uint64_t size = get16(at) | (uint64_t)get16(at + 2) << 16;
  const uint8_t *value = at + NODE_HEAD + get16(at + 6);
  uint8_t *big = NULL;
  node n = {.key = {at + NODE_HEAD, get16(at + 6)},
            .tree = (flags & N_TREE) != 0};
  size_t room = (size_t)(b + p->size - value);
  if (flags & N_BIG) {
    big = room >= 8 ? read_big(p, get64(value), size) : NULL;
    if (big) n.value = (respool_bytes){big + HEAD, size};
  } else if (size <= room)
    n.value = (respool_bytes){value, size};
  each(arg, &n);
  free(big);
  return n.value.data != NULL;
}

/* ---- walking ------------------------------------------------------------ */

/* By LMDB's order: bytes, then length. */
static bool rises(respool_bytes a, respool_bytes b) {
  int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
  return order < 0 || (order == 0 && a.size < b.size);
}

/* A leaf whose keys do not rise has a damaged one, and nobody knows which:
   those from there on are left to the scan. Trees of numbers are kept in
   another order. */
static bool walk_leaf(pages *p, const uint8_t *b, bool ordered, node_fn each,
                      void *arg) {
  respool_bytes last = {"", 0};
  bool whole = true;
  for (unsigned i = 0; i < count_nodes(b); i++) {
    const uint8_t *at = node_at(p, b, i);
    if (!at) return false;
    respool_bytes key = {at + NODE_HEAD, get16(at + 6)};
    if (ordered && !rises(last, key)) return false;
    whole &= give_node(p, b, at, each, arg);
    last = key;
  }
  return whole;
}

typedef struct descent {
  pages *p;
  node_fn each;
  void *arg;
  bool ordered;
} descent;

static bool walk_page(const descent *d, uint64_t at, int depth);

static bool walk_branch(const descent *d, const uint8_t *b, int depth) {
  bool whole = count_nodes(b) > 0;
  for (unsigned i = 0; i < count_nodes(b); i++) {
    const uint8_t *n = node_at(d->p, b, i);
    if (!n) return false;
    uint64_t child = get16(n) | (uint64_t)get16(n + 2) << 16 |
                     (uint64_t)get16(n + 4) << 32;
    whole &= walk_page(d, child, depth + 1);
  }
  return whole;
}

static bool walk_nodes(const descent *d, const uint8_t *b, uint64_t at,
                       int depth) {
  if (is_nodes(d->p, b) && is_page(b, at, P_LEAF))
    return walk_leaf(d->p, b, d->ordered, d->each, d->arg);
  if (is_nodes(d->p, b) && is_page(b, at, P_BRANCH))
    return walk_branch(d, b, depth);
  d->p->damaged++;
  return false;
}

static bool walk_page(const descent *d, uint64_t at, int depth) {
  pages *p = d->p;
  if (at >= p->n) p->missing++;
  if (at < 2 || at >= p->n || bit(p->seen, at) || depth > DEPTH_MAX ||
      p->rc)
    return false;
  uint8_t *b = new_page(p, 1);
  if (!b) return false;
  set_bit(p->seen, at);
  bool whole = read_pages(p, at, 1, b) && walk_nodes(d, b, at, depth);
  free(b);
  return whole;
}

bool pages_walk(pages *p, tree t, node_fn each, void *arg) {
  descent d = {p, each, arg, true};
  if (!t.known) return false;
  return t.root == TREE_EMPTY || walk_page(&d, t.root, 0);
}

tree pages_tree(const node *n) {
  const uint8_t *b = n->value.data;
  if (!n->tree || !b || n->value.size != TREE_SIZE) return (tree){0, false};
  return (tree){get64(b + TREE_ROOT), true};
}

/* ---- the free list ------------------------------------------------------ */

/* For each commit a count and so many page numbers. */
static void add_idle(void *arg, const node *n) {
  pages *p = arg;
  const uint8_t *b = n->value.data;
  uint64_t count = b && n->value.size >= 8 ? get64(b) : 0;
  if (count > n->value.size / 8) return;
  for (uint64_t i = 1; i <= count && i < n->value.size / 8; i++) {
    uint64_t number = get64(b + 8 * i);
    if (number < p->n) set_bit(p->idle, number);
  }
}

bool pages_read_free(pages *p, tree t) {
  descent d = {p, add_idle, p, false};
  if (!t.known) return false;
  return t.root == TREE_EMPTY || walk_page(&d, t.root, 0);
}

/* ---- the whole ---------------------------------------------------------- */

static void pass_over(void *arg, const node *n) {
  (void)arg;
  (void)n;
}

static void walk_tree(void *arg, const node *n) {
  pages_walk(arg, pages_tree(n), pass_over, NULL);
}

bool pages_whole(pages *p) {
  pages_walk(p, p->main, walk_tree, p);
  pages_read_free(p, p->free);
  return p->missing == 0;
}

/* ---- scanning ----------------------------------------------------------- */

static void scan_leaf(pages *p, const uint8_t *b, bool small, node_fn each,
                      void *arg) {
  for (unsigned i = 0; i < count_nodes(b); i++) {
    const uint8_t *at = node_at(p, b, i);
    if (at && !(small && get16(at + 4) & N_BIG))
      give_node(p, b, at, each, arg);
  }
}

static bool to_scan(const pages *p, uint64_t at) {
  return !bit(p->seen, at) && !bit(p->idle, at);
}

void pages_scan(pages *p, bool idle, node_fn each, void *arg) {
  uint8_t *b = new_page(p, 1);
  for (uint64_t at = 2; b && at < p->n && !p->rc; at++) {
    if (!to_scan(p, at) && !(idle && !bit(p->seen, at))) continue;
    if (!read_pages(p, at, 1, b) || !is_nodes(p, b) ||
        !is_page(b, at, P_LEAF))
      continue;
    if (!idle) set_bit(p->seen, at);
    scan_leaf(p, b, idle, each, arg);
  }
  free(b);
}

static void give_value(pages *p, uint64_t at, uint64_t n, node_fn each,
                       void *arg) {
  uint8_t *big = read_big(p, at, n * p->size - HEAD);
  node whole = {.key = {"", 0}};
  if (!big) return;
  whole.value = (respool_bytes){big + HEAD, (size_t)n * p->size - HEAD};
  each(arg, &whole);
  free(big);
}

void pages_scan_values(pages *p, node_fn each, void *arg) {
  uint8_t *b = new_page(p, 1);
  for (uint64_t at = 2; b && at < p->n && !p->rc; at++) {
    if (!to_scan(p, at) || !read_pages(p, at, 1, b) ||
        !is_page(b, at, P_OVERFLOW))
      continue;
    uint64_t n = get32(b + 12);
    if (n > 0 && n <= p->n - at) give_value(p, at, n, each, arg);
  }
  free(b);
}

/* ---- opening ------------------------------------------------------------ */

static bool is_meta(const uint8_t *b) {
  return get16(b + 10) & P_META && get32(b + HEAD) == MAGIC &&
         (get32(b + HEAD + 4) & 0xffff) == DATA_VERSION;
}

static tree root_of(const uint8_t *meta, int which) {
  return (tree){get64(meta + HEAD + META_SIZE + which * TREE_SIZE +
                      TREE_ROOT), true};
}

static void set_trees(pages *p, const uint8_t *a, const uint8_t *b) {
  if (a) {
    p->free = root_of(a, 0);
    p->main = root_of(a, 1);
  }
  if (b) {
    p->free_before = root_of(b, 0);
    p->main_before = root_of(b, 1);
  }
}

/* The page size stands in the free tree's record, whose pad is unused. */
static uint32_t size_in(const uint8_t *meta) {
  uint32_t size = get32(meta + HEAD + META_SIZE);
  bool fits = size >= 512 && size <= 65536 && !(size & (size - 1));
  return fits ? size : 0;
}

/* Of two commits the later number is the last; a page that cannot be read
   counts for nothing. */
static bool read_metas(pages *p) {
  uint8_t a[512] = {0}, b[512] = {0};
  if (pread(p->fd, a, sizeof a, 0) < 0) return false;
  bool first = is_meta(a);
  p->size = first ? size_in(a) : 0;
  if (!p->size) p->size = 4096;
  if (pread(p->fd, b, sizeof b, (off_t)p->size) < 0) memset(b, 0, sizeof b);
  bool second = is_meta(b);
  bool swap = first && second && get64(b + HEAD + META_TXN) >
                                     get64(a + HEAD + META_TXN);
  const uint8_t *one = first ? a : NULL, *two = second ? b : NULL;
  if (swap || !first)
    set_trees(p, two, one);
  else
    set_trees(p, one, two);
  return true;
}

static int open_fail(const char *path, int error) {
  int code = error == ENOENT ? RESPOOL_NOT_FOUND : RESPOOL_IO;
  return fail(code, "cannot read \"%.160s\": %s", path, strerror(error));
}

int pages_open(pages *p, const char *path) {
  struct stat st;
  memset(p, 0, sizeof *p);
  p->fd = open(path, O_RDONLY | O_CLOEXEC);
  if (p->fd < 0) return open_fail(path, errno);
  if (fstat(p->fd, &st) || !read_metas(p)) {
    int rc = open_fail(path, errno);
    pages_close(p);
    return rc;
  }
  p->n = (uint64_t)st.st_size / p->size;
  p->seen = calloc(p->n / 8 + 1, 1);
  p->idle = calloc(p->n / 8 + 1, 1);
  if (p->seen && p->idle) return 0;
  pages_close(p);
  return fail(RESPOOL_NOMEM, "not enough memory to read \"%.160s\"", path);
}

void pages_close(pages *p) {
  if (p->fd >= 0) close(p->fd);
  free(p->seen);
  free(p->idle);
  memset(p, 0, sizeof *p);
  p->fd = -1;
}
