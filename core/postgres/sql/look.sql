-- SPDX-License-Identifier: MIT
-- Looking: each function is one statement, so one snapshot. Rows are those of
-- v1_taken, kind 1, with the token of a lease.

CREATE FUNCTION shown(x run, place int8) RETURNS v1_taken
LANGUAGE sql STABLE AS $$
  SELECT ROW(
    ARRAY[1, place, CASE WHEN x.state = 1 THEN x.epoch ELSE 0 END, x.due,
      x.first, x.n, x.live, x.skip, x.state, x.priority, x.attempts,
      x.deliveries, x.crashes, x.delay, x.pushed_at,
      coalesce(x.expires_at, 0), x.version] || x.lapses,
    CASE WHEN x.bits IS NOT NULL OR x.history IS NOT NULL
        OR x.memo IS NOT NULL
      THEN ARRAY[varbit_send(x.bits), x.history, x.memo] END,
    x.bytes)::v1_taken $$;

-- Has any of its items failed or crashed before?
CREATE FUNCTION has_failed(x run) RETURNS boolean LANGUAGE sql IMMUTABLE AS
  $$ SELECT x.attempts > 0 OR x.crashes > 0 OR x.history IS NOT NULL $$;

-- The live items of a run from `low` on, up to `high`; NULL: it has none.
CREATE FUNCTION piece(x run, low int8, high int8) RETURNS run
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  FOR i IN 0 .. x.n - 1 LOOP
    IF x.first + i < low OR x.first + i >= high THEN
      x.bits := set_bit(x.bits, i, 0);
    END IF;
  END LOOP;
  x.live := ones(x.bits);
  RETURN CASE WHEN x.live > 0 THEN x END;
END $$;

-- Of a priority in strict order, what may be handed out by and by: runs, and
-- pieces of them between which items lie that were parted from them; until
-- they hold `want` items, or some megabytes.
CREATE FUNCTION in_order(q int4, pr int2, t int8, want int4)
RETURNS SETOF run LANGUAGE plpgsql STABLE AS $$
DECLARE
  x run; around run; -- a run whose items lie around the next rows
  shown_to int8; p run; w int4 := want; size int8 := 0;
BEGIN
  FOR x IN SELECT r.* FROM run r
      WHERE key_of(r.queue, r.priority, coalesce(r.partition, '')) =
          key_of(q, pr, '') AND r.seq IS NOT NULL
      ORDER BY r.seq, r.first LOOP
    IF around.first IS NOT NULL THEN
      p := piece(around, shown_to, x.first);
      IF p.first IS NOT NULL THEN
        RETURN NEXT p;
        w := w - p.live;
      END IF;
      shown_to := x.first;
      IF x.first >= around.first + around.n THEN around := NULL; END IF;
    END IF;
    IF x.due > t OR w <= 0 OR size > 4194304 THEN RETURN; END IF;
    CONTINUE WHEN x.expires_at <= t;
    size := size + octet_length(x.bytes);
    IF x.live < x.n AND around.first IS NULL THEN
      around := x;
      shown_to := x.first;
    ELSE
      RETURN NEXT x;
      w := w - x.live;
    END IF;
  END LOOP;
  IF around.first IS NOT NULL THEN
    p := piece(around, shown_to, around.first + around.n);
    IF p.first IS NOT NULL THEN RETURN NEXT p; END IF;
  END IF;
END $$;

-- Runs in the order in which a take would hand them out, until they hold
-- `want` items, or some megabytes.
CREATE FUNCTION v1_peek(q int4, wall int8, want int4)
RETURNS SETOF v1_taken LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
  p queue; t int8 := now_ms(wall); pr int2; fr int2; x run; w int4 := want;
  place int4 := 0; size int8 := 0;
