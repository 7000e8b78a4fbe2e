/* SPDX-License-Identifier: MIT */
/*
 * Notes: bytes that a program keeps in a store under a name, beside its queues.
 */
#include "verbs/store/store.h"

#include "verbs/store/notes.h"

int note_check(const char *name, respool_bytes note) {
  int rc = name_check(name, "note");
  if (!rc && !note.data) rc = invalid("note", "given");
  if (!rc && note.size > RESPOOL_NOTE_MAX)
    rc = fail(RESPOOL_TOO_LARGE, "note '%.120s' has %zu bytes; at most %zu "
              "are kept", name, note.size, RESPOOL_NOTE_MAX);
  return rc;
}

int respool_note_load(respool *s, const char *name, respool_note_fn each,
                      void *arg) {
  packer note;
  query look = {.kind = QUERY_NOTE, .name = name, .texts = &note};
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "note");
  if (!rc && !each) rc = invalid("each", "given");
  if (rc) return rc;
  packer_init(&note);
  rc = store_look(s, &look);
  if (!rc) rc = each(arg, (respool_bytes){note.data, note.len});
  packer_free(&note);
  return rc;
}

int respool_note_save(respool *s, const char *name, respool_bytes note) {
  step p = {.kind = STEP_NOTE, .name = name, .note = note};
  int rc = store_check(s);
  if (!rc) rc = note_check(name, note);
  return rc ? rc : store_commit_step(s, &p, true);
}

int respool_note_remove(respool *s, const char *name) {
  step p = {.kind = STEP_NOTE, .name = name};
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "note");
  return rc ? rc : store_commit_step(s, &p, true);
}
