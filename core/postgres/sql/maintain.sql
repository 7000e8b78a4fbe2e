-- SPDX-License-Identifier: MIT
-- Maintenance of one queue, a page at a time, by whoever comes; and of what
-- belongs to no queue. Expired items that become dead letters are the
-- client's work: v1_expire.

CREATE FUNCTION v1_maintain(q int4, wall int8, page int4,
  OUT windows int8, OUT history int8, OUT dead_letters int8,
  OUT more boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  p queue; t int8 := now_ms(wall); size int8; d record;
  held_bytes int8; items int8; box int4; beyond int8;
BEGIN
  SELECT u.* INTO p FROM queue u WHERE u.id = q;
  IF NOT FOUND THEN PERFORM no_queue(q); END IF;
  IF p.parted THEN
    PERFORM pg_advisory_xact_lock('queue'::regclass::oid::int4, q);
    PERFORM wake_lines(q, t);
  END IF;
  WITH closed AS (
    SELECT h.key FROM held h WHERE h.queue = q AND h.until > 0
      AND h.until <= t ORDER BY h.until LIMIT page FOR UPDATE SKIP LOCKED),
  gone AS (
    DELETE FROM held h USING closed c WHERE h.queue = q AND h.key = c.key
      AND NOT EXISTS (SELECT FROM run x WHERE x.first = h.item) RETURNING 1),
  kept AS (
    UPDATE held h SET until = 0 FROM closed c WHERE h.queue = q
      AND h.key = c.key
      AND EXISTS (SELECT FROM run x WHERE x.first = h.item) RETURNING 1)
  SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM kept)
    INTO windows;
  more := windows = page;

  SELECT coalesce(sum(y.kept_bytes), 0) INTO held_bytes
    FROM tally y WHERE y.queue = q;
  WITH old AS (
    SELECT o.done_at, o.first, o.size,
        sum(o.size) OVER (ORDER BY o.done_at, o.first) - o.size AS before
      FROM (SELECT h.done_at, h.first, octet_length(h.bytes) + coalesce((
              SELECT sum(octet_length(r.bytes)) FROM result r
              WHERE r.queue = q AND r.item >= h.first
                AND r.item < h.first + h.n AND r.done_at = h.done_at), 0)
              AS size
            FROM history h WHERE h.queue = q
            ORDER BY h.done_at, h.first LIMIT page) o),
  gone AS (
    DELETE FROM history h USING old o WHERE h.queue = q
      AND h.done_at = o.done_at AND h.first = o.first
      AND (h.done_at <= t - p.keep_done OR
           held_bytes - o.before > p.keep_done_bytes)
      RETURNING h.kept, o.size, h.first, h.n, h.done_at),
  results AS (
    DELETE FROM result r USING gone g WHERE r.queue = q
      AND r.item >= g.first AND r.item < g.first + g.n
      AND r.done_at = g.done_at)
  SELECT coalesce(sum(g.kept), 0), coalesce(sum(g.size), 0), count(*)
    INTO items, size, history FROM gone g;
  more := more OR history = page;
  history := items;
  IF items > 0 THEN
    INSERT INTO tally AS y (queue, slot, kept, kept_bytes)
      VALUES (q, -1, -items, -size) ON CONFLICT (queue, slot) DO UPDATE
      SET kept = y.kept + excluded.kept,
          kept_bytes = y.kept_bytes + excluded.kept_bytes;
  END IF;

  dead_letters := 0;
  IF p.keep_dead IS NOT NULL AND EXISTS (
      SELECT FROM (SELECT e.died_at FROM dead e
        WHERE e.dlq = (SELECT b.id FROM dlq b WHERE b.name = p.dlq)
        ORDER BY e.number LIMIT 1) f WHERE f.died_at < t - p.keep_dead) THEN
    d := v1_dead_purge(p.dlq, 0, page, t - p.keep_dead, NULL);
    dead_letters := d.removed;
    more := more OR d.removed = page;
  END IF;
  IF coalesce(p.keep_dead_items, p.keep_dead_bytes) IS NOT NULL THEN
    SELECT b.id INTO box FROM dlq b WHERE b.name = p.dlq FOR NO KEY UPDATE;
    beyond := coalesce(trim_dead(box, page, p.keep_dead_items,
                                 p.keep_dead_bytes), 0);
    dead_letters := dead_letters + beyond;
    more := more OR beyond = page;
  END IF;
  DELETE FROM flow f WHERE f.queue = q AND f.partition = ANY (array(
    SELECT x.partition FROM flow x WHERE x.queue = q AND x.partition <> ''
      AND NOT flow_matters(x, t) AND NOT has_partition(q, x.partition)
      LIMIT page FOR UPDATE SKIP LOCKED));
  PERFORM fold(q);
END $$;

