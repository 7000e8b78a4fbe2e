-- SPDX-License-Identifier: MIT
-- Last: what is hot plans by index alone and once; no function trusts the
-- caller's search_path; nobody but the owner touches a table or may call
-- anything.
DO $$
DECLARE
  f record;
BEGIN
  FOR f IN SELECT p.oid::regprocedure AS of, p.proname AS name FROM pg_proc p
      WHERE p.pronamespace = quote_ident(current_schema())::regnamespace LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.of);
    CONTINUE WHEN f.name NOT LIKE 'v1\_%';
    EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, '
                   'pg_temp', f.of, current_schema());
    IF f.name IN ('v1_push', 'v1_push_run', 'v1_take', 'v1_done',
                  'v1_done_run', 'v1_settle', 'v1_results',
                  'v1_awaited', 'v1_extend', 'v1_expire', 'v1_remove',
                  'v1_run_now', 'v1_kill', 'v1_move', 'v1_edit', 'v1_cancel',
                  'v1_purge', 'v1_flow_note') THEN
      EXECUTE format('ALTER FUNCTION %s SET enable_seqscan = off '
                     'SET plan_cache_mode = force_generic_plan', f.of);
      IF f.name IN ('v1_done', 'v1_settle') THEN -- each run by its key
        EXECUTE format('ALTER FUNCTION %s SET enable_mergejoin = off '
                       'SET enable_hashjoin = off', f.of);
      END IF;
    ELSE
      EXECUTE format('ALTER FUNCTION %s SET jit = off', f.of);
    END IF;
  END LOOP;
END $$;

-- The roles that applications are given: SCHEMA_push pushes and counts,
-- SCHEMA_work also takes, settles and looks, SCHEMA_admin does everything.
-- False: this role may not make roles.
CREATE FUNCTION v1_grant() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  s text := current_schema(); f record; r text; may boolean;
BEGIN
  SELECT u.rolcreaterole OR u.rolsuper INTO may FROM pg_roles u
    WHERE u.rolname = current_user;
  IF NOT may THEN RETURN false; END IF;
  IF octet_length(s || '_admin') > 63 THEN
    PERFORM refuse('RS015', format('roles are named after the schema: the name '
      'of %I has more than 57 bytes', s));
  END IF;
  FOREACH r IN ARRAY ARRAY['_push', '_work', '_admin'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles u WHERE u.rolname = s || r) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', s || r);
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', s, s || r);
  END LOOP;
  FOR f IN SELECT p.oid::regprocedure AS of, p.proname AS name FROM pg_proc p
      WHERE p.pronamespace = quote_ident(s)::regnamespace
        AND p.proname LIKE 'v1\_%' AND p.proname <> 'v1_grant' LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f.of, s || '_admin');
    IF f.name IN ('v1_push', 'v1_push_run', 'v1_push_dead', 'v1_ids',
        'v1_seen', 'v1_resolve', 'v1_ring', 'v1_channel', 'v1_meta',
        'v1_queue', 'v1_stat', 'v1_names', 'v1_undo', 'v1_store', 'v1_flow',
        'v1_note_load', 'v1_note_save', 'v1_entries') THEN
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I, %I', f.of,
                     s || '_push', s || '_work');
    ELSIF f.name IN ('v1_take', 'v1_tokens', 'v1_done', 'v1_done_run',
        'v1_settle', 'v1_extend', 'v1_expire', 'v1_observe', 'v1_bell',
        'v1_peek', 'v1_get', 'v1_get_key', 'v1_history',
        'v1_dead_count', 'v1_dead_get', 'v1_dead_groups', 'v1_dead_list',
        'v1_maintain', 'v1_entry_save', 'v1_forget_calls',
        'v1_browse', 'v1_leases', 'v1_held', 'v1_live',
        'v1_results', 'v1_result', 'v1_awaited',
        'v1_probe_read', 'v1_probe_write', 'v1_queue_hold', 'v1_flow_note',
        'v1_partitions') THEN
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f.of,
                     s || '_work');
    END IF;
  END LOOP;
  RETURN true;
END $$;
REVOKE ALL ON FUNCTION v1_grant() FROM PUBLIC;
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION v1_grant() SET search_path = %I, pg_temp',
                 current_schema());
END $$;
