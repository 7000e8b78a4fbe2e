/* SPDX-License-Identifier: MIT */
/*
 * Packing and unpacking of one item; see item.h for the forms.
 */
#include "record/item.h"

#include <string.h>

static bool is_marked(const item *i) {
  return i->codec.size || i->origin.queue.size || i->partition.size;
}

static bool is_plain(const item *i) {
  return !i->headers.size && !i->original.size && !i->replays &&
         !i->key.size;
}

bool item_is_bare(const item *i) {
  return !is_marked(i) && is_plain(i) && !i->original_codec.size;
}

size_t item_bound(const item *i) {
  return i->body.size + i->headers.size + i->original.size + i->key.size +
         i->codec.size + i->original_codec.size + i->origin.queue.size +
         i->partition.size + ITEM_HEADS_MAX;
}

static void pack_optional(packer *p, respool_bytes b) {
  if (b.size)
    pack_bytes(p, b.data, b.size);
  else
    pack_null(p);
}

static bool is_same(respool_bytes a, respool_bytes b) {
  return a.size == b.size && (!a.size || memcmp(a.data, b.data, a.size) == 0);
}

static void pack_original(packer *p, const item *i) {
  bool own = i->original.size && !is_same(i->original_codec, i->codec);
  if (own) pack_array(p, 2);
  pack_optional(p, i->original);
  if (own) pack_optional(p, i->original_codec);
}

static void pack_origin(packer *p, const respool_origin *o) {
  if (!o->queue.size) {
    pack_null(p);
    return;
  }
  pack_array(p, 3);
  pack_bytes(p, o->queue.data, o->queue.size);
  pack_uint(p, o->id);
  pack_int(p, o->pushed_at);
}

void item_pack(packer *p, const item *i) {
  bool plain = is_plain(i), marked = is_marked(i);
  size_t n = 1u + (plain ? 0u : 4u) + (marked ? 2u : 0u) +
             (i->partition.size ? 1u : 0u);
  if (n > 1) pack_array(p, n);
  pack_bytes(p, i->body.data, i->body.size);
  if (!plain) {
    pack_optional(p, i->headers);
    pack_uint(p, i->replays);
    pack_original(p, i);
    pack_optional(p, i->key);
  }
  if (!marked) return;
  pack_optional(p, i->codec);
  pack_origin(p, &i->origin);
  if (i->partition.size) pack_bytes(p, i->partition.data, i->partition.size);
}

void item_pack_ref(packer *p, blob_ref r) {
  pack_array(p, 2);
  pack_fixed(p, r.number);
  pack_fixed(p, r.size);
}

void item_patch_ref(uint8_t *ref, uint64_t number) {
  for (int i = 0; i < 8; i++) ref[2 + i] = (uint8_t)(number >> (56 - 8 * i));
}

static respool_bytes unpack_optional(unpacker *u) {
  if (unpack_null(u)) return (respool_bytes){NULL, 0};
  return unpack_bytes(u);
}

/* Does the original name its own codec? */
static bool unpack_original(unpacker *u, item *i) {
  bool own = unpack_peek(u) == CBOR_ARRAY;
  if (own && unpack_array(u) != 2) u->rc = RESPOOL_CORRUPT;
  i->original = unpack_optional(u);
  if (own) i->original_codec = unpack_optional(u);
  return own;
}

static respool_origin unpack_origin(unpacker *u) {
  respool_origin o = {.queue = {NULL, 0}};
  if (unpack_null(u)) return o;
  if (unpack_array(u) != 3) u->rc = RESPOOL_CORRUPT;
  o.queue = unpack_bytes(u);
  o.id = unpack_uint(u);
  o.pushed_at = unpack_int(u);
  return o;
}

/* The fields behind the body of an item of `n` fields. */
static void unpack_fields(unpacker *u, item *i, size_t n) {
  bool own = false;
  if (n > 4) {
    i->headers = unpack_optional(u);
    i->replays = unpack_uint(u);
    own = unpack_original(u, i);
    i->key = unpack_optional(u);
  }
  if (n != 5) {
    i->codec = unpack_optional(u);
    i->origin = unpack_origin(u);
  }
  if (n == 4 || n == 8) i->partition = unpack_bytes(u);
  if (i->original.size && !own) i->original_codec = i->codec;
}

bool item_unpack(unpacker *u, item *i, blob_ref *r) {
  static const item nothing;
  *i = nothing; /* a copy: clearing is a slow string instruction of gcc's */
  r->number = r->size = 0;
  if (item_is_body(u)) {
    i->body = unpack_bytes(u);
    return u->rc == 0;
  }
  size_t n = unpack_array(u);
  if (n == 2) { /* in a blob? */
    r->number = unpack_uint(u);
    r->size = unpack_uint(u);
    return u->rc == 0 && r->number > 0;
  }
  i->body = unpack_bytes(u);
  unpack_fields(u, i, n);
  return u->rc == 0 && (n == 3 || n == 4 || n == 5 || n == 7 || n == 8);
}

void item_pack_damaged(packer *p, respool_bytes segment) {
  pack_array(p, 1);
  pack_bytes(p, segment.data, segment.size);
}

bool item_unpack_damaged(respool_bytes packed, respool_bytes *segment) {
  unpacker u;
  unpacker_init(&u, packed.data, packed.size);
  if (unpack_peek(&u) != CBOR_ARRAY || unpack_array(&u) != 1) return false;
  *segment = unpack_bytes(&u);
  return u.rc == 0;
}