-- Moves counters that clients leave behind to slot -1: those of rows of calls
-- that were not used for a minute, and of slots from 64 on.
CREATE FUNCTION fold(q int4) RETURNS void LANGUAGE sql AS $$
  WITH old AS (
    SELECT c.id, c.bytes, c.pushed, c.pushed_bytes, c.done FROM call c
      WHERE c.queue = q AND c.at < now() - interval '1 minute'
      FOR NO KEY UPDATE SKIP LOCKED),
  emptied AS (
    UPDATE call c SET queue = NULL, bytes = 0, pushed = 0, pushed_bytes = 0,
        done = 0 FROM old o WHERE c.id = o.id)
  INSERT INTO tally AS y (queue, slot, bytes, pushed, pushed_bytes, done)
    SELECT q, -1, sum(o.bytes), sum(o.pushed), sum(o.pushed_bytes),
      sum(o.done) FROM old o HAVING count(*) > 0
    ON CONFLICT (queue, slot) DO UPDATE SET
      bytes = y.bytes + excluded.bytes, pushed = y.pushed + excluded.pushed,
      pushed_bytes = y.pushed_bytes + excluded.pushed_bytes,
      done = y.done + excluded.done;
  WITH gone AS (
    DELETE FROM tally y USING (
      SELECT z.slot FROM tally z WHERE z.queue = q AND z.slot >= 64
      ORDER BY z.slot FOR UPDATE SKIP LOCKED) s
    WHERE y.queue = q AND y.slot = s.slot RETURNING y.*)
  INSERT INTO tally AS y
    SELECT q, -1, sum(bytes), sum(pushed), sum(done), sum(died),
      sum(expired), sum(removed), sum(dropped), sum(delivered),
      sum(retried), sum(released), sum(snoozed), sum(crashed),
      sum(lease_lost), sum(damaged), sum(kept), sum(kept_bytes),
      sum(pushed_bytes), sum(delivered_bytes) FROM gone
    HAVING count(*) > 0
    ON CONFLICT (queue, slot) DO UPDATE SET
      bytes = y.bytes + excluded.bytes, pushed = y.pushed + excluded.pushed,
      done = y.done + excluded.done, died = y.died + excluded.died,
      expired = y.expired + excluded.expired,
      removed = y.removed + excluded.removed,
      dropped = y.dropped + excluded.dropped,
      delivered = y.delivered + excluded.delivered,
      retried = y.retried + excluded.retried,
      released = y.released + excluded.released,
      snoozed = y.snoozed + excluded.snoozed,
      crashed = y.crashed + excluded.crashed,
      lease_lost = y.lease_lost + excluded.lease_lost,
      damaged = y.damaged + excluded.damaged, kept = y.kept + excluded.kept,
      kept_bytes = y.kept_bytes + excluded.kept_bytes,
      pushed_bytes = y.pushed_bytes + excluded.pushed_bytes,
      delivered_bytes = y.delivered_bytes + excluded.delivered_bytes $$;

-- Calls of more than a day ago, by this server's clock, whose counters have
-- been moved. They are looked for by their ids, in which clients have put the
-- time by their own clocks: where one was behind its calls are not old yet,
-- where one was ahead they stay longer.
CREATE FUNCTION v1_forget_calls(page int4) RETURNS int8 LANGUAGE sql AS $$
  WITH gone AS (
    DELETE FROM call WHERE id IN (
      SELECT c.id FROM call c
      WHERE c.id < (lpad(to_hex(now_ms(NULL) - 86400000), 12, '0') ||
                    repeat('0', 20))::uuid
        AND c.at < now() - interval '1 day' AND c.queue IS NULL
      ORDER BY c.id LIMIT page)
    RETURNING 1)
  SELECT count(*) FROM gone $$;

-- What keeps vacuum from removing dead rows, the oldest of such, and for how
-- many seconds: of a slot nobody knows, of another role's session only who has
-- pg_read_all_stats. And the dead rows of the table of runs.
CREATE FUNCTION v1_horizon(OUT holder text, OUT seconds float8,
                           OUT dead_rows int8)
LANGUAGE sql STABLE AS $$
  SELECT a.holder, extract(epoch FROM clock_timestamp() - a.since)::float8,
    (SELECT s.n_dead_tup FROM pg_stat_all_tables s
      WHERE s.relid = 'run'::regclass)
  FROM (SELECT 1) one LEFT JOIN (
    SELECT 'session ' || b.pid AS holder, b.xact_start AS since,
        b.backend_xmin AS xmin
      FROM pg_stat_activity b WHERE b.pid <> pg_backend_pid()
        AND coalesce(b.datname, current_database()) = current_database()
        AND b.backend_type <> 'autovacuum worker'
    UNION ALL
    SELECT 'prepared transaction ' || p.gid, p.prepared, p.transaction
      FROM pg_prepared_xacts p WHERE p.database = current_database()
    UNION ALL
    SELECT 'replication slot ' || s.slot_name, NULL, s.xmin
      FROM pg_replication_slots s) a ON a.xmin IS NOT NULL
  ORDER BY age(a.xmin) DESC NULLS LAST LIMIT 1 $$;