BEGIN
  SELECT u.* INTO p FROM queue u WHERE u.id = q;
  IF NOT FOUND THEN PERFORM no_queue(q); END IF;
  FOREACH pr IN ARRAY p.priorities LOOP
    IF p.ordered THEN
      FOR x IN SELECT r.* FROM in_order(q, pr, t, w) r LOOP
        EXIT WHEN w <= 0 OR size > 4194304;
        place := place + 1;
        w := w - x.live;
        size := size + octet_length(x.bytes);
        RETURN NEXT shown(x, place);
      END LOOP;
    ELSE
      FOR fr IN 0 .. 3 LOOP
        FOR x IN SELECT r.* FROM run r WHERE r.queue = q AND r.priority = pr
            AND r.fresh = fr AND r.due <= t ORDER BY r.due, r.first LOOP
          EXIT WHEN w <= 0 OR size > 4194304;
          CONTINUE WHEN x.expires_at <= t;
          place := place + 1;
          w := w - x.live;
          size := size + octet_length(x.bytes);
          RETURN NEXT shown(x, place);
        END LOOP;
      END LOOP;
    END IF;
  END LOOP;
END $$;

-- The run that holds an item: runs have 4,096 ids at most.
CREATE FUNCTION run_of(q int4, id int8) RETURNS int8 LANGUAGE sql STABLE AS $$
  SELECT x.first FROM run x
  WHERE x.first <= id AND x.first > id - 4096 AND x.first + x.n > id
    AND x.queue = q
    AND (x.bits IS NULL OR get_bit(x.bits, (id - x.first)::int4) = 1)
  ORDER BY x.first DESC LIMIT 1 $$;

CREATE FUNCTION v1_get(q int4, id int8) RETURNS SETOF v1_taken
LANGUAGE sql STABLE AS $$
  SELECT (shown(x, 1)).* FROM run x WHERE x.first = run_of(q, id) $$;

-- Is it leased under this token?
CREATE FUNCTION v1_held(q int4, id int8, tok int8) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM run x WHERE x.first = run_of(q, id)
                 AND x.epoch = tok AND x.state = 1) $$;

-- Which items of runs are still there, under this token.
CREATE FUNCTION v1_live(tok int8, firsts int8[])
RETURNS TABLE (first int8, live varbit) LANGUAGE sql STABLE AS $$
  SELECT x.first, coalesce(x.bits, repeat('1', x.n)::varbit) FROM run x
  WHERE x.first = ANY (firsts) AND x.epoch = tok AND x.state = 1 $$;

-- Locks the run that holds an item, whatever others make of it meanwhile.
CREATE FUNCTION lock_run(q int4, id int8) RETURNS int8
LANGUAGE plpgsql AS $$
DECLARE
  h int8;
BEGIN
  LOOP
    h := run_of(q, id);
    EXIT WHEN h IS NULL;
    PERFORM FROM run x WHERE x.first = h FOR UPDATE;
    EXIT WHEN FOUND AND run_of(q, id) = h;
  END LOOP;
  RETURN h;
END $$;

-- The item that a key belongs to. It is alone in its run.
CREATE FUNCTION v1_get_key(q int4, key bytea) RETURNS SETOF v1_taken
LANGUAGE sql STABLE AS $$
  SELECT (shown(x, 1)).* FROM held h JOIN run x ON x.first = run_of(q, h.item)
  WHERE h.queue = q AND h.key = v1_get_key.key $$;

-- Further runs behind a place in the order of priority (from the highest),
-- fresh, due and first; `place` of each is its `fresh`. `at_id` is the next id
-- in a run that was left half way. `want`: enum respool_state, -1 for all.
-- Some megabytes at most.
CREATE FUNCTION v1_browse(q int4, wall int8, want int4, max_items int4,
  at_priority int2, at_fresh int2, at_due int8, at_id int8)
RETURNS SETOF v1_taken LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
  p queue; t int8 := now_ms(wall); pr int2; fr int2; x run;
  w int4 := max_items; here boolean; size int8 := 0;
