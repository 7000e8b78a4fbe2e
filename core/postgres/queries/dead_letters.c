/* SPDX-License-Identifier: MIT */
/*
 * Dead letters; see dead_letters.h.
 */
#include "postgres/queries/dead_letters.h"

#include "record/dead/group.h"
#include "record/dead/record.h"

static int add_dead(respool_dead_letters *out, const char *dlq,
                    uint64_t number, respool_bytes stored, bool no_body) {
  dead l;
  unpacker u;
  item i;
  blob_ref ref;
  respool_dead_letter *r = dead_letters_add(out);
  if (!r) return RESPOOL_NOMEM;
  int rc = dead_show(&out->memory, phrase_of(dlq), stored, r, &l);
  r->number = number;
  if (rc || r->damaged) return rc;
  if (!no_body) rc = arena_copy(&out->memory, l.item, &l.item);
  if (rc) return rc;
  unpacker_init(&u, l.item.data, l.item.size);
  bool whole = item_unpack(&u, &i, &ref) && !ref.number;
  dead_show_item(r, whole ? &i : NULL, l.item);
  return no_body ? dead_keep_marks(&out->memory, r) : 0;
}

int look_dead_list(looking *k) {
  const respool_list_options *o = k->q->dead_list.options;
  if (o->descending && o->after == 1) return 0;
  values *v = look_ask(k, STATEMENT_DEAD_LIST);
  put_text(v, k->q->name);
  put_int8(v, (int64_t)o->after);
  put_int8(v, (int64_t)o->upto);
  put_int8(v, (int64_t)(o->limit ? o->limit : 100));
  put_bool(v, o->descending);
  put_bytes(v, o->group);
  put_int8(v, (int64_t)o->bytes);
  int rc = look_run(k);
  for (int i = 0; !rc && i < look_rows(k); i++)
    rc = add_dead(k->q->dead_list.out, k->q->name,
                  (uint64_t)value_int(look_answer(k), i, 0),
                  value_bytes(look_answer(k), i, 1), o->no_body);
  return rc == RESPOOL_NOMEM ? fail(rc, "not enough memory") : rc;
}

/* The group and reason that the rows from `*i` on are of, one an hour; moves
   `*i` behind them. */
static respool_dead_group read_group(const PGresult *r, int *i) {
  respool_dead_group g = {.group = value_bytes(r, *i, 0),
                          .reason = value_bytes(r, *i, 1)};
  while (*i < pq.ntuples(r) && phrase_same(value_bytes(r, *i, 0), g.group) &&
         phrase_same(value_bytes(r, *i, 1), g.reason)) {
    dead_group_add(&g, (uint64_t)value_int(r, *i, 3),
                   (uint64_t)value_int(r, *i, 4), value_int(r, *i, 2));
    dead_group_died(&g, value_int(r, *i, 5), value_int(r, *i, 6));
    ++*i;
  }
  return g;
}

int look_dead_groups(looking *k) {
  values *v = look_ask(k, STATEMENT_DEAD_GROUPS);
  put_text(v, k->q->name);
  plan_put_wall(&k->p, v);
  int rc = look_run(k);
  for (int i = 0; !rc && i < look_rows(k);) {
    respool_dead_group g = read_group(look_answer(k), &i);
    dead_group_pack(k->q->texts, &g);
  }
  return rc;
}
