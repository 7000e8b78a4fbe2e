-- SPDX-License-Identifier: MIT
-- What bounds the taking from a queue: holds, which lie with the queue, and of
-- a queue with a rate or a breaker its row of `flow`, under whose lock such
-- takes and settles come one at a time. See policy/flow.h for the rules. A row
-- of `flow` with a partition is the same of that, with its hold.

-- The bucket of a rate holds `bucket` units and gains rate_items of them each
-- ms; an item costs rate_per.
CREATE FUNCTION level_of(f flow, t int8) RETURNS int8
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN f.level IS NULL OR f.level >= f.bucket THEN f.bucket
    WHEN t <= f.level_at THEN f.level
    WHEN t - f.level_at > (f.bucket - f.level) / f.rate_items THEN f.bucket
    ELSE least(f.level + (t - f.level_at) * f.rate_items, f.bucket) END $$;

-- How many items may be taken now, NULL: any number; of 0, when to look again.
CREATE FUNCTION flow_allows(f flow, t int8, OUT n int8, OUT due int8)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  has int8;
BEGIN
  IF f.breaker <> 0 THEN
    n := f.most_probes;
    IF f.until > t THEN
      due := f.until;
      n := CASE WHEN f.breaker = 1 THEN 0
                ELSE greatest(f.most_probes - f.probes, 0) END;
    END IF;
  END IF;
  IF f.rate_items IS NOT NULL AND n IS DISTINCT FROM 0 THEN
    has := level_of(f, t);
    n := least(n, has / f.rate_per);
    IF n = 0 THEN
      due := t + (f.rate_per - has + f.rate_items - 1) / f.rate_items;
    END IF;
  END IF;
END $$;

-- `n` items were taken under a lease up to `lease_end`. The caller has locked
-- the row that it read.
CREATE FUNCTION flow_taken(f flow, t int8, n int8, lease_end int8)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF f.rate_items IS NOT NULL THEN
    f.level := level_of(f, t) - n * f.rate_per;
    f.level_at := greatest(t, coalesce(f.level_at, t));
  END IF;
  IF f.breaker <> 0 THEN
    f.breaker := 2;
    f.probes := CASE WHEN f.until <= t THEN 0 ELSE f.probes END + n;
    f.until := greatest(f.until, lease_end);
    UPDATE opening o SET probes = o.probes + n
      WHERE o.queue = f.queue AND o.no = f.opened AND f.partition = '';
  END IF;
  UPDATE flow x SET level = f.level, level_at = f.level_at,
      breaker = f.breaker, probes = f.probes, until = f.until
    WHERE x.queue = f.queue AND x.partition = f.partition;
END $$;

CREATE FUNCTION breaker_open(f flow, t int8, why bytea) RETURNS flow
LANGUAGE plpgsql AS $$
BEGIN
  f.opened := f.opened + 1;
  IF f.partition = '' THEN
    INSERT INTO opening (queue, no, opened_at, error)
      VALUES (f.queue, f.opened, t, coalesce(why, ''));
    DELETE FROM opening o WHERE o.queue = f.queue AND o.no <= f.opened - 8;
  END IF;
  f.breaker := 1;
  f.until := after(t, f.cooldown);
  f.probes := 0;
  RETURN f;
END $$;

CREATE FUNCTION breaker_close(f flow, t int8) RETURNS flow
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE opening o SET closed_at = t
    WHERE o.queue = f.queue AND o.no = f.opened AND f.breaker <> 0
      AND f.partition = '';
  f.breaker := 0;
  f.until := 0;
  f.probes := 0;
  f.failures := '{}';
  RETURN f;
END $$;

