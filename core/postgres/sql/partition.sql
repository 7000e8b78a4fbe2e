-- SPDX-License-Identifier: MIT
-- Partitions: all items of a queue with one key. A run holds items of one
-- partition, or of none. Runs of partitions have 2 added to `fresh`, so that
-- what looks for others does not meet them.
--
-- A *line* is what a partition has of one priority. Lines from which something
-- may be taken are in turn: they stand in a ring, by `turn`. Others have a
-- time, `due`, when they are to be looked at again. Only takes write lines, one
-- take of a queue at a time; whatever else makes, ends or lets go a run of a
-- partition adds a row to `wake` by wake_line. So nobody waits for another
-- because of a partition, and what a take could not see yet has its row in
-- `wake` when it can be seen.

-- True, so that it can stand where rows are returned.
CREATE FUNCTION wake_line(q int4, priority int2, partition bytea)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO wake (queue, priority, partition)
    VALUES (q, wake_line.priority, wake_line.partition);
  RETURN true;
END $$;

-- Lines of which something has changed, or whose time has come, are in turn
-- again, and so are the other lines of their partitions; those without items
-- go, and with the last one what is not needed of its partition. The caller has
-- the queue's order for itself. True: there may be more.
CREATE FUNCTION wake_lines(q int4, t int8) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  names bytea[]; prs int2[]; empty bytea[]; empty_prs int2[]; n int8;
  late int8;
BEGIN
  WITH gone AS (
    DELETE FROM wake w WHERE w.ctid = ANY (array(
      SELECT x.ctid FROM wake x WHERE x.queue = q ORDER BY x.no LIMIT 10000))
      RETURNING w.no, w.partition, w.priority),
  each AS (
    SELECT g.partition, g.priority, min(g.no) AS no, count(*) AS rows
    FROM gone g GROUP BY g.partition, g.priority),
  known AS (
    SELECT e.*, EXISTS (SELECT FROM run x WHERE x.partition IS NOT NULL
      AND key_of(x.queue, x.priority, x.partition) =
          key_of(q, e.priority, e.partition)) AS has FROM each e)
  SELECT array_agg(k.partition ORDER BY k.no) FILTER (WHERE k.has),
      array_agg(k.priority ORDER BY k.no) FILTER (WHERE k.has),
      array_agg(k.partition ORDER BY k.no) FILTER (WHERE NOT k.has),
      array_agg(k.priority ORDER BY k.no) FILTER (WHERE NOT k.has),
      coalesce(sum(k.rows), 0)
    INTO names, prs, empty, empty_prs, n FROM known k;
  IF empty IS NOT NULL THEN
    DELETE FROM line l USING unnest(empty, empty_prs) AS e(name, priority)
      WHERE l.queue = q AND l.partition = e.name AND l.priority = e.priority;
    DELETE FROM flow f WHERE f.queue = q AND f.partition = ANY (empty)
      AND NOT flow_matters(f, t) AND NOT has_partition(q, f.partition);
  END IF;
  IF names IS NOT NULL THEN
    INSERT INTO line AS l (queue, priority, partition, turn)
      SELECT q, w.priority, w.name, nextval('turn') FROM (
        SELECT u.name, u.priority FROM unnest(names, prs) WITH ORDINALITY
          AS u(name, priority, i) ORDER BY u.i) w
      ON CONFLICT (queue, partition, priority)
      DO UPDATE SET turn = excluded.turn, due = NULL WHERE l.turn IS NULL;
  END IF;
  IF n > 0 THEN
    UPDATE line l SET turn = nextval('turn'), due = NULL
      WHERE l.queue = q AND l.partition = ANY (names || empty)
        AND l.turn IS NULL;
  END IF;
  UPDATE line l SET turn = nextval('turn'), due = NULL
    WHERE l.ctid = ANY (array(SELECT x.ctid FROM line x
      WHERE x.queue = q AND x.due <= t ORDER BY x.due LIMIT 1000));
  GET DIAGNOSTICS late = ROW_COUNT;
  RETURN n = 10000 OR late = 1000;
END $$;

-- ---- what bounds a partition ------------------------------------------------

-- A row for the flow of a partition, as the queue's policy has it.
CREATE FUNCTION make_flow(q int4, name bytea) RETURNS void LANGUAGE sql AS $$
  INSERT INTO flow (queue, partition, rate_items, rate_per, bucket,
      most_failures, within, cooldown, most_probes)
    SELECT q, name, b.rate_items, b.rate_per, b.bucket, b.most_failures,
      b.within, b.cooldown, b.most_probes
    FROM (SELECT 1) one LEFT JOIN bounds b ON b.queue = q
    ON CONFLICT DO NOTHING $$;