BEGIN
  SELECT u.* INTO p FROM queue u WHERE u.id = q;
  IF NOT FOUND THEN PERFORM no_queue(q); END IF;
  FOREACH pr IN ARRAY p.priorities LOOP
    CONTINUE WHEN pr > at_priority;
    FOR fr IN 0 .. 3 LOOP
      here := pr = at_priority AND fr = at_fresh;
      CONTINUE WHEN pr = at_priority AND fr < at_fresh;
      FOR x IN SELECT r.* FROM run r WHERE r.queue = q AND r.priority = pr
          AND r.fresh = fr AND r.due >= CASE WHEN here THEN at_due ELSE 0 END
          ORDER BY r.due, r.first LOOP
        EXIT WHEN w <= 0 OR size > 4194304;
        CONTINUE WHEN here AND x.due = at_due AND x.first + x.n <= at_id;
        CONTINUE WHEN want >= 0 AND want <> CASE WHEN x.due <= t THEN 0
          WHEN x.state = 2 AND has_failed(x) THEN 3 ELSE x.state END;
        w := w - x.live;
        IF here AND x.due = at_due AND at_id > x.first THEN
          w := w + (at_id - x.first)::int4;
        END IF;
        size := size + octet_length(x.bytes);
        RETURN NEXT shown(x, x.fresh);
      END LOOP;
    END LOOP;
  END LOOP;
END $$;

-- The leases that have not run out: the ids of each from first to last.
CREATE FUNCTION v1_leases(q int4, wall int8)
RETURNS TABLE (first int8, last int8, token int8, items int8, lease_end int8)
LANGUAGE sql STABLE AS $$
  SELECT x.first, x.first + x.n - 1, x.epoch, x.live::int8, x.due FROM run x
  WHERE x.queue = q AND x.state = 1 AND x.due > now_ms(wall)
  ORDER BY x.first $$;

-- Counts of a queue. Unsettled items are known from the counters, so only
-- runs that are not fresh are counted.
CREATE FUNCTION v1_stat(q int4, wall int8,
  OUT now int8, OUT paused boolean, OUT policy int4, OUT ready int8,
  OUT leased int8, OUT scheduled int8, OUT retrying int8, OUT dead int8,
  OUT dead_bytes int8, OUT dead_dropped int8, OUT bytes int8,
  OUT oldest int8, OUT next_due int8,
  OUT pushed int8, OUT done int8, OUT died int8, OUT expired int8,
  OUT removed int8, OUT dropped int8, OUT delivered int8, OUT retried int8,
  OUT released int8, OUT snoozed int8, OUT crashed int8, OUT lease_lost int8,
  OUT damaged int8, OUT kept int8, OUT kept_bytes int8,
  OUT pushed_bytes int8, OUT delivered_bytes int8,
  OUT flushes int8[], OUT died_by int8[], OUT wait int8[], OUT handle int8[],
  OUT partitions int8)
