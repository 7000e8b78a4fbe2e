/* SPDX-License-Identifier: MIT */
/*
 * The records of notes, by name.
 */
#include "lmdb/record/notes.h"

#include "lmdb/record/records.h"

static int no_note(const char *name) {
  return fail(RESPOOL_NOT_FOUND, "there is no note '%.160s'", name);
}

int lmdb_note_load(txn *t, const char *name, packer *out) {
  respool_bytes v, note, k = phrase_of(name);
  if (!txn_get(t, DB_NOTES, k, &v)) return t->rc ? t->rc : no_note(name);
  if (!note_unpack(k, v, &note))
    return fail(RESPOOL_CORRUPT, "note '%.160s' is damaged", name);
  pack_raw(out, note.data, note.size);
  txn_fail(t, out->rc);
  return t->rc;
}

static int note_remove(txn *t, const char *name) {
  respool_bytes v, k = phrase_of(name);
  if (!txn_get(t, DB_NOTES, k, &v)) return t->rc ? t->rc : no_note(name);
  txn_del(t, DB_NOTES, k);
  return t->rc;
}

int lmdb_note_save(txn *t, const char *name, respool_bytes note) {
  packer p;
  if (!note.data) return note_remove(t, name);
  packer_init(&p);
  note_pack(&p, note);
  record_put(t, DB_NOTES, phrase_of(name), &p);
  packer_free(&p);
  return t->rc;
}