-- The flow of a partition, locked. Others may remove what has nothing in it.
CREATE FUNCTION lock_flow(q int4, name bytea) RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
  LOOP
    PERFORM FROM flow f WHERE f.queue = q AND f.partition = name
      FOR NO KEY UPDATE;
    EXIT WHEN FOUND;
    PERFORM make_flow(q, name);
  END LOOP;
END $$;

CREATE FUNCTION has_partition(q int4, name bytea) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM run x WHERE x.partition IS NOT NULL
    AND key_of(x.queue, -1, x.partition) = key_of(q, -1, name)) $$;

-- Is there anything in the flow of a partition that has no items?
CREATE FUNCTION flow_matters(f flow, t int8) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(f.held_until > t, false)
    OR coalesce(level_of(f, t) < f.bucket, false)
    OR (f.breaker <> 0 AND f.until > t)
    OR (f.failures <> '{}' AND after(f.failed_at, f.within) > t) $$;

-- A hold of a partition, unless it is held longer already; till NULL ends it: a
-- take under way may be about to put any of its lines out of turn for the hold.
CREATE FUNCTION partition_hold(q int4, name bytea, till int8, why bytea)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF till IS NULL THEN
    UPDATE flow f SET held_until = NULL, held_for = NULL
      WHERE f.queue = q AND f.partition = name;
    INSERT INTO wake (queue, priority, partition)
      SELECT q, pr, partition_hold.name
      FROM queue u, unnest(u.priorities) AS pr
      WHERE u.id = q AND u.parted;
  ELSE
    PERFORM lock_flow(q, name);
    UPDATE flow f SET held_until = till, held_for = why
      WHERE f.queue = q AND f.partition = name
        AND till > coalesce(f.held_until, 0);
  END IF;
END $$;