LANGUAGE sql STABLE AS $$
  WITH t AS MATERIALIZED (SELECT now_ms(wall) AS now),
  p AS (SELECT u.* FROM queue u WHERE u.id = q),
  y AS (
    SELECT sum(y.dropped)::int8 AS dropped, sum(y.delivered)::int8 AS delivered,
      sum(y.retried)::int8 AS retried, sum(y.released)::int8 AS released,
      sum(y.snoozed)::int8 AS snoozed, sum(y.crashed)::int8 AS crashed,
      sum(y.lease_lost)::int8 AS lease_lost, sum(y.damaged)::int8 AS damaged,
      sum(y.kept)::int8 AS kept, sum(y.kept_bytes)::int8 AS kept_bytes,
      sum(y.delivered_bytes)::int8 AS delivered_bytes
    FROM tally y WHERE y.queue = q),
  c AS (
    SELECT sum(c.bytes)::int8 AS bytes, sum(c.pushed)::int8 AS pushed,
      sum(c.pushed_bytes)::int8 AS pushed_bytes, sum(c.done)::int8 AS done,
      sum(c.died)::int8 AS died, sum(c.expired)::int8 AS expired,
      sum(c.removed)::int8 AS removed
    FROM counted c WHERE c.queue = q),
  used AS (
    SELECT coalesce(sum(x.live), 0) AS all_of,
      coalesce(sum(x.live) FILTER (WHERE x.due > t.now AND x.state = 1), 0)
        AS leased,
      coalesce(sum(x.live) FILTER (
        WHERE x.due > t.now AND x.state = 2 AND NOT has_failed(x)), 0)
        AS scheduled,
      coalesce(sum(x.live) FILTER (
        WHERE x.due > t.now AND x.state = 2 AND has_failed(x)), 0)
        AS retrying,
      min(x.due) FILTER (WHERE x.due > t.now) AS next_due,
      min(x.due) FILTER (WHERE x.due <= t.now) AS since
    FROM t, p, unnest(p.priorities) AS pr
    CROSS JOIN unnest(ARRAY[0, 2]::int2[]) AS fr
    JOIN run x ON x.queue = q AND x.priority = pr AND x.fresh = fr),
  old AS (
    SELECT min((SELECT x.due FROM run x WHERE x.queue = q AND x.priority = pr
      AND x.fresh = fr ORDER BY x.due LIMIT 1)) AS oldest
    FROM p, unnest(p.priorities) AS pr, unnest(ARRAY[1, 3]::int2[]) AS fr),
  s AS (
    SELECT g.what, (SELECT array_agg(v.total ORDER BY v.i) FROM (
        SELECT e.i, sum(e.count)::int8 AS total FROM series z,
          unnest(z.counts) WITH ORDINALITY AS e(count, i)
        WHERE z.queue = q AND z.what = g.what GROUP BY e.i) v) AS counts
    FROM generate_series(0, 3) AS g(what))
  SELECT t.now, p.paused, p.version,
    (coalesce(c.pushed - c.done - c.died - c.expired - c.removed, 0)
      - used.leased - used.scheduled - used.retrying)::int8,
    used.leased::int8, used.scheduled::int8, used.retrying::int8,
    coalesce(b.count, 0), coalesce(b.bytes, 0), coalesce(b.dropped, 0),
    coalesce(c.bytes, 0), least(old.oldest, used.since), used.next_due,
    coalesce(c.pushed, 0), coalesce(c.done, 0), coalesce(c.died, 0),
    coalesce(c.expired, 0), coalesce(c.removed, 0), coalesce(y.dropped, 0),
    coalesce(y.delivered, 0), coalesce(y.retried, 0),
    coalesce(y.released, 0), coalesce(y.snoozed, 0), coalesce(y.crashed, 0),
    coalesce(y.lease_lost, 0), coalesce(y.damaged, 0), coalesce(y.kept, 0),
    coalesce(y.kept_bytes, 0), coalesce(c.pushed_bytes, 0),
    coalesce(y.delivered_bytes, 0),
    (SELECT counts FROM s WHERE what = 0),
    (SELECT counts FROM s WHERE what = 1),
    (SELECT counts FROM s WHERE what = 2),
    (SELECT counts FROM s WHERE what = 3),
    CASE WHEN p.parted THEN (SELECT count(DISTINCT x.partition) FROM run x
      WHERE x.queue = q AND x.partition IS NOT NULL) ELSE 0 END +
    (SELECT count(*) FROM flow f WHERE f.queue = q AND f.partition <> ''
      AND flow_matters(f, t.now) AND NOT has_partition(q, f.partition))
  FROM t, y, c, used, old, p LEFT JOIN dlq b ON b.name = p.dlq $$;

-- Finished items from a moment on, as runs: the one that ends the page may
-- hold more than were asked for, and each holds one.
CREATE FUNCTION v1_history(q int4, at int8, id int8, want int4)
RETURNS SETOF history LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
  x history; size int8 := 0;
BEGIN
  FOR x IN SELECT h.* FROM history h
      WHERE h.queue = q AND h.done_at >= at
        AND (h.done_at > at OR h.first >= id OR h.first + h.n > id
             AND (h.bits IS NULL OR position(B'1' IN
               substring(h.bits FROM
                 least(greatest(id - h.first, 0), h.n)::int4 + 1)) > 0))
      ORDER BY h.done_at, h.first LIMIT want LOOP
    RETURN NEXT x;
    size := size + octet_length(x.bytes);
    EXIT WHEN size > 4194304;
  END LOOP;
END $$;

