/* SPDX-License-Identifier: MIT */
/* LMDB's file, page by page; see pages.h. */
#include "lmdb/env/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "lmdb/env/directory.h"
#include "lmdb/env/nodes.h"

#define DEPTH_MAX 32
#define VALUE_MAX ((uint64_t)1 << 24) /* larger than any record */

#define MAGIC 0xbeefc0deu
#define DATA_VERSION 1u

/* Places in a meta page, behind its head. */
#define META_SIZE 24   /* of pages; the head of the free tree's record */
#define TREE_SIZE 48   /* of a tree's record */
#define TREE_ENTRIES 32
#define TREE_ROOT 40
#define META_LAST (META_SIZE + 2 * TREE_SIZE)
#define META_TXN (META_LAST + 8)

/* ---- bits --------------------------------------------------------------- */

static bool bit(const uint8_t *bits, uint64_t i) {
  return bits[i / 8] >> i % 8 & 1;
}

static void set_bit(uint8_t *bits, uint64_t i) {
  bits[i / 8] |= (uint8_t)(1u << i % 8);
}

static void clear_bit(uint8_t *bits, uint64_t i) {
  bits[i / 8] &= (uint8_t)~(1u << i % 8);
}

/* ---- reading pages ------------------------------------------------------ */

static uint8_t *new_page(pages *p, uint64_t n) {
  uint8_t *b = malloc((size_t)n * p->size);
  if (!b) p->rc = RESPOOL_NOMEM;
  return b;
}

/* Reads `n` pages; false at the end of the file or when the disk fails. */
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

static bool is_page(const uint8_t *b, uint64_t number, enum page_kind kind) {
  return get64(b) == number && page_flags(b) == (unsigned)kind;
}

/* ---- values ------------------------------------------------------------- */

static uint64_t pages_for(const pages *p, uint64_t size) {
  return (size + PAGE_HEAD + p->size - 1) / p->size;
}

/* Overflow pages: `n` by the count in the first, `room` as many as may belong
   to it. */
typedef struct run {
  uint64_t at, n, room;
} run;

/* The run that begins at a page and should hold `size` bytes; false when it is
   damaged. Where its first page contradicts the size, either may be damaged. */
static bool find_run(pages *p, uint64_t at, uint64_t size, run *r) {
  uint8_t first[PAGE_HEAD];
  uint64_t most = pages_for(p, VALUE_MAX), n = pages_for(p, size);
  if (at < 2) return false;
  if (at >= p->n || (n <= most && n > p->n - at)) p->missing++;
  if (at >= p->n) return false;
  uint64_t left = p->n - at < most ? p->n - at : most;
  ssize_t got = pread(p->fd, first, sizeof first, (off_t)(at * p->size));
  if (got != sizeof first || !is_page(first, at, PAGE_OVERFLOW)) return false;
  uint64_t own = get32(first + 12);
  if (own == 0 || own > left) own = n;
  if (n > left) n = own;
  *r = (run){at, own < n ? own : n, own > n ? own : n};
  return r->n > 0 && r->room <= left;
}

/* Does no other value have it? */
static bool is_free(const pages *p, const run *r) {
  for (uint64_t i = 0; i < r->n; i++)
    if (bit(p->seen, r->at + i)) return false;
  return true;
}

static void claim_run(pages *p, const run *r, bool claimed) {
  for (uint64_t i = 0; i < r->n; i++)
    if (claimed)
      set_bit(p->seen, r->at + i);
    else
      clear_bit(p->seen, r->at + i);
}

static uint8_t *read_run(pages *p, const run *r, node *n) {
  uint8_t *b = new_page(p, r->room);
  if (b && read_pages(p, r->at, r->room, b)) {
    n->room = (respool_bytes){b + PAGE_HEAD,
                              (size_t)r->room * p->size - PAGE_HEAD};
    return b;
  }
  free(b);
  return NULL;
}

static bool is_right(node_fn each, void *arg, node *n, uint32_t size) {
  if (size <= n->room.size) n->value = (respool_bytes){n->room.data, size};
  return each(arg, n);
}

