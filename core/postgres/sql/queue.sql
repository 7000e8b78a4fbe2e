-- SPDX-License-Identifier: MIT
-- Queues as a whole.

CREATE FUNCTION v1_queue(name text) RETURNS SETOF queue LANGUAGE sql STABLE
AS $$ SELECT u.* FROM queue u WHERE u.name = v1_queue.name $$;

-- Makes a queue (`seen` 0) or replaces the policy that has version `seen`;
-- BUSY when another has come first: read it and try again.
CREATE FUNCTION v1_queue_save(name text, seen int4, config bytea,
  ordered boolean, overflow int2, drop_expired boolean, lease int8,
  max_crashes int8, ttl int8, max_items int8, max_bytes int8, keep_done int8,
  keep_done_bytes int8, keep_dead int8, keep_dead_items int8,
  keep_dead_bytes int8, weights int4[], dlq text, wall int8,
  rate_items int8, rate_per int8, bucket int8, most_failures int8, within int8,
  cooldown int8, most_probes int8, by_line boolean, concurrency int8,
  batch int8, part_items int8, part_per int8, part_bucket int8,
  part_failures int8, part_within int8, part_cooldown int8, part_probes int8,
  OUT id int4, OUT version int4)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  was queue;
BEGIN
  IF seen = 0 THEN
    INSERT INTO queue AS u (name, config, ordered, overflow, drop_expired,
        lease, max_crashes, ttl, max_items, max_bytes, keep_done,
        keep_done_bytes, keep_dead, keep_dead_items, keep_dead_bytes,
        weights, dlq, flows, by_line)
      VALUES (name, config, ordered, overflow, drop_expired, lease,
        max_crashes, ttl, max_items, max_bytes, keep_done, keep_done_bytes,
        keep_dead, keep_dead_items, keep_dead_bytes, weights, dlq,
        coalesce(rate_items, most_failures) IS NOT NULL, by_line)
      ON CONFLICT DO NOTHING RETURNING u.id, u.version INTO id, version;
  ELSE
    SELECT u.* INTO was FROM queue u WHERE u.name = v1_queue_save.name;
    IF ordered > was.ordered OR by_line > was.by_line THEN
      PERFORM lock_queue(was.id);
    END IF;
    PERFORM FROM queue u WHERE u.id = was.id FOR UPDATE;
    UPDATE queue u SET version = seen + 1, config = v1_queue_save.config,
        ordered = v1_queue_save.ordered, overflow = v1_queue_save.overflow,
        drop_expired = v1_queue_save.drop_expired,
        lease = v1_queue_save.lease, max_crashes = v1_queue_save.max_crashes,
        ttl = v1_queue_save.ttl, max_items = v1_queue_save.max_items,
        max_bytes = v1_queue_save.max_bytes,
        keep_done = v1_queue_save.keep_done,
        keep_done_bytes = v1_queue_save.keep_done_bytes,
        keep_dead = v1_queue_save.keep_dead,
        keep_dead_items = v1_queue_save.keep_dead_items,
        keep_dead_bytes = v1_queue_save.keep_dead_bytes,
        weights = v1_queue_save.weights, dlq = v1_queue_save.dlq,
        flows = coalesce(v1_queue_save.rate_items,
                         v1_queue_save.most_failures) IS NOT NULL,
        by_line = v1_queue_save.by_line
      WHERE u.id = was.id AND u.version = seen
      RETURNING u.id, u.version INTO id, version;
    IF id IS NOT NULL AND ordered AND EXISTS (SELECT FROM run x
        WHERE x.queue = v1_queue_save.id AND x.partition IS NOT NULL) THEN
      PERFORM no_partitions(name);
    END IF;
    IF id IS NOT NULL AND (ordered > was.ordered OR by_line > was.by_line) THEN
      PERFORM put_in_order(id, ordered);
    END IF;
  END IF;
  IF id IS NULL THEN
    PERFORM refuse('RS014', format('queue ''%s'' was changed meanwhile', name));
  END IF;
  PERFORM flow_policy((id, '', rate_items, rate_per, bucket, most_failures,
    within, cooldown, most_probes, NULL, NULL, 0, 0, 0, 0, 0, 0, '{}', NULL,
    NULL)::flow, now_ms(wall));
  PERFORM bounds_policy((id, concurrency, batch, part_items, part_per,
    part_bucket, part_failures, part_within, part_cooldown,
    part_probes)::bounds, now_ms(wall), was.by_line IS DISTINCT FROM by_line);
END $$;

-- Gives places to what was pushed while the queue was not ordered, or its
-- partitions were not, by the time of the push; to items of one moment the
-- same, as to parts of one run. The caller has the queue's lock.
CREATE FUNCTION put_in_order(q int4, whole boolean) RETURNS void
LANGUAGE sql AS $$
  WITH s AS MATERIALIZED (
    SELECT d.pushed_at, nextval('place') AS seq
    FROM (SELECT DISTINCT r.pushed_at FROM run r
      WHERE r.queue = q AND r.seq IS NULL
        AND (whole OR r.partition IS NOT NULL) ORDER BY r.pushed_at) d)
  UPDATE run x SET seq = s.seq FROM s
    WHERE x.queue = q AND x.seq IS NULL AND x.pushed_at = s.pushed_at
      AND (whole OR x.partition IS NOT NULL) $$;