-- When an item of the history was done, and what its handler returned.
CREATE FUNCTION v1_result(q int4, id int8)
RETURNS TABLE (done_at int8, bytes bytea) LANGUAGE sql STABLE AS $$
  SELECT h.done_at, r.bytes FROM history h
  LEFT JOIN result r ON r.queue = q AND r.item = id
  WHERE h.queue = q AND h.first <= id AND h.first > id - 4096
    AND h.first + h.n > id AND NOT h.cancelled
    AND (h.bits IS NULL OR get_bit(h.bits, (id - h.first)::int4) = 1)
  LIMIT 1 $$;

-- Dead letters by number, from `behind` on; `grp` NULL: of any group. Up to
-- the one that brings their bytes to `bytes`; 0: no bound.
CREATE FUNCTION v1_dead_list(dlq text, behind int8, upto int8, want int8,
                             down boolean, grp bytea, bytes int8)
RETURNS TABLE (number int8, record bytea) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
  box int4 := (SELECT b.id FROM dlq b WHERE b.name = v1_dead_list.dlq);
BEGIN
  IF down THEN
    RETURN QUERY SELECT l.number, l.record FROM (
      SELECT d.number, d.record, sum(octet_length(d.record)) OVER (
          ORDER BY d.number DESC) - octet_length(d.record) AS before
        FROM (SELECT e.* FROM dead e
          WHERE e.dlq = box AND (behind = 0 OR e.number < behind)
            AND (v1_dead_list.grp IS NULL OR e.grp = v1_dead_list.grp)
          ORDER BY e.number DESC LIMIT want) d) l
      WHERE v1_dead_list.bytes = 0 OR l.before < v1_dead_list.bytes
      ORDER BY l.number DESC;
  ELSE
    RETURN QUERY SELECT l.number, l.record FROM (
      SELECT d.number, d.record, sum(octet_length(d.record)) OVER (
          ORDER BY d.number) - octet_length(d.record) AS before
        FROM (SELECT e.* FROM dead e
          WHERE e.dlq = box AND e.number > behind
            AND (upto = 0 OR e.number <= upto)
            AND (v1_dead_list.grp IS NULL OR e.grp = v1_dead_list.grp)
          ORDER BY e.number LIMIT want) d) l
      WHERE v1_dead_list.bytes = 0 OR l.before < v1_dead_list.bytes
      ORDER BY l.number;
  END IF;
END $$;

CREATE FUNCTION v1_dead_get(dlq text, numbers int8[])
RETURNS TABLE (number int8, record bytea) LANGUAGE sql STABLE AS $$
  SELECT d.number, d.record FROM dead d
  WHERE d.dlq = (SELECT b.id FROM dlq b WHERE b.name = v1_dead_get.dlq)
    AND d.number = ANY (numbers) $$;

-- Who holds a key, and until when at least; no row: nobody.
CREATE FUNCTION v1_key(q int4, key bytea, OUT item int8, OUT until int8)
RETURNS SETOF record LANGUAGE sql STABLE AS $$
  SELECT h.item, h.until FROM held h
  WHERE h.queue = q AND h.key = v1_key.key $$;

CREATE FUNCTION v1_dead_count(dlq text) RETURNS int8 LANGUAGE sql STABLE AS $$
  SELECT coalesce((SELECT b.count FROM dlq b
    WHERE b.name = v1_dead_count.dlq), 0) $$;

-- Dead letters by group, reason and whole hours since they died, from 24 on
-- together; those of a group and reason one after the other.
CREATE FUNCTION v1_dead_groups(dlq text, wall int8)
RETURNS TABLE (grp bytea, reason bytea, hour int8, count int8, newest int8,
  first int8, last int8) LANGUAGE sql STABLE AS $$
  WITH t AS MATERIALIZED (SELECT now_ms(wall) AS now)
  SELECT d.grp, d.reason, least((t.now - d.died_at) / 3600000, 24),
    count(*), max(d.number), min(d.died_at), max(d.died_at)
  FROM dead d, t
  WHERE d.dlq = (SELECT b.id FROM dlq b WHERE b.name = v1_dead_groups.dlq)
  GROUP BY 1, 2, 3 ORDER BY 1, 2 $$;

CREATE FUNCTION v1_replay_load(name text) RETURNS bytea LANGUAGE sql STABLE
AS $$ SELECT r.record FROM replay r WHERE r.name = v1_replay_load.name $$;
