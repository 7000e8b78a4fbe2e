-- SPDX-License-Identifier: MIT
-- Settle: the outcomes of a batch, as the client has worked them out, applied
-- to runs that are still under its token. Each is compared under its lock.

-- Removes the oldest dead letters of a DLQ beyond the bounds of a queue whose
-- own it is, `most` at most; the newest stays. The caller has the DLQ's lock.
CREATE FUNCTION trim_dead(box int4, most int4, items int8, size int8)
RETURNS int8 LANGUAGE sql AS $$
  WITH old AS (
    SELECT d.number, d.size, row_number() OVER w AS nth,
        sum(d.size) OVER w - d.size AS before
      FROM (SELECT e.number, octet_length(e.record) AS size FROM dead e
            WHERE e.dlq = box ORDER BY e.number LIMIT most) d
      WINDOW w AS (ORDER BY d.number)),
  gone AS (
    DELETE FROM dead d USING old o, dlq b
      WHERE d.dlq = box AND d.number = o.number AND b.id = box
        AND o.nth < b.count AND (b.count - o.nth >= trim_dead.items
          OR b.bytes - o.before > trim_dead.size)
      RETURNING o.size)
  UPDATE dlq b SET count = b.count - g.n, bytes = b.bytes - g.size,
      dropped = b.dropped + g.n
    FROM (SELECT count(*) AS n, coalesce(sum(gone.size), 0) AS size
          FROM gone) g
    WHERE b.id = box RETURNING g.n $$;

-- Numbers are given under the DLQ's lock, so that they rise in the order of
-- commits and no replay passes one over. A commit that buries removes no more
-- beyond the queue's bounds than it adds and some besides.
CREATE FUNCTION bury(q int4, dlqs text[], groups bytea[], reasons bytea[],
                     t int8, records bytea[])
RETURNS int8[] LANGUAGE plpgsql AS $$
DECLARE
  numbers int8[]; d record; number int8; box int4; p queue;
BEGIN
  SELECT u.* INTO p FROM queue u WHERE u.id = q;
  FOR d IN SELECT x.name, array_agg(x.i ORDER BY x.i) AS of,
        sum(octet_length(records[x.i])) AS size
      FROM unnest(dlqs) WITH ORDINALITY AS x(name, i)
      GROUP BY x.name ORDER BY x.name LOOP
    INSERT INTO dlq AS b (name, next_number, count, bytes)
      VALUES (d.name, 1 + cardinality(d.of), cardinality(d.of), d.size)
      ON CONFLICT (name) DO UPDATE
      SET next_number = b.next_number + cardinality(d.of),
          count = b.count + cardinality(d.of), bytes = b.bytes + d.size
      RETURNING b.id, b.next_number - cardinality(d.of) INTO box, number;
    INSERT INTO dead (dlq, number, died_at, grp, reason, record)
      SELECT box, number + x.i - 1, t, groups[x.at], reasons[x.at],
        records[x.at]
      FROM unnest(d.of) WITH ORDINALITY AS x(at, i);
    FOR i IN 1 .. cardinality(d.of) LOOP
      numbers[d.of[i]] := number + i - 1;
    END LOOP;
    IF d.name = p.dlq
       AND coalesce(p.keep_dead_items, p.keep_dead_bytes) IS NOT NULL THEN
      PERFORM trim_dead(box, cardinality(d.of) + 16, p.keep_dead_items,
                        p.keep_dead_bytes);
    END IF;
  END LOOP;
  RETURN coalesce(numbers, '{}');
END $$;

-- When ids from `first` on are over, in the order of the history: it is walked
-- by time and id, hence rows of one moment have no ids in common.
CREATE FUNCTION moment(q int4, t int8, first int8, n int4) RETURNS int8
LANGUAGE sql STABLE AS $$
  SELECT greatest(t, max(h.done_at) + 1) FROM history h
    WHERE h.queue = q AND h.done_at >= t AND h.first < moment.first + moment.n
      AND h.first + h.n > moment.first $$;

-- Keeps items of runs as history: all live ones, or those of `bits`; of these
-- what lies from the first to the last is stored.
CREATE FUNCTION keep_history(q int4, slot_no int4, t int8, firsts int8[],
                             which varbit[]) RETURNS void
