/* SPDX-License-Identifier: MIT */
/*
 * Writing JSON; see json.h. The text follows the bytes of CBOR; only where the
 * keys of a map matter (it is sorted, or nothing may be lost) are its entries
 * found first.
 */
#include "json/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"
#include "cbor/unpacker.h"
#include "cbor/utf8.h"
#include "json/base64.h"

#define EXACT 9007199254740992.0 /* 2^53 */
#define FEW 32
#define TAG_BIG 2
#define TAG_BIG_NEGATIVE 3

typedef struct writer {
  const json_form *form;
  unpacker u;
  packer *out;
  int depth;
  bool full; /* the limit is reached: nothing more is written */
} writer;

static bool write_value(writer *w);
static bool write_head(writer *w, const cbor_head *h, const uint8_t *from);

static void put(writer *w, const char *text) {
  pack_raw(w->out, text, strlen(text));
}

/* Most of what is written are single characters: without a call. */
static inline void put_char(writer *w, char c) {
  packer *p = w->out;
  if (p->cap - p->len > 1)
    p->data[p->len++] = (uint8_t)c;
  else
    pack_raw(p, &c, 1);
}

static void new_line(writer *w) {
  if (w->form->indent == 0) return;
  put_char(w, '\n');
  for (int i = 0; i < w->depth * w->form->indent; i++) put_char(w, ' ');
}

static bool is_full(writer *w) {
  if (w->form->limit && w->out->len > w->form->limit) w->full = true;
  return w->full;
}


/* ---- strings ----------------------------------------------------------- */

static const char SHORT[] = "btn\0fr"; /* from \b on */

static void put_escape(writer *w, uint8_t c) {
  char text[8];
  if (c == '"' || c == '\\')
    snprintf(text, sizeof text, "\\%c", c);
  else if (c >= '\b' && c <= '\r' && SHORT[c - '\b'])
    snprintf(text, sizeof text, "\\%c", SHORT[c - '\b']);
  else
    snprintf(text, sizeof text, "\\u%04x", c);
  put(w, text);
}

static bool is_plain(uint8_t c) {
  return c >= ' ' && c != '"' && c != '\\' && c != 0x7f;
}

/* The characters of valid UTF-8 between quotes; those of a text that is cut
   off anyway no further than to the limit. */
static void put_chars(writer *w, const char *s, size_t n) {
  size_t limit = w->form->limit;
  if (limit && n > limit)
    for (n = limit; n > 0 && ((uint8_t)s[n] & 0xc0) == 0x80;) n--;
  for (size_t at = 0, from = 0; n > 0 && at <= n; at++) {
    if (at < n && is_plain((uint8_t)s[at])) continue;
    pack_raw(w->out, s + from, at - from);
    if (at < n) put_escape(w, (uint8_t)s[at]);
    from = at + 1;
  }
}

static void put_text(writer *w, respool_bytes s) {
  put_char(w, '"');
  put_chars(w, s.data, s.size);
  put_char(w, '"');
}

static void put_base64(writer *w, respool_bytes s) {
  size_t limit = w->form->limit;
  base64_write(s.data, limit && s.size > limit ? limit : s.size, w->out);
}

/* { "$name": value }, in the layout of any other object. */
static void open_tag(writer *w, const char *name) {
  put_char(w, '{');
  w->depth++;
  new_line(w);
  put_char(w, '"');
  put(w, name);
  put(w, w->form->indent ? "\": " : "\":");
}

static void close_tag(writer *w) {
  w->depth--;
  new_line(w);
  put_char(w, '}');
}

static bool write_base64(writer *w, respool_bytes s) {
  open_tag(w, "$base64");
  put_char(w, '"');
  put_base64(w, s);
  put_char(w, '"');
  close_tag(w);
  return true;
}

static bool write_bytes(writer *w, respool_bytes s) {
  if (w->form->lossless || !utf8_valid(s.data, s.size))
    return write_base64(w, s);
  put_text(w, s);
  return true;
}

static bool write_text(writer *w, respool_bytes s) {
  if (!utf8_valid(s.data, s.size)) return false;
  put_text(w, s);
  return true;
}

/* The chunks up to the break, put together. */
static bool gather(writer *w, enum cbor_kind kind, packer *all) {
  cbor_head h;
  while (unpack_head(&w->u, &h)) {
    if (h.kind == CBOR_BREAK) return all->rc == 0;
    if (h.kind != kind) return false;
    pack_raw(all, h.bytes.data, h.bytes.size);
  }
  return false;
}

