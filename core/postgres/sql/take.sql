-- SPDX-License-Identifier: MIT
-- Take: priorities from high to low, or by weights; in each, runs that are
-- due, oldest first, then fresh ones. Whole runs stay where they are, the
-- last is cut. SKIP LOCKED only speeds up: what is handed out is locked and
-- looked at again under its lock.
--
-- A run whose lease ran out has crashed. It comes alone, and in halves, so
-- that after a few crashes a poison item is by itself; only then its crashes
-- count against the limit.

-- Cuts the first `k` live items off a run that the caller has locked; they
-- get a row of their own, leased. The rest begins with a live item, as the id
-- of another may be a run of its own. Answers the bytes of the copy.
CREATE FUNCTION cut(tid tid, k int4, tok int8, t int8, lease_end int8)
RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE
  r run; m int4; to_rest int4; part bytea; lapsed boolean;
BEGIN
  SELECT x.* INTO r FROM run x WHERE x.ctid = cut.tid;
  m := CASE WHEN r.bits IS NULL THEN k ELSE reach(r.bits, k) END;
  to_rest := m + CASE WHEN r.bits IS NULL THEN 0
    ELSE position(B'1' IN substring(r.bits FROM m + 1)) - 1 END;
  lapsed := r.state = 1;
  part := slice(r.bytes, r.skip + r.n, r.skip, r.skip + m);
  IF lapsed THEN
    r.crashes := r.crashes + 1;
    r.lapses := (r.lapses || r.due)[1:16];
  END IF;
  UPDATE run x SET first = x.first + to_rest, n = x.n - to_rest,
      live = x.live - k, skip = x.skip + to_rest,
      bits = substring(x.bits FROM to_rest + 1),
      state = CASE WHEN lapsed THEN 2 ELSE x.state END,
      due = CASE WHEN lapsed THEN t ELSE x.due END,
      epoch = CASE WHEN lapsed THEN -x.epoch ELSE x.epoch END,
      crashes = r.crashes, lapses = r.lapses
    WHERE x.ctid = cut.tid;
  INSERT INTO run VALUES (r.first, lease_end, tok, r.pushed_at, r.expires_at,
    r.seq, r.version, r.delay, r.queue, m, k, 0, r.attempts,
    r.deliveries + 1, r.crashes, r.priority, r.fresh & 2, 1,
    substring(r.bits FROM 1 FOR m), r.lapses, r.key, r.history, r.memo,
    r.partition, part);
  RETURN octet_length(part);
END $$;

-- How many live items of a run come before an item that was parted from it:
-- a run keeps its other items under their ids, on both sides of such an item.
CREATE FUNCTION live_before_parted(first int8, n int4, live int4, bits varbit)
RETURNS int4 LANGUAGE sql STABLE AS $$
  SELECT coalesce((
    SELECT ones(substring(live_before_parted.bits
                          FOR (x.first - live_before_parted.first)::int4))
    FROM run x WHERE x.first > live_before_parted.first
      AND x.first < live_before_parted.first + live_before_parted.n
    ORDER BY x.first LIMIT 1), live_before_parted.live) $$;

-- Of a priority in strict order, or of the line `name` of it: the rows that may
-- be handed out, `want` items at most, and how many items of each. The caller
-- has the queue's order for itself, so what is found leased is leased; it is
-- looked at again under its lock, for the settle of a lease that ran out. It
-- does not wait for that lock: its holder may be about to take, and wait for
-- the queue's order.
CREATE FUNCTION pick_ordered(q int4, pr int2, t int8, want int4, name bytea,
  OUT tids tid[], OUT items int4[], OUT next_due int8)
LANGUAGE plpgsql AS $$
DECLARE
  r record; c refcursor; w int4 := want; k int4;