LANGUAGE sql AS $$
  WITH kept AS (
    INSERT INTO history AS h
      SELECT q, moment(q, t, x.first + x.a, x.b - x.a), x.first + x.a,
        x.pushed_at, x.version, x.b - x.a, 0, x.kept, x.attempts,
        x.deliveries, x.priority,
        substring(x.of FROM x.a + 1 FOR x.b - x.a),
        CASE WHEN x.b - x.a = x.skip + x.n THEN x.bytes ELSE slice(x.bytes,
          x.skip + x.n, x.skip + x.a, x.skip + x.b) END
      FROM (SELECT x.*, o.of,
          coalesce(position(B'1' IN o.of) - 1, 0) AS a,
          coalesce(length(rtrim(o.of::text, '0')), x.n) AS b,
          coalesce(ones(o.of), x.live) AS kept
        FROM unnest(firsts, which) AS f(first, bits)
        JOIN run x ON x.first = f.first
        CROSS JOIN LATERAL (SELECT coalesce(f.bits, x.bits)) AS o(of)) x
      RETURNING h.kept, octet_length(h.bytes) AS size)
  INSERT INTO tally AS y (queue, slot, kept, kept_bytes)
    SELECT q, slot_no, coalesce(sum(k.kept), 0), coalesce(sum(k.size), 0)
    FROM kept k
    ON CONFLICT (queue, slot) DO UPDATE
    SET kept = y.kept + excluded.kept,
        kept_bytes = y.kept_bytes + excluded.kept_bytes $$;

-- Pushes of the same transaction that depend on a lease of this batch are to
-- know which are lost: see v1_push.
CREATE FUNCTION tell_lost(tok int8, lost int8[]) RETURNS void
LANGUAGE sql AS
  $$ SELECT set_config('respool.lost', tok || ' ' || lost::text, true) $$;

