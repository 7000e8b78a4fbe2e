/* SPDX-License-Identifier: MIT */
/*
 * Reports of progress: an entry for each item that has any, with the token of
 * the lease under which it was reported. It is shown as long as the item has
 * that lease. A settle of the item removes the entry; maintenance removes those
 * that killed processes have left.
 */
#include "verbs/store/reports.h"

#include <string.h>

#include "record/entry_name.h"
#include "record/fields.h"

enum { FIELDS = 6 };

/* Reports as they were looked at. */
typedef struct reports {
  packer bytes;
  unpacker at;
  int64_t now;
} reports;

/* ---- records ------------------------------------------------------------ */

static void pack_report(packer *p, const report *r) {
  pack_array(p, FIELDS);
  pack_phrase(p, phrase_of(r->queue));
  pack_uint(p, r->id);
  pack_uint(p, r->token);
  pack_int(p, r->done);
  pack_int(p, r->at);
  pack_phrase(p, r->text);
}

static void unpack_report(unpacker *u, report *r) {
  unpack_expect(u, unpack_array(u) == FIELDS);
  unpack_name(u, r->queue);
  r->id = unpack_uint(u);
  r->token = unpack_uint(u);
  r->done = unpack_int(u);
  r->at = unpack_int(u);
  r->text = unpack_phrase(u);
}

/* The next; false at the end, and with rc set where it is damaged. */
static bool next_report(reports *l, report *r, int *rc) {
  unpacker fields, *u = &l->at;
  memset(r, 0, sizeof *r);
  if (u->at >= u->end || *rc) return false;
  unpack_array(u);
  unpack_name(u, r->entry);
  r->revision = unpack_uint(u);
  respool_bytes b = unpack_bytes(u);
  unpacker_init(&fields, b.data, b.size);
  if (!u->rc) unpack_report(&fields, r);
  if (!u->rc && !fields.rc) return true;
  *rc = fail(RESPOOL_CORRUPT, "the progress '%.200s' is damaged", r->entry);
  return false;
}

/* All reports of the store, or that of an entry. */
static int look(respool *s, const char *entry, reports *l) {
  query q = {.kind = QUERY_ENTRIES, .name = entry,
             .entries = {.kind = ENTRY_PROGRESS, .out = &l->bytes}};
  packer_init(&l->bytes);
  int rc = store_look(s, &q);
  unpacker_init(&l->at, l->bytes.data, l->bytes.len);
  l->now = q.entries.now;
  return rc;
}

int report_find(respool *s, const char *queue, uint64_t id, report *out,
                int64_t *now) {
  reports l;
  report r, wanted;
  entry_name_of(wanted.entry, queue, id);
  int rc = look(s, wanted.entry, &l);
  if (rc || !next_report(&l, &r, &rc)) memset(&r, 0, sizeof r);
  strcpy(r.entry, wanted.entry);
  r.text = (respool_bytes){NULL, 0};
  *out = r;
  *now = l.now;
  packer_free(&l.bytes);
  return rc;
}

/* ---- saving ------------------------------------------------------------- */

int report_save(respool *s, const report *r) {
  packer p;
  packer_init(&p);
  pack_report(&p, r);
  step save = {.kind = STEP_ENTRY, .name = r->entry,
               .entry = {ENTRY_PROGRESS, r->revision, {p.data, p.len}}};
  int rc = p.rc ? fail(p.rc, "not enough memory for a progress")
                : store_commit_step(s, &save, false);
  packer_free(&p);
  return rc;
}

int report_remove(respool *s, const report *r) {
  step gone = {.kind = STEP_ENTRY, .name = r->entry,
               .entry = {ENTRY_PROGRESS, r->revision, {NULL, 0}}};
  int rc = r->revision ? store_commit_step(s, &gone, false) : 0;
  return rc == RESPOOL_LOCKED ? 0 : rc;
}

int report_is_over(respool *s, const report *r, bool *over) {
  query q = {.kind = QUERY_HELD, .name = r->queue,
             .held = {.id = r->id, .token = r->token}};
  int rc = store_look(s, &q);
  *over = rc == RESPOOL_NOT_FOUND || !q.held.yes; /* of the queue */
  return rc == RESPOOL_NOT_FOUND ? 0 : rc;
}

/* ---- showing ------------------------------------------------------------ */

static int show_report(respool_page *p, const report *r) {
  int rc = 0;
  for (size_t i = 0; i < p->n && !rc; i++) {
    respool_item *it = &p->items[i];
    if (it->id != r->id || it->about->lease != r->token) continue;
    respool_item_about *own = page_about(p, it->about);
    if (!own) return fail(RESPOOL_NOMEM, "not enough memory for a page");
    it->about = own;
    own->progress = r->done;
    own->progress_at = r->at;
    rc = arena_copy(&p->memory, r->text, &own->progress_text);
  }
  return rc ? fail(rc, "not enough memory for a page") : 0;
}

int reports_show(respool *s, const char *queue, respool_page *p) {
  reports l;
  report r;
  size_t leased = 0;
  for (size_t i = 0; i < p->n; i++) leased += p->items[i].about->lease != 0;
  if (!leased) return 0;
  if (p->n == 1) entry_name_of(r.entry, queue, p->items[0].id);
  int rc = look(s, p->n == 1 ? r.entry : NULL, &l);
  while (next_report(&l, &r, &rc))
    if (!strcmp(r.queue, queue)) rc = show_report(p, &r);
  packer_free(&l.bytes);
  return rc;
}

int reports_of_leases(respool *s, const char *queue, const leases *l,
                      respool_lease *out, arena *a) {
  reports all;
  report r;
  if (!l->n) return 0;
  int rc = look(s, NULL, &all);
  while (next_report(&all, &r, &rc))
    for (size_t i = 0; i < l->n && !rc; i++) {
      if (l->of[i].token != r.token || strcmp(r.queue, queue)) continue;
      if (r.id < out[i].first || out[i].progress_at > r.at) continue;
      out[i].item = r.id;
      out[i].progress = r.done;
      out[i].progress_at = r.at;
      rc = arena_copy(a, r.text, &out[i].progress_text);
    }
  packer_free(&all.bytes);
  return rc;
}

/* ---- removing ----------------------------------------------------------- */

int reports_sweep(respool *s) {
  reports l;
  report r;
  bool over = false;
  int rc = look(s, NULL, &l);
  while (next_report(&l, &r, &rc)) {
    rc = report_is_over(s, &r, &over);
    if (!rc && over) rc = report_remove(s, &r);
  }
  packer_free(&l.bytes);
  return rc;
}
