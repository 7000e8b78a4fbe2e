-- SPDX-License-Identifier: MIT
-- Leases beside those of takes: of expired items, until they are buried, and
-- longer ones.

-- Leases up to `max_runs` runs that have expired, for burial (kind 3), or
-- drops them where the queue says so; with `item` only the run that holds it.
-- Also such as were leased when they expired and are not any more, as their
-- lease ran out: they have crashed.
CREATE FUNCTION v1_expire(q int4, slot_no int4, wall int8, max_runs int4,
                          item int8, tok int8)
RETURNS SETOF v1_taken LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  p queue; t int8; h taken;
BEGIN
  SELECT u.* INTO p FROM queue u WHERE u.id = q;
  IF NOT FOUND THEN PERFORM no_queue(q); END IF;
  t := now_ms(wall);
  h.kind := 0; h.now := t; h.policy := p.version; h.token := 0;
  IF p.drop_expired THEN
    SELECT d.went, d.items INTO h.n, h.live
      FROM drop_expired(q, slot_no, t, max_runs) d;
    RETURN NEXT packed(h);
    RETURN;
  END IF;
  h.token := tok;
  RETURN NEXT packed(h);
  RETURN QUERY
    WITH old AS MATERIALIZED (
      SELECT expired(q, t, max_runs) AS tid WHERE item IS NULL UNION ALL
      SELECT x.tid FROM (SELECT r.ctid AS tid FROM run r
        WHERE r.first = item AND r.queue = q AND r.expires_at <= t
          AND (r.state <> 1 OR r.due <= t) FOR UPDATE SKIP LOCKED) x),
    crashes AS (
      INSERT INTO tally AS y (queue, slot, crashed)
        SELECT q, slot_no, sum(r.live) FROM run r JOIN old ON r.ctid = old.tid
          WHERE r.state = 1 HAVING sum(r.live) > 0
        ON CONFLICT (queue, slot) DO UPDATE
        SET crashed = y.crashed + excluded.crashed)
    UPDATE run x SET fresh = x.fresh & 2, due = after(t, p.lease),
        epoch = tok, state = 1,
        crashes = x.crashes + CASE WHEN x.state = 1 THEN 1 ELSE 0 END,
        lapses = CASE WHEN x.state = 1 THEN (x.lapses || x.due)[1:16]
          ELSE x.lapses END
      FROM old WHERE x.ctid = old.tid
      RETURNING (packed(ROW(3::int2, 0, tok, NULL, NULL, NULL, NULL, NULL,
        x.first, x.n, x.live, x.skip, x.bits, x.due, x.state, x.priority,
        x.attempts, x.deliveries, x.crashes, x.delay, x.pushed_at,
        x.expires_at, x.version, x.lapses, x.history, x.memo, x.bytes)
        ::taken)).*;
END $$;

-- Leases go on to `lease_ms` from now, and end earlier than they would have if
-- that is less; answers which are lost. A run is looked for between the ids
-- that it had when it was taken, as a settle of some of its items since has
-- moved its first.
CREATE FUNCTION v1_extend(q int4, wall int8, tok int8, lease_ms int8,
                          firsts int8[], lasts int8[],
                          OUT lost int8[], OUT now int8)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  lease_end int8; half_open bytea[];
BEGIN
  half_open := array(SELECT f.partition FROM flow f WHERE f.queue = q
    AND f.breaker = 2 AND (f.partition = '' OR f.partition IN (
      SELECT x.partition FROM run x, unnest(firsts, lasts) AS r(low, high)
      WHERE x.first BETWEEN r.low AND r.high AND x.epoch = tok
        AND x.state = 1))
    ORDER BY f.partition FOR NO KEY UPDATE);
  now := now_ms(wall);
  lease_end := after(v1_extend.now, coalesce(lease_ms,
    (SELECT u.lease FROM queue u WHERE u.id = q)));
  lost := '{}';
  IF (SELECT u.parted FROM queue u WHERE u.id = q) THEN
    PERFORM wake_line(q, x.priority, x.partition)
      FROM unnest(firsts, lasts) AS r(low, high)
      JOIN run x ON x.first BETWEEN r.low AND r.high AND x.epoch = tok
        AND x.state = 1 AND x.partition IS NOT NULL AND x.due > lease_end;
  END IF;
  FOR i IN 1 .. cardinality(firsts) LOOP
    UPDATE run x SET due = lease_end
      WHERE x.first BETWEEN firsts[i] AND lasts[i] AND x.epoch = tok
        AND x.state = 1;
    IF NOT FOUND THEN lost := lost || firsts[i]; END IF;
  END LOOP;
  IF half_open <> '{}' AND cardinality(lost) < cardinality(firsts) THEN
    PERFORM flow_extended(q, half_open, lease_end);
  END IF;
END $$;