-- What is done of runs that are held still: their items and bytes, keys, and
-- whether one has fewer items than `lives` says.
CREATE FUNCTION end_runs(q int4, slot_no int4, wall int8, tok int8,
  keep boolean, firsts int8[], lives int4[], OUT items int8, OUT size int8,
  OUT went int8[], OUT keys bytea[], OUT fewer boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  IF keep THEN
    PERFORM FROM run x WHERE x.first = ANY (firsts) AND x.epoch = tok
      AND x.state = 1 ORDER BY x.first FOR UPDATE;
    PERFORM keep_history(q, slot_no, now_ms(wall),
      array(SELECT x.first FROM run x WHERE x.first = ANY (firsts)
              AND x.epoch = tok AND x.state = 1), NULL);
  END IF;
  WITH gone AS (
    DELETE FROM run x WHERE x.first = ANY (firsts) AND x.epoch = tok
      AND x.state = 1
      RETURNING x.live, x.key, x.first, octet_length(x.bytes) AS size,
        CASE WHEN x.partition IS NOT NULL
          THEN wake_line(x.queue, x.priority, x.partition) END AS woken)
  SELECT sum(g.live), sum(g.size), array_agg(g.first),
      array_agg(g.key) FILTER (WHERE g.key IS NOT NULL),
      bool_or(g.live <> f.live)
    INTO items, size, went, keys, fewer
    FROM gone g JOIN unnest(firsts, lives) AS f(first, live)
      ON f.first = g.first;
END $$;

-- Adds a settle as done to the counters of a queue.
CREATE FUNCTION tally_done(q int4, slot_no int4, items int8, size int8)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  LOOP
    UPDATE tally y SET done = y.done + items, bytes = y.bytes - size
      WHERE y.queue = q AND y.slot = slot_no;
    EXIT WHEN FOUND;
    PERFORM tally_make(q, slot_no);
  END LOOP;
END $$;

-- Whole runs that are done; answers which are lost. `lives`: items that each
-- has, unless some were cancelled. `keep`: as history. `tell`: to pushes that
-- follow.
CREATE FUNCTION v1_done(q int4, slot_no int4, wall int8, call uuid, step int2,
                        tok int8, keep boolean, strict boolean, tell boolean,
                        firsts int8[], lives int4[], OUT lost int8[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  d record; done text;
BEGIN
  done := share_queue(q);
  d := end_runs(q, slot_no, wall, tok, keep, firsts, lives);
  IF d.fewer THEN done := refuse('RS035', 'items were cancelled'); END IF;
  lost := '{}';
  IF cardinality(firsts) > coalesce(cardinality(d.went), 0) THEN
    lost := array(SELECT unnest(firsts) EXCEPT SELECT unnest(d.went));
    IF strict THEN
      done := refuse('RS005', 'the lease is no longer held',
                     array_to_string(lost, ' '));
    END IF;
  END IF;
  IF tell THEN done := tell_lost(tok, lost); END IF;
  IF d.keys IS NOT NULL THEN
    done := release_keys(q, now_ms(wall), d.keys, d.went);
  END IF;
  IF d.items > 0 THEN
    done := tally_done(q, slot_no, d.items, d.size);
  END IF;
  IF v1_done.call IS NOT NULL THEN
    done := note(v1_done.call, v1_done.step,
                 cardinality(lost)::int8 || lost, q);
  END IF;
END $$;

-- One whole run that is done, the most frequent of all: few steps, as in
-- v1_push_run.
CREATE FUNCTION v1_done_run(q int4, slot_no int4, wall int8, call uuid,
  step int2, tok int8, strict boolean, first int8, items int4,
  OUT lost int8[])
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  size int8; done text;
BEGIN
  done := share_queue(q);
  DELETE FROM run x WHERE x.first = first AND x.epoch = tok AND x.state = 1
    AND x.live = items AND x.key IS NULL AND x.partition IS NULL
    RETURNING octet_length(x.bytes) INTO size;
  IF size IS NULL THEN
    lost := v1_done(q, slot_no, wall, call, step, tok, false, strict, false,
                    ARRAY[first], ARRAY[items]);
    RETURN;
  END IF;
  UPDATE call c SET no = step, at = now(), answer = '{0}',
      bytes = c.bytes - size, done = c.done + items
    WHERE c.id = call AND c.no < step AND c.queue = q;
  IF NOT FOUND THEN
    done := note(call, step, '{0}', q);
    done := tally_done(q, slot_no, items, size);
  END IF;
  lost := '{}';
END $$;

-- Any outcomes. An entry of the r_ arrays for each run of the batch:
--   live     items that stay in it; 0: the run goes
--   bits     which, of its n; NULL: all that were live
--   wait     ms until it is due; NULL: it stays leased
--   attempts, delay, history, memo   as they are from now on
--   had      attempts that this was worked out with; NULL: none can have been
--            given back since the take
--   had_live items that it has, unless some were cancelled; NULL: none can
--            have been
--   counts   seven each: done, dropped, died, expired, released, retried,
--            snoozed items
--   kept     done items for the history, of its n; NULL: none
-- s_ arrays: items that go on by themselves, under their ids, out of run
-- s_run. d_ arrays: dead letters, of run d_run; d_by: enum respool_death, or
-- -1; d_items: how many items each stands for. `policy`: the version of the
-- queue's policy that the client has worked with. `damaged`: runs set aside.
CREATE FUNCTION v1_settle(q int4, slot_no int4, wall int8, call uuid,
  step int2, policy int4, tok int8, strict boolean, tell boolean,
  damaged int4,
  r_first int8[], r_live int4[], r_bits varbit[], r_wait int8[],
  r_attempts int4[], r_delay int8[], r_history bytea[], r_memo bytea[],
  r_had int4[], r_had_live int4[], r_counts int4[], r_kept varbit[],
  s_run int8[], s_first int8[], s_wait int8[], s_attempts int4[],
  s_delay int8[], s_history bytea[], s_memo bytea[],
  d_run int8[], d_dlq text[], d_group bytea[], d_reason bytea[],
  d_by int4[], d_items int4[], d_record bytea[],
  OUT lost int8[], OUT numbers int8[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  t int8 := now_ms(wall); have int8[]; keys bytea[]; size int8; c int8[];
  version int4; d record; other text;
BEGIN
  PERFORM share_queue(q);
  SELECT u.version INTO version FROM queue u WHERE u.id = q;
  IF NOT FOUND THEN PERFORM no_queue(q); END IF;
  IF version <> policy THEN
    PERFORM refuse('RS030', 'the policy has changed');
  END IF;
  have := array(SELECT x.first FROM run x WHERE x.first = ANY (r_first)
    AND x.epoch = tok AND x.state = 1 AND x.queue + 0 = q -- by no other index
    ORDER BY x.first FOR UPDATE);
  lost := array(SELECT unnest(r_first) EXCEPT SELECT unnest(have));
  IF strict AND lost <> '{}' THEN
    PERFORM refuse('RS005', 'the lease is no longer held',
                   array_to_string(lost, ' '));
  END IF;
  IF tell THEN PERFORM tell_lost(tok, lost); END IF;
  IF r_had IS NOT NULL THEN
    SELECT string_agg(x.first || ' ' || x.attempts, ' ') INTO other
      FROM unnest(r_first, r_had) AS f(first, had)
      JOIN run x ON x.first = f.first AND x.attempts <> f.had
      WHERE x.first = ANY (have);
    IF other IS NOT NULL THEN
      PERFORM refuse('RS034', 'attempts were given back', other);
    END IF;
  END IF;
  IF r_had_live IS NOT NULL AND EXISTS (
      SELECT FROM unnest(r_first, r_had_live) AS f(first, live)
      JOIN run x ON x.first = f.first AND x.live <> f.live
      WHERE x.first = ANY (have)) THEN
    PERFORM refuse('RS035', 'items were cancelled');
  END IF;
  numbers := '{}';
  IF r_kept IS NOT NULL AND have <> '{}' THEN
    PERFORM keep_history(q, slot_no, t,
      array_agg(f.first ORDER BY f.first), array_agg(f.kept ORDER BY f.first))
      FROM unnest(r_first, r_kept) AS f(first, kept)
      WHERE f.kept IS NOT NULL AND f.first = ANY (have) HAVING count(*) > 0;
  END IF;
  WITH said AS (
    SELECT * FROM unnest(r_first, r_live, r_bits, r_wait, r_attempts,
        r_delay, r_history, r_memo)
      AS f(first, live, bits, wait, attempts, delay, history, memo)
      WHERE f.first = ANY (have)),
  stay AS (
    UPDATE run x SET
        first = x.first + h.lead, n = x.n - h.lead, skip = x.skip + h.lead,
        bits = substring(h.bits FROM h.lead + 1), live = h.live,
        due = CASE WHEN h.wait IS NULL THEN x.due ELSE after(t, h.wait) END,
        state = CASE WHEN h.wait IS NULL THEN 1 ELSE 2 END,
        epoch = CASE WHEN h.wait IS NULL THEN tok ELSE -tok END,
        attempts = h.attempts, delay = h.delay, history = h.history,
        memo = h.memo, lapses = CASE
          WHEN h.history IS NOT DISTINCT FROM x.history THEN x.lapses END
      FROM (SELECT s.*, CASE WHEN s.bits IS NULL THEN 0
              ELSE position(B'1' IN s.bits) - 1 END AS lead FROM said s) h
      WHERE x.first = h.first AND h.live > 0
      RETURNING h.first AS was, x.*,
        CASE WHEN x.partition IS NOT NULL
          THEN wake_line(x.queue, x.priority, x.partition) END AS woken),
  gone AS (
    DELETE FROM run x USING said h WHERE x.first = h.first AND h.live = 0
      RETURNING x.first AS was, x.*,
        CASE WHEN x.partition IS NOT NULL
          THEN wake_line(x.queue, x.priority, x.partition) END AS woken),
  parted AS (
    INSERT INTO run (first, due, epoch, pushed_at, expires_at, seq, version,
        delay, queue, n, live, attempts, deliveries, crashes, priority,
        fresh, state, history, memo, partition, bytes)
      SELECT s.first, after(t, s.wait), -tok, x.pushed_at, x.expires_at,
        x.seq, x.version, s.delay, q, 1, 1, s.attempts, x.deliveries,
        x.crashes, x.priority, x.fresh & 2, 2, s.history, s.memo,
        x.partition,
        slice(x.bytes, x.skip + x.n, x.skip + (s.first - x.first)::int4,
              x.skip + (s.first - x.first)::int4 + 1)
      FROM unnest(s_run, s_first, s_wait, s_attempts, s_delay, s_history,
                  s_memo) AS s(run, first, wait, attempts, delay, history,
                               memo)
      JOIN (SELECT * FROM stay UNION ALL SELECT * FROM gone) x
        ON x.was = s.run
      RETURNING octet_length(bytes) AS size)
  SELECT coalesce((SELECT sum(p.size) FROM parted p), 0) -
      coalesce((SELECT sum(octet_length(g.bytes)) FROM gone g), 0),
      (SELECT array_agg(g.key) FROM gone g WHERE g.key IS NOT NULL)
    INTO size, keys;
  IF keys IS NOT NULL THEN
    PERFORM release_keys(q, t, keys, have);
  END IF;
  IF cardinality(d_run) > 0 THEN
    SELECT array_agg(x.dlq ORDER BY x.i) AS dlqs,
        array_agg(x.grp ORDER BY x.i) AS groups,
        array_agg(x.reason ORDER BY x.i) AS reasons,
        array_agg(x.record ORDER BY x.i) AS records INTO d
      FROM unnest(d_run, d_dlq, d_group, d_reason, d_record)
        WITH ORDINALITY AS x(run, dlq, grp, reason, record, i)
      WHERE x.run = ANY (have);
    numbers := bury(q, coalesce(d.dlqs, '{}'), d.groups, d.reasons, t,
                    d.records);
    PERFORM series_add(q, 1::int2, slot_no,
      array(SELECT coalesce(sum(x.items) FILTER (WHERE x.by = g.no), 0)::int8
        FROM generate_series(0, 6) AS g(no)
        LEFT JOIN unnest(d_run, d_by, d_items) AS x(run, by, items)
          ON x.run = ANY (have)
        GROUP BY g.no ORDER BY g.no));
  END IF;
  SELECT array_agg(s.total ORDER BY s.no) INTO c FROM (
    SELECT (x.i - 1) % 7 AS no, sum(x.count) FILTER (
        WHERE r_first[(x.i - 1) / 7 + 1] = ANY (have)) AS total
    FROM unnest(r_counts) WITH ORDINALITY AS x(count, i) GROUP BY 1) s;
  INSERT INTO tally AS y (queue, slot, bytes, done, removed, died, expired,
      released, retried, snoozed, damaged)
    VALUES (q, slot_no, size, coalesce(c[1], 0), coalesce(c[2], 0),
      coalesce(c[3], 0), coalesce(c[4], 0), coalesce(c[5], 0),
      coalesce(c[6], 0), coalesce(c[7], 0), damaged)
    ON CONFLICT (queue, slot) DO UPDATE
    SET bytes = y.bytes + excluded.bytes, done = y.done + excluded.done,
        removed = y.removed + excluded.removed,
        died = y.died + excluded.died, expired = y.expired + excluded.expired,
        released = y.released + excluded.released,
        retried = y.retried + excluded.retried,
        snoozed = y.snoozed + excluded.snoozed,
        damaged = y.damaged + excluded.damaged;
  IF call IS NOT NULL THEN
    PERFORM note(call, step, cardinality(lost)::int8 || lost || numbers, q);
  END IF;
END $$;

-- Keeps what handlers have returned of items that this transaction has put into
-- the history.
CREATE FUNCTION v1_results(q int4, slot_no int4, items int8[],
                           results bytea[]) RETURNS void
LANGUAGE sql AS $$
  WITH kept AS (
    INSERT INTO result AS o
      SELECT q, r.item, h.done_at, r.bytes
      FROM unnest(items, results) AS r(item, bytes)
      JOIN history h ON h.queue = q AND h.first <= r.item
        AND h.first > r.item - 4096 AND h.first + h.n > r.item
        AND (h.bits IS NULL OR get_bit(h.bits, (r.item - h.first)::int4) = 1)
      WHERE h.xmin = (txid_current() & 4294967295)::text::xid
      ON CONFLICT DO NOTHING RETURNING octet_length(o.bytes) AS size)
  INSERT INTO tally AS y (queue, slot, kept_bytes)
    SELECT q, slot_no, sum(k.size) FROM kept k HAVING count(*) > 0
    ON CONFLICT (queue, slot) DO UPDATE
    SET kept_bytes = y.kept_bytes + excluded.kept_bytes $$;

-- Whether somebody waits for the ends of items.
CREATE FUNCTION v1_awaited(q int4) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM bell b WHERE b.queue = -q
                 AND b.until > now_ms(NULL)) $$;

-- Counters that are told now and then: outcomes that came too late (items),
-- items delivered and the bytes of their bodies, histograms of waits and of
-- handlers (count, sum, buckets); NULL: none.
CREATE FUNCTION v1_observe(q int4, slot_no int4, late int8, delivered int8,
  delivered_bytes int8, wait int8[], handle int8[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM queue u WHERE u.id = q) THEN RETURN; END IF;
  INSERT INTO tally AS y (queue, slot, lease_lost, delivered, delivered_bytes)
    VALUES (q, slot_no, late, v1_observe.delivered, v1_observe.delivered_bytes)
    ON CONFLICT (queue, slot) DO UPDATE
    SET lease_lost = y.lease_lost + excluded.lease_lost,
        delivered = y.delivered + excluded.delivered,
        delivered_bytes = y.delivered_bytes + excluded.delivered_bytes;
  IF wait IS NOT NULL THEN
    PERFORM series_add(q, 2::int2, slot_no, wait);
  END IF;
  IF handle IS NOT NULL THEN
    PERFORM series_add(q, 3::int2, slot_no, handle);
  END IF;
END $$;