static bool write_chunks(writer *w, enum cbor_kind kind) {
  packer all;
  packer_init(&all);
  bool ok = gather(w, kind, &all);
  respool_bytes s = {(const char *)all.data, all.len};
  if (ok) ok = kind == CBOR_TEXT ? write_text(w, s) : write_bytes(w, s);
  packer_free(&all);
  return ok;
}


/* ---- numbers ----------------------------------------------------------- */

/* u, or -1 - u. */
static bool write_integer(writer *w, uint64_t u, bool negative) {
  char text[DECIMAL_MAX];
  if (w->form->lossless && u > INT64_MAX) return false;
  if (negative) put_char(w, '-');
  if (negative && u == UINT64_MAX)
    put(w, "18446744073709551616");
  else
    pack_raw(w->out, text, decimal_digits(negative ? u + 1 : u, 1, text));
  return true;
}

static bool write_float(writer *w, double v) {
  char text[DECIMAL_MAX];
  bool whole = isfinite(v) && v == trunc(v);
  bool as_integer = w->form->whole && fabs(v) <= EXACT;
  if (!isfinite(v) && !w->form->lossless) {
    put(w, "null");
  } else if (w->form->lossless && (!isfinite(v) || (whole && !as_integer))) {
    decimal_write(isnan(v) ? NAN : v, text);
    open_tag(w, "$float");
    put_char(w, '"');
    put(w, text);
    put_char(w, '"');
    close_tag(w);
  } else {
    decimal_write(v, text);
    put(w, text);
    if (v == 0 && signbit(v)) put(w, ".0"); /* -0 is an integer there */
  }
  return true;
}

static bool write_big(writer *w, bool negative) {
  cbor_head h;
  uint64_t u = 0;
  if (!unpack_head(&w->u, &h) || h.kind != CBOR_BYTES) return false;
  const uint8_t *s = (const uint8_t *)h.bytes.data;
  for (size_t i = 0; i < h.bytes.size; i++) {
    if (u >> 56) return write_base64(w, h.bytes);
    u = u << 8 | s[i];
  }
  return write_integer(w, u, negative);
}


/* ---- arrays ------------------------------------------------------------ */

static bool is_break(writer *w) {
  return w->u.at < w->u.end && *w->u.at == 0xff;
}

/* Whether another element comes: of `n`, or of as many as there are. */
static bool has_more(writer *w, bool open, uint64_t i, uint64_t n) {
  if (!open) return i < n;
  if (!is_break(w)) return true;
  w->u.at++;
  return false;
}

static void separate(writer *w, uint64_t i) {
  if (i > 0) put_char(w, ',');
  new_line(w);
}

static bool write_array(writer *w, bool open, uint64_t n) {
  uint64_t i = 0;
  put_char(w, '[');
  w->depth++;
  for (; has_more(w, open, i, n); i++) {
    separate(w, i);
    if (!write_value(w)) return false;
    if (is_full(w)) return true;
  }
  w->depth--;
  if (i > 0) new_line(w);
  put_char(w, ']');
  return true;
}


/* ---- maps -------------------------------------------------------------- */

/* Numbers, booleans, null: whose JSON has no quotes and no brackets. */
static bool is_simple(enum cbor_kind kind) {
  return kind <= CBOR_NEGINT || (kind >= CBOR_FLOAT && kind <= CBOR_UNDEFINED);
}

/* Names are text. Keys that are not become what they are written as. */
static bool write_key(writer *w) {
  cbor_head h;
  const uint8_t *from = w->u.at;
  if (!unpack_head(&w->u, &h)) return false;
  if (h.kind == CBOR_TEXT) return write_text(w, h.bytes);
  respool_bytes s = h.bytes;
  put_char(w, '"');
  if (h.kind == CBOR_BYTES && utf8_valid(s.data, s.size)) {
    put_chars(w, s.data, s.size);
  } else if (is_simple(h.kind)) {
    write_head(w, &h, from);
  } else {
    w->u.at = from;
    respool_bytes all = unpack_skip(&w->u);
    put(w, "$base64:");
    put_base64(w, h.kind == CBOR_BYTES ? s : all);
  }
  put_char(w, '"');
  return w->u.rc == 0;
}

static bool write_entry(writer *w) {
  if (!write_key(w)) return false;
  put(w, w->form->indent ? ": " : ":");
  return write_value(w);
}

static bool write_map(writer *w, bool open, uint64_t n) {
  uint64_t i = 0;
  put_char(w, '{');
  w->depth++;
  for (; has_more(w, open, i, n); i++) {
    separate(w, i);
    if (!write_entry(w)) return false;
    if (is_full(w)) return true;
  }
  w->depth--;
  if (i > 0) new_line(w);
  put_char(w, '}');
  return true;
}