-- The policy has other bounds for partitions from now on: each is looked at by
-- them. A take under way looks by those of before, so that this waits for its
-- lines.
CREATE FUNCTION bounds_policy(now bounds, t int8, turned boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  was bounds; f flow;
BEGIN
  SELECT b.* INTO was FROM bounds b WHERE b.queue = now.queue;
  IF was IS NOT DISTINCT FROM now AND NOT turned THEN RETURN; END IF;
  PERFORM pg_advisory_xact_lock('queue'::regclass::oid::int4, now.queue);
  DELETE FROM bounds b WHERE b.queue = now.queue;
  INSERT INTO bounds SELECT now.*;
  FOR f IN SELECT x.* FROM flow x WHERE x.queue = now.queue
      AND x.partition <> '' ORDER BY x.partition FOR UPDATE LOOP
    f.rate_items := now.rate_items; f.rate_per := now.rate_per;
    f.bucket := now.bucket; f.most_failures := now.most_failures;
    f.within := now.within; f.cooldown := now.cooldown;
    f.most_probes := now.most_probes;
    PERFORM flow_policy(f, t);
  END LOOP;
  INSERT INTO wake (queue, priority, partition)
    SELECT l.queue, l.priority, l.partition FROM line l
    WHERE l.queue = now.queue AND l.turn IS NULL;
END $$;

-- ---- turns -----------------------------------------------------------------

-- How many items a line may give, `most` at most: `n`. Of 0, when it is to be
-- looked at again: `due`, NULL: not by time; or `busy`: others are at it.
CREATE FUNCTION line_look(p queue, b bounds, pr int2, name bytea, t int8,
  most int8, OUT n int8, OUT due int8, OUT busy boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  f flow; allowed record; leased int8; ends int8; has int8;
  key bytea := key_of(p.id, pr, name);
BEGIN
  n := most;
  busy := false;
  SELECT x.* INTO f FROM flow x WHERE x.queue = p.id AND x.partition = name;
  IF FOUND THEN
    IF f.held_until > t THEN
      n := 0;
      due := f.held_until;
      RETURN;
    END IF;
    IF f.rate_items IS NOT NULL OR f.breaker <> 0 THEN
      SELECT x.* INTO f FROM flow x WHERE x.queue = p.id AND x.partition = name
        FOR NO KEY UPDATE SKIP LOCKED;
      IF NOT FOUND THEN
        n := 0;
        busy := true;
        RETURN;
      END IF;
    END IF;
    allowed := flow_allows(f, t);
    IF allowed.n = 0 THEN
      n := 0;
      due := allowed.due;
      RETURN;
    END IF;
    n := least(n, allowed.n);
  ELSIF b.rate_items IS NOT NULL THEN
    n := least(n, b.bucket / b.rate_per);
  END IF;
  IF b.concurrency > 0 THEN
    SELECT coalesce(sum(x.live), 0), min(x.due) INTO leased, ends FROM run x
      WHERE key_of(x.queue, -1, x.partition) = key_of(p.id, -1, name)
        AND x.partition IS NOT NULL AND x.state = 1 AND x.due > t;
    n := least(n, b.concurrency - leased);
    IF n <= 0 THEN
      n := 0;
      due := ends;
      RETURN;
    END IF;
  END IF;
  IF p.by_line THEN
    SELECT x.due INTO ends FROM run x
      WHERE key_of(x.queue, x.priority, coalesce(x.partition, '')) = key
        AND x.seq IS NOT NULL
      ORDER BY x.seq, x.first LIMIT 1;
    IF NOT FOUND THEN
      n := 0;
    ELSIF ends > t THEN
      n := 0;
      due := ends;
    ELSE
      n := least(n, greatest(b.batch, 1));
    END IF;
    RETURN;
  END IF;
  SELECT coalesce(sum(s.live), 0) INTO has FROM (
    (SELECT x.live FROM run x
       WHERE key_of(x.queue, x.priority, x.partition) = key
         AND x.partition IS NOT NULL AND x.fresh = 2 AND x.due <= t LIMIT n)
    UNION ALL
    (SELECT x.live FROM run x
       WHERE key_of(x.queue, x.priority, x.partition) = key
         AND x.partition IS NOT NULL AND x.fresh = 3 AND x.due <= t LIMIT n)) s;
  n := least(n, has);
  IF n = 0 THEN
    due := least(
      (SELECT x.due FROM run x
         WHERE key_of(x.queue, x.priority, x.partition) = key
           AND x.partition IS NOT NULL AND x.fresh = 2 AND x.due > t
         ORDER BY x.due LIMIT 1),
      (SELECT x.due FROM run x
         WHERE key_of(x.queue, x.priority, x.partition) = key
           AND x.partition IS NOT NULL AND x.fresh = 3 AND x.due > t
         ORDER BY x.due LIMIT 1));
  END IF;
END $$;

-- A line that may give nothing now is out of turn. Where it is not to be looked
-- at by time, as all that it has is expired, it is after a second.
CREATE FUNCTION line_leave(q int4, pr int2, name bytea, at int8, t int8)
RETURNS void LANGUAGE sql AS $$
  UPDATE line l SET turn = NULL, due = coalesce(at, t + 1000)
    WHERE l.queue = q AND l.partition = name AND l.priority = pr $$;

-- How many items there are to be taken of a line, `most` at most, whatever
-- bounds it; NULL: none.
CREATE FUNCTION line_has(q int4, pr int2, name bytea, t int8, most int8)
RETURNS int8 LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN count(*) > 0 THEN least(sum(s.live), most) END::int8
  FROM unnest(ARRAY[2, 3]::int2[]) AS fr CROSS JOIN LATERAL (
    SELECT x.live FROM run x
    WHERE key_of(x.queue, x.priority, x.partition) = key_of(q, pr, name)
      AND x.partition IS NOT NULL AND x.fresh = fr AND x.due <= t
    LIMIT most) s $$;

-- Does nothing bound partitions without a flow of their own?
CREATE FUNCTION is_free(p queue, b bounds) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT NOT p.by_line AND coalesce(b.concurrency, 0) = 0
    AND b.rate_items IS NULL $$;

-- Which rows of the lines in turn of a priority may be handed out, `want` items
-- at most, a fair share of each; the partitions `served` had their turn in this
-- take. Those that may give nothing are out of turn from now on.
CREATE FUNCTION pick_turns(p queue, b bounds, pr int2, t int8, want int4,
  served bytea[], OUT tids tid[], OUT items int4[], OUT busy boolean)
LANGUAGE plpgsql AS $$
DECLARE
  r record; d record; lines bytea[] := '{}'; may int4[] := '{}';
  gets int4[]; left_over int4 := want; share int4; more int4; given int4;
  free boolean := is_free(p, b); n int8;
BEGIN
  tids := '{}';
  items := '{}';
  busy := false;
  FOR r IN SELECT l.partition, CASE WHEN free AND f.queue IS NULL
        THEN line_has(p.id, pr, l.partition, t, want) END AS has
      FROM line l LEFT JOIN flow f
        ON f.queue = p.id AND f.partition = l.partition
      WHERE l.queue = p.id AND l.priority = pr AND l.turn IS NOT NULL
      ORDER BY l.turn LOOP
    CONTINUE WHEN r.partition = ANY (served);
    n := r.has;
    IF n IS NULL THEN
      d := line_look(p, b, pr, r.partition, t, want);
      busy := busy OR d.busy;
      n := d.n;
      IF n = 0 AND NOT d.busy THEN
        PERFORM line_leave(p.id, pr, r.partition, d.due, t);
      END IF;
    END IF;
    CONTINUE WHEN n = 0;
    lines := lines || r.partition;
    may := may || n::int4;
    EXIT WHEN cardinality(lines) >= want;
  END LOOP;
  IF lines = '{}' THEN RETURN; END IF;
  gets := array_fill(0, ARRAY[cardinality(lines)]);
  share := (want + cardinality(lines) - 1) / cardinality(lines);
  IF b.batch > 0 THEN share := least(share, b.batch); END IF;
  LOOP
    given := 0;
    FOR i IN 1 .. cardinality(lines) LOOP
      more := least(share, may[i] - gets[i], left_over);
      gets[i] := gets[i] + more;
      left_over := left_over - more;
      given := given + more;
    END LOOP;
    EXIT WHEN given = 0 OR left_over = 0;
  END LOOP;
  IF p.by_line THEN
    FOR i IN 1 .. cardinality(lines) LOOP
      EXIT WHEN gets[i] = 0;
      d := pick_ordered(p.id, pr, t, gets[i], lines[i]);
      FOR j IN 1 .. cardinality(d.tids) LOOP
        EXIT WHEN gets[i] <= 0;
        tids := tids || d.tids[j];
        items := items || least(d.items[j], gets[i]);
        gets[i] := gets[i] - d.items[j];
      END LOOP;
    END LOOP;
  ELSE
    FOR r IN SELECT u.i, x.tid, x.live
        FROM unnest(lines, gets) WITH ORDINALITY AS u(name, most, i)
        CROSS JOIN unnest(ARRAY[2, 3]::int2[]) AS fr
        CROSS JOIN LATERAL (
          SELECT x.ctid AS tid, x.live, x.due, x.first FROM run x
          WHERE key_of(x.queue, x.priority, x.partition) =
              key_of(p.id, pr, u.name)
            AND x.partition IS NOT NULL AND x.fresh = fr AND x.due <= t
          ORDER BY x.due, x.first LIMIT u.most FOR UPDATE SKIP LOCKED) x
        ORDER BY u.i, fr, x.due, x.first LOOP
      CONTINUE WHEN gets[r.i] <= 0;
      tids := tids || r.tid;
      items := items || least(r.live, gets[r.i]);
      gets[r.i] := gets[r.i] - r.live;
    END LOOP;
  END IF;
  busy := busy OR tids = '{}';
END $$;

-- Lines have given so many items each: their turn is over.
CREATE FUNCTION end_turns(p queue, b bounds, names bytea[], prs int2[],
  counts int4[], t int8, lease_end int8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  f flow; d record; r record; free boolean := is_free(p, b); at int8;
  dues int8[] := '{}';
BEGIN
  IF b.rate_items IS NOT NULL THEN
    PERFORM make_flow(p.id, u.name) FROM unnest(names) AS u(name);
  END IF;
  FOR r IN SELECT u.name, u.n FROM unnest(names, counts) AS u(name, n)
      JOIN flow x ON x.queue = p.id AND x.partition = u.name
      WHERE x.rate_items IS NOT NULL OR x.breaker <> 0 LOOP
    SELECT x.* INTO f FROM flow x WHERE x.queue = p.id
      AND x.partition = r.name FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN PERFORM flow_taken(f, t, r.n, lease_end); END IF;
  END LOOP;
  FOR r IN SELECT u.name, u.priority, CASE WHEN free AND y.queue IS NULL
        THEN line_has(p.id, u.priority, u.name, t, 1) END AS has
      FROM unnest(names, prs) WITH ORDINALITY AS u(name, priority, i)
      LEFT JOIN flow y ON y.queue = p.id AND y.partition = u.name
      ORDER BY u.i LOOP
    at := NULL;
    IF r.has IS NULL THEN
      d := line_look(p, b, r.priority, r.name, t, 1);
      IF d.n = 0 AND NOT d.busy THEN at := coalesce(d.due, t + 1000); END IF;
    END IF;
    dues := dues || at;
  END LOOP;
  UPDATE line l SET turn = CASE WHEN u.due IS NULL THEN nextval('turn') END,
      due = u.due
    FROM unnest(names, prs, dues) AS u(name, priority, due)
    WHERE l.queue = p.id AND l.partition = u.name AND l.priority = u.priority;
END $$;

-- In which order a take looks at the sources of a priority, 2 being the lines
-- in turn, and how many items each leaves to those that follow. Items without
-- a partition are served as one more would be: they have a share of the batch,
-- and are first in one of so many takes.
CREATE FUNCTION sources_of(p queue, pr int2, t int8, want int4, tok int8,
  OUT sources int2[], OUT leaves int4[])
LANGUAGE plpgsql AS $$
DECLARE
  n int4; share int4; plain int4;
BEGIN
  sources := '{2,0,1}';
  leaves := '{0,0,0}';
  n := 1 + (SELECT count(*) FROM (SELECT FROM line l WHERE l.queue = p.id
    AND l.priority = pr AND l.turn IS NOT NULL LIMIT want) s);
  IF n = 1 THEN RETURN; END IF;
  share := greatest(want / n, 1);
  plain := (SELECT least(coalesce(sum(s.live), 0), share) FROM (
    (SELECT x.live FROM run x WHERE x.queue = p.id AND x.priority = pr
       AND x.fresh = 0 AND x.due <= t LIMIT share) UNION ALL
    (SELECT x.live FROM run x WHERE x.queue = p.id AND x.priority = pr
       AND x.fresh = 1 LIMIT share)) s);
  IF plain = 0 THEN RETURN; END IF;
  IF (tok >> 20) % n = 0 THEN
    sources := '{0,1,2,0,1}';
    leaves := ARRAY[want - plain, want - plain, 0, 0, 0];
  ELSIF want > plain THEN
    leaves := ARRAY[plain, 0, 0];
  END IF;
END $$;

-- ---- looking ----------------------------------------------------------------

-- Partitions by name, or the largest; see respool_partitions.
CREATE FUNCTION v1_partitions(q int4, wall int8, largest boolean, behind bytea,
                              want int4)
RETURNS TABLE (name bytea, ready int8, leased int8, waiting int8,
  held_until int8, held_for bytea, level int8, level_at int8, breaker int2,
  until int8, in_row int4, outages int8, opened int8)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
  t int8 := now_ms(wall); names bytea[] := '{}'; at bytea := behind;
BEGIN
  IF largest THEN
    names := array(SELECT s.partition FROM (
        SELECT x.partition, sum(x.live) AS n FROM run x
          WHERE x.queue = q AND x.partition IS NOT NULL GROUP BY x.partition
        UNION ALL
        SELECT f.partition, 0 FROM flow f WHERE f.queue = q
          AND f.partition <> '' AND flow_matters(f, t)
          AND NOT has_partition(q, f.partition)
      ) s ORDER BY s.n DESC, s.partition LIMIT want);
  ELSE
    WHILE cardinality(names) < want LOOP
      at := least(
        (SELECT x.partition FROM run x
           WHERE key_of(x.queue, -1, x.partition) > key_of(q, -1, at)
             AND key_of(x.queue, -1, x.partition) < key_of(q + 1, 0, '')
             AND x.partition IS NOT NULL
           ORDER BY key_of(x.queue, -1, x.partition) LIMIT 1),
        (SELECT f.partition FROM flow f WHERE f.queue = q AND f.partition > at
           AND flow_matters(f, t) ORDER BY f.partition LIMIT 1));
      EXIT WHEN at IS NULL;
      names := names || at;
    END LOOP;
  END IF;
  RETURN QUERY SELECT s.name, c.ready, c.leased, c.waiting, f.held_until,
      f.held_for, f.level, f.level_at, coalesce(f.breaker, 0::int2),
      coalesce(f.until, 0), coalesce(cardinality(f.failures), 0),
      coalesce(f.outages, 0), coalesce(f.opened, 0)
    FROM unnest(names) WITH ORDINALITY AS s(name, i)
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(x.live) FILTER (WHERE x.due <= t), 0)::int8 AS ready,
        coalesce(sum(x.live) FILTER (WHERE x.due > t AND x.state = 1), 0)::int8
          AS leased,
        coalesce(sum(x.live) FILTER (WHERE x.due > t AND x.state <> 1), 0)
          ::int8 AS waiting
      FROM run x WHERE key_of(x.queue, -1, x.partition) = key_of(q, -1, s.name)
        AND x.partition IS NOT NULL) c
    LEFT JOIN flow f ON f.queue = q AND f.partition = s.name
    ORDER BY s.i;
END $$;
