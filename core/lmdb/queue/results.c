/* SPDX-License-Identifier: MIT */
/*
 * Results are entries: [queue, done_at, result or null]. The history has its
 * items by the time when they were done; these have them by id.
 */
#include "lmdb/queue/results.h"

#include <stdio.h>

#include "base/fault.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/entries.h"
#include "record/fields.h"

#define NAME_SIZE 32

/* As the keys of the history, by the queue's number. */
static void name_entry(char name[NAME_SIZE], const queue *q, uint64_t id) {
  snprintf(name, NAME_SIZE, "%u/%llu", (unsigned)q->id,
           (unsigned long long)id);
}

void result_keep(txn *t, const queue *q, uint64_t id, int64_t done_at,
                 respool_bytes result) {
  char name_of[NAME_SIZE];
  packer p;
  if (FAULT_WRONG("results are kept")) return;
  name_entry(name_of, q, id);
  packer_init(&p);
  pack_array(&p, 3);
  pack_phrase(&p, phrase_of(q->name));
  pack_int(&p, done_at);
  if (result.size)
    pack_bytes(&p, result.data, result.size);
  else
    pack_null(&p);
  if (p.rc)
    txn_fail(t, p.rc);
  else
    entry_put(t, ENTRY_RESULT, name_of, (respool_bytes){p.data, p.len});
  packer_free(&p);
}

void result_forget(txn *t, const queue *q, uint64_t id) {
  char name_of[NAME_SIZE];
  name_entry(name_of, q, id);
  entry_del(t, ENTRY_RESULT, name_of);
}

/* Reads an entry, which must be of the queue of this name. */
static bool open_entry(unpacker *u, respool_bytes bytes, const char *name,
                       int64_t *done_at, respool_bytes *result) {
  *result = (respool_bytes){NULL, 0};
  unpacker_init(u, bytes.data, bytes.size);
  unpack_expect(u, unpack_array(u) == 3);
  unpack_expect(u, phrase_same(unpack_phrase(u), phrase_of(name)));
  *done_at = unpack_int(u);
  if (!unpack_null(u)) *result = unpack_bytes(u);
  return u->rc == 0;
}

uint64_t result_size(txn *t, const queue *q, uint64_t id) {
  char name_of[NAME_SIZE];
  respool_bytes bytes, result;
  int64_t done_at;
  unpacker u;
  int rc = 0; /* a damaged one is not counted */
  name_entry(name_of, q, id);
  if (!entry_get(t, ENTRY_RESULT, name_of, &bytes, &rc)) return 0;
  return open_entry(&u, bytes, q->name, &done_at, &result) ? result.size : 0;
}

static int damaged(const char *name_of) {
  return fail(RESPOOL_CORRUPT, "the result '%.160s' is damaged", name_of);
}

static int add_result(txn *t, respool_page *p, uint64_t id, int64_t done_at,
                      respool_bytes result) {
  respool_item *out = page_add(p, (respool_bytes){NULL, 0});
  if (!out) return fail(RESPOOL_NOMEM, "not enough memory for a result");
  out->about = page_about(p, &(respool_item_about){.visible_at = done_at});
  if (!out->about) return fail(RESPOOL_NOMEM, "not enough memory for a result");
  out->id = id;
  txn_fail(t, arena_copy(&p->memory, result, &out->body));
  return t->rc;
}

int lmdb_result(txn *t, const char *name, uint64_t id, respool_page *p) {
  int rc = 0;
  char name_of[NAME_SIZE];
  respool_bytes bytes, result;
  int64_t done_at;
  unpacker u;
  const queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  name_entry(name_of, q, id);
  if (!entry_get(t, ENTRY_RESULT, name_of, &bytes, &rc) && !rc && !t->rc)
    rc = fail(RESPOOL_NOT_FOUND, "queue '%.120s' keeps no finished item %llu",
              name, (unsigned long long)id);
  if (rc || t->rc) return rc ? rc : t->rc;
  if (!open_entry(&u, bytes, name, &done_at, &result)) return damaged(name_of);
  return add_result(t, p, id, done_at, result);
}