BEGIN
  LOOP
    tids := '{}';
    items := '{}';
    OPEN c FOR SELECT x.ctid AS tid, x.first, x.n, x.bits, x.due, x.epoch,
        x.live, name IS NULL AND x.fresh = 0 AS alone FROM run x
      WHERE key_of(x.queue, x.priority, coalesce(x.partition, '')) =
          key_of(q, pr, coalesce(name, '')) AND x.seq IS NOT NULL
      ORDER BY x.seq, x.first;
    LOOP
      FETCH c INTO r;
      EXIT WHEN NOT FOUND;
      IF r.due > t THEN
        IF tids = '{}' THEN next_due := r.due; END IF;
        EXIT;
      END IF;
      EXIT WHEN tids <> '{}' AND r.alone;
      PERFORM FROM run x WHERE x.ctid = r.tid AND x.epoch = r.epoch
        AND x.live = r.live AND x.due = r.due FOR UPDATE SKIP LOCKED;
      IF NOT FOUND THEN
        IF NOT EXISTS (SELECT FROM run x WHERE x.ctid = r.tid
            AND x.epoch = r.epoch AND x.live = r.live AND x.due = r.due) THEN
          tids := NULL; -- it has moved: again
        ELSIF tids = '{}' THEN
          next_due := t + 10;
        END IF;
        EXIT;
      END IF;
      k := r.live;
      IF k < r.n THEN
        k := live_before_parted(r.first, r.n, r.live, r.bits);
      END IF;
      tids := tids || r.tid;
      items := items || k;
      w := w - k;
      EXIT WHEN w <= 0 OR r.alone OR k < r.live;
    END LOOP;
    CLOSE c;
    EXIT WHEN tids IS NOT NULL;
    w := want;
  END LOOP;
END $$;

-- Marks are pairs: a range of an index that takes look through, and where they
-- begin: at what the last look found there, or at its time when it found
-- nothing. What lies before it is over, but for runs that could not be seen
-- then: they were locked, or their transaction was under way. So the client
-- sends none, or earlier ones, now and then. A range is that of a priority and
-- `fresh`, of all that expires -1.
CREATE FUNCTION range_of(pr int2, fr int4) RETURNS int8
LANGUAGE sql IMMUTABLE AS $$ SELECT pr * 4::int8 + fr $$;
CREATE FUNCTION mark_of(marks int8[], range int8) RETURNS int8
LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(marks[array_position(marks, range) + 1], 0) $$;

-- The take of what v1_take cannot hand out at once.
CREATE FUNCTION take_special(p queue, q int4, slot_no int4, t int8, want int4,
  room int8, lease_ms int8, marks int8[], credit int8[], tok int8)
RETURNS SETOF taken LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  lease_end int8; h taken; r record; c refcursor; opened boolean;
  done text;
  pri int2[]; caps int4[]; pr int2; fr int2; cap int4; low int8; picked record;
  soon int8 := 9223372036854775807; -- when the client looks again anyway
  k int4; w int4 := want; got int4 := 0; fits int4; nth int4;
  filled boolean := false; crashed_items int8 := 0;
  sum int8 := 0;   -- bytes of bodies handed out
  taken_bytes int8;
  size int8 := 0;  -- bytes copied
  place_no int4 := 0; tids tid[] := '{}'; kinds int2[] := '{}';
  places int4[] := '{}'; cut_first int8[] := '{}'; cut_place int4[] := '{}';
  f flow; allowed record;
  b bounds; sources int2[] := '{0,1}'; leaves int4[] := '{0,0}';
  rest int4;                   -- of `cap`, left to other sources
  more boolean := false; busy boolean := false;
  lines bytea[] := '{}'; line_prs int2[] := '{}'; counts int4[] := '{}';