-- One outcome: kind 0 is done, 1 an outage, others say nothing of the
-- destination.
CREATE FUNCTION breaker_note(f flow, t int8, kind int4, item int8, why bytea)
RETURNS flow LANGUAGE plpgsql AS $$
BEGIN
  IF kind = 1 THEN f.outages := f.outages + 1; END IF;
  IF kind = 0 AND f.breaker = 0 THEN
    f.failures := '{}';
  ELSIF kind = 0 AND (f.breaker = 2 OR f.probes > 0) THEN
    f := breaker_close(f, t);
  ELSIF kind = 1 AND f.breaker = 0 THEN
    IF t - f.failed_at > f.within THEN f.failures := '{}'; END IF;
    f.failed_at := t;
    f.failures := f.failures || item;
    IF cardinality(f.failures) >= f.most_failures THEN
      f := breaker_open(f, t, why);
    END IF;
  ELSIF kind <> 0 AND f.breaker <> 0 THEN
    f.probes := greatest(f.probes - 1, 0);
    IF kind = 1 AND f.breaker = 2 THEN
      f.breaker := 1;
      f.until := after(t, f.cooldown);
    END IF;
  END IF;
  RETURN f;
END $$;

-- Failures of earlier settles get their attempts back. The items of a run share
-- its attempts: it gets one back for each failure of one of them.
CREATE FUNCTION give_back(q int4, items int8[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  item int8; h int8; runs int8[] := '{}'; leads int8[] := '{}'; at int4;
BEGIN
  FOREACH item IN ARRAY items LOOP
    h := lock_run(q, item);
    CONTINUE WHEN h IS NULL;
    at := array_position(runs, h);
    CONTINUE WHEN leads[at] <> item;
    IF at IS NULL THEN
      runs := runs || h;
      leads := leads || item;
    END IF;
    UPDATE run x SET attempts = x.attempts - 1
      WHERE x.first = h AND x.attempts > 0;
  END LOOP;
END $$;

-- Notes outcomes `at` in one flow, as breaker_note has them; what it takes an
-- outage for then.
CREATE FUNCTION flow_note(f flow, t int8, at int4[], kinds int4[], items int8[],
                          texts bytea[]) RETURNS int4 LANGUAGE plpgsql AS $$
DECLARE
  was int2 := f.breaker; old int4 := cardinality(f.failures);
BEGIN
  IF f.most_failures IS NULL THEN RETURN 0; END IF;
  FOR j IN 1 .. cardinality(at) LOOP
    f := breaker_note(f, t, kinds[at[j]], items[at[j]], texts[at[j]]);
    old := least(old, cardinality(f.failures) -
      CASE WHEN kinds[at[j]] = 1 THEN 1 ELSE 0 END);
  END LOOP;
  IF was = 0 AND f.breaker <> 0 THEN
    PERFORM give_back(f.queue, f.failures[1:old]);
    f.failures := '{}';
  END IF;
  UPDATE flow x SET breaker = f.breaker, until = f.until, probes = f.probes,
      failed_at = f.failed_at, outages = f.outages, opened = f.opened,
      failures = f.failures
    WHERE x.queue = f.queue AND x.partition = f.partition;
  RETURN CASE WHEN f.breaker <> 0 THEN 2
              WHEN cardinality(f.failures) > 1 THEN 1 ELSE 0 END;
END $$;

-- The longest of the holds among outcomes `at`.
CREATE FUNCTION note_hold(q int4, name bytea, t int8, at int4[], kinds int4[],
                          ms int8[], texts bytea[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  i int4;
BEGIN
  SELECT a INTO i FROM unnest(at) AS a WHERE kinds[a] = 3
    ORDER BY ms[a] DESC LIMIT 1;
  IF NOT FOUND THEN RETURN; END IF;
  IF name = '' THEN
    PERFORM queue_hold(q, after(t, ms[i]), texts[i]);
  ELSE
    PERFORM partition_hold(q, name, after(t, ms[i]), texts[i]);
  END IF;
END $$;

-- Before a settle of the same transaction: notes its outcomes in their order,
-- `kinds` as breaker_note has them, and 3: a hold for `ms`, of the item's
-- partition or of the queue. Those of runs whose lease is lost are left out.
-- `excuses` is what the client takes each for if it is an outage: 0 it spends
-- an attempt, 1 if it is not the item's last, 2 it spends none; it is refused
-- with the runs for which it is mistaken, and what holds for them.
CREATE FUNCTION v1_flow_note(q int4, wall int8, policy int4, tok int8,
  excuses int4[], of_runs int8[], kinds int4[], items int8[], ms int8[],
  texts bytea[]) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  p queue; f flow; t int8 := now_ms(wall); have int8[]; parts bytea[];
  names bytea[]; name bytea; at int4[]; truths int4[]; truth int4; i int4;
  other text;
BEGIN
  PERFORM share_queue(q);
  SELECT u.* INTO p FROM queue u WHERE u.id = q;
  IF NOT FOUND THEN PERFORM no_queue(q); END IF;
  IF p.version <> policy THEN
    PERFORM refuse('RS030', 'the policy has changed');
  END IF;
  SELECT x.* INTO f FROM flow x WHERE x.queue = q AND x.partition = '';
  IF p.parted THEN
    parts := array(SELECT coalesce(x.partition, '')
      FROM unnest(of_runs) WITH ORDINALITY AS o(first, i)
      LEFT JOIN run x ON x.first = o.first ORDER BY o.i);
  ELSE
    parts := array_fill(''::bytea, ARRAY[cardinality(of_runs)]);
  END IF;
  names := array(SELECT DISTINCT o.part FROM unnest(parts, kinds)
    AS o(part, kind) WHERE o.part <> '' AND (o.kind IN (1, 3) OR EXISTS (
      SELECT FROM flow x WHERE x.queue = q AND x.partition = o.part
        AND x.most_failures IS NOT NULL)) ORDER BY o.part);
  IF NOT 1 = ANY (kinds) AND NOT 3 = ANY (kinds) AND names = '{}' AND
     (f.most_failures IS NULL OR (f.breaker = 0 AND f.failures = '{}')) THEN
    RETURN;
  END IF;
  IF 3 = ANY (kinds) THEN
    PERFORM FROM queue u WHERE u.id = q FOR NO KEY UPDATE;
  END IF;
  FOREACH name IN ARRAY ''::bytea || names LOOP
    IF name <> '' THEN
      PERFORM lock_flow(q, name);
    ELSE
      PERFORM FROM flow x WHERE x.queue = q AND x.partition = ''
        FOR NO KEY UPDATE;
    END IF;
  END LOOP;
  have := array(SELECT x.first FROM run x WHERE x.first = ANY (of_runs)
    AND x.epoch = tok AND x.state = 1 AND x.queue = q
    ORDER BY x.first FOR UPDATE);
  truths := array_fill(0, ARRAY[cardinality(kinds)]);
  FOREACH name IN ARRAY ''::bytea || names LOOP
    at := array(SELECT o.i::int4 FROM unnest(parts, of_runs) WITH ORDINALITY
      AS o(part, first, i) WHERE o.first = ANY (have)
        AND (name = '' OR o.part = name) ORDER BY o.i);
    CONTINUE WHEN at = '{}';
    SELECT x.* INTO f FROM flow x WHERE x.queue = q AND x.partition = name;
    IF FOUND THEN
      truth := flow_note(f, t, at, kinds, items, texts);
      FOREACH i IN ARRAY at LOOP
        truths[i] := greatest(truths[i], truth);
      END LOOP;
    END IF;
    PERFORM note_hold(q, name, t, array(SELECT a FROM unnest(at) AS a
      WHERE parts[a] = name), kinds, ms, texts);
  END LOOP;
  SELECT string_agg(d.first || ' ' || d.truth, ' ') INTO other FROM (
    SELECT DISTINCT o.first, o.truth
    FROM unnest(of_runs, kinds, truths, excuses)
      AS o(first, kind, truth, excuse)
    WHERE o.kind = 1 AND o.truth <> o.excuse AND o.first = ANY (have)
    ORDER BY o.first LIMIT 8) d;
  IF other IS NOT NULL THEN
    PERFORM refuse('RS033', 'outages are taken for something else', other);
  END IF;
END $$;

-- Leases under a token were extended, maybe those of probes; of flows that the
-- caller has locked.
CREATE FUNCTION flow_extended(q int4, names bytea[], lease_end int8)
RETURNS void LANGUAGE sql AS $$
  UPDATE flow f SET until = lease_end
    WHERE f.queue = q AND f.partition = ANY (names) AND f.breaker = 2
      AND f.until < lease_end $$;

-- The policy of a flow has a rate or a breaker, or had: a bucket keeps its
-- whole items, a breaker that is gone is closed.
CREATE FUNCTION flow_policy(now flow, t int8) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  f flow; whole int8;
BEGIN
  SELECT x.* INTO f FROM flow x
    WHERE x.queue = now.queue AND x.partition = now.partition FOR UPDATE;
  IF NOT FOUND THEN
    IF coalesce(now.rate_items, now.most_failures) IS NOT NULL THEN
      INSERT INTO flow SELECT now.*;
    END IF;
    RETURN;
  END IF;
  IF f.level IS NOT NULL AND (f.rate_items, f.rate_per, f.bucket) IS DISTINCT
      FROM (now.rate_items, now.rate_per, now.bucket) THEN
    whole := level_of(f, t) / f.rate_per;
    f.level := least(whole * now.rate_per, now.bucket);
    f.level_at := t;
    IF now.rate_items IS NULL THEN
      f.level := NULL;
      f.level_at := NULL;
    END IF;
  END IF;
  IF now.most_failures IS NULL THEN f := breaker_close(f, t); END IF;
  UPDATE flow x SET rate_items = now.rate_items, rate_per = now.rate_per,
      bucket = now.bucket, most_failures = now.most_failures,
      within = now.within, cooldown = now.cooldown,
      most_probes = now.most_probes, level = f.level, level_at = f.level_at,
      breaker = f.breaker, until = f.until, probes = f.probes,
      failures = f.failures
    WHERE x.queue = f.queue AND x.partition = f.partition;
END $$;

-- A hold, unless the queue is held longer already.
CREATE FUNCTION queue_hold(q int4, till int8, why bytea) RETURNS void
LANGUAGE sql AS $$
  UPDATE queue u SET held_until = till, held_for = why
    WHERE u.id = q AND till > coalesce(u.held_until, 0) $$;

-- Holds a queue, or a partition of it if that is not empty, for `ms`, unless it
-- is held longer already; 0 ends a hold.
CREATE FUNCTION v1_queue_hold(name text, wall int8, ms int8, reason bytea,
                              part bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  p queue; till int8;
BEGIN
  SELECT u.* INTO p FROM queue u WHERE u.name = v1_queue_hold.name;
  IF NOT FOUND THEN
    PERFORM refuse('RS007', format('there is no queue ''%s''', name));
  END IF;
  IF ms > 0 THEN till := after(now_ms(wall), ms); END IF;
  IF part <> '' THEN
    IF p.ordered THEN PERFORM no_partitions(p.name); END IF;
    PERFORM partition_hold(p.id, part, till, reason);
  ELSIF ms > 0 THEN
    PERFORM queue_hold(p.id, till, reason);
  ELSE
    UPDATE queue u SET held_until = NULL, held_for = NULL WHERE u.id = p.id;
  END IF;
END $$;

-- How things are; a row for each of the breaker's last openings, the newest
-- first, or one without.
CREATE FUNCTION v1_flow(q int4)
RETURNS TABLE (held_until int8, held_for bytea, level int8, level_at int8,
  breaker int2, until int8, in_row int4, outages int8, opened int8,
  opened_at int8, closed_at int8, probes int8, error bytea)
LANGUAGE sql STABLE AS $$
  SELECT u.held_until, u.held_for, f.level, f.level_at, f.breaker, f.until,
    cardinality(f.failures), f.outages, f.opened, o.opened_at, o.closed_at,
    o.probes, o.error
  FROM queue u LEFT JOIN flow f ON f.queue = u.id AND f.partition = ''
    LEFT JOIN opening o ON o.queue = u.id
  WHERE u.id = q ORDER BY o.no DESC $$;