/* An entry of a map: its key's bytes, and where its value begins. */
typedef struct entry {
  const uint8_t *key, *value;
  enum cbor_kind kind;
  respool_bytes name; /* of a string; else the bytes of the key */
} entry;

static bool read_entry(unpacker *u, entry *e) {
  unpacker at = *u;
  cbor_head h;
  if (!unpack_head(&at, &h)) return false;
  e->key = u->at;
  e->kind = h.kind;
  e->name = unpack_skip(u);
  if (h.kind == CBOR_TEXT || h.kind == CBOR_BYTES) e->name = h.bytes;
  e->value = u->at;
  unpack_skip(u);
  return u->rc == 0;
}

/* The entries of the map that begins here, which ends behind them; NULL when
   it is malformed. */
static entry *read_entries(writer *w, bool open, uint64_t *n) {
  size_t cap = open ? 0 : (size_t)*n, i = 0;
  if (!open && *n > (uint64_t)(w->u.end - w->u.at) / 2) return NULL;
  entry *all = malloc((cap + 1) * sizeof *all);
  for (; all && has_more(w, open, i, *n); i++) {
    if (i >= cap) {
      cap = 2 * cap + 8;
      entry *more = realloc(all, (cap + 1) * sizeof *all);
      if (more == NULL) break;
      all = more;
    }
    if (!read_entry(&w->u, &all[i])) {
      free(all);
      return NULL;
    }
  }
  *n = i;
  return all;
}

/* Strings of both kinds are in one order. */
static enum cbor_kind order_of(const entry *e) {
  return e->kind == CBOR_BYTES ? CBOR_TEXT : e->kind;
}

static int by_key(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (order_of(x) != order_of(y)) return order_of(x) < order_of(y) ? -1 : 1;
  size_t n = x->name.size < y->name.size ? x->name.size : y->name.size;
  int order = n ? memcmp(x->name.data, y->name.data, n) : 0;
  if (order || x->name.size == y->name.size) return order;
  return x->name.size < y->name.size ? -1 : 1;
}

static bool write_sorted(writer *w, bool open, uint64_t n) {
  entry *all = read_entries(w, open, &n);
  unpacker behind = w->u;
  bool ok = all != NULL;
  if (ok) qsort(all, n, sizeof *all, by_key);
  put_char(w, '{');
  w->depth++;
  for (uint64_t i = 0; ok && !is_full(w) && i < n; i++) {
    separate(w, i);
    w->u.at = all[i].key;
    ok = write_entry(w);
  }
  w->depth--;
  if (n > 0) new_line(w);
  put_char(w, '}');
  free(all);
  if (ok) w->u = behind;
  return ok;
}

/* Whether lossless JSON has the key as a name. jansson knows no NUL there. */
static bool is_name(const entry *e) {
  return e->kind == CBOR_TEXT &&
    (e->name.size == 0 || (*(const char *)e->name.data != '$' &&
                           !memchr(e->name.data, '\0', e->name.size)));
}

/* Whether a key comes again, of so few that sorting them takes longer. */
static bool has_twin(const entry *all, uint64_t n) {
  for (uint64_t i = 0; i < n; i++)
    for (uint64_t k = 0; k < i; k++)
      if (all[i].name.size == all[k].name.size &&
          by_key(&all[i], &all[k]) == 0)
        return true;
  return false;
}

/* No key may be there twice. May sort the entries. */
static bool are_unlike(entry *all, uint64_t n) {
  if (n <= FEW) return !has_twin(all, n);
  qsort(all, n, sizeof *all, by_key);
  for (uint64_t i = 1; i < n; i++)
    if (by_key(&all[i - 1], &all[i]) == 0) return false;
  return true;
}

static bool write_pairs(writer *w, uint64_t n) {
  open_tag(w, "$map");
  put_char(w, '[');
  for (uint64_t i = 0; i < n; i++) {
    put(w, i > 0 ? ",[" : "[");
    if (!write_value(w)) return false;
    put_char(w, ',');
    if (!write_value(w)) return false;
    put_char(w, ']');
  }
  put_char(w, ']');
  close_tag(w);
  return true;
}

static bool write_lossless(writer *w, uint64_t n) {
  unpacker begin = w->u;
  entry *all = read_entries(w, false, &n);
  bool names = true, ok = all != NULL;
  for (uint64_t i = 0; ok && names && i < n; i++) names = is_name(&all[i]);
  ok = ok && are_unlike(all, n);
  free(all);
  if (!ok) return false;
  w->u = begin;
  return names ? write_map(w, false, n) : write_pairs(w, n);
}