CREATE FUNCTION v1_queue_pause(name text, paused boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE queue u SET paused = v1_queue_pause.paused
    WHERE u.name = v1_queue_pause.name;
  IF NOT FOUND THEN
    PERFORM refuse('RS007', format('there is no queue ''%s''', name));
  END IF;
END $$;

-- Removes a page of what is in a queue, and with the last one the queue and
-- what is remembered of it. The first (`opens`) pauses the queue; it is BUSY,
-- and nothing has changed, while items are leased. Waits for pushes under way;
-- those that come when the queue is gone find it so.
CREATE FUNCTION v1_queue_drop(name text, slot_no int4, wall int8, opens boolean,
  max_runs int4, OUT removed int8, OUT more boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  q int4; t int8 := now_ms(wall); d record; leased int8;
BEGIN
  SELECT u.id INTO q FROM queue u WHERE u.name = v1_queue_drop.name;
  IF q IS NULL THEN
    PERFORM refuse('RS007', format('there is no queue ''%s''',
                                   v1_queue_drop.name));
  END IF;
  PERFORM lock_queue(q);
  PERFORM FROM queue u WHERE u.id = q FOR UPDATE;
  IF opens THEN
    SELECT sum(x.live) INTO leased FROM run x WHERE x.queue = q
      AND x.fresh IN (0, 2) AND x.state = 1 AND x.due > t;
    IF leased > 0 THEN
      PERFORM refuse('RS014', format('queue ''%s'' has %s leased item%s',
        v1_queue_drop.name, leased, CASE WHEN leased > 1 THEN 's' ELSE '' END));
    END IF;
    UPDATE queue u SET paused = true WHERE u.id = q;
  END IF;
  d := v1_purge(q, slot_no, wall, max_runs);
  removed := d.removed;
  more := d.more;
  IF more THEN RETURN; END IF;
  IF EXISTS (SELECT FROM run x WHERE x.queue = q) THEN
    PERFORM refuse('RS014', format('queue ''%s'': items are leased',
                                   v1_queue_drop.name));
  END IF;
  DELETE FROM history h WHERE h.queue = q;
  DELETE FROM result r WHERE r.queue = q;
  DELETE FROM held h WHERE h.queue = q;
  DELETE FROM tally y WHERE y.queue = q;
  UPDATE call c SET queue = NULL, bytes = 0, pushed = 0, pushed_bytes = 0,
      done = 0 WHERE c.queue = q;
  DELETE FROM series s WHERE s.queue = q;
  DELETE FROM bell b WHERE b.queue IN (q, -q);
  DELETE FROM flow f WHERE f.queue = q;
  DELETE FROM opening o WHERE o.queue = q;
  DELETE FROM bounds b WHERE b.queue = q;
  DELETE FROM line l WHERE l.queue = q;
  DELETE FROM wake w WHERE w.queue = q;
  DELETE FROM queue u WHERE u.id = q;
END $$;

-- 0 queues, 1 DLQs, 2 named replays, 3 notes; in byte order.
CREATE FUNCTION v1_names(which int4) RETURNS SETOF text LANGUAGE sql STABLE
AS $$
  SELECT n.name FROM (
    SELECT name FROM queue WHERE which = 0 UNION ALL
    SELECT name FROM dlq WHERE which = 1 UNION ALL
    SELECT name FROM replay WHERE which = 2 UNION ALL
    SELECT name FROM note WHERE which = 3) n ORDER BY n.name COLLATE "C" $$;

-- A consumer waits for so long: pushes answer `ring`. Under -q somebody waits
-- for results, see v1_awaited.
CREATE FUNCTION v1_bell(q int4, ms int8) RETURNS void LANGUAGE sql AS $$
  INSERT INTO bell AS b (queue, until) VALUES (q, now_ms(NULL) + ms)
    ON CONFLICT (queue) DO UPDATE
    SET until = greatest(b.until, excluded.until) $$;

-- Wakes those that listen, with the queue's id. Never part of a push: NOTIFY
-- makes the commits of a database wait for one another.
CREATE FUNCTION v1_channel() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT 'respool_' || 'run'::regclass::oid $$;
CREATE FUNCTION v1_ring(q int4) RETURNS void LANGUAGE sql AS $$
  SELECT pg_notify(v1_channel(), q::text) $$;

-- A block of ids; 65,536 from here on.
CREATE FUNCTION v1_ids() RETURNS int8 LANGUAGE sql AS
  $$ SELECT nextval('ids') $$;
-- A block of tokens; 4,096 from here on.
CREATE FUNCTION v1_tokens() RETURNS int8 LANGUAGE sql AS
  $$ UPDATE token SET next = next + 4096 RETURNING next - 4096 $$;

-- What a client has seen, and its last change that was on disk (NULL: none):
-- is it still there? 0 yes, 1 the change is not, 2 tokens or 3 ids have gone
-- back.
CREATE FUNCTION v1_seen(call uuid, step int2, tokens int8, ids int8)
RETURNS int4 LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN NOT EXISTS (SELECT FROM call c WHERE c.id = v1_seen.call
                     AND c.no >= v1_seen.step)
      AND v1_seen.call IS NOT NULL THEN 1
    WHEN (SELECT t.next FROM token t) < v1_seen.tokens THEN 2
    WHEN (SELECT i.last_value + CASE WHEN i.is_called THEN 65536 ELSE 0 END
            FROM ids i) < v1_seen.ids THEN 3
    ELSE 0 END $$;

CREATE FUNCTION v1_probe_write() RETURNS int8 LANGUAGE sql AS
  $$ UPDATE probe SET number = number + 1 RETURNING number $$;
CREATE FUNCTION v1_probe_read() RETURNS int8 LANGUAGE sql STABLE AS
  $$ SELECT number FROM probe $$;

CREATE FUNCTION v1_meta(name text) RETURNS text LANGUAGE sql STABLE AS
  $$ SELECT m.value FROM meta m WHERE m.name = v1_meta.name $$;