/* Reads a value in overflow pages; they belong to it unless it is damaged. */
static bool give_big(pages *p, uint64_t at, uint32_t size, node *n,
                     node_fn each, void *arg) {
  run r;
  bool found = find_run(p, at, size, &r);
  if (!found) p->damaged++;
  found = found && is_free(p, &r);
  uint8_t *b = found ? read_run(p, &r, n) : NULL;
  bool right = is_right(each, arg, n, size);
  if (found) claim_run(p, &r, right);
  free(b);
  return right;
}

/* Calls `each` for a node of a leaf; true if `each` finds it sound. */
static bool give_node(pages *p, const uint8_t *b, const uint8_t *at,
                      node_fn each, void *arg) {
  const uint8_t *value = node_value(at);
  size_t room = (size_t)(b + p->size - value);
  node n = {.key = node_key(at), .tree = (node_flags(at) & NODE_TREE) != 0};
  if (node_flags(at) & NODE_BIG)
    return give_big(p, room < 8 ? 0 : get64(value), node_size(at), &n, each,
                    arg);
  n.room = (respool_bytes){value, room};
  return is_right(each, arg, &n, node_size(at));
}

/* ---- walking ------------------------------------------------------------ */

typedef struct descent {
  pages *p;
  node_fn each;
  void *arg;
  bool ordered; /* the free list orders keys as numbers, not as bytes */
  uint64_t records;
} descent;

/* A damaged leaf is searched again by the scan, like one that no tree leads to.
   */
static bool walk_leaf(descent *d, const uint8_t *b, uint64_t at,
                      const nodes *ns) {
  bool whole = ns->sound;
  if (!ns->sound) d->each(d->arg, NULL);
  for (unsigned i = 0; i < ns->placed; i++)
    whole &= give_node(d->p, b, b + ns->at[i], d->each, d->arg);
  if (!ns->sound) d->each(d->arg, NULL);
  d->records += ns->placed;
  if (!whole) clear_bit(d->p->seen, at);
  return whole;
}

static bool walk_page(descent *d, uint64_t at, int depth);

static bool walk_branch(descent *d, const uint8_t *b, const nodes *ns,
                        int depth) {
  bool whole = ns->sound;
  for (unsigned i = 0; i < ns->n; i++) {
    if (!ns->sound) d->each(d->arg, NULL);
    whole &= walk_page(d, node_child(b + ns->at[i]), depth + 1);
  }
  if (!ns->sound) d->each(d->arg, NULL);
  return whole;
}

/* The nodes of a page that should be a leaf or branch. A damaged head is made
   good from the position of the nodes. NULL: it is neither, or out of memory.
   */
static nodes *find_nodes(const descent *d, const uint8_t *b, uint64_t at,
                         enum page_kind *kind) {
  static const enum page_kind kinds[] = {PAGE_LEAF, PAGE_BRANCH};
  for (int i = 0; i < 2; i++) {
    nodes *ns = nodes_read(b, d->p->size, kinds[i],
                           d->ordered && kinds[i] == PAGE_LEAF);
    if (!ns) d->p->rc = RESPOOL_NOMEM;
    *kind = kinds[i];
    if (ns && (is_page(b, at, kinds[i]) || ns->sound)) return ns;
    free(ns);
  }
  return NULL;
}

static bool walk_nodes(descent *d, const uint8_t *b, uint64_t at, int depth) {
  enum page_kind kind;
  nodes *ns = find_nodes(d, b, at, &kind);
  bool whole = ns && (kind == PAGE_LEAF ? walk_leaf(d, b, at, ns)
                                        : walk_branch(d, b, ns, depth));
  if (!ns || !ns->sound || !is_page(b, at, kind)) d->p->damaged++;
  if (!ns) {
    d->each(d->arg, NULL);
    clear_bit(d->p->seen, at); /* another page of the file */
  }
  free(ns);
  return whole;
}