static bool write_any_map(writer *w, bool open, uint64_t n) {
  if (w->form->lossless) return write_lossless(w, n);
  if (w->form->sorted) return write_sorted(w, open, n);
  return write_map(w, open, n);
}


/* ---- values ------------------------------------------------------------ */

/* Whether a head and what it holds are as the packer would write them. */
static bool is_shortest(const writer *w, const cbor_head *h,
                        const uint8_t *from) {
  packer again;
  packer_init(&again);
  switch (h->kind) {
    case CBOR_UINT: pack_uint(&again, h->u); break;
    case CBOR_NEGINT: pack_int(&again, (int64_t)~h->u); break;
    case CBOR_BYTES: pack_bytes(&again, NULL, 0); break;
    case CBOR_ARRAY: pack_array(&again, (size_t)h->u); break;
    case CBOR_MAP: pack_map(&again, (size_t)h->u); break;
    case CBOR_FLOAT: pack_double(&again, h->f); break;
    default: break;
  }
  size_t n = (size_t)(w->u.at - from);
  bool same = again.rc == 0 && again.len == n &&
    memcmp(again.data, from, n) == 0;
  packer_free(&again);
  return same;
}

static size_t size_of_head(uint64_t n) {
  return n < 24 ? 1 : n <= 0xff ? 2 : n <= 0xffff ? 3 : n <= UINT32_MAX ? 5
    : 9;
}

/* Whether reading the JSON of what the head begins gives the same bytes. */
static bool is_lossless(const writer *w, const cbor_head *h,
                        const uint8_t *from) {
  size_t size = (size_t)(w->u.at - from);
  switch (h->kind) {
    case CBOR_TRUE: case CBOR_FALSE: case CBOR_NULL: return size == 1;
    case CBOR_BYTES: case CBOR_TEXT:
      return size - h->bytes.size == size_of_head(h->bytes.size);
    case CBOR_UINT: case CBOR_NEGINT: case CBOR_ARRAY: case CBOR_MAP:
      return size == size_of_head(h->u);
    case CBOR_FLOAT: return is_shortest(w, h, from);
    default: return false;
  }
}

static bool write_container(writer *w, const cbor_head *h) {
  if (w->depth >= JSON_DEPTH && !w->form->lossless) return false;
  switch (h->kind) {
    case CBOR_ARRAY: return write_array(w, false, h->u);
    case CBOR_ARRAY_START: return write_array(w, true, 0);
    case CBOR_MAP: return write_any_map(w, false, h->u);
    case CBOR_MAP_START: return write_any_map(w, true, 0);
    default: return false; /* a break */
  }
}

static bool write_head(writer *w, const cbor_head *h, const uint8_t *from) {
  if (w->form->lossless && !is_lossless(w, h, from)) return false;
  switch (h->kind) {
    case CBOR_UINT: return write_integer(w, h->u, false);
    case CBOR_NEGINT: return write_integer(w, h->u, true);
    case CBOR_FLOAT: return write_float(w, h->f);
    case CBOR_TEXT: return write_text(w, h->bytes);
    case CBOR_BYTES: return write_bytes(w, h->bytes);
    case CBOR_TEXT_START: return write_chunks(w, CBOR_TEXT);
    case CBOR_BYTES_START: return write_chunks(w, CBOR_BYTES);
    case CBOR_TAG: return write_big(w, h->u == TAG_BIG_NEGATIVE);
    case CBOR_TRUE: put(w, "true"); return true;
    case CBOR_FALSE: put(w, "false"); return true;
    case CBOR_NULL: case CBOR_UNDEFINED: put(w, "null"); return true;
    default: return write_container(w, h);
  }
}

static bool is_unknown(uint64_t tag) {
  return tag != TAG_BIG && tag != TAG_BIG_NEGATIVE;
}

/* Of a tag whose meaning is not known, what it stands before. */
static bool write_value(writer *w) {
  cbor_head h;
  const uint8_t *from = w->u.at;
  if (w->out->rc || !unpack_head(&w->u, &h)) return false;
  while (h.kind == CBOR_TAG && is_unknown(h.u) && !w->form->lossless)
    if (!unpack_head(&w->u, &h)) return false;
  return write_head(w, &h, from);
}

/* The bytes are looked through first, so that none but whole items of bounded
   depth are written; a text that is cut off needs no more than its
   beginning. */
bool json_write(const json_form *form, const void *cbor, size_t n,
                packer *out) {
  writer w = {.form = form, .out = out};
  unpacker_init(&w.u, cbor, n);
  unpacker whole = w.u;
  unpack_skip(&whole);
  if (whole.rc || whole.at != whole.end) return false;
  return write_value(&w) && out->rc == 0;
}
