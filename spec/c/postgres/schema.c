/* SPDX-License-Identifier: MIT */
/*
 * The schema: what its roles may do, and which plans its statements get.
 */
#include "verbs.h"

#include "base/clock.h"

static void drop_roles(void) {
  static const char *const roles[] = {"push", "work", "admin"};
  char sql[200];
  for (int i = 0; i < 3; i++) {
    snprintf(sql, sizeof sql, "DROP OWNED BY \"%s_%s\"; DROP ROLE \"%s_%s\"",
             schema, roles[i], schema, roles[i]);
    HOLDS(script(&store, sql) == 0);
  }
}

/* Roles have the rights that they need, and none on tables. */
static void roles_may_call_functions_alone(void) {
  static const struct {
    const char *role;
    int push, take, drop;
  } may[] = {{"push", 1, 0, 0}, {"work", 1, 1, 0}, {"admin", 1, 1, 1}};
  bool granted = false;
  char sql[500];
  HOLDS(schema_grant(&store.s, &granted) == 0 && granted);
  for (int i = 0; i < 3; i++) {
    snprintf(sql, sizeof sql, "SELECT sum(CASE WHEN has_function_privilege("
             "'%s_%s', oid, 'EXECUTE') THEN CASE proname WHEN 'v1_push' THEN "
             "1 WHEN 'v1_take' THEN 10 WHEN 'v1_queue_drop' THEN 100 ELSE 0 "
             "END ELSE 0 END)::int8 FROM pg_proc WHERE pronamespace = "
             "'%s'::regnamespace", schema, may[i].role, schema);
    HOLDS(kit_number(&store, sql) ==
          may[i].push + 10 * may[i].take + 100 * may[i].drop);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM pg_class WHERE "
             "relnamespace = '%s'::regnamespace AND relkind = 'r' AND "
             "has_table_privilege('%s_%s', oid, 'SELECT, INSERT, UPDATE, "
             "DELETE')", schema, schema, may[i].role);
    HOLDS(kit_number(&store, sql) == 0);
  }
  snprintf(sql, sizeof sql, "SET SESSION AUTHORIZATION \"%s_push\"", schema);
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  take(q.id, 1, &b); /* so that the session has tokens */
  HOLDS(script(&store, sql) == 0);
  HOLDS(kit_take_items(&store, q.id, 1, NULL, &b) == RESPOOL_DENIED);
  HOLDS(script(&store, "RESET SESSION AUTHORIZATION") == 0);
  drop_roles();
}

/* Tables that were never analysed, and are empty. */
static bool plan_has(const char *sql, const char *index) {
  char text[1000];
  snprintf(text, sizeof text, "EXPLAIN %s", sql);
  int64_t end = clock_mono() + 60000;
  pg_failure f;
  connection_script(&store.s.at, "SET enable_seqscan = off", end, &f);
  bool found = false;
  pq.sendQueryParams(store.s.at.c, text, 0, NULL, NULL, NULL, NULL, 0);
  pq.pipelineSync(store.s.at.c);
  pq.setnonblocking(store.s.at.c, 0);
  for (int status = 0; status != PG_PIPELINE_SYNC;) {
    PGresult *r = pq.getResult(store.s.at.c);
    if (!r) continue;
    status = pq.resultStatus(r);
    for (int i = 0; status == PG_TUPLES_OK && i < pq.ntuples(r); i++)
      found |= strstr(pq.getvalue(r, i, 0), index) != NULL;
    if (status > PG_TUPLES_OK && status != PG_PIPELINE_SYNC)
      printf("%s: %s\n", sql, pq.resultErrorField(r, PG_MESSAGE));
    pq.clear(r);
  }
  pq.setnonblocking(store.s.at.c, 1);
  return found;
}

/* The server may come to analyse tables at any time, unless it is told not to;
   what it finds changes its plans. */
static void leave_tables_as_they_are(void) {
  kit_number(&store, "SELECT 1"); /* search_path */
  HOLDS(script(&store, "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid "
               "FROM pg_class WHERE relnamespace = current_schema"
               "::regnamespace AND relkind = 'r' LOOP EXECUTE format('ALTER "
               "TABLE %s SET (autovacuum_enabled = off)', t); END LOOP; "
               "END $$") == 0);
}

static void hot_statements_use_one_index(void) {
  kit_number(&store, "SELECT 1"); /* search_path */
  HOLDS(plan_has("SELECT ctid FROM run x WHERE queue = 1 AND priority = "
                 "0::int2 AND fresh = 1::int2 AND due >= 0 AND due <= 9 "
                 "ORDER BY due, first FOR UPDATE SKIP LOCKED",
                 "using run_due"));
  HOLDS(plan_has("SELECT ctid FROM run x WHERE key_of(queue, priority, "
                 "coalesce(partition, '')) = key_of(1, 0, '') AND seq IS NOT "
                 "NULL ORDER BY seq, first",
                 "using run_seq"));
  HOLDS(plan_has("SELECT FROM run WHERE queue = 1 AND expires_at <= 9 AND "
                 "state <> 1", "using run_expires"));
  HOLDS(plan_has("DELETE FROM run WHERE first = ANY ('{1,2}'::int8[]) AND "
                 "epoch = 5 AND state = 1", "on run_pkey"));
  HOLDS(plan_has("UPDATE run x SET due = 1 FROM unnest('{1}'::int8[]) "
                 "AS f(first) WHERE x.first = f.first", "using run_pkey"));
  HOLDS(plan_has("UPDATE run x SET due = 1 FROM unnest('{\"(0,1)\"}'::tid[]) "
                 "AS f(tid) WHERE x.ctid = f.tid", "Tid Scan"));
}

int main(int n, char **v) {
  verbs_open(n, v);
  leave_tables_as_they_are();
  hot_statements_use_one_index();
  roles_may_call_functions_alone();
  return verbs_close();
}