static bool walk_page(descent *d, uint64_t at, int depth) {
  pages *p = d->p;
  if (at >= p->n) p->missing++;
  if (at < 2 || at >= p->n || bit(p->seen, at) || depth > DEPTH_MAX ||
      p->rc)
    return d->each(d->arg, NULL);
  uint8_t *b = new_page(p, 1);
  if (!b) return false;
  set_bit(p->seen, at);
  bool whole = read_pages(p, at, 1, b) ? walk_nodes(d, b, at, depth)
                                       : d->each(d->arg, NULL);
  free(b);
  return whole;
}

static bool walk(descent *d, tree t) {
  bool whole = t.known && (t.root == TREE_EMPTY || walk_page(d, t.root, 0));
  return whole && d->records == t.entries;
}

bool pages_walk(pages *p, tree t, node_fn each, void *arg) {
  descent d = {p, each, arg, true, 0};
  return walk(&d, t);
}

static tree tree_at(const uint8_t *record) {
  return (tree){get64(record + TREE_ROOT), get64(record + TREE_ENTRIES), true};
}

tree pages_tree(const node *n) {
  if (!n->tree || n->value.size != TREE_SIZE) return (tree){0, 0, false};
  return tree_at(n->value.data);
}

/* ---- the free list ------------------------------------------------------ */

/* A record of the free list: a count and that many page numbers, falling. */
static bool add_idle(void *arg, const node *n) {
  pages *p = arg;
  if (!n) return false;
  const uint8_t *b = n->value.data;
  uint64_t count = b && n->value.size >= 8 ? get64(b) : UINT64_MAX;
  if (n->key.size != 8 || count >= n->value.size / 8) return false;
  for (uint64_t i = 2; i <= count; i++)
    if (get64(b + 8 * i) >= get64(b + 8 * i - 8)) return false;
  for (uint64_t i = 1; i <= count; i++) {
    uint64_t number = get64(b + 8 * i);
    if (number < p->n) set_bit(p->idle, number);
  }
  return true;
}

bool pages_read_free(pages *p, tree t) {
  descent d = {p, add_idle, p, false, 0};
  return walk(&d, t);
}

/* ---- the whole ---------------------------------------------------------- */

static bool pass_over(void *arg, const node *n) {
  (void)arg;
  return n != NULL;
}

static bool walk_tree(void *arg, const node *n) {
  return n && pages_walk(arg, pages_tree(n), pass_over, NULL);
}

bool pages_whole(pages *p) {
  pages_walk(p, p->main, walk_tree, p);
  pages_read_free(p, p->free);
  return p->missing == 0;
}

/* ---- scanning ----------------------------------------------------------- */

static bool to_scan(const pages *p, uint64_t at, enum scan which) {
  if (which == SCAN_AGAIN) return bit(p->scanned, at);
  return !bit(p->seen, at) && (which == SCAN_IDLE || !bit(p->idle, at));
}

static void scan_leaf(pages *p, const uint8_t *b, bool small, node_fn each,
                      void *arg) {
  nodes *ns = nodes_read(b, p->size, PAGE_LEAF, true);
  if (!ns) p->rc = RESPOOL_NOMEM;
  for (unsigned i = 0; ns && i < ns->n; i++) {
    const uint8_t *at = b + ns->at[i];
    if (!(small && node_flags(at) & NODE_BIG)) give_node(p, b, at, each, arg);
  }
  free(ns);
}

void pages_scan(pages *p, enum scan which, node_fn each, void *arg) {
  uint8_t *b = new_page(p, 1);
  for (uint64_t at = 2; b && at < p->n && !p->rc; at++) {
    if (!to_scan(p, at, which) || !read_pages(p, at, 1, b) ||
        !is_page(b, at, PAGE_LEAF))
      continue;
    if (which == SCAN_LOST) set_bit(p->scanned, at);
    scan_leaf(p, b, which != SCAN_LOST, each, arg);
  }
  free(b);
}

void pages_scan_values(pages *p, node_fn each, void *arg) {
  for (uint64_t at = 2; at < p->n && !p->rc; at++) {
    run r;
    node n = {.key = {"", 0}};
    if (!to_scan(p, at, SCAN_LOST) || !find_run(p, at, 0, &r)) continue;
    uint8_t *b = read_run(p, &r, &n);
    if (b) each(arg, &n);
    free(b);
  }
}

