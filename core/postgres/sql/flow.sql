-- SPDX-License-Identifier: MIT
-- What bounds the taking from a queue: holds, which lie with the queue, and of
-- a queue with a rate or a breaker its row of `flow`, under whose lock such
-- takes and settles come one at a time. See record/flow.h for the rules.

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
      WHERE o.queue = f.queue AND o.no = f.opened;
  END IF;
  UPDATE flow x SET level = f.level, level_at = f.level_at,
      breaker = f.breaker, probes = f.probes, until = f.until
    WHERE x.queue = f.queue;
END $$;

CREATE FUNCTION breaker_open(f flow, t int8, why bytea) RETURNS flow
LANGUAGE plpgsql AS $$
BEGIN
  f.opened := f.opened + 1;
  INSERT INTO opening (queue, no, opened_at, error)
    VALUES (f.queue, f.opened, t, coalesce(why, ''));
  DELETE FROM opening o WHERE o.queue = f.queue AND o.no <= f.opened - 8;
  f.breaker := 1;
  f.until := after(t, f.cooldown);
  f.probes := 0;
  RETURN f;
END $$;

CREATE FUNCTION breaker_close(f flow, t int8) RETURNS flow
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE opening o SET closed_at = t
    WHERE o.queue = f.queue AND o.no = f.opened AND f.breaker <> 0;
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

-- Before a settle of the same transaction: notes its outcomes in their order,
-- `kinds` as breaker_note has them, and 3: a hold for `ms`. Those of runs whose
-- lease is lost are left out. `excuse` is what the client takes an outage for:
-- 0 it spends an attempt, 1 if it is not the item's last, 2 it spends none; it
-- is refused with what it is.
CREATE FUNCTION v1_flow_note(q int4, wall int8, policy int4, tok int8,
  excuse int4, of_runs int8[], kinds int4[], items int8[], ms int8[],
  texts bytea[]) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  p queue; f flow; t int8 := now_ms(wall); have int8[]; old int4;
  was int2; held int8 := 0; why bytea; truth int4;
BEGIN
  PERFORM share_queue(q);
  SELECT u.* INTO p FROM queue u WHERE u.id = q;
  IF NOT FOUND THEN PERFORM no_queue(q); END IF;
  IF p.version <> policy THEN
    PERFORM refuse('RS030', 'the policy has changed');
  END IF;
  SELECT x.* INTO f FROM flow x WHERE x.queue = q;
  IF NOT 1 = ANY (kinds) AND NOT 3 = ANY (kinds) AND
     (f.most_failures IS NULL OR (f.breaker = 0 AND f.failures = '{}')) THEN
    RETURN;
  END IF;
  IF 3 = ANY (kinds) THEN
    PERFORM FROM queue u WHERE u.id = q FOR NO KEY UPDATE;
  END IF;
  SELECT x.* INTO f FROM flow x WHERE x.queue = q FOR NO KEY UPDATE;
  have := array(SELECT x.first FROM run x WHERE x.first = ANY (of_runs)
    AND x.epoch = tok AND x.state = 1 AND x.queue = q
    ORDER BY x.first FOR UPDATE);
  was := f.breaker;
  old := cardinality(f.failures);
  FOR i IN 1 .. cardinality(kinds) LOOP
    CONTINUE WHEN of_runs[i] <> ALL (have);
    IF kinds[i] = 3 AND ms[i] > held THEN
      held := ms[i];
      why := texts[i];
    END IF;
    CONTINUE WHEN f.most_failures IS NULL;
    f := breaker_note(f, t, kinds[i], items[i], texts[i]);
    old := least(old, cardinality(f.failures) -
      CASE WHEN kinds[i] = 1 THEN 1 ELSE 0 END);
  END LOOP;
  IF held > 0 THEN PERFORM queue_hold(q, after(t, held), why); END IF;
  IF f.most_failures IS NULL THEN RETURN; END IF;
  IF was = 0 AND f.breaker <> 0 THEN
    PERFORM give_back(q, f.failures[1:old]);
    f.failures := '{}';
  END IF;
  truth := CASE WHEN f.breaker <> 0 THEN 2
                WHEN cardinality(f.failures) > 1 THEN 1 ELSE 0 END;
  IF truth <> excuse AND 1 = ANY (kinds) THEN
    PERFORM refuse('RS033', 'outages are taken for something else',
                   truth::text);
  END IF;
  UPDATE flow x SET breaker = f.breaker, until = f.until, probes = f.probes,
      failed_at = f.failed_at, outages = f.outages, opened = f.opened,
      failures = f.failures
    WHERE x.queue = q;
END $$;

-- A lease was extended, maybe that of a probe.
CREATE FUNCTION flow_extended(q int4, lease_end int8) RETURNS void
LANGUAGE sql AS $$
  UPDATE flow f SET until = lease_end
    WHERE f.queue = q AND f.breaker = 2 AND f.until < lease_end $$;

-- The policy has a rate or a breaker, or had: a bucket keeps its whole items,
-- a breaker that is gone is closed.
CREATE FUNCTION flow_policy(now flow, t int8) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  f flow; whole int8;
BEGIN
  SELECT x.* INTO f FROM flow x WHERE x.queue = now.queue FOR UPDATE;
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
  DELETE FROM flow x WHERE x.queue = now.queue;
  INSERT INTO flow VALUES (now.queue, now.rate_items, now.rate_per, now.bucket,
    now.most_failures, now.within, now.cooldown, now.most_probes, f.level,
    f.level_at, f.breaker, f.until, f.probes, f.failed_at, f.outages,
    f.opened, f.failures);
END $$;

-- A hold, unless the queue is held longer already.
CREATE FUNCTION queue_hold(q int4, till int8, why bytea) RETURNS void
LANGUAGE sql AS $$
  UPDATE queue u SET held_until = till, held_for = why
    WHERE u.id = q AND till > coalesce(u.held_until, 0) $$;

-- Holds a queue for `ms`, unless it is held longer already; 0 ends a hold.
CREATE FUNCTION v1_queue_hold(name text, wall int8, ms int8, reason bytea)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  q int4;
BEGIN
  SELECT u.id INTO q FROM queue u WHERE u.name = v1_queue_hold.name;
  IF q IS NULL THEN
    PERFORM refuse('RS007', format('there is no queue ''%s''', name));
  END IF;
  IF ms > 0 THEN
    PERFORM queue_hold(q, after(now_ms(wall), ms), reason);
  ELSE
    UPDATE queue u SET held_until = NULL, held_for = NULL WHERE u.id = q;
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
  FROM queue u LEFT JOIN flow f ON f.queue = u.id
    LEFT JOIN opening o ON o.queue = u.id
  WHERE u.id = q ORDER BY o.no DESC $$;
