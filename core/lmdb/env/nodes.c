/* SPDX-License-Identifier: MIT */
/* The nodes of a page; see nodes.h. */
#include "lmdb/env/nodes.h"

#include <stdlib.h>
#include <string.h>

#include "lmdb/env/txn/txn.h"

#define NODE_HEAD 8
#define REFERENCE 8 /* bytes that refer to a value in overflow pages */

/* ---- numbers ------------------------------------------------------------ */

uint16_t get16(const uint8_t *at) {
  uint16_t v;
  memcpy(&v, at, sizeof v);
  return v;
}

uint32_t get32(const uint8_t *at) {
  uint32_t v;
  memcpy(&v, at, sizeof v);
  return v;
}

uint64_t get64(const uint8_t *at) {
  uint64_t v;
  memcpy(&v, at, sizeof v);
  return v;
}

unsigned page_flags(const uint8_t *page) {
  return get16(page + 10);
}

unsigned page_lower(const uint8_t *page) {
  return get16(page + 12);
}

unsigned page_upper(const uint8_t *page) {
  return get16(page + 14);
}

uint64_t node_child(const uint8_t *node) {
  return get16(node) | (uint64_t)get16(node + 2) << 16 |
         (uint64_t)get16(node + 4) << 32;
}

unsigned node_flags(const uint8_t *node) {
  return get16(node + 4);
}

respool_bytes node_key(const uint8_t *node) {
  return (respool_bytes){node + NODE_HEAD, get16(node + 6)};
}

uint32_t node_size(const uint8_t *node) {
  return get16(node) | (uint32_t)get16(node + 2) << 16;
}

const uint8_t *node_value(const uint8_t *node) {
  return node + NODE_HEAD + get16(node + 6);
}

/* ---- places ------------------------------------------------------------- */

typedef struct page {
  const uint8_t *b;
  uint32_t size;
  enum page_kind kind;
} page;

/* The bytes that a node takes up. */
static uint64_t extent(const page *p, const uint8_t *node) {
  uint64_t n = NODE_HEAD + node_key(node).size;
  if (p->kind == PAGE_LEAF)
    n += node_flags(node) & NODE_BIG ? REFERENCE : node_size(node);
  return n + n % 2;
}

/* Does the page hold a node there, with its key? */
static bool has_node(const page *p, unsigned at) {
  return at % 2 == 0 && at >= PAGE_HEAD && at + NODE_HEAD <= p->size &&
         at + NODE_HEAD + node_key(p->b + at).size <= p->size;
}

/* The number of places; 0 when it is damaged. */
static unsigned count_places(const page *p) {
  unsigned lower = page_lower(p->b);
  bool fits = lower >= PAGE_HEAD && lower % 2 == 0 && lower <= p->size;
  return fits ? (lower - PAGE_HEAD) / 2 : 0;
}

/* Reads the places that lead to nodes; true when these are packed from the end
   of the free space to the end of the page. */
static bool read_places(const page *p, nodes *ns) {
  unsigned n = count_places(p), lowest = p->size;
  uint64_t taken = 0;
  bool fits = n > 0;
  for (unsigned i = 0; i < n; i++) {
    unsigned at = get16(p->b + PAGE_HEAD + 2 * i);
    if (!has_node(p, at)) {
      fits = false;
      continue;
    }
    ns->at[ns->n++] = (uint16_t)at;
    taken += extent(p, p->b + at);
    if (at < lowest) lowest = at;
  }
  return fits && taken == p->size - lowest && lowest == page_upper(p->b);
}

static bool is_there(const nodes *ns, unsigned at) {
  for (unsigned i = 0; i < ns->n; i++)
    if (ns->at[i] == at) return true;
  return false;
}

/* Reads the nodes one after another, without their places; true when the last
   ends at the end of the page. With `add` it adds those that no place leads to.
   */
static bool read_packed(const page *p, nodes *ns, bool add) {
  uint64_t at = page_upper(p->b);
  while (at < p->size) {
    if (!has_node(p, (unsigned)at)) return false;
    if (add && !is_there(ns, (unsigned)at)) ns->at[ns->n++] = (uint16_t)at;
    at += extent(p, p->b + at);
  }
  return at == p->size;
}

/* ---- order -------------------------------------------------------------- */

static bool comes_before(const page *p, const nodes *ns, unsigned i,
                         unsigned k) {
  return key_rises(node_key(p->b + ns->at[i]), node_key(p->b + ns->at[k]));
}

static bool is_ordered(const page *p, const nodes *ns) {
  for (unsigned i = 1; i < ns->n; i++)
    if (!comes_before(p, ns, i - 1, i)) return false;
  return true;
}

/* The longest rising sequence of keys, with others between them: for each node
   the length of the longest that ends there, and the node before it. */
typedef struct chain {
  uint16_t length, from;
} chain;

static unsigned find_chain(const page *p, const nodes *ns, chain *c) {
  unsigned best = 0;
  for (unsigned i = 0; i < ns->n; i++) {
    c[i] = (chain){1, (uint16_t)i};
    for (unsigned k = 0; k < i; k++)
      if (c[k].length >= c[i].length && comes_before(p, ns, k, i))
        c[i] = (chain){(uint16_t)(c[k].length + 1), (uint16_t)k};
    if (c[i].length > c[best].length) best = i;
  }
  return best;
}

/* Keys that do not rise are damaged: as few as possible. These nodes come
   last. */
static bool sort_out(const page *p, nodes *ns) {
  chain *c = calloc(ns->n, sizeof *c);
  uint16_t *at = calloc(ns->n, sizeof *at);
  bool ok = c && at;
  if (ok) {
    unsigned i = find_chain(p, ns, c), n = ns->n;
    memcpy(at, ns->at, n * sizeof *at);
    ns->placed = c[i].length;
    for (unsigned k = ns->placed; k-- > 0; i = c[i].from) {
      ns->at[k] = at[i];
      at[i] = 0;
    }
    for (unsigned k = 0, end = ns->placed; k < n; k++)
      if (at[k]) ns->at[end++] = at[k];
  }
  free(c);
  free(at);
  return ok;
}

/* ---- all ---------------------------------------------------------------- */

nodes *nodes_read(const uint8_t *b, uint32_t size, enum page_kind kind,
                  bool ordered) {
  page p = {b, size, kind};
  unsigned room = count_places(&p) + size / NODE_HEAD;
  nodes *ns = calloc(1, sizeof *ns + room * sizeof *ns->at);
  if (!ns) return NULL;
  ns->sound = read_places(&p, ns);
  ns->placed = ns->n;
  if (ordered && !is_ordered(&p, ns)) {
    ns->sound = false;
    if (!sort_out(&p, ns)) {
      free(ns);
      return NULL;
    }
  }
  if (!ns->sound && read_packed(&p, ns, false)) read_packed(&p, ns, true);
  return ns;
}