/* ---- opening ------------------------------------------------------------ */

static bool is_meta(const uint8_t *b) {
  return page_flags(b) & PAGE_META && get32(b + PAGE_HEAD) == MAGIC &&
         (get32(b + PAGE_HEAD + 4) & 0xffff) == DATA_VERSION;
}

static tree root_of(const uint8_t *meta, int which) {
  return tree_at(meta + PAGE_HEAD + META_SIZE + which * TREE_SIZE);
}

static void set_trees(pages *p, const uint8_t *a, const uint8_t *b) {
  if (a) {
    p->free = root_of(a, 0);
    p->main = root_of(a, 1);
    p->last = get64(a + PAGE_HEAD + META_LAST);
  }
  if (b) {
    p->free_before = root_of(b, 0);
    p->main_before = root_of(b, 1);
  }
}

/* The page size is stored in the pad of the free tree's record. */
static uint32_t size_in(const uint8_t *meta) {
  uint32_t size = get32(meta + PAGE_HEAD + META_SIZE);
  bool fits = size >= 512 && size <= 65536 && !(size & (size - 1));
  return fits ? size : 0;
}

#define META_BYTES 512 /* bytes of a meta page that are used */

/* Reads the meta page at a place of the file; false: there is none. */
static bool read_meta(const pages *p, uint64_t at, uint8_t *b) {
  memset(b, 0, META_BYTES);
  return pread(p->fd, b, META_BYTES, (off_t)at) == META_BYTES && is_meta(b);
}

/* Finds the second meta page, which begins where the first page ends. */
static bool read_second(pages *p, uint32_t first, uint8_t *b) {
  p->size = first ? first : 4096;
  if (read_meta(p, p->size, b)) return true;
  for (uint32_t size = 512; size <= 65536; size *= 2)
    if (read_meta(p, size, b) && get64(b) == 1) {
      p->size = size;
      return true;
    }
  return false;
}

/* The meta page with the higher number is the last commit's; one that cannot be
   read is ignored. Their numbers are neighbours, or both 0 in a new file. */
static void read_metas(pages *p) {
  uint8_t a[META_BYTES], b[META_BYTES];
  bool first = read_meta(p, 0, a);
  bool second = read_second(p, first ? size_in(a) : 0, b);
  uint64_t n = get64(a + PAGE_HEAD + META_TXN);
  uint64_t m = get64(b + PAGE_HEAD + META_TXN);
  bool swap = first && second && m > n;
  p->unsure = !first || !second || (m > n ? m - n : n - m) != (m || n);
  const uint8_t *one = first ? a : NULL, *two = second ? b : NULL;
  if (swap || !first)
    set_trees(p, two, one);
  else
    set_trees(p, one, two);
}

static int open_fail(const char *path, int error) {
  int code = error == ENOENT ? RESPOOL_NOT_FOUND : RESPOOL_IO;
  return fail(code, "cannot read the data file of store '%.120s': %s", path,
              file_error(error));
}

int pages_open(pages *p, int dirfd, const char *path) {
  struct stat st;
  uint8_t any;
  memset(p, 0, sizeof *p);
  p->fd = file_open(dirfd, DATA_NAME, O_RDONLY);
  if (p->fd < 0) return open_fail(path, errno);
  if (fstat(p->fd, &st) || pread(p->fd, &any, 1, 0) < 0) {
    int rc = open_fail(path, errno);
    pages_close(p);
    return rc;
  }
  read_metas(p);
  p->n = (uint64_t)st.st_size / p->size;
  p->seen = calloc(p->n / 8 + 1, 1);
  p->idle = calloc(p->n / 8 + 1, 1);
  p->scanned = calloc(p->n / 8 + 1, 1);
  if (p->seen && p->idle && p->scanned) return 0;
  pages_close(p);
  return fail(RESPOOL_NOMEM, "not enough memory to read '%.160s'", path);
}

void pages_close(pages *p) {
  if (p->fd >= 0) close(p->fd);
  free(p->seen);
  free(p->idle);
  free(p->scanned);
  memset(p, 0, sizeof *p);
  p->fd = -1;
}