BEGIN
  done := share_queue(q);
  h.kind := 0; h.now := t; h.policy := p.version; h.token := 0;
  IF p.paused THEN RETURN NEXT h; RETURN; END IF;
  IF p.held_until > t THEN
    h.next_due := p.held_until;
    RETURN NEXT h;
    RETURN;
  END IF;
  IF p.flows THEN
    SELECT x.* INTO f FROM flow x WHERE x.queue = q AND x.partition = '';
    IF f.rate_items IS NOT NULL OR f.breaker <> 0 THEN
      SELECT x.* INTO f FROM flow x WHERE x.queue = q AND x.partition = ''
        FOR NO KEY UPDATE;
    END IF;
    allowed := flow_allows(f, t);
    IF allowed.n = 0 THEN
      h.next_due := allowed.due;
      RETURN NEXT h;
      RETURN;
    END IF;
    want := least(want, allowed.n);
    w := want;
  END IF;
  lease_end := after(t, coalesce(lease_ms, p.lease));
  IF p.expires THEN
    SELECT x.expires_at INTO low FROM run x WHERE x.queue = q
      AND x.expires_at >= mark_of(marks, -1) AND x.expires_at <= t
      AND x.state <> 1 ORDER BY x.expires_at LIMIT 1;
    h.marks := ARRAY[-1, coalesce(low, t)];
    IF low IS NULL THEN
      NULL;
    ELSIF p.drop_expired THEN
      PERFORM drop_expired(q, slot_no, t, 64);
    ELSE
      tids := array(SELECT x.ctid FROM run x WHERE x.queue = q
        AND x.expires_at >= low AND x.expires_at <= t AND x.state <> 1 LIMIT 64
        FOR UPDATE SKIP LOCKED);
      place_no := cardinality(tids);
      kinds := array_fill(3::int2, ARRAY[place_no]);
      places := array(SELECT generate_series(1, place_no));
    END IF;
  END IF;
  IF p.ordered OR p.parted THEN
    PERFORM pg_advisory_xact_lock('queue'::regclass::oid::int4, q);
  END IF;
  IF p.parted THEN -- the policy may have changed until it had the order
    SELECT u.by_line INTO p.by_line FROM queue u WHERE u.id = q;
    SELECT x.* INTO b FROM bounds x WHERE x.queue = q;
    more := wake_lines(q, t);
  END IF;
  pri := p.priorities;
  IF p.weights IS NOT NULL THEN
    picked := plan_of(p, t, want, credit);
    pri := picked.priorities; caps := picked.caps;
    h.credits := picked.credits_left;
  END IF;
  <<lines>>
  FOR i IN 1 .. cardinality(pri) LOOP
    pr := pri[i];
    cap := w;
    IF caps IS NOT NULL THEN cap := least(w, caps[i]); END IF;
    IF p.parted THEN
      SELECT s.sources, s.leaves INTO sources, leaves
        FROM sources_of(p, pr, t, cap, tok) s;
    END IF;
    FOR j IN 1 .. cardinality(sources) LOOP
      fr := sources[j];
      rest := least(leaves[j], cap);
      CONTINUE WHEN cap = rest;
      IF p.ordered OR fr = 2 THEN
        CONTINUE WHEN fr = 1;
        IF p.ordered THEN
          picked := pick_ordered(q, pr, t, cap, NULL);
          h.next_due := least(h.next_due, picked.next_due);
        ELSE
          picked := pick_turns(p, b, pr, t, cap - rest,
            CASE WHEN b.concurrency > 0 OR coalesce(b.rate_items,
              b.most_failures) IS NOT NULL THEN lines
            ELSE array(SELECT u.line FROM unnest(lines, line_prs)
              AS u(line, priority) WHERE u.priority = pr) END);
          busy := busy OR picked.busy;
        END IF;
        CONTINUE WHEN picked.tids = '{}';
        OPEN c FOR SELECT x.ctid AS tid, x.first, x.due, x.live, x.state,
            x.crashes, x.expires_at, x.n, x.skip, x.bits, x.partition,
            octet_length(x.bytes) AS size, f.items
          FROM unnest(picked.tids, picked.items)
            WITH ORDINALITY AS f(tid, items, i)
          JOIN run x ON x.ctid = f.tid ORDER BY f.i;
      ELSE
        low := mark_of(marks, range_of(pr, fr));
        SELECT x.ctid AS tid, x.first, x.due, x.live, x.state, x.crashes,
            x.expires_at, x.n, x.skip, x.bits, octet_length(x.bytes) AS size
          INTO r FROM run x WHERE x.queue = q AND x.priority = pr
            AND x.fresh = fr AND x.due >= low AND x.due <= t
          ORDER BY x.due, x.first LIMIT 1 FOR UPDATE SKIP LOCKED;
        h.marks := h.marks ||
          ARRAY[range_of(pr, fr), CASE WHEN FOUND THEN r.due ELSE t END];
        CONTINUE WHEN r.tid IS NULL;
      END IF;
      nth := 0;
      opened := p.ordered OR fr = 2;
      LOOP
        IF nth > 0 OR opened THEN -- most takes need no more than one
          IF NOT opened THEN
            opened := true;
            OPEN c FOR SELECT x.ctid AS tid, x.first, x.due, x.live, x.state,
                x.crashes, x.expires_at, x.n, x.skip, x.bits,
                octet_length(x.bytes) AS size
              FROM run x WHERE x.queue = q AND x.priority = pr
                AND x.fresh = fr AND x.due >= r.due AND x.due <= t
                AND (x.due, x.first) > (r.due, r.first)
              ORDER BY x.due, x.first FOR UPDATE SKIP LOCKED;
          END IF;
          FETCH c INTO r;
          EXIT WHEN NOT FOUND;
        END IF;
        nth := nth + 1;
        IF p.ordered OR (fr = 2 AND p.by_line) THEN
          -- It dies: what comes next is seen by the take after its burial.
          filled := filled OR coalesce(r.expires_at <= t, false) OR
            (r.state = 1 AND r.live = 1 AND r.crashes + 1 >= p.max_crashes);
        END IF;
        CONTINUE WHEN (caps IS NOT NULL OR p.parted)
          AND r.tid = ANY (tids); -- its share
        k := least(r.live, cap - rest);
        IF p.ordered OR fr = 2 THEN
          k := least(k, r.items);
        END IF;
        IF r.expires_at <= t THEN
          IF r.state = 1 AND place_no < 64 THEN -- the others are seen to
            place_no := place_no + 1;
            tids := tids || r.tid;
            kinds := kinds || 3::int2;
            places := places || place_no;
          END IF;
          CONTINUE;
        ELSIF r.state = 1 OR r.crashes > 0 THEN
          IF got > 0 THEN filled := true; EXIT; END IF;
          IF r.state = 1 AND r.live = 1 AND r.crashes + 1 >= p.max_crashes
          THEN
            crashed_items := crashed_items + 1;
            place_no := place_no + 1;
            tids := tids || r.tid;
            kinds := kinds || 2::int2;
            places := places || place_no;
            CONTINUE;
          END IF;
          IF r.state = 1 THEN
            crashed_items := crashed_items + r.live;
            k := least(k, (r.live + 1) / 2);
          END IF;
          filled := true;
        END IF;
        IF room IS NOT NULL THEN
          SELECT f.got, f.size INTO fits, taken_bytes FROM run x,
            fitting(x.bytes, r.skip + r.n, r.skip, r.bits, room - sum, k,
              CASE WHEN got = 0 THEN 1 ELSE 0 END) f
            WHERE x.ctid = r.tid;
          IF fits < k THEN filled := true; END IF;
          k := least(k, fits);
          EXIT WHEN k = 0;
          sum := sum + taken_bytes;
        END IF;
        place_no := place_no + 1;
        IF k = r.live THEN
          tids := tids || r.tid;
          kinds := kinds || 1::int2;
          places := places || place_no;
        ELSE
          size := size + cut(r.tid, k, tok, t, lease_end);
          cut_first := cut_first || r.first;
          cut_place := cut_place || place_no;
        END IF;
        got := got + k; cap := cap - k; w := w - k;
        IF fr = 2 THEN
          IF r.partition IS DISTINCT FROM lines[cardinality(lines)]
             OR line_prs[cardinality(lines)] <> pr THEN
            lines := lines || r.partition;
            line_prs := line_prs || pr;
            counts := counts || 0;
          END IF;
          counts[cardinality(counts)] := counts[cardinality(counts)] + k;
          EXIT WHEN cap = rest OR filled OR k < least(r.live, r.items);
        ELSE
          EXIT WHEN cap = rest OR filled OR k < r.live;
        END IF;
      END LOOP;
      IF opened THEN CLOSE c; END IF;
      EXIT lines WHEN w = 0 OR filled;
    END LOOP;
  END LOOP;
  IF tids = '{}' AND cut_first = '{}' THEN
    IF marks IS NOT NULL THEN soon := t + 1000; END IF;
    IF NOT p.ordered THEN
      FOREACH pr IN ARRAY p.priorities LOOP
        h.next_due := least(h.next_due, (SELECT x.due FROM run x
          WHERE x.queue = q AND x.priority = pr AND x.fresh = 0 AND x.due > t
            AND x.due <= soon ORDER BY x.due LIMIT 1));
      END LOOP;
    END IF;
    IF p.parted THEN
      h.next_due := least(h.next_due, CASE WHEN more THEN t + 1
        WHEN busy THEN t + 10 END, (SELECT l.due FROM line l
        WHERE l.queue = q AND l.due IS NOT NULL ORDER BY l.due LIMIT 1));
    END IF;
    h.next_due := least(h.next_due, (SELECT x.expires_at FROM run x
      WHERE x.queue = q AND x.expires_at > t AND x.expires_at <= soon
        AND x.state <> 1 ORDER BY x.expires_at LIMIT 1));
    RETURN NEXT h;
    RETURN;
  END IF;
  h.token := tok;
  RETURN NEXT h;
  IF p.flows AND got > 0 THEN
    PERFORM flow_taken(f, t, got, lease_end);
  END IF;
  IF cardinality(tids) = 1 THEN
    UPDATE run x SET fresh = x.fresh & 2, due = lease_end, epoch = tok,
        state = 1, deliveries = x.deliveries +
          CASE WHEN kinds[1] = 1 THEN 1 ELSE 0 END,
        crashes = x.crashes + CASE WHEN x.state = 1 THEN 1 ELSE 0 END,
        lapses = CASE WHEN x.state = 1
          THEN (x.lapses || x.due)[1:16] ELSE x.lapses END
      WHERE x.ctid = tids[1]
      RETURNING kinds[1], places[1], tok, NULL, NULL, NULL, NULL, NULL,
        x.first, x.n, x.live, x.skip, x.bits, x.due, x.state, x.priority,
        x.attempts, x.deliveries, x.crashes, x.delay, x.pushed_at,
        x.expires_at, x.version, x.lapses, x.history, x.memo, x.bytes INTO h;
    RETURN NEXT h;
  ELSIF tids <> '{}' THEN
    RETURN QUERY UPDATE run x SET fresh = x.fresh & 2, due = lease_end,
        epoch = tok, deliveries = x.deliveries + CASE WHEN f.kind = 1
          THEN 1 ELSE 0 END, state = 1,
        crashes = x.crashes + CASE WHEN x.state = 1 THEN 1 ELSE 0 END,
        lapses = CASE WHEN x.state = 1
          THEN (x.lapses || x.due)[1:16] ELSE x.lapses END
      FROM unnest(tids, kinds, places) AS f(tid, kind, place)
      WHERE x.ctid = f.tid
      RETURNING f.kind, f.place, tok, NULL::int8, NULL::int8, NULL::int8[],
        NULL::int4, NULL::int8[], x.first, x.n, x.live, x.skip, x.bits, x.due,
        x.state, x.priority, x.attempts, x.deliveries, x.crashes, x.delay,
        x.pushed_at, x.expires_at, x.version, x.lapses, x.history, x.memo,
        x.bytes;
  END IF;
  IF cut_first <> '{}' THEN
    RETURN QUERY SELECT 1::int2, f.place, tok, NULL::int8, NULL::int8,
        NULL::int8[], NULL::int4, NULL::int8[], x.first, x.n,
        x.live, x.skip, x.bits, x.due, x.state, x.priority, x.attempts,
        x.deliveries, x.crashes, x.delay, x.pushed_at, x.expires_at,
        x.version, x.lapses, x.history, x.memo, x.bytes
      FROM unnest(cut_first, cut_place) AS f(first, place)
      CROSS JOIN LATERAL (SELECT * FROM run r WHERE r.first = f.first OFFSET 0)
        x; -- each by its key, no join that reads the whole index
  END IF;
  IF lines <> '{}' THEN
    PERFORM end_turns(p, b, lines, line_prs, counts, t, lease_end);
  END IF;
  WHILE size <> 0 OR crashed_items > 0 LOOP
    UPDATE tally y SET bytes = y.bytes + size,
        crashed = y.crashed + crashed_items
      WHERE y.queue = q AND y.slot = slot_no;
    EXIT WHEN FOUND;
    done := tally_make(q, slot_no);
  END LOOP;
