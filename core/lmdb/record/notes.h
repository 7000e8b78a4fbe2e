/* SPDX-License-Identifier: MIT */
/*
 * Notes: bytes under a name.
 */
#ifndef LMDB_NOTES_H
#define LMDB_NOTES_H

#include "lmdb/env/txn/txn.h"

int lmdb_note_load(txn *t, const char *name, packer *out); /* its bytes */

/* Saves a note, or removes it: `note.data` is NULL. */
int lmdb_note_save(txn *t, const char *name, respool_bytes note);

#endif