END $$;

-- Takes up to `want` items, of `room` bytes together if not NULL, for
-- `lease_ms` (NULL: the queue's), under the token `tok`. The marks are those
-- of takes before, or NULL for a full look. Runs of kinds 2 and 3 are leased
-- too, to be buried by a settle under the token.
--
-- Where nothing is due again and the first run that is fresh has as many items
-- as are wanted, as with items pushed and taken one by one, one statement does.
-- Its row is head and run in short, as kind 4. A fresh run was not due before
-- it was pushed.
CREATE FUNCTION v1_take(q int4, slot_no int4, wall int8, want int4, room int8,
  lease_ms int8, marks int8[], credit int8[], tok int8)
RETURNS SETOF v1_taken LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  p queue; t int8; policy int4; lease int8; pr int2; plain boolean;
  mark_due int8; mark_fresh int8;
BEGIN
  t := now_ms(wall);
  SELECT u.version, coalesce(lease_ms, u.lease), u.priorities[1],
      u.take_plain AND (u.held_until IS NULL OR u.held_until <= t)
    INTO policy, lease, pr, plain FROM queue u WHERE u.id = q;
  IF plain AND room IS NULL THEN
    mark_due := mark_of(marks, range_of(pr, 0));
    mark_fresh := mark_of(marks, range_of(pr, 1));
    RETURN QUERY
      UPDATE run x SET fresh = 0, due = after(t, lease), epoch = tok,
          state = 1, deliveries = 1
        WHERE x.ctid = CASE WHEN NOT EXISTS (
            SELECT FROM run r
              WHERE r.queue = q AND r.priority = pr AND r.fresh = 0
                AND r.due >= mark_due AND r.due <= t)
          THEN (
            SELECT r.ctid FROM run r
              WHERE r.queue = q AND r.priority = pr AND r.fresh = 1
                AND r.due >= mark_fresh AND r.due <= t
              ORDER BY r.due, r.first LIMIT 1 FOR UPDATE SKIP LOCKED) END
          AND x.n = want AND x.live = want AND x.state = 0
        RETURNING ARRAY[4, tok, t, policy, x.due, x.first, x.n, x.skip,
          x.priority, x.pushed_at, x.version, range_of(pr, 0), t,
          range_of(pr, 1), x.pushed_at], NULL::bytea[], x.bytes;
    IF FOUND THEN RETURN; END IF;
  END IF;
  SELECT u.* INTO p FROM queue u WHERE u.id = q;
  IF NOT FOUND THEN PERFORM no_queue(q); END IF;
  RETURN QUERY SELECT (packed(x)).* FROM take_special(p, q, slot_no, t, want,
    room, lease_ms, marks, credit, tok) x;
END $$;
